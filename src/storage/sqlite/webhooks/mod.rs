//! Webhooks: who hears what.

mod deliveries;

pub(super) use deliveries::{count_old, delete_old};

use diesel::dsl::min;
use diesel::prelude::*;
use diesel::sqlite::Sqlite;
use uuid::Uuid;

use super::SqliteStore;
use super::events::{chain_tip, write};
use super::schema::{events, webhook_deliveries, webhooks};
use super::types::{number, stored, timestamp, unreadable, uuid};
use crate::domain::{
    DeliveryState, NewEvent, SealedKey, Timestamp, Webhook, WebhookSignature, WebhookState,
};
use crate::storage::Result;
use crate::storage::readable::readable;
use crate::storage::webhooks::{
    DeliveryCounts, NewWebhook, RECOVERED, Replayed, SealedWebhook, WebhookChange, WebhookCounts,
};

#[derive(Queryable, Selectable)]
#[diesel(table_name = webhooks, check_for_backend(Sqlite))]
struct WebhookRow {
    id: Vec<u8>,
    url: String,
    types: String,
    signature: String,
    secret: Vec<u8>,
    key_id: String,
    state: String,
    reason: Option<String>,
    created_at: i64,
    name: Option<String>,
}

impl WebhookRow {
    fn read(self) -> QueryResult<SealedWebhook> {
        let signature = WebhookSignature::parse(&self.signature);
        let webhook = Webhook {
            id: uuid(&self.id)?,
            name: self.name,
            url: self.url,
            types: types(&self.types)?,
            signature: signature.ok_or_else(|| unreadable("kind of signature"))?,
            state: WebhookState::parse(&self.state).ok_or_else(|| unreadable("webhook state"))?,
            reason: self.reason,
            created_at: timestamp(self.created_at)?,
        };
        let secret = SealedKey { key_id: self.key_id, ciphertext: self.secret };
        Ok(SealedWebhook { webhook, secret })
    }
}

impl SqliteStore {
    pub async fn create_webhook(
        &self,
        new: NewWebhook,
        most: u32,
        event: NewEvent,
    ) -> Result<Option<Webhook>> {
        let create = move |conn: &mut _, now| create(conn, now, &new, most, &event);
        self.0.write("create_webhook", create).await
    }

    pub async fn webhooks(&self) -> Result<Vec<SealedWebhook>> {
        self.0.read("webhooks", |conn, _| list(conn)).await
    }

    pub async fn change_webhook(
        &self,
        id: Uuid,
        change: WebhookChange,
        event: NewEvent,
    ) -> Result<Option<Webhook>> {
        let apply = move |conn: &mut _, now| apply(conn, now, id, &change, &event);
        self.0.write("change_webhook", apply).await
    }

    pub async fn delete_webhook(&self, id: Uuid, event: NewEvent) -> Result<bool> {
        let delete = move |conn: &mut SqliteConnection, now| {
            let webhook = webhooks::table.find(id.as_bytes().as_slice());
            let deleted = diesel::delete(webhook).execute(conn)? > 0;
            if deleted {
                write(conn, now, &event)?;
            }
            Ok(deleted)
        };
        self.0.write("delete_webhook", delete).await
    }

    pub async fn replay_since(&self, id: Uuid, since: Timestamp) -> Result<Replayed> {
        self.0.write("replay_since", move |conn, _| rewind(conn, id, since)).await
    }

    pub async fn webhook_counts(&self) -> Result<WebhookCounts> {
        self.0.read("webhook_counts", counts).await
    }

    pub async fn delivery_counts(&self) -> Result<DeliveryCounts> {
        self.0.read("delivery_counts", |conn, _| delivery_counts(conn)).await
    }

    pub async fn reseal_webhook(&self, id: Uuid, old: &SealedKey, new: &SealedKey) -> Result<bool> {
        let (old, new) = (old.clone(), new.clone());
        let reseal = move |conn: &mut SqliteConnection, _| {
            let unchanged = webhooks::table
                .find(id.as_bytes().as_slice())
                .filter(webhooks::key_id.eq(&old.key_id))
                .filter(webhooks::secret.eq(&old.ciphertext));
            let swapped = diesel::update(unchanged)
                .set((webhooks::key_id.eq(&new.key_id), webhooks::secret.eq(&new.ciphertext)))
                .execute(conn)?;
            Ok(swapped > 0)
        };
        self.0.write("reseal_webhook", reseal).await
    }
}

fn create(
    conn: &mut SqliteConnection,
    now: Timestamp,
    new: &NewWebhook,
    most: u32,
    event: &NewEvent,
) -> QueryResult<Option<Webhook>> {
    if let Some(name) = &new.name {
        let named = webhooks::table.filter(webhooks::name.eq(name)).select(webhooks::id);
        let named: Option<Vec<u8>> = named.get_result(conn).optional()?;
        if let Some(id) = named {
            return find(conn, uuid(&id)?);
        }
    }
    let there: i64 = webhooks::table.count().get_result(conn)?;
    if there >= i64::from(most) {
        return Ok(None);
    }
    diesel::insert_into(webhooks::table)
        .values((
            webhooks::id.eq(new.id.as_bytes().as_slice()),
            webhooks::name.eq(&new.name),
            webhooks::url.eq(&new.url),
            webhooks::types.eq(json_of(&new.types)),
            webhooks::signature.eq(new.signature.as_str()),
            webhooks::secret.eq(&new.secret.ciphertext),
            webhooks::key_id.eq(&new.secret.key_id),
            webhooks::last_sequence.eq(stored(chain_tip(conn)?.sequence)),
            webhooks::created_at.eq(now.timestamp_micros()),
        ))
        .execute(conn)?;
    write(conn, now, event)?;
    find(conn, new.id)
}

fn find(conn: &mut SqliteConnection, id: Uuid) -> QueryResult<Option<Webhook>> {
    let row = webhooks::table.find(id.as_bytes().as_slice()).select(WebhookRow::as_select());
    let row: Option<WebhookRow> = row.get_result(conn).optional()?;
    row.map(|row| Ok(row.read()?.webhook)).transpose()
}

fn list(conn: &mut SqliteConnection) -> QueryResult<Vec<SealedWebhook>> {
    let all = webhooks::table.select(WebhookRow::as_select());
    let rows: Vec<WebhookRow> = all.order((webhooks::created_at, webhooks::id)).load(conn)?;
    let webhooks = rows.into_iter().filter_map(|row| {
        let id = base16ct::lower::encode_string(&row.id);
        readable(row.read(), "webhook", id)
    });
    Ok(webhooks.collect())
}

fn apply(
    conn: &mut SqliteConnection,
    now: Timestamp,
    id: Uuid,
    change: &WebhookChange,
    event: &NewEvent,
) -> QueryResult<Option<Webhook>> {
    if find(conn, id)?.is_none() {
        return Ok(None);
    }
    let webhook = || webhooks::table.find(id.as_bytes().as_slice());
    if let Some(url) = &change.url {
        diesel::update(webhook()).set(webhooks::url.eq(url)).execute(conn)?;
    }
    if let Some(types) = &change.types {
        diesel::update(webhook()).set(webhooks::types.eq(json_of(types))).execute(conn)?;
    }
    if let Some((signature, secret)) = &change.secret {
        let secret = (
            webhooks::signature.eq(signature.as_str()),
            webhooks::secret.eq(&secret.ciphertext),
            webhooks::key_id.eq(&secret.key_id),
        );
        diesel::update(webhook()).set(secret).execute(conn)?;
    }
    if let Some((state, reason)) = &change.state {
        let state = (webhooks::state.eq(state.as_str()), webhooks::reason.eq(reason));
        diesel::update(webhook()).set(state).execute(conn)?;
    }
    write(conn, now, event)?;
    find(conn, id)
}

/// Goes back to the event before the first one of that time or later.
fn rewind(conn: &mut SqliteConnection, id: Uuid, since: Timestamp) -> QueryResult<Replayed> {
    let webhook = webhooks::table.find(id.as_bytes().as_slice());
    let last: Option<i64> = webhook.select(webhooks::last_sequence).get_result(conn).optional()?;
    let Some(last) = last else { return Ok(Replayed::UnknownWebhook) };
    let first = events::table.filter(events::at.ge(since.timestamp_micros()));
    let first: Option<i64> = first.select(min(events::sequence)).get_result(conn)?;
    let last = first.map_or(last, |first| last.min(first - 1));
    diesel::update(webhook).set(webhooks::last_sequence.eq(last)).execute(conn)?;
    Ok(Replayed::Done)
}

fn counts(conn: &mut SqliteConnection, now: Timestamp) -> QueryResult<WebhookCounts> {
    let states: Vec<(String, Option<String>)> =
        webhooks::table.select((webhooks::state, webhooks::reason)).load(conn)?;
    let all = |state: WebhookState| states.iter().filter(move |(one, _)| one == state.as_str());
    let count = |state| all(state).count() as u64;
    let recovered = all(WebhookState::Paused).filter(|(_, reason)| reason.is_some());
    let pending = webhook_deliveries::state.eq(DeliveryState::Pending.as_str());
    let oldest = webhook_deliveries::table.filter(pending);
    let oldest: Option<i64> =
        oldest.select(min(webhook_deliveries::created_at)).get_result(conn)?;
    let waits = oldest.map(timestamp).transpose()?.and_then(|at| (now - at).to_std().ok());
    Ok(WebhookCounts {
        active: count(WebhookState::Active),
        paused: count(WebhookState::Paused),
        recovered: recovered.count() as u64,
        disabled: count(WebhookState::Disabled),
        oldest_pending: waits.unwrap_or_default(),
    })
}

fn delivery_counts(conn: &mut SqliteConnection) -> QueryResult<DeliveryCounts> {
    let mut count = |state: DeliveryState| {
        let of_state =
            webhook_deliveries::table.filter(webhook_deliveries::state.eq(state.as_str()));
        number(of_state.count().get_result(conn)?)
    };
    Ok(DeliveryCounts {
        pending: count(DeliveryState::Pending)?,
        dead: count(DeliveryState::Dead)?,
    })
}

/// Pauses what is active, as a part of a recovery.
pub(super) fn pause_all(conn: &mut SqliteConnection) -> QueryResult<()> {
    let active = webhooks::table.filter(webhooks::state.eq(WebhookState::Active.as_str()));
    diesel::update(active)
        .set((
            webhooks::state.eq(WebhookState::Paused.as_str()),
            webhooks::reason.eq(Some(RECOVERED)),
        ))
        .execute(conn)
        .map(drop)
}

fn json_of(types: &[String]) -> String {
    serde_json::Value::from(types).to_string()
}

fn types(json: &str) -> QueryResult<Vec<String>> {
    serde_json::from_str(json).map_err(|_| unreadable("list of types"))
}
