//! The audit log.

use uuid::Uuid;

use super::{Result, Store, on};
use crate::domain::{AuditEvent, Timestamp};

/// A row of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    pub id: Uuid,
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub subject: String,
    pub outcome: String,
    pub detail: serde_json::Value,
}

impl Store {
    /// Writes an event of its own, where what it records changes nothing in this database.
    pub async fn audit(&self, event: AuditEvent) -> Result<()> {
        on!(self, store => store.audit(event).await)
    }

    /// The newest audit events.
    pub async fn audit_events(&self, limit: u32) -> Result<Vec<AuditRecord>> {
        on!(self, store => store.audit_events(limit).await)
    }
}
