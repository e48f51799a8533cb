//! What an operation does with its connection, as a bound for async closures, and in a form that does
//! not depend on the closure.

use std::sync::{Mutex, PoisonError};

use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

/// An async closure whose future is [`Send`] on any connection: `AsyncFn` alone cannot say so.
pub(crate) trait Call<Connection, Output>:
    Fn(Connection) -> <Self as Call<Connection, Output>>::Future
{
    type Future: Future<Output = Output> + Send;
}

impl<F, Connection, Output, Running> Call<Connection, Output> for F
where
    F: Fn(Connection) -> Running,
    Running: Future<Output = Output> + Send,
{
    type Future = Running;
}

/// The statements of one operation. It may run more than once.
pub(crate) trait Work<T>:
    AsyncFn(&mut AsyncPgConnection) -> QueryResult<T>
    + for<'c> Call<&'c mut AsyncPgConnection, QueryResult<T>>
    + Send
    + Sync
{
}

impl<F, T> Work<T> for F where
    F: AsyncFn(&mut AsyncPgConnection) -> QueryResult<T>
        + for<'c> Call<&'c mut AsyncPgConnection, QueryResult<T>>
        + Send
        + Sync
{
}

/// Work of any type. Retries and transactions are compiled once for all operations.
pub(super) trait AnyWork: Send + Sync {
    fn run<'c>(&'c self, c: &'c mut AsyncPgConnection) -> BoxFuture<'c, QueryResult<()>>;
}

/// Work that keeps what its last run returned.
pub(super) struct Keeping<F, T> {
    work: F,
    value: Mutex<Option<T>>,
}

impl<F, T> Keeping<F, T> {
    pub(super) const fn new(work: F) -> Self {
        Self { work, value: Mutex::new(None) }
    }

    /// What the last run returned; `None` if none succeeded.
    pub(super) fn into_value(self) -> Option<T> {
        self.value.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Work<T>, T: Send> AnyWork for Keeping<F, T> {
    fn run<'c>(&'c self, c: &'c mut AsyncPgConnection) -> BoxFuture<'c, QueryResult<()>> {
        async move {
            let value = (self.work)(c).await?;
            *self.value.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            Ok(())
        }
        .boxed()
    }
}
