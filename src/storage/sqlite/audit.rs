//! The audit log. An event is written in the transaction of the change that it records, and never
//! changed.

use diesel::prelude::*;
use uuid::Uuid;

use super::SqliteStore;
use super::schema::audit_events;
use super::types::{timestamp, unreadable, uuid};
use crate::domain::{AuditEvent, Timestamp};
use crate::storage::readable::readable;
use crate::storage::{AuditRecord, Result};

impl SqliteStore {
    pub async fn audit(&self, event: AuditEvent) -> Result<()> {
        self.0.write("audit", move |conn, now| write(conn, now, &event)).await
    }

    pub async fn audit_events(&self, limit: u32) -> Result<Vec<AuditRecord>> {
        self.0.read("audit_events", move |conn, _| newest(conn, limit)).await
    }
}

pub(super) fn write(
    conn: &mut SqliteConnection,
    now: Timestamp,
    event: &AuditEvent,
) -> QueryResult<()> {
    diesel::insert_into(audit_events::table)
        .values((
            audit_events::id.eq(Uuid::now_v7().as_bytes().as_slice()),
            audit_events::at.eq(now.timestamp_micros()),
            audit_events::actor.eq(event.actor.to_string()),
            audit_events::action.eq(event.action),
            audit_events::subject.eq(&event.subject),
            audit_events::outcome.eq("success"),
            audit_events::detail.eq(event.detail.to_string()),
        ))
        .execute(conn)?;
    Ok(())
}

type Row = (Vec<u8>, i64, String, String, String, String, String);

/// The newest events, newest first.
fn newest(conn: &mut SqliteConnection, limit: u32) -> QueryResult<Vec<AuditRecord>> {
    let rows: Vec<Row> = audit_events::table
        .order((audit_events::at.desc(), audit_events::id.desc()))
        .limit(i64::from(limit))
        .load(conn)?;
    let records = rows.into_iter().filter_map(|row| {
        let id = base16ct::lower::encode_string(&row.0);
        readable(record(row), "audit event", id)
    });
    Ok(records.collect())
}

fn record((id, at, actor, action, subject, outcome, detail): Row) -> QueryResult<AuditRecord> {
    Ok(AuditRecord {
        id: uuid(&id)?,
        at: timestamp(at)?,
        actor,
        action,
        subject,
        outcome,
        detail: serde_json::from_str(&detail).map_err(|_| unreadable("audit detail"))?,
    })
}
