//! The columns of asks, as their statements take them.

use diesel::pg::Pg;
use diesel::query_builder::{BoxedSqlQuery, QueryFragment, SqlQuery};
use diesel::sql_query;
use diesel::sql_types::{Array, Bytea, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::{NamedAsk, SessionAsk, SignerAsk};
use crate::domain::{IdempotencyDigest, Timestamp};
use crate::storage::postgres::connection::statement::Prepared;

/// Of asks in sessions.
pub(super) struct SessionColumns<'a> {
    pub(super) sessions: Vec<Uuid>,
    pub(super) nonces: Vec<&'a str>,
    pub(super) digests: Vec<Option<&'a [u8]>>,
}

impl<'a> SessionColumns<'a> {
    pub(super) fn of(asks: &[SessionAsk<'a>]) -> Self {
        Self {
            sessions: asks.iter().map(|ask| ask.session).collect(),
            nonces: asks.iter().map(|ask| ask.nonce).collect(),
            digests: asks.iter().map(|ask| bytes(ask.idempotency)).collect(),
        }
    }

    pub(super) fn bound_to(
        &self,
        statement: &'static str,
    ) -> Prepared<impl QueryFragment<Pg> + Send> {
        let query = sql_query(statement)
            .bind::<Array<SqlUuid>, _>(&self.sessions)
            .bind::<Array<Text>, _>(&self.nonces)
            .bind::<Array<Nullable<Bytea>>, _>(&self.digests);
        Prepared(query)
    }
}

/// Of asks by signers, without what only one statement takes.
pub(super) struct SignerColumns<'a> {
    pub(super) signers: Vec<&'a [u8]>,
    pub(super) dids: Vec<&'a str>,
    pub(super) nonces: Vec<&'a str>,
    pub(super) expiries: Vec<Timestamp>,
    pub(super) issues: Vec<Option<Timestamp>>,
}

impl<'a> SignerColumns<'a> {
    pub(super) fn of(asks: impl Iterator<Item = &'a SignerAsk<'a>> + Clone) -> Self {
        Self {
            signers: asks.clone().map(|ask| ask.signer.0.as_slice()).collect(),
            dids: asks.clone().map(|ask| ask.did).collect(),
            nonces: asks.clone().map(|ask| ask.nonce).collect(),
            expiries: asks.clone().map(|ask| ask.expires_at).collect(),
            issues: asks.map(|ask| ask.issued_at).collect(),
        }
    }
}

/// Of asks by signers that name a session.
pub(super) struct NamedColumns<'a> {
    pub(super) sessions: Vec<Uuid>,
    pub(super) by: SignerColumns<'a>,
}

impl<'a> NamedColumns<'a> {
    pub(super) fn of(asks: &'a [NamedAsk<'a>]) -> Self {
        Self {
            sessions: asks.iter().map(|ask| ask.session).collect(),
            by: SignerColumns::of(asks.iter().map(|ask| &ask.by)),
        }
    }

    pub(super) fn bound_to(
        &self,
        statement: &'static str,
    ) -> Prepared<BoxedSqlQuery<'_, Pg, SqlQuery>> {
        let query = sql_query(statement)
            .into_boxed::<Pg>()
            .bind::<Array<SqlUuid>, _>(&self.sessions)
            .bind::<Array<Bytea>, _>(&self.by.signers)
            .bind::<Array<Text>, _>(&self.by.dids)
            .bind::<Array<Text>, _>(&self.by.nonces)
            .bind::<Array<Timestamptz>, _>(&self.by.expiries)
            .bind::<Array<Nullable<Timestamptz>>, _>(&self.by.issues);
        Prepared(query)
    }
}

/// The column of a digest.
pub(super) fn bytes(digest: Option<&IdempotencyDigest>) -> Option<&[u8]> {
    digest.map(<[u8; 16]>::as_slice)
}
