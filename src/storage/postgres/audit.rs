//! The audit log: events are written in the transaction of the change that they record, and
//! never changed.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Jsonb, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::PostgresStore;
use super::connection::statement::Prepared;
use super::schema::audit_events;
use crate::domain::{AuditEvent, Timestamp};
use crate::storage::{AuditRecord, Result};

/// Only what was done is recorded: what was refused changes nothing.
const SUCCESS: &str = "success";

const RECORD: &str = "
    INSERT INTO audit_events (id, at, actor, action, subject, outcome, detail)
    SELECT id, now(), actor, action, subject, $5, detail
    FROM unnest($1, $2, $3, $4, $6) AS event (id, actor, action, subject, detail)";

impl PostgresStore {
    pub async fn audit(&self, event: AuditEvent) -> Result<()> {
        self.write("audit", async |c| record(c, &event).await).await
    }

    pub async fn audit_events(&self, limit: u32) -> Result<Vec<AuditRecord>> {
        type Row = (Uuid, Timestamp, String, String, String, String, serde_json::Value);
        let rows: Vec<Row> = self
            .read("audit_events", async |c| {
                audit_events::table
                    .order((audit_events::at.desc(), audit_events::id.desc()))
                    .limit(i64::from(limit))
                    .load(c)
                    .await
            })
            .await?;
        let records = rows.into_iter().map(|(id, at, actor, action, subject, outcome, detail)| {
            AuditRecord { id, at, actor, action, subject, outcome, detail }
        });
        Ok(records.collect())
    }
}

pub(super) async fn record(c: &mut AsyncPgConnection, event: &AuditEvent) -> QueryResult<()> {
    record_all(c, &[event]).await
}

/// Records events in one statement.
pub(super) async fn record_all(
    c: &mut AsyncPgConnection,
    events: &[&AuditEvent],
) -> QueryResult<()> {
    if events.is_empty() {
        return Ok(());
    }
    let query = sql_query(RECORD)
        .bind::<Array<SqlUuid>, _>(events.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(events.iter().map(|e| e.actor.to_string()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(events.iter().map(|e| e.action).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(events.iter().map(|e| e.subject.as_str()).collect::<Vec<_>>())
        .bind::<Text, _>(SUCCESS)
        .bind::<Array<Jsonb>, _>(events.iter().map(|e| &e.detail).collect::<Vec<_>>());
    Prepared(query).execute(c).await.map(drop)
}
