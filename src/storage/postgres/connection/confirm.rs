//! Makes an answer that only says what the database already had as durable as the change itself.
//!
//! A row that a statement can see is not yet a row that a crash or a fail-over keeps: PostgreSQL
//! shows a commit whose wait for the synchronous standby was cut short, by a restart or by a
//! cancelled statement. The call that made the change was then told that its outcome is unknown,
//! and whoever repeats it must not be told more. A transaction that only reads waits for nothing.
//!
//! One that has a transaction id and has written WAL is flushed, and waits for the standby, when
//! it commits (`RecordTransactionCommit`, in all versions). Its commit comes after all that it
//! has seen committed, so these are then as durable as it is. A row lock does both (`FOR NO KEY
//! UPDATE`, or `ON CONFLICT DO UPDATE`, even where its `WHERE` is false); so what is found under
//! one needs nothing more. Every other answer of the kind "it is so already" runs [`confirm`].
//! Plain reads do not: they promise nothing.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::statement::Prepared;

/// Assigns a transaction id and writes WAL, and does nothing else: the message is for plugins of
/// logical decoding, which ignore one that they do not know. Any role may call it, and any
/// `wal_level` will do.
macro_rules! written {
    () => {
        "SELECT pg_logical_emit_message(true, 'onceguard', '')"
    };
}

pub(crate) use written;

/// Returns when what this connection has seen is durable; inside a transaction, its commit does.
pub(crate) async fn confirm(c: &mut AsyncPgConnection) -> QueryResult<()> {
    Prepared(sql_query(written!())).execute(c).await.map(drop)
}

/// While a commit waits for a standby, others of the same role see it.
const AWAITED: &str = "
    SELECT current_setting('synchronous_standby_names') AS names FROM pg_stat_activity
    WHERE wait_event = 'SyncRep' LIMIT 1";

#[derive(QueryableByName)]
struct Awaited {
    #[diesel(sql_type = Text)]
    names: String,
}

/// The standbys that a commit waits for right now, as the server's setting names them.
pub(super) async fn awaited(c: &mut AsyncPgConnection) -> QueryResult<Option<String>> {
    let found: Option<Awaited> = sql_query(AWAITED).get_result(c).await.optional()?;
    Ok(found.map(|awaited| awaited.names))
}
