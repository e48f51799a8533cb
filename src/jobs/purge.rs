//! The purge: records the end of overdue sessions, and removes rows that are past their retention,
//! in small batches that leave room for claims. It removes nothing while the time is in doubt.

use std::time::Duration;

use serde_json::json;

use super::scheduler::{JobError, LeaseKeeper};
use crate::clock::{BELIEVED_AFTER, Clock, TOLERANCE};
use crate::config;
use crate::domain::{Actor, Cursor, EndReason, NewEvent, OwnType, PUBLICATION_KEPT_SECONDS};
use crate::metrics::Metrics;
use crate::storage::{PurgeBatch, PurgeStep, Purged, Store};

/// The name of the job and of its lease.
pub const NAME: &str = "purge";

/// How long a repeat of a call that published events gets the ids of the first.
const PUBLICATIONS_KEPT: Duration = Duration::from_secs(PUBLICATION_KEPT_SECONDS as u64);

/// How long rows are kept, and how fast the purge removes them.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    session_retention: Duration,
    signer_margin: Duration,
    audit_retention: Duration,
    event_retention: Duration,
    unused_dids: Duration,
    tombstone_retention: Duration,
    delivered_retention: Duration,
    undelivered_retention: Duration,
    batch: u32,
    pause: Duration,
}

impl Limits {
    #[must_use]
    pub fn new(config: &config::Config) -> Self {
        Self {
            session_retention: config.sessions.retention,
            signer_margin: config.claims.purge_margin,
            audit_retention: config.jobs.audit_retention,
            event_retention: config.events.retention,
            unused_dids: config.dids.unused_retention,
            tombstone_retention: config.records.tombstone_retention,
            delivered_retention: config.webhooks.delivered_retention,
            undelivered_retention: config.webhooks.undelivered_retention,
            batch: config.jobs.purge_batch,
            pause: config.jobs.purge_pause,
        }
    }

    /// The steps, in order.
    #[must_use]
    pub fn steps(&self) -> [PurgeStep; 11] {
        [
            PurgeStep::EndOverdueSessions,
            PurgeStep::DeleteEndedSessions { retention: self.session_retention },
            PurgeStep::DeleteSignerNonces { margin: self.signer_margin },
            PurgeStep::DeleteDeliveries {
                delivered: self.delivered_retention,
                undelivered: self.undelivered_retention,
            },
            PurgeStep::DeleteEvents {
                retention: self.audit_retention,
                undelivered: self.undelivered_retention,
            },
            PurgeStep::EmptyEvents {
                retention: self.event_retention,
                undelivered: self.undelivered_retention,
            },
            PurgeStep::DeleteUnusedDids { unused: self.unused_dids },
            PurgeStep::ExpireRecords,
            PurgeStep::DeleteTombstones { retention: self.tombstone_retention },
            PurgeStep::DeleteErasedRecords,
            PurgeStep::ForgetPublications { kept: PUBLICATIONS_KEPT },
        ]
    }
}

/// Runs every step, batch by batch. A run that changed something leaves one event with its
/// counts, even if it failed later. One event for each batch would outgrow what is purged.
pub async fn run(
    store: &Store,
    metrics: &Metrics,
    clock: &Clock,
    limits: &Limits,
    actor: Actor,
    keeper: &mut LeaseKeeper,
) -> Result<Purged, JobError> {
    let mut total = Purged::default();
    let finished = every_step(store, metrics, clock, limits, keeper, &mut total).await;
    if total != Purged::default() {
        store.publish(vec![event(actor, &total)]).await?;
    }
    finished.map(|()| total)
}

async fn every_step(
    store: &Store,
    metrics: &Metrics,
    clock: &Clock,
    limits: &Limits,
    keeper: &mut LeaseKeeper,
    total: &mut Purged,
) -> Result<(), JobError> {
    for step in limits.steps() {
        let mut from = Some(Cursor::default());
        while let Some(cursor) = from {
            keeper.renew().await?;
            check_clocks(store, clock).await?;
            let PurgeBatch { purged, next } = store.purge(step, &cursor, limits.batch).await?;
            count(metrics, &purged);
            *total += purged;
            if next.is_some() {
                keeper.rest(limits.pause).await;
            }
            from = next;
        }
    }
    Ok(())
}

/// By a clock that is ahead, the purge would remove nonces whose messages can still be accepted.
/// Two clocks that differ cannot both be right.
async fn check_clocks(store: &Store, clock: &Clock) -> Result<(), JobError> {
    if let Some(by) = clock.jump() {
        return Err(JobError::Clock(format!(
            "the machine's clock jumped by {} s; nothing is purged until it is right again, or has \
             stood for {} minutes",
            by.num_seconds(),
            BELIEVED_AFTER.num_minutes()
        )));
    }
    let apart = store.now().await? - clock.now();
    if apart.abs() > TOLERANCE {
        return Err(JobError::Clock(format!(
            "the database's clock is {} s ahead of this machine's; nothing is purged until they are \
             within {} s of each other: set both by NTP",
            apart.num_seconds(),
            TOLERANCE.num_seconds()
        )));
    }
    Ok(())
}

fn event(actor: Actor, purged: &Purged) -> NewEvent {
    let Purged {
        sessions_expired,
        sessions_idle,
        sessions_deleted,
        session_nonces_deleted,
        signer_nonces_deleted,
        events_deleted,
        events_emptied,
        dids_deleted,
        records_expired,
        tombstones_deleted,
        erased_rows_deleted,
        publications_forgotten,
        deliveries_deleted,
    } = purged;
    NewEvent::own(
        OwnType::DatabasePurged,
        actor,
        "database",
        &json!({
            "sessions_expired": sessions_expired,
            "sessions_idle": sessions_idle,
            "sessions_deleted": sessions_deleted,
            "session_nonces_deleted": session_nonces_deleted,
            "signer_nonces_deleted": signer_nonces_deleted,
            "events_deleted": events_deleted,
            "events_emptied": events_emptied,
            "dids_deleted": dids_deleted,
            "records_expired": records_expired,
            "tombstones_deleted": tombstones_deleted,
            "erased_rows_deleted": erased_rows_deleted,
            "publications_forgotten": publications_forgotten,
            "deliveries_deleted": deliveries_deleted,
        }),
    )
}

/// Logs what a run has removed.
pub(super) fn log(purged: &Purged) {
    tracing::info!(
        job = NAME,
        sessions_expired = purged.sessions_expired,
        sessions_idle = purged.sessions_idle,
        sessions_deleted = purged.sessions_deleted,
        session_nonces_deleted = purged.session_nonces_deleted,
        signer_nonces_deleted = purged.signer_nonces_deleted,
        events_deleted = purged.events_deleted,
        events_emptied = purged.events_emptied,
        dids_deleted = purged.dids_deleted,
        records_expired = purged.records_expired,
        tombstones_deleted = purged.tombstones_deleted,
        erased_rows_deleted = purged.erased_rows_deleted,
        publications_forgotten = purged.publications_forgotten,
        deliveries_deleted = purged.deliveries_deleted,
        "purged"
    );
}

fn count(metrics: &Metrics, batch: &Purged) {
    metrics.sessions_ended(EndReason::Expired, batch.sessions_expired);
    metrics.sessions_ended(EndReason::Idle, batch.sessions_idle);
    for (kind, rows) in [
        ("sessions", batch.sessions_deleted),
        ("session_nonces", batch.session_nonces_deleted),
        ("signer_nonces", batch.signer_nonces_deleted),
        ("events", batch.events_deleted),
        ("events_emptied", batch.events_emptied),
        ("dids", batch.dids_deleted),
        ("records_expired", batch.records_expired),
        ("record_tombstones", batch.tombstones_deleted),
        ("erased_records", batch.erased_rows_deleted),
        ("publications", batch.publications_forgotten),
        ("webhook_deliveries", batch.deliveries_deleted),
    ] {
        metrics.purged.with_label_values(&[kind]).inc_by(rows);
    }
}
