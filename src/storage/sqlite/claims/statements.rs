//! The statements that decide claims. Diesel caches a prepared statement by its type only if the
//! type says that its text never changes. Diesel's own updates, and queries with SQL mixed in, do
//! not say so. These types do.

use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text};
use diesel::sqlite::Sqlite;

type Key = [u8; 16];

/// The number of a session, the fields that a claim needs, whether a party is revoked, and the
/// parties.
pub(super) struct FindSession<'a> {
    pub(crate) id: &'a [u8],
}

impl QueryFragment<Sqlite> for FindSession<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(
            "SELECT number, expires_at, deadline, last_activity, idle_timeout_seconds, max_claims, claims, \
             ended_at, end_reason, EXISTS (SELECT 1 FROM dids WHERE revoked = 1 \
             AND did IN (sessions.client_did, sessions.server_did)), client_did, server_did \
             FROM sessions WHERE id = ",
        );
        out.push_bind_param::<Binary, _>(self.id)
    }
}

impl Query for FindSession<'_> {
    type SqlType = (
        BigInt,
        BigInt,
        BigInt,
        BigInt,
        Nullable<BigInt>,
        Nullable<BigInt>,
        BigInt,
        Nullable<BigInt>,
        Nullable<Text>,
        Bool,
        Text,
        Text,
    );
}

/// How many nonces a signer holds, whether it is revoked, and what the history of the database has
/// to do with the times of its claims.
pub(super) struct FindSigner<'a> {
    pub(crate) signer: &'a Key,
    pub(crate) did: &'a str,
}

impl QueryFragment<Sqlite> for FindSigner<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("SELECT coalesce((SELECT live FROM signers WHERE signer = ");
        out.push_bind_param::<Binary, _>(self.signer.as_slice())?;
        out.push_sql("), 0), EXISTS (SELECT 1 FROM dids WHERE revoked = 1 AND did = ");
        out.push_bind_param::<Text, _>(self.did)?;
        out.push_sql("), purged_until, not_before, ahead_until, skew_seconds FROM history");
        Ok(())
    }
}

impl Query for FindSigner<'_> {
    type SqlType = (BigInt, Bool, Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>, BigInt);
}

/// Adds a nonce to a session, whose deadline is the nonce's expiry.
pub(super) struct InsertSessionNonce<'a> {
    pub(crate) session: i64,
    pub(crate) nonce: &'a str,
    pub(crate) used_at: i64,
    pub(crate) idempotency: Option<&'a [u8]>,
}

impl QueryFragment<Sqlite> for InsertSessionNonce<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("INSERT INTO session_nonces (session, nonce, used_at, idempotency) VALUES (");
        out.push_bind_param::<BigInt, _>(&self.session)?;
        out.push_sql(", ");
        out.push_bind_param::<Text, _>(&self.nonce)?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&self.used_at)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Binary>, _>(&self.idempotency)?;
        out.push_sql(") ON CONFLICT DO NOTHING");
        Ok(())
    }
}

/// Adds a nonce to a signer.
pub(super) struct InsertSignerNonce<'a> {
    pub(crate) signer: &'a Key,
    pub(crate) nonce: &'a str,
    pub(crate) used_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) idempotency: Option<&'a [u8]>,
}

impl QueryFragment<Sqlite> for InsertSignerNonce<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(
            "INSERT INTO signer_nonces (signer, nonce, used_at, expires_at, idempotency) VALUES (",
        );
        out.push_bind_param::<Binary, _>(self.signer.as_slice())?;
        out.push_sql(", ");
        out.push_bind_param::<Text, _>(&self.nonce)?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&self.used_at)?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&self.expires_at)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Binary>, _>(&self.idempotency)?;
        out.push_sql(") ON CONFLICT DO NOTHING");
        Ok(())
    }
}

/// Counts a session's new nonces, and sets its last activity.
pub(super) struct MoveActivity {
    pub(crate) session: i64,
    pub(crate) inserted: i64,
    pub(crate) last_activity: i64,
}

impl QueryFragment<Sqlite> for MoveActivity {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("UPDATE sessions SET claims = claims + ");
        out.push_bind_param::<BigInt, _>(&self.inserted)?;
        out.push_sql(", last_activity = ");
        out.push_bind_param::<BigInt, _>(&self.last_activity)?;
        out.push_sql(" WHERE number = ");
        out.push_bind_param::<BigInt, _>(&self.session)?;
        Ok(())
    }
}

/// Counts a signer's new nonces.
pub(super) struct AddToSigner<'a> {
    pub(crate) signer: &'a Key,
    pub(crate) did: &'a str,
    pub(crate) inserted: i64,
}

impl QueryFragment<Sqlite> for AddToSigner<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("INSERT INTO signers (signer, did, live) VALUES (");
        out.push_bind_param::<Binary, _>(self.signer.as_slice())?;
        out.push_sql(", ");
        out.push_bind_param::<Text, _>(self.did)?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&self.inserted)?;
        out.push_sql(") ON CONFLICT (signer) DO UPDATE SET live = live + excluded.live");
        Ok(())
    }
}

/// Lets Diesel run a statement, and says that its text never changes.
macro_rules! fixed_text {
    ($($statement:ty => $forever:ty),+ $(,)?) => {$(
        impl QueryId for $statement {
            type QueryId = $forever;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl RunQueryDsl<SqliteConnection> for $statement {}
    )+};
}

fixed_text!(
    FindSession<'_> => FindSession<'static>,
    FindSigner<'_> => FindSigner<'static>,
    InsertSessionNonce<'_> => InsertSessionNonce<'static>,
    InsertSignerNonce<'_> => InsertSignerNonce<'static>,
    MoveActivity => MoveActivity,
    AddToSigner<'_> => AddToSigner<'static>,
);
