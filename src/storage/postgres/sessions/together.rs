//! Calls that share a transaction. What is wrong with one of them fails no other: where the
//! server refuses them together, each is asked once more by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::QueryResult;

use crate::storage::postgres::connection::errors::Trouble;
use crate::storage::{Result, StoreError};

/// For how long calls that were refused together are asked one by one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why none of the calls was answered.
pub(super) struct Failed {
    error: StoreError,
    /// The server refused one of the statements, perhaps because of one call's values.
    refused: bool,
}

/// Whether the server refused a statement, as far as is known.
#[derive(Default)]
pub(super) struct Refusal(AtomicBool);

impl Refusal {
    /// Remembers how the statements failed, if they did.
    pub(super) fn note<T>(&self, result: QueryResult<T>) -> QueryResult<T> {
        let refused = result.as_ref().is_err_and(|error| {
            !matches!(Trouble::of(error), Trouble::Lost(_) | Trouble::ReadOnly(_))
        });
        self.0.store(refused, Ordering::Relaxed);
        result
    }

    pub(super) fn failed(&self, error: StoreError) -> Failed {
        // A lock is waited for elsewhere, and a commit that may have happened is not repeated.
        let is_final = matches!(error, StoreError::Locked(_) | StoreError::OutcomeUnknown(_));
        Failed { error, refused: self.0.load(Ordering::Relaxed) && !is_final }
    }
}

/// An answer for each call, in order.
pub(super) async fn together_or_each<'a, Call, Answer, Asking>(
    calls: &'a [Call],
    ask: impl Fn(&'a [Call]) -> Asking,
) -> Vec<Result<Answer>>
where
    Asking: Future<Output = std::result::Result<Vec<Result<Answer>>, Failed>>,
{
    let Failed { error, refused } = match ask(calls).await {
        Ok(answers) => return answers,
        Err(failed) => failed,
    };
    let started = Instant::now();
    let mut answers = Vec::with_capacity(calls.len());
    for call in calls.chunks(1) {
        if !refused || calls.len() == 1 || started.elapsed() > PATIENCE {
            answers.push(Err(error.clone()));
            continue;
        }
        match ask(call).await {
            Ok(answer) => answers.extend(answer),
            Err(failed) => answers.push(Err(failed.error)),
        }
    }
    answers
}
