//! The audit log: events are written in the transaction of the change that they record, and
//! never changed.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::PostgresStore;
use super::schema::audit_events;
use crate::domain::{AuditEvent, Timestamp};
use crate::storage::{AuditRecord, Result};

/// Only what was done is recorded: what was refused changes nothing.
const SUCCESS: &str = "success";

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
    diesel::insert_into(audit_events::table)
        .values((
            audit_events::id.eq(Uuid::now_v7()),
            audit_events::at.eq(diesel::dsl::now),
            audit_events::actor.eq(event.actor.to_string()),
            audit_events::action.eq(event.action),
            audit_events::subject.eq(&event.subject),
            audit_events::outcome.eq(SUCCESS),
            audit_events::detail.eq(&event.detail),
        ))
        .execute(c)
        .await
        .map(drop)
}
