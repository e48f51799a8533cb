//! A session as its row. Only the statements that ask for the sealed key read it.

use chrono::{DateTime, Utc};
use diesel::dsl::{AsExprOf, now};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Bytea, Nullable, Text, Timestamptz};
use ipnet::IpNet;
use serde_json::Value;
use uuid::Uuid;

use super::schema::sessions;
use super::unreadable;
use crate::domain::{Did, EndReason, SealedKey, Session, SessionId};

/// The columns of [`SessionRow`], for statements written out. The clock is read when the row
/// is, which may be after a wait for its lock.
macro_rules! session_columns {
    () => {
        "id, client_did, server_did, created_at, expires_at, deadline, last_activity, \
         idle_timeout_seconds, max_claims, claims, metadata, user_agent, ip_address, ended_at, \
         end_reason, version, clock_timestamp() AS observed_at"
    };
}

pub(super) use session_columns;

#[derive(Queryable, Selectable, QueryableByName)]
#[diesel(table_name = sessions, check_for_backend(Pg))]
pub(super) struct SessionRow {
    id: Uuid,
    client_did: String,
    server_did: String,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    deadline: DateTime<Utc>,
    last_activity: DateTime<Utc>,
    idle_timeout_seconds: Option<i32>,
    max_claims: Option<i64>,
    claims: i64,
    metadata: Value,
    user_agent: Option<String>,
    ip_address: Option<IpNet>,
    ended_at: Option<DateTime<Utc>>,
    end_reason: Option<String>,
    version: i64,
    #[diesel(select_expression = now.into_sql::<Timestamptz>())]
    #[diesel(select_expression_type = AsExprOf<now, Timestamptz>)]
    #[diesel(sql_type = Timestamptz)]
    observed_at: DateTime<Utc>,
}

/// A session and its sealed key.
#[derive(QueryableByName)]
pub(super) struct KeyedSessionRow {
    #[diesel(embed)]
    pub(super) session: SessionRow,
    #[diesel(embed)]
    pub(super) key: SealedKeyRow,
}

#[derive(QueryableByName)]
pub(super) struct SealedKeyRow {
    #[diesel(sql_type = Nullable<Text>)]
    key_id: Option<String>,
    #[diesel(sql_type = Nullable<Bytea>)]
    session_key: Option<Vec<u8>>,
}

impl SessionRow {
    pub(super) fn read(self) -> QueryResult<Session> {
        let Value::Object(metadata) = self.metadata else {
            return Err(unreadable("the metadata of a session is not an object"));
        };
        Ok(Session {
            id: SessionId(self.id),
            client_did: did(&self.client_did)?,
            server_did: did(&self.server_did)?,
            created_at: self.created_at,
            expires_at: self.expires_at,
            deadline: self.deadline,
            last_activity: self.last_activity,
            idle_timeout_seconds: self.idle_timeout_seconds.map(unsigned).transpose()?,
            max_claims: self.max_claims.map(unsigned).transpose()?,
            claims: unsigned(self.claims)?,
            metadata,
            user_agent: self.user_agent,
            ip_address: self.ip_address.map(|net| net.addr()),
            ended_at: self.ended_at,
            end_reason: self.end_reason.as_deref().map(end_reason).transpose()?,
            version: self.version,
            observed_at: self.observed_at,
        })
    }
}

impl SealedKeyRow {
    pub(super) fn read(self) -> Option<SealedKey> {
        let (key_id, ciphertext) = self.key_id.zip(self.session_key)?;
        Some(SealedKey { key_id, ciphertext })
    }
}

pub(super) fn did(text: &str) -> QueryResult<Did> {
    Did::parse(text).map_err(|_| unreadable("a DID that is none"))
}

pub(super) fn end_reason(text: &str) -> QueryResult<EndReason> {
    EndReason::parse(text).ok_or_else(|| unreadable("a reason that no session ends for"))
}

/// A count that the database keeps as a signed number and never lets below zero.
pub(super) fn unsigned<F, T: TryFrom<F>>(count: F) -> QueryResult<T> {
    T::try_from(count).map_err(|_| unreadable("a number that is out of range"))
}
