//! What an operation does with its connection, as a bound for async closures.

use diesel::QueryResult;
use diesel_async::AsyncPgConnection;

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
