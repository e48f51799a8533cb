//! The columns of asks by signers that name a session, as their statements take them.

use diesel::pg::Pg;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_query;
use diesel::sql_types::{Array, Bytea, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::NamedAsk;
use crate::domain::Timestamp;
use crate::storage::postgres::connection::statement::Prepared;

/// The asks' columns, as the statements take them.
pub(super) struct Columns<'a> {
    pub(super) sessions: Vec<Uuid>,
    pub(super) signers: Vec<&'a [u8]>,
    pub(super) dids: Vec<&'a str>,
    nonces: Vec<&'a str>,
    expiries: Vec<Timestamp>,
    issues: Vec<Option<Timestamp>>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(asks: &'a [NamedAsk<'a>]) -> Self {
        Self {
            sessions: asks.iter().map(|ask| ask.session).collect(),
            signers: asks.iter().map(|ask| ask.by.signer.0.as_slice()).collect(),
            dids: asks.iter().map(|ask| ask.by.did).collect(),
            nonces: asks.iter().map(|ask| ask.by.nonce).collect(),
            expiries: asks.iter().map(|ask| ask.by.expires_at).collect(),
            issues: asks.iter().map(|ask| ask.by.issued_at).collect(),
        }
    }

    pub(super) fn bound_to(
        &self,
        statement: &'static str,
    ) -> Prepared<BoxedSqlQuery<'_, Pg, SqlQuery>> {
        let query = sql_query(statement)
            .into_boxed::<Pg>()
            .bind::<Array<SqlUuid>, _>(&self.sessions)
            .bind::<Array<Bytea>, _>(&self.signers)
            .bind::<Array<Text>, _>(&self.dids)
            .bind::<Array<Text>, _>(&self.nonces)
            .bind::<Array<Timestamptz>, _>(&self.expiries)
            .bind::<Array<Nullable<Timestamptz>>, _>(&self.issues);
        Prepared(query)
    }
}
