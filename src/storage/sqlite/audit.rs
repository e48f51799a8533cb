//! The audit log: written in the transaction of what it records, never changed.

use diesel::prelude::*;
use uuid::Uuid;

use crate::domain::{AuditEvent, Timestamp};
use crate::storage::AuditRecord;

use super::schema::audit_events;
use super::types::{timestamp, unreadable, uuid};

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

/// The newest events, newest first.
pub(super) fn newest(conn: &mut SqliteConnection, limit: u32) -> QueryResult<Vec<AuditRecord>> {
    type Row = (Vec<u8>, i64, String, String, String, String, String);
    let rows: Vec<Row> = audit_events::table
        .order((audit_events::at.desc(), audit_events::id.desc()))
        .limit(i64::from(limit))
        .load(conn)?;
    rows.into_iter()
        .map(|(id, at, actor, action, subject, outcome, detail)| {
            Ok(AuditRecord {
                id: uuid(&id)?,
                at: timestamp(at)?,
                actor,
                action,
                subject,
                outcome,
                detail: serde_json::from_str(&detail).map_err(|_| unreadable("audit detail"))?,
            })
        })
        .collect()
}
