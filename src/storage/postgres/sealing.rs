//! Which keys seal the session keys, and replacing one by another. A key that was wiped or
//! changed meanwhile is never written back.

use diesel::dsl::exists;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bytea, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::PostgresStore;
use super::connection::confirm::confirm;
use super::connection::statement::Prepared;
use super::schema::{sealing_keys, sessions, webhooks};
use super::sessions::row::{did, unsigned};
use crate::domain::{SealedKey, SessionId};
use crate::storage::{KnownSealingKey, Result, SealedSession};

const LIST: &str = "
    SELECT key_id, check_value,
        (SELECT count(*) FROM sessions WHERE sessions.key_id = sealing_keys.key_id) AS sessions
    FROM sealing_keys ORDER BY key_id";

const RETIRE: &str = "
    DELETE FROM sealing_keys
    WHERE key_id = $1 AND NOT EXISTS (SELECT FROM sessions WHERE sessions.key_id = $1)
        AND NOT EXISTS (SELECT FROM webhooks WHERE webhooks.key_id = $1)";

/// There are few keys and many sessions: it hops from key to key along the index, and reads
/// each one's sessions in the order of their ids.
const TO_RESEAL: &str = "
    WITH RECURSIVE keys (key_id) AS (
        SELECT min(key_id) FROM sessions WHERE key_id IS NOT NULL
        UNION ALL
        SELECT (SELECT min(sessions.key_id) FROM sessions WHERE sessions.key_id > keys.key_id)
        FROM keys WHERE keys.key_id IS NOT NULL
    )
    SELECT sealed.*
    FROM keys CROSS JOIN LATERAL (
        SELECT id, client_did, server_did, key_id, session_key
        FROM sessions
        WHERE sessions.key_id = keys.key_id AND ($2 IS NULL OR id > $2)
        ORDER BY id LIMIT $3
    ) AS sealed
    WHERE keys.key_id <> $1
    ORDER BY id LIMIT $3";

#[derive(QueryableByName)]
struct KeyRow {
    #[diesel(sql_type = Text)]
    key_id: String,
    #[diesel(sql_type = Bytea)]
    check_value: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    sessions: i64,
}

#[derive(QueryableByName)]
struct SealedRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    client_did: String,
    #[diesel(sql_type = Text)]
    server_did: String,
    #[diesel(sql_type = Text)]
    key_id: String,
    #[diesel(sql_type = Bytea)]
    session_key: Vec<u8>,
}

impl PostgresStore {
    pub async fn sealing_keys(&self) -> Result<Vec<KnownSealingKey>> {
        self.read("sealing_keys", async |c| {
            let rows: Vec<KeyRow> = Prepared(sql_query(LIST)).load(c).await?;
            rows.into_iter()
                .map(|KeyRow { key_id, check_value, sessions }| {
                    Ok(KnownSealingKey { key_id, check_value, sessions: unsigned(sessions)? })
                })
                .collect()
        })
        .await
    }

    pub async fn add_sealing_key(&self, key_id: &str, check_value: &[u8]) -> Result<()> {
        self.write("add_sealing_key", async |c| {
            let added = diesel::insert_into(sealing_keys::table)
                .values((
                    sealing_keys::key_id.eq(key_id),
                    sealing_keys::check_value.eq(check_value),
                ))
                .on_conflict_do_nothing()
                .execute(c)
                .await?;
            if added == 0 { confirm(c).await } else { Ok(()) }
        })
        .await
    }

    pub async fn retire_sealing_key(&self, key_id: &str) -> Result<bool> {
        self.write("retire_sealing_key", async |c| {
            let retired = Prepared(sql_query(RETIRE).bind::<Text, _>(key_id)).execute(c).await?;
            if retired > 0 {
                return Ok(true);
            }
            // It may not have been known at all, and so is not needed either.
            let sessions = sessions::table.filter(sessions::key_id.eq(key_id));
            let webhooks = webhooks::table.filter(webhooks::key_id.eq(key_id));
            let needed = exists(sessions).or(exists(webhooks));
            let needed: bool = diesel::select(needed).get_result(c).await?;
            confirm(c).await?;
            Ok(!needed)
        })
        .await
    }

    pub async fn sessions_to_reseal(
        &self,
        key_id: &str,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SealedSession>> {
        self.read("sessions_to_reseal", async |c| {
            let query = sql_query(TO_RESEAL)
                .bind::<Text, _>(key_id)
                .bind::<Nullable<SqlUuid>, _>(after.map(|id| id.0))
                .bind::<BigInt, _>(i64::from(limit));
            let rows: Vec<SealedRow> = Prepared(query).load(c).await?;
            rows.into_iter()
                .map(|row| {
                    Ok(SealedSession {
                        id: SessionId(row.id),
                        client_did: did(&row.client_did)?,
                        server_did: did(&row.server_did)?,
                        key: SealedKey { key_id: row.key_id, ciphertext: row.session_key },
                    })
                })
                .collect()
        })
        .await
    }

    pub async fn reseal(&self, id: SessionId, old: &SealedKey, new: &SealedKey) -> Result<bool> {
        let resealed = self
            .write("reseal", async |c| {
                diesel::update(sessions::table.find(id.0))
                    .filter(sessions::session_key.eq(&old.ciphertext))
                    .filter(sessions::key_id.eq(&old.key_id))
                    .set((
                        sessions::session_key.eq(&new.ciphertext),
                        sessions::key_id.eq(&new.key_id),
                    ))
                    .execute(c)
                    .await
            })
            .await?;
        Ok(resealed > 0)
    }
}
