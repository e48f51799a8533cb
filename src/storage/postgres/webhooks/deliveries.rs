//! Events become deliveries, and deliveries are taken and finished, many in one statement.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Double, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::super::connection::confirm::confirm;
use super::super::connection::statement::Prepared;
use super::super::events::EventRow;
use super::super::schema::{events, webhook_deliveries, webhooks};
use super::super::sessions::row::unsigned;
use super::super::{PostgresStore, unreadable};
use crate::domain::{Delivery, DeliveryState, Event, Page, hears};
use crate::storage::Result;
use crate::storage::webhooks::{
    AttemptOutcome, Attempted, DueDelivery, HAND_BATCH, Replayed, page_of,
};

/// The webhook that has waited longest. `linked` is from before its events are read: what is linked
/// up to there is seen then.
const BEHIND: &str = "
    SELECT id, types, last_sequence, (SELECT sequence FROM event_chain) AS linked
    FROM webhooks
    WHERE state = 'active' AND last_sequence < (SELECT sequence FROM event_chain)
    ORDER BY last_sequence LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED";

/// What is pending already stays as it is.
const HAND: &str = "
    INSERT INTO webhook_deliveries (webhook, sequence, event, created_at, next_at)
    SELECT $1, sequence, event, now(), now() FROM unnest($2, $3) AS handed (sequence, event)
    ON CONFLICT (webhook, sequence) DO UPDATE
    SET state = 'pending', attempts = 0, created_at = now(), next_at = now(), attempted_at = NULL,
        status = NULL, error = NULL
    WHERE webhook_deliveries.state <> 'pending'";

const DUE: &str = "
    SELECT id FROM webhooks
    WHERE state = 'active' AND EXISTS (
        SELECT FROM webhook_deliveries
        WHERE webhook = webhooks.id AND webhook_deliveries.state = 'pending' AND next_at <= now()
    )";

const TAKE: &str = "
    WITH due AS MATERIALIZED (
        SELECT taken.webhook, taken.sequence
        FROM unnest($1, $2) AS wanted (id, room)
        JOIN webhooks ON webhooks.id = wanted.id AND webhooks.state = 'active'
        CROSS JOIN LATERAL (
            SELECT webhook, sequence FROM webhook_deliveries AS d
            WHERE d.webhook = wanted.id AND d.state = 'pending' AND d.next_at <= now()
            ORDER BY d.next_at LIMIT wanted.room FOR UPDATE SKIP LOCKED
        ) AS taken
    )
    UPDATE webhook_deliveries AS d
    SET next_at = now() + make_interval(secs => $3)
    FROM due
    WHERE d.webhook = due.webhook AND d.sequence = due.sequence
    RETURNING d.webhook, d.sequence, d.event, d.attempts";

const FINISH: &str = "
    UPDATE webhook_deliveries AS d
    SET state = done.state, attempts = d.attempts + 1, attempted_at = now(),
        next_at = now() + make_interval(secs => done.wait), status = done.status,
        error = done.error
    FROM unnest($1, $2, $3, $4, $5, $6, $7)
        AS done (webhook, sequence, attempts, state, wait, status, error)
    WHERE d.webhook = done.webhook AND d.sequence = done.sequence AND d.state = 'pending'
        AND d.attempts = done.attempts";

#[derive(QueryableByName)]
struct Behind {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Array<Text>)]
    types: Vec<String>,
    #[diesel(sql_type = BigInt)]
    last_sequence: i64,
    #[diesel(sql_type = BigInt)]
    linked: i64,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

#[derive(QueryableByName)]
struct Due {
    #[diesel(sql_type = SqlUuid)]
    webhook: Uuid,
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = SqlUuid)]
    event: Uuid,
    #[diesel(sql_type = Integer)]
    attempts: i32,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = webhook_deliveries, check_for_backend(Pg))]
struct DeliveryRow {
    sequence: i64,
    event: Uuid,
    state: String,
    attempts: i32,
    next_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    attempted_at: Option<DateTime<Utc>>,
    status: Option<i32>,
    error: Option<String>,
}

impl DeliveryRow {
    fn read(self) -> QueryResult<Delivery> {
        let state = DeliveryState::parse(&self.state);
        Ok(Delivery {
            event: self.event,
            sequence: unsigned(self.sequence)?,
            state: state.ok_or_else(|| unreadable("an unknown state of a delivery"))?,
            attempts: unsigned(self.attempts)?,
            next_attempt_at: self.next_at,
            created_at: self.created_at,
            attempted_at: self.attempted_at,
            status: self.status.map(unsigned).transpose()?,
            error: self.error,
        })
    }
}

impl PostgresStore {
    pub async fn deliveries(
        &self,
        id: Uuid,
        state: Option<DeliveryState>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<Delivery>> {
        self.read("deliveries", async |c| {
            let mut found = webhook_deliveries::table
                .filter(webhook_deliveries::webhook.eq(id))
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
            let rows: Vec<DeliveryRow> = found.load(c).await?;
            let items = rows.into_iter().map(DeliveryRow::read).collect::<QueryResult<_>>()?;
            Ok(page_of(items, limit))
        })
        .await
    }

    pub async fn replay_event(&self, id: Uuid, event: Uuid) -> Result<Replayed> {
        self.transaction("replay_event", async |c| {
            let webhook = webhooks::table.find(id).select(webhooks::id);
            if webhook.for_key_share().first::<Uuid>(c).await.optional()?.is_none() {
                confirm(c).await?;
                return Ok(Replayed::UnknownWebhook);
            }
            let place = events::table.find(event).select(events::sequence);
            let place: Option<Option<i64>> = place.first(c).await.optional()?;
            let Some(place) = place.flatten() else {
                confirm(c).await?;
                return Ok(Replayed::UnknownEvent);
            };
            let hand = sql_query(HAND)
                .bind::<SqlUuid, _>(id)
                .bind::<Array<BigInt>, _>(vec![place])
                .bind::<Array<SqlUuid>, _>(vec![event]);
            Prepared(hand).execute(c).await?;
            Ok(Replayed::Done)
        })
        .await
    }

    pub async fn hand_events(&self) -> Result<u64> {
        self.errand("hand_events", async |c| {
            let behind: Option<Behind> =
                Prepared(sql_query(BEHIND)).get_result(c).await.optional()?;
            let Some(Behind { id, types, last_sequence, linked }) = behind else { return Ok(0) };
            let next: Vec<(Option<i64>, Uuid, String)> = events::table
                .filter(events::sequence.gt(last_sequence))
                .order(events::sequence)
                .limit(i64::from(HAND_BATCH))
                .select((events::sequence, events::id, events::type_))
                .load(c)
                .await?;
            let seen = next.last().and_then(|(place, ..)| *place).unwrap_or(linked);
            let looked_at = next.len().max(1) as u64;
            let heard = next.into_iter().filter(|(.., kind)| hears(&types, kind));
            let (places, ids): (Vec<i64>, Vec<Uuid>) =
                heard.filter_map(|(place, id, _)| Some((place?, id))).unzip();
            if !ids.is_empty() {
                let hand = sql_query(HAND)
                    .bind::<SqlUuid, _>(id)
                    .bind::<Array<BigInt>, _>(places)
                    .bind::<Array<SqlUuid>, _>(ids);
                Prepared(hand).execute(c).await?;
            }
            diesel::update(webhooks::table.find(id))
                .set(webhooks::last_sequence.eq(seen))
                .execute(c)
                .await?;
            Ok(looked_at)
        })
        .await
    }

    pub async fn due_webhooks(&self) -> Result<Vec<Uuid>> {
        self.read("due_webhooks", async |c| {
            let due: Vec<Id> = Prepared(sql_query(DUE)).load(c).await?;
            Ok(due.into_iter().map(|row| row.id).collect())
        })
        .await
    }

    pub async fn take_deliveries(
        &self,
        room: Vec<(Uuid, u32)>,
        lease: Duration,
    ) -> Result<Vec<DueDelivery>> {
        let (ids, rooms): (Vec<Uuid>, Vec<i64>) =
            room.into_iter().map(|(id, room)| (id, i64::from(room))).unzip();
        self.write("take_deliveries", async |c| {
            let take = sql_query(TAKE)
                .bind::<Array<SqlUuid>, _>(&ids)
                .bind::<Array<BigInt>, _>(&rooms)
                .bind::<Double, _>(lease.as_secs_f64());
            let taken: Vec<Due> = Prepared(take).load(c).await?;
            let taken = taken.into_iter().map(|Due { webhook, sequence, event, attempts }| {
                let (sequence, attempts) = (unsigned(sequence)?, unsigned(attempts)?);
                Ok(DueDelivery { webhook, sequence, event, attempts })
            });
            taken.collect()
        })
        .await
    }

    pub async fn finish_deliveries(&self, mut attempts: Vec<Attempted>) -> Result<()> {
        // Two instances lock rows in the same order.
        attempts.sort_by_key(|one| (one.due.webhook, one.due.sequence));
        self.write("finish_deliveries", async |c| {
            let of = |wait: AttemptOutcome| match wait {
                AttemptOutcome::Again(wait) => Some(wait.as_secs_f64()),
                _ => None,
            };
            let places = attempts.iter().map(|one| i64::try_from(one.due.sequence));
            let places = places.collect::<std::result::Result<Vec<_>, _>>();
            let places = places.map_err(|_| unreadable("a place beyond the last"))?;
            let before = attempts.iter().map(|one| i32::try_from(one.due.attempts));
            let finish = sql_query(FINISH)
                .bind::<Array<SqlUuid>, _>(
                    attempts.iter().map(|one| one.due.webhook).collect::<Vec<_>>(),
                )
                .bind::<Array<BigInt>, _>(places)
                .bind::<Array<Integer>, _>(
                    before.map(|count| count.unwrap_or(i32::MAX)).collect::<Vec<_>>(),
                )
                .bind::<Array<Text>, _>(
                    attempts.iter().map(|one| one.outcome.state().as_str()).collect::<Vec<_>>(),
                )
                .bind::<Array<Nullable<Double>>, _>(
                    attempts.iter().map(|one| of(one.outcome)).collect::<Vec<_>>(),
                )
                .bind::<Array<Nullable<Integer>>, _>(
                    attempts.iter().map(|one| one.status.map(i32::from)).collect::<Vec<_>>(),
                )
                .bind::<Array<Nullable<Text>>, _>(
                    attempts.iter().map(|one| one.error.as_deref()).collect::<Vec<_>>(),
                );
            Prepared(finish).execute(c).await.map(drop)
        })
        .await
    }

    pub async fn events_by_id(&self, ids: Vec<Uuid>) -> Result<Vec<Event>> {
        self.read("events_by_id", async |c| {
            let found = events::table.filter(events::id.eq_any(&ids));
            let rows: Vec<EventRow> = found.select(EventRow::as_select()).load(c).await?;
            rows.into_iter().map(EventRow::read).collect()
        })
        .await
    }
}
