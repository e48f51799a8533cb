//! Events become deliveries, and deliveries are taken and finished, many in one transaction. What
//! finds nothing to do does not wake the writer.

use std::time::Duration;

use diesel::dsl::exists;
use diesel::prelude::*;
use diesel::sqlite::Sqlite;
use uuid::Uuid;

use super::super::SqliteStore;
use super::super::events::EventRow;
use super::super::schema::{event_chain, events, webhook_deliveries, webhooks};
use super::super::types::{
    before, micros, number, optional_timestamp, stored, timestamp, unreadable, uuid,
};
use super::types;
use crate::domain::{Delivery, DeliveryState, Event, Page, Timestamp, WebhookState, hears};
use crate::storage::Result;
use crate::storage::webhooks::{
    AttemptOutcome, Attempted, DueDelivery, HAND_BATCH, Replayed, page_of,
};

const ACTIVE: &str = WebhookState::Active.as_str();
const PENDING: &str = DeliveryState::Pending.as_str();

#[derive(Queryable, Selectable)]
#[diesel(table_name = webhook_deliveries, check_for_backend(Sqlite))]
struct DeliveryRow {
    sequence: i64,
    event: Vec<u8>,
    state: String,
    attempts: i64,
    next_at: Option<i64>,
    created_at: i64,
    attempted_at: Option<i64>,
    status: Option<i64>,
    error: Option<String>,
}

impl DeliveryRow {
    fn read(self) -> QueryResult<Delivery> {
        let state = DeliveryState::parse(&self.state);
        Ok(Delivery {
            event: uuid(&self.event)?,
            sequence: number(self.sequence)?,
            state: state.ok_or_else(|| unreadable("delivery state"))?,
            attempts: number(self.attempts)?,
            next_attempt_at: optional_timestamp(self.next_at)?,
            created_at: timestamp(self.created_at)?,
            attempted_at: optional_timestamp(self.attempted_at)?,
            status: self.status.map(number).transpose()?,
            error: self.error,
        })
    }
}

/// A webhook that has not been given all events: its id, its types, its last place.
type Behind = (Vec<u8>, String, i64);

impl SqliteStore {
    pub async fn deliveries(
        &self,
        id: Uuid,
        state: Option<DeliveryState>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<Delivery>> {
        let list = move |conn: &mut _, _| list(conn, id, state, before, limit);
        self.0.read("deliveries", list).await
    }

    pub async fn replay_event(&self, id: Uuid, event: Uuid) -> Result<Replayed> {
        self.0.write("replay_event", move |conn, now| replay(conn, now, id, event)).await
    }

    pub async fn hand_events(&self) -> Result<u64> {
        if self.0.read("webhooks_behind", |conn, _| behind(conn)).await?.is_none() {
            return Ok(0);
        }
        self.0.write("hand_events", hand).await
    }

    pub async fn due_webhooks(&self) -> Result<Vec<Uuid>> {
        let due = |conn: &mut SqliteConnection, now: Timestamp| {
            let due = webhook_deliveries::table
                .filter(webhook_deliveries::webhook.eq(webhooks::id))
                .filter(webhook_deliveries::state.eq(PENDING))
                .filter(webhook_deliveries::next_at.le(now.timestamp_micros()));
            let with = webhooks::table.filter(webhooks::state.eq(ACTIVE)).filter(exists(due));
            let ids: Vec<Vec<u8>> = with.select(webhooks::id).load(conn)?;
            ids.iter().map(|id| uuid(id)).collect()
        };
        self.0.read("due_webhooks", due).await
    }

    pub async fn take_deliveries(
        &self,
        room: Vec<(Uuid, u32)>,
        lease: Duration,
    ) -> Result<Vec<DueDelivery>> {
        let take = move |conn: &mut SqliteConnection, now| {
            let mut taken = Vec::new();
            for (webhook, room) in &room {
                take(conn, now, *webhook, *room, lease, &mut taken)?;
            }
            Ok(taken)
        };
        self.0.write("take_deliveries", take).await
    }

    pub async fn finish_deliveries(&self, attempts: Vec<Attempted>) -> Result<()> {
        let finish = move |conn: &mut SqliteConnection, now| {
            attempts.iter().try_for_each(|attempt| finish(conn, now, attempt))
        };
        self.0.write("finish_deliveries", finish).await
    }

    pub async fn events_by_id(&self, ids: Vec<Uuid>) -> Result<Vec<Event>> {
        let find = move |conn: &mut SqliteConnection, _| {
            let ids = ids.iter().map(|id| id.as_bytes().as_slice());
            let found = events::table.filter(events::id.eq_any(ids));
            let rows: Vec<EventRow> = found.select(EventRow::as_select()).load(conn)?;
            rows.into_iter().map(EventRow::read).collect()
        };
        self.0.read("events_by_id", find).await
    }
}

fn list(
    conn: &mut SqliteConnection,
    id: Uuid,
    state: Option<DeliveryState>,
    before: Option<i64>,
    limit: u32,
) -> QueryResult<Page<Delivery>> {
    let mut found = webhook_deliveries::table
        .filter(webhook_deliveries::webhook.eq(id.as_bytes().to_vec()))
        .order(webhook_deliveries::sequence.desc())
        .limit(i64::from(limit) + 1)
        .select(DeliveryRow::as_select())
        .into_boxed();
    if let Some(state) = state {
        found = found.filter(webhook_deliveries::state.eq(state.as_str()));
    }
    if let Some(before) = before {
        found = found.filter(webhook_deliveries::sequence.lt(before));
    }
    let rows: Vec<DeliveryRow> = found.load(conn)?;
    let items = rows.into_iter().map(DeliveryRow::read).collect::<QueryResult<_>>()?;
    Ok(page_of(items, limit))
}

fn replay(
    conn: &mut SqliteConnection,
    now: Timestamp,
    id: Uuid,
    event: Uuid,
) -> QueryResult<Replayed> {
    let webhook = webhooks::table.find(id.as_bytes().as_slice()).select(webhooks::id);
    let webhook: Option<Vec<u8>> = webhook.get_result(conn).optional()?;
    let Some(webhook) = webhook else { return Ok(Replayed::UnknownWebhook) };
    let place = events::table.find(event.as_bytes().as_slice()).select(events::sequence);
    let place: Option<Option<i64>> = place.get_result(conn).optional()?;
    let Some(place) = place.flatten() else { return Ok(Replayed::UnknownEvent) };
    give(conn, now, &webhook, place, event.as_bytes())?;
    Ok(Replayed::Done)
}

/// Makes a delivery. One that is pending already stays as it is.
fn give(
    conn: &mut SqliteConnection,
    now: Timestamp,
    webhook: &[u8],
    sequence: i64,
    event: &[u8],
) -> QueryResult<()> {
    let now = now.timestamp_micros();
    let fresh = (
        webhook_deliveries::webhook.eq(webhook),
        webhook_deliveries::sequence.eq(sequence),
        webhook_deliveries::event.eq(event),
        webhook_deliveries::state.eq(PENDING),
        webhook_deliveries::attempts.eq(0),
        webhook_deliveries::created_at.eq(now),
        webhook_deliveries::next_at.eq(now),
        webhook_deliveries::attempted_at.eq(None::<i64>),
        webhook_deliveries::status.eq(None::<i64>),
        webhook_deliveries::error.eq(None::<String>),
    );
    let there = webhook_deliveries::table.find((webhook, sequence));
    diesel::delete(there.filter(webhook_deliveries::state.ne(PENDING))).execute(conn)?;
    diesel::insert_into(webhook_deliveries::table)
        .values(fresh)
        .on_conflict_do_nothing()
        .execute(conn)
        .map(drop)
}

/// The webhook that has waited longest.
fn behind(conn: &mut SqliteConnection) -> QueryResult<Option<Behind>> {
    let linked: i64 = event_chain::table.select(event_chain::sequence).get_result(conn)?;
    webhooks::table
        .filter(webhooks::state.eq(ACTIVE))
        .filter(webhooks::last_sequence.lt(linked))
        .order(webhooks::last_sequence)
        .limit(1)
        .select((webhooks::id, webhooks::types, webhooks::last_sequence))
        .get_result(conn)
        .optional()
}

fn hand(conn: &mut SqliteConnection, now: Timestamp) -> QueryResult<u64> {
    let Some((webhook, heard, last)) = behind(conn)? else { return Ok(0) };
    let heard = types(&heard)?;
    let linked: i64 = event_chain::table.select(event_chain::sequence).get_result(conn)?;
    let next: Vec<(Option<i64>, Vec<u8>, String)> = events::table
        .filter(events::sequence.gt(last))
        .order(events::sequence)
        .limit(i64::from(HAND_BATCH))
        .select((events::sequence, events::id, events::type_))
        .load(conn)?;
    let seen = next.last().and_then(|(place, ..)| *place).unwrap_or(linked);
    for (place, event, kind) in &next {
        if let Some(place) = place
            && hears(&heard, kind)
        {
            give(conn, now, &webhook, *place, event)?;
        }
    }
    diesel::update(webhooks::table.find(&webhook))
        .set(webhooks::last_sequence.eq(seen))
        .execute(conn)?;
    Ok(next.len().max(1) as u64)
}

fn take(
    conn: &mut SqliteConnection,
    now: Timestamp,
    webhook: Uuid,
    room: u32,
    lease: Duration,
    taken: &mut Vec<DueDelivery>,
) -> QueryResult<()> {
    let id = webhook.as_bytes().as_slice();
    let state: Option<String> =
        webhooks::table.find(id).select(webhooks::state).get_result(conn).optional()?;
    if state.as_deref() != Some(ACTIVE) {
        return Ok(());
    }
    let now = now.timestamp_micros();
    let due: Vec<(i64, Vec<u8>, i64)> = webhook_deliveries::table
        .filter(webhook_deliveries::webhook.eq(id))
        .filter(webhook_deliveries::state.eq(PENDING))
        .filter(webhook_deliveries::next_at.le(now))
        .order(webhook_deliveries::next_at)
        .limit(i64::from(room))
        .select((
            webhook_deliveries::sequence,
            webhook_deliveries::event,
            webhook_deliveries::attempts,
        ))
        .load(conn)?;
    for (sequence, event, attempts) in due {
        diesel::update(webhook_deliveries::table.find((id, sequence)))
            .set(webhook_deliveries::next_at.eq(now.saturating_add(micros(lease))))
            .execute(conn)?;
        let (event, attempts) = (uuid(&event)?, number(attempts)?);
        taken.push(DueDelivery { webhook, sequence: number(sequence)?, event, attempts });
    }
    Ok(())
}

fn finish(conn: &mut SqliteConnection, now: Timestamp, attempt: &Attempted) -> QueryResult<()> {
    let now = now.timestamp_micros();
    let next_at = match attempt.outcome {
        AttemptOutcome::Again(wait) => Some(now.saturating_add(micros(wait))),
        AttemptOutcome::Delivered | AttemptOutcome::Dead => None,
    };
    let DueDelivery { webhook, sequence, attempts, .. } = &attempt.due;
    let place = (webhook.as_bytes().as_slice(), stored(*sequence));
    let as_taken = webhook_deliveries::table
        .find(place)
        .filter(webhook_deliveries::state.eq(PENDING))
        .filter(webhook_deliveries::attempts.eq(i64::from(*attempts)));
    diesel::update(as_taken)
        .set((
            webhook_deliveries::state.eq(attempt.outcome.state().as_str()),
            webhook_deliveries::attempts.eq(i64::from(*attempts) + 1),
            webhook_deliveries::attempted_at.eq(now),
            webhook_deliveries::next_at.eq(next_at),
            webhook_deliveries::status.eq(attempt.status.map(i64::from)),
            webhook_deliveries::error.eq(attempt.error.as_deref()),
        ))
        .execute(conn)
        .map(drop)
}

/// Deliveries that are past their retention: `delivered` and `undelivered` are when it began.
#[diesel::dsl::auto_type]
fn old(delivered: i64, undelivered: i64) -> _ {
    let done: &'static str = DeliveryState::Delivered.as_str();
    webhook_deliveries::table.filter(
        (webhook_deliveries::state.eq(done).and(webhook_deliveries::created_at.lt(delivered))).or(
            webhook_deliveries::state.ne(done).and(webhook_deliveries::created_at.lt(undelivered)),
        ),
    )
}

pub(in crate::storage::sqlite) fn count_old(
    conn: &mut SqliteConnection,
    now: Timestamp,
    delivered: Duration,
    undelivered: Duration,
) -> QueryResult<u64> {
    let old = old(before(now, delivered), before(now, undelivered));
    number(old.count().get_result(conn)?)
}

pub(in crate::storage::sqlite) fn delete_old(
    conn: &mut SqliteConnection,
    now: Timestamp,
    delivered: Duration,
    undelivered: Duration,
    limit: u32,
) -> QueryResult<u64> {
    let old: Vec<(Vec<u8>, i64)> = old(before(now, delivered), before(now, undelivered))
        .limit(i64::from(limit))
        .select((webhook_deliveries::webhook, webhook_deliveries::sequence))
        .load(conn)?;
    for (webhook, sequence) in &old {
        let delivery = webhook_deliveries::table.find((webhook.as_slice(), sequence));
        diesel::delete(delivery).execute(conn)?;
    }
    Ok(old.len() as u64)
}
