//! Looks tokens up that are not remembered. Anyone can make up tokens, as many as they like, so
//! an unknown one must not cost a query: all that are asked for while one query is under way share
//! the next, and a query that met an unknown token is followed by a short rest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::domain::{ApiToken, TokenHash};
use crate::origin::Origin;
use crate::services::ServiceError;
use crate::storage::Store;

/// Tokens that may wait. Only a database that answers no more lets so many gather.
const ROOM: usize = 16_384;
/// The least time from a query that met an unknown token to the next: at most a hundred a second
/// are spent on made-up tokens, and a good one waits no longer than this. Good ones among
/// themselves never wait.
const PACE: Duration = Duration::from_millis(10);
/// Tokens in one query.
const MAX_BATCH: usize = 1024;

type Answer = Result<Option<Arc<ApiToken>>, ServiceError>;

pub(super) struct Lookups {
    store: Store,
    runtime: Handle,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    waiting: Waiting,
    flying: bool,
}

type Waiting = HashMap<TokenHash, Vec<Caller>>;

/// Who asks for a token, and where the answer goes.
struct Caller {
    origin: Origin,
    answer: oneshot::Sender<Answer>,
}

impl Lookups {
    /// Queries are made on the current Tokio runtime.
    pub(super) fn new(store: Store) -> Self {
        Self { store, runtime: Handle::current(), line: Mutex::default() }
    }

    /// The valid token with this hash, as the database has it.
    ///
    /// # Errors
    /// When the database cannot be asked, or does not answer while too many ask.
    pub(super) async fn find(self: &Arc<Self>, hash: TokenHash) -> Answer {
        let (answer, answered) = oneshot::channel();
        {
            let mut line = self.line();
            if line.waiting.len() >= ROOM && !line.waiting.contains_key(&hash) {
                return Err(ServiceError::Overloaded);
            }
            let caller = Caller { origin: Origin::current(), answer };
            line.waiting.entry(hash).or_default().push(caller);
            self.take_off(&mut line);
        }
        answered.await.unwrap_or_else(|_| {
            Err(ServiceError::Internal("the look-up of a token was abandoned".to_owned()))
        })
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a flight if a token waits and no flight is under way.
    fn take_off(self: &Arc<Self>, line: &mut Line) {
        if !line.flying && !line.waiting.is_empty() {
            line.flying = true;
            self.runtime.spawn(Flight(Arc::clone(self)).fly());
        }
    }

    fn next_batch(&self) -> Waiting {
        let mut line = self.line();
        if line.waiting.len() <= MAX_BATCH {
            return std::mem::take(&mut line.waiting);
        }
        let hashes: Vec<_> = line.waiting.keys().take(MAX_BATCH).copied().collect();
        hashes.into_iter().filter_map(|hash| line.waiting.remove_entry(&hash)).collect()
    }
}

/// One query after the other, as long as a token waits. It counts as flying until it is dropped,
/// however it ends.
struct Flight(Arc<Lookups>);

impl Flight {
    async fn fly(self) {
        loop {
            let mut batch = self.0.next_batch();
            if batch.is_empty() {
                return;
            }
            let rest = tokio::time::sleep(PACE);
            let query = self.0.store.tokens(batch.keys().copied().collect());
            match origin(&batch).run(query).await {
                Ok(found) => {
                    for (hash, token) in found {
                        let answer = token.map(|token| token.is_valid().then(|| Arc::new(token)));
                        let answer = answer.map_err(ServiceError::from);
                        tell(batch.remove(&hash).unwrap_or_default(), &answer);
                    }
                    if batch.is_empty() {
                        continue;
                    }
                    for callers in batch.into_values() {
                        tell(callers, &Ok(None));
                    }
                    rest.await;
                }
                Err(error) => {
                    let failed = Err(ServiceError::from(error));
                    for callers in batch.into_values() {
                        tell(callers, &failed);
                    }
                }
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut line = self.0.line();
        line.flying = false;
        // A token may have come since this flight looked last.
        self.0.take_off(&mut line);
    }
}

/// That of the first caller of each token.
fn origin(batch: &Waiting) -> Origin {
    let first: Vec<_> = batch.values().filter_map(|callers| callers.first()).collect();
    Origin::together(first.iter().map(|caller| &caller.origin))
}

fn tell(callers: Vec<Caller>, answer: &Answer) {
    for caller in callers {
        // A caller may have gone away.
        let _ = caller.answer.send(answer.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Instant;

    use futures_util::future::{join, join_all};
    use futures_util::poll;
    use tokio::task::{unconstrained, yield_now};

    use super::*;
    use crate::clock::Clock;
    use crate::config::{self, DatabaseUrl, SqliteLocation};
    use crate::domain::{Actor, NewEvent, NewToken, OwnType, TokenScope, TokenScopes};
    use crate::metrics::Metrics;
    use crate::storage::ClaimLimits;

    /// Look-ups in a database with one good token, on the one thread of the test: nothing goes on
    /// while the test does not wait.
    struct Desk {
        lookups: Arc<Lookups>,
        metrics: Arc<Metrics>,
        good: TokenHash,
    }

    fn made_up(number: usize) -> TokenHash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        TokenHash(hash)
    }

    impl Desk {
        async fn open() -> Self {
            let metrics = Arc::new(Metrics::new().unwrap());
            let config = config::Database {
                url: DatabaseUrl::Sqlite(SqliteLocation::Memory),
                ..config::Database::for_tests()
            };
            let limits = ClaimLimits { quota_per_signer: 1, quota_per_namespace: 1 };
            let store = Store::open(&config, limits, metrics.clone(), Clock::system());
            let store = store.await.unwrap();
            store.migrate_up().await.unwrap();
            let good = TokenHash([1; 32]);
            let token = NewToken {
                id: uuid::Uuid::now_v7(),
                name: "good".to_owned(),
                hash: good,
                scopes: TokenScopes::new(vec![TokenScope::Nonces]),
                binding: None,
                ttl_seconds: None,
            };
            let event = NewEvent::own(
                OwnType::TokenCreated,
                Actor::Operator,
                "good",
                &serde_json::json!({}),
            );
            store.create_token(token, event).await.unwrap();
            Self { lookups: Arc::new(Lookups::new(store)), metrics, good }
        }

        fn queries(&self) -> u64 {
            self.metrics.statements.with_label_values(&["ok"]).get()
        }

        /// Looks these up, all at once; which of them were found.
        async fn find(&self, hashes: impl IntoIterator<Item = TokenHash>) -> Vec<bool> {
            let found = join_all(hashes.into_iter().map(|hash| self.lookups.find(hash))).await;
            found.into_iter().map(|token| token.unwrap().is_some()).collect()
        }
    }

    #[tokio::test]
    async fn all_that_come_while_a_query_is_under_way_share_the_next() {
        let desk = Desk::open().await;
        let before = desk.queries();
        let mut first = pin!(desk.find([made_up(0)]));
        assert!(poll!(&mut first).is_pending());
        while !desk.lookups.line().waiting.is_empty() {
            yield_now().await;
        }
        let others = (1..MAX_BATCH).map(made_up).chain([desk.good]);
        // Unconstrained, all of them stand in line before anything else goes on.
        let (first, others) = join(first, unconstrained(desk.find(others))).await;
        assert_eq!(first, [false]);
        assert_eq!(others.iter().filter(|found| **found).count(), 1);
        assert_eq!(others.last(), Some(&true), "a good one among them is found");
        assert_eq!(desk.queries() - before, 2);
    }

    #[tokio::test]
    async fn equal_tokens_are_asked_for_once_and_a_query_has_a_bound() {
        let desk = Desk::open().await;
        let before = desk.queries();
        let found = unconstrained(desk.find((0..5000).map(|number| made_up(number % 5)))).await;
        assert!(!found.contains(&true) && found.len() == 5000);
        assert_eq!(desk.queries() - before, 1);
        unconstrained(desk.find((0..=MAX_BATCH).map(made_up))).await;
        assert_eq!(desk.queries() - before, 3);
    }

    #[tokio::test]
    async fn only_a_query_that_met_a_made_up_token_is_followed_by_a_rest() {
        let desk = Desk::open().await;
        let is_over = || !desk.lookups.line().flying;
        assert_eq!(desk.find([desk.good]).await, [true]);
        assert!(is_over());
        let began = Instant::now();
        for number in 0..10 {
            assert_eq!(desk.find([made_up(number), desk.good]).await, [false, true]);
        }
        // The next is answered after the last rest.
        assert_eq!(desk.find([desk.good]).await, [true]);
        assert!(began.elapsed() >= PACE * 10, "a rest after each");
        assert!(is_over());
    }

    #[tokio::test]
    async fn so_many_may_wait_and_no_more() {
        let desk = Desk::open().await;
        let asked = (0..ROOM).map(made_up).chain([made_up(0), made_up(ROOM)]);
        let asked = join_all(asked.map(|hash| desk.lookups.find(hash)));
        let refused: Vec<_> = unconstrained(asked).await.iter().map(Result::is_err).collect();
        assert_eq!(refused.iter().position(|refused| *refused), Some(ROOM + 1));
    }
}
