//! Webhooks: who hears what.

mod deliveries;

use chrono::{DateTime, Utc};
use diesel::dsl::now;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::connection::confirm::confirm;
use super::connection::statement::Prepared;
use super::events::record;
use super::schema::{event_chain, webhooks};
use super::sessions::row::unsigned;
use super::{PostgresStore, unreadable};
use crate::domain::{NewEvent, SealedKey, Timestamp, Webhook, WebhookSignature, WebhookState};
use crate::storage::Result;
use crate::storage::readable::readable;
use crate::storage::webhooks::{
    DeliveryCounts, NewWebhook, RECOVERED, Replayed, SealedWebhook, WebhookChange, WebhookCounts,
};

/// Goes back to the event before the first one of that time or later.
const REWIND: &str = "
    UPDATE webhooks
    SET last_sequence = least(last_sequence, coalesce(
        (SELECT min(sequence) - 1 FROM events WHERE at >= $2), last_sequence
    ))
    WHERE id = $1";

const COUNTS: &str = "
    SELECT count(*) FILTER (WHERE state = 'active') AS active,
        count(*) FILTER (WHERE state = 'paused') AS paused,
        count(*) FILTER (WHERE state = 'paused' AND reason IS NOT NULL) AS recovered,
        count(*) FILTER (WHERE state = 'disabled') AS disabled,
        coalesce(extract(epoch FROM now() - (
            SELECT min(created_at) FROM webhook_deliveries WHERE state = 'pending'
        )), 0)::bigint AS oldest
    FROM webhooks";

const DELIVERY_COUNTS: &str = "
    SELECT (SELECT count(*) FROM webhook_deliveries WHERE state = 'pending') AS pending,
        (SELECT count(*) FROM webhook_deliveries WHERE state = 'dead') AS dead";

#[derive(Queryable, Selectable)]
#[diesel(table_name = webhooks, check_for_backend(Pg))]
pub(super) struct WebhookRow {
    id: Uuid,
    url: String,
    types: Vec<Option<String>>,
    signature: String,
    secret: Vec<u8>,
    key_id: String,
    state: String,
    reason: Option<String>,
    created_at: DateTime<Utc>,
    name: Option<String>,
}

impl WebhookRow {
    fn read(self) -> QueryResult<SealedWebhook> {
        let signature = WebhookSignature::parse(&self.signature);
        let webhook = Webhook {
            id: self.id,
            name: self.name,
            url: self.url,
            types: self.types.into_iter().flatten().collect(),
            signature: signature.ok_or_else(|| unreadable("an unknown kind of signature"))?,
            state: WebhookState::parse(&self.state)
                .ok_or_else(|| unreadable("an unknown state of a webhook"))?,
            reason: self.reason,
            created_at: self.created_at,
        };
        let secret = SealedKey { key_id: self.key_id, ciphertext: self.secret };
        Ok(SealedWebhook { webhook, secret })
    }
}

#[derive(QueryableByName)]
struct CountsRow {
    #[diesel(sql_type = BigInt)]
    active: i64,
    #[diesel(sql_type = BigInt)]
    paused: i64,
    #[diesel(sql_type = BigInt)]
    recovered: i64,
    #[diesel(sql_type = BigInt)]
    disabled: i64,
    #[diesel(sql_type = BigInt)]
    oldest: i64,
}

#[derive(QueryableByName)]
struct DeliveryCountsRow {
    #[diesel(sql_type = BigInt)]
    pending: i64,
    #[diesel(sql_type = BigInt)]
    dead: i64,
}

impl PostgresStore {
    pub async fn create_webhook(
        &self,
        new: NewWebhook,
        most: u32,
        event: NewEvent,
    ) -> Result<Option<Webhook>> {
        self.transaction("create_webhook", async |c| {
            // The lock of the chain's row: nothing is linked, and no other webhook made, meanwhile.
            let chain = event_chain::table.select(event_chain::sequence).for_update();
            let sequence: i64 = chain.first(c).await?;
            if let Some(name) = &new.name {
                let named = webhooks::table.filter(webhooks::name.eq(name)).select(webhooks::id);
                if let Some(id) = named.first(c).await.optional()? {
                    confirm(c).await?;
                    return find(c, id).await;
                }
            }
            let there: i64 = webhooks::table.count().get_result(c).await?;
            if there >= i64::from(most) {
                confirm(c).await?;
                return Ok(None);
            }
            diesel::insert_into(webhooks::table)
                .values((
                    webhooks::id.eq(new.id),
                    webhooks::name.eq(&new.name),
                    webhooks::url.eq(&new.url),
                    webhooks::types.eq(&new.types),
                    webhooks::signature.eq(new.signature.as_str()),
                    webhooks::secret.eq(&new.secret.ciphertext),
                    webhooks::key_id.eq(&new.secret.key_id),
                    webhooks::last_sequence.eq(sequence),
                    webhooks::created_at.eq(now.into_sql::<Timestamptz>()),
                ))
                .execute(c)
                .await?;
            record(c, &event).await?;
            find(c, new.id).await
        })
        .await
    }

    pub async fn webhooks(&self) -> Result<Vec<SealedWebhook>> {
        self.read("webhooks", async |c| {
            let all = webhooks::table.select(WebhookRow::as_select());
            let rows: Vec<WebhookRow> =
                all.order((webhooks::created_at, webhooks::id)).load(c).await?;
            let webhooks = rows.into_iter().filter_map(|row| {
                let id = row.id;
                readable(row.read(), "webhook", id)
            });
            Ok(webhooks.collect())
        })
        .await
    }

    pub async fn change_webhook(
        &self,
        id: Uuid,
        change: WebhookChange,
        event: NewEvent,
    ) -> Result<Option<Webhook>> {
        self.transaction("change_webhook", async |c| {
            let webhook = webhooks::table.find(id);
            let there = webhook.select(webhooks::id).for_no_key_update();
            if there.first::<Uuid>(c).await.optional()?.is_none() {
                confirm(c).await?;
                return Ok(None);
            }
            if let Some(url) = &change.url {
                diesel::update(webhook).set(webhooks::url.eq(url)).execute(c).await?;
            }
            if let Some(types) = &change.types {
                diesel::update(webhook).set(webhooks::types.eq(types)).execute(c).await?;
            }
            if let Some((signature, secret)) = &change.secret {
                let secret = (
                    webhooks::signature.eq(signature.as_str()),
                    webhooks::secret.eq(&secret.ciphertext),
                    webhooks::key_id.eq(&secret.key_id),
                );
                diesel::update(webhook).set(secret).execute(c).await?;
            }
            if let Some((state, reason)) = &change.state {
                let state = (webhooks::state.eq(state.as_str()), webhooks::reason.eq(reason));
                diesel::update(webhook).set(state).execute(c).await?;
            }
            record(c, &event).await?;
            find(c, id).await
        })
        .await
    }

    pub async fn delete_webhook(&self, id: Uuid, event: NewEvent) -> Result<bool> {
        self.transaction("delete_webhook", async |c| {
            let deleted = diesel::delete(webhooks::table.find(id)).execute(c).await? > 0;
            if deleted {
                record(c, &event).await?;
            } else {
                confirm(c).await?;
            }
            Ok(deleted)
        })
        .await
    }

    pub async fn replay_since(&self, id: Uuid, since: Timestamp) -> Result<Replayed> {
        let rewound = self
            .write("replay_since", async |c| {
                let rewind = sql_query(REWIND).bind::<SqlUuid, _>(id);
                Prepared(rewind.bind::<Timestamptz, _>(since)).execute(c).await
            })
            .await?;
        Ok(if rewound > 0 { Replayed::Done } else { Replayed::UnknownWebhook })
    }

    pub async fn webhook_counts(&self) -> Result<WebhookCounts> {
        self.read("webhook_counts", async |c| {
            let row: CountsRow = Prepared(sql_query(COUNTS)).get_result(c).await?;
            Ok(WebhookCounts {
                active: unsigned(row.active)?,
                paused: unsigned(row.paused)?,
                recovered: unsigned(row.recovered)?,
                disabled: unsigned(row.disabled)?,
                oldest_pending: std::time::Duration::from_secs(unsigned(row.oldest.max(0))?),
            })
        })
        .await
    }

    pub async fn delivery_counts(&self) -> Result<DeliveryCounts> {
        self.read("delivery_counts", async |c| {
            let row: DeliveryCountsRow = Prepared(sql_query(DELIVERY_COUNTS)).get_result(c).await?;
            Ok(DeliveryCounts { pending: unsigned(row.pending)?, dead: unsigned(row.dead)? })
        })
        .await
    }

    pub async fn reseal_webhook(&self, id: Uuid, old: &SealedKey, new: &SealedKey) -> Result<bool> {
        let resealed = self.write("reseal_webhook", async |c| {
            diesel::update(webhooks::table.find(id))
                .filter(webhooks::secret.eq(&old.ciphertext))
                .filter(webhooks::key_id.eq(&old.key_id))
                .set((webhooks::secret.eq(&new.ciphertext), webhooks::key_id.eq(&new.key_id)))
                .execute(c)
                .await
        });
        Ok(resealed.await? > 0)
    }
}

async fn find(c: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<Webhook>> {
    let row = webhooks::table.find(id).select(WebhookRow::as_select()).first(c).await.optional()?;
    row.map(|row: WebhookRow| Ok(row.read()?.webhook)).transpose()
}

/// Pauses what is active, as a part of a recovery.
pub(super) async fn pause_all(c: &mut AsyncPgConnection) -> QueryResult<()> {
    let active = webhooks::table.filter(webhooks::state.eq(WebhookState::Active.as_str()));
    diesel::update(active)
        .set((
            webhooks::state.eq(WebhookState::Paused.as_str()),
            webhooks::reason.eq(Some(RECOVERED)),
        ))
        .execute(c)
        .await
        .map(drop)
}
