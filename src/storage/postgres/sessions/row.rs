//! A session as its row. Only the statements that ask for the sealed key read it.

use chrono::{DateTime, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::dsl::{AsExprOf, now};
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::sql_types::{Bytea, Jsonb, Nullable, Text, Timestamptz};
use ipnet::IpNet;
use uuid::Uuid;

use crate::domain::{Did, End, EndReason, Metadata, SealedKey, Session, SessionId, Timestamp};
use crate::storage::postgres::schema::sessions;
use crate::storage::postgres::unreadable;

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
pub(crate) struct SessionRow {
    pub(crate) id: Uuid,
    client_did: String,
    server_did: String,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    deadline: DateTime<Utc>,
    last_activity: DateTime<Utc>,
    idle_timeout_seconds: Option<i32>,
    max_claims: Option<i64>,
    claims: i64,
    metadata: JsonText,
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

/// A jsonb as its text.
#[derive(FromSqlRow)]
pub(crate) struct JsonText(pub(crate) String);

impl FromSql<Jsonb, Pg> for JsonText {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        // As it is sent, a jsonb is the number of this form and its text.
        match value.as_bytes().split_first() {
            Some((1, text)) => Ok(Self(String::from_utf8(text.to_vec())?)),
            _ => Err("a jsonb of an unknown form".into()),
        }
    }
}

/// A session and its sealed key.
#[derive(QueryableByName)]
pub(super) struct KeyedSessionRow {
    #[diesel(embed)]
    pub(crate) session: SessionRow,
    #[diesel(embed)]
    pub(crate) key: SealedKeyRow,
}

#[derive(QueryableByName)]
pub(super) struct SealedKeyRow {
    #[diesel(sql_type = Nullable<Text>)]
    key_id: Option<String>,
    #[diesel(sql_type = Nullable<Bytea>)]
    session_key: Option<Vec<u8>>,
}

impl SessionRow {
    pub(crate) fn read(self) -> QueryResult<Session> {
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
            metadata: Metadata::kept(self.metadata.0),
            user_agent: self.user_agent,
            ip_address: self.ip_address.map(|net| net.addr()),
            end: end(self.ended_at, self.end_reason.as_deref())?,
            version: self.version,
            observed_at: self.observed_at,
        })
    }
}

impl SealedKeyRow {
    pub(crate) fn read(self) -> Option<SealedKey> {
        let (key_id, ciphertext) = self.key_id.zip(self.session_key)?;
        Some(SealedKey { key_id, ciphertext })
    }
}

pub(crate) fn did(text: &str) -> QueryResult<Did> {
    Did::parse(text).map_err(|_| unreadable("a DID that is none"))
}

/// The end that a row's two columns are.
pub(crate) fn end(at: Option<Timestamp>, reason: Option<&str>) -> QueryResult<Option<End>> {
    let parse = |text| {
        EndReason::parse(text).ok_or_else(|| unreadable("a reason that no session ends for"))
    };
    let reason = reason.map(parse).transpose()?;
    Ok(at.zip(reason).map(|(at, reason)| End { at, reason }))
}

/// A count that the database keeps as a signed number and never lets below zero.
pub(crate) fn unsigned<F, T: TryFrom<F>>(count: F) -> QueryResult<T> {
    T::try_from(count).map_err(|_| unreadable("a number that is out of range"))
}
