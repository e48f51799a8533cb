//! The row of a session.

use std::net::IpAddr;

use diesel::prelude::*;

use crate::domain::{Metadata, Session, SessionId, Timestamp};
use crate::storage::sqlite::schema::sessions;
use crate::storage::sqlite::types::{did, end, number, timestamp, unreadable, uuid};

/// Everything of a session but its key.
#[derive(Queryable, Selectable, QueryableByName)]
#[diesel(table_name = sessions)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite))]
pub(super) struct SessionRow {
    id: Vec<u8>,
    client_did: String,
    server_did: String,
    created_at: i64,
    expires_at: i64,
    deadline: i64,
    last_activity: i64,
    idle_timeout_seconds: Option<i64>,
    max_claims: Option<i64>,
    claims: i64,
    metadata: String,
    user_agent: Option<String>,
    ip_address: Option<String>,
    ended_at: Option<i64>,
    end_reason: Option<String>,
    version: i64,
}

impl SessionRow {
    pub(super) fn metadata_len(&self) -> usize {
        self.metadata.len()
    }

    /// The order of a list: the creation time, then the id.
    pub(super) fn position(&self) -> (i64, Vec<u8>) {
        (self.created_at, self.id.clone())
    }

    pub(super) fn read(self, observed_at: Timestamp) -> QueryResult<Session> {
        let ip_address: Option<IpAddr> = self
            .ip_address
            .map(|text| text.parse().map_err(|_| unreadable("IP address")))
            .transpose()?;
        Ok(Session {
            id: SessionId(uuid(&self.id)?),
            client_did: did(&self.client_did)?,
            server_did: did(&self.server_did)?,
            created_at: timestamp(self.created_at)?,
            expires_at: timestamp(self.expires_at)?,
            deadline: timestamp(self.deadline)?,
            last_activity: timestamp(self.last_activity)?,
            idle_timeout_seconds: self.idle_timeout_seconds.map(number).transpose()?,
            max_claims: self.max_claims.map(number).transpose()?,
            claims: number(self.claims)?,
            metadata: Metadata::kept(self.metadata),
            user_agent: self.user_agent,
            ip_address,
            end: end(self.ended_at, self.end_reason.as_deref())?,
            version: self.version,
            observed_at,
        })
    }
}
