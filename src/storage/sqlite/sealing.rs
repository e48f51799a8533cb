//! Sealing keys by id and check value, and the replacement of one sealed session key by another.

use diesel::prelude::*;

use super::SqliteStore;
use super::schema::{sealing_keys, sessions, webhooks};
use super::types::{did, number, uuid};
use crate::domain::{SealedKey, SessionId};
use crate::storage::{KnownSealingKey, Result, SealedSession};

impl SqliteStore {
    pub async fn sealing_keys(&self) -> Result<Vec<KnownSealingKey>> {
        self.0.read("sealing_keys", |conn, _| keys(conn)).await
    }

    pub async fn add_sealing_key(&self, key_id: &str, check_value: &[u8]) -> Result<()> {
        let (key_id, check_value) = (key_id.to_owned(), check_value.to_vec());
        self.0.write("add_sealing_key", move |conn, _| add(conn, &key_id, &check_value)).await
    }

    pub async fn retire_sealing_key(&self, key_id: &str) -> Result<bool> {
        let key_id = key_id.to_owned();
        self.0.write("retire_sealing_key", move |conn, _| retire(conn, &key_id)).await
    }

    pub async fn sessions_to_reseal(
        &self,
        key_id: &str,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SealedSession>> {
        let key_id = key_id.to_owned();
        let find = move |conn: &mut _, _| to_reseal(conn, &key_id, after, limit);
        self.0.read("sessions_to_reseal", find).await
    }

    pub async fn reseal(&self, id: SessionId, old: &SealedKey, new: &SealedKey) -> Result<bool> {
        let (old, new) = (old.clone(), new.clone());
        self.0.write("reseal", move |conn, _| reseal(conn, id, &old, &new)).await
    }
}

fn keys(conn: &mut SqliteConnection) -> QueryResult<Vec<KnownSealingKey>> {
    let known: Vec<(String, Vec<u8>)> =
        sealing_keys::table.order(sealing_keys::key_id).load(conn)?;
    known
        .into_iter()
        .map(|(key_id, check_value)| {
            let sessions = sessions_with(conn, &key_id)?;
            Ok(KnownSealingKey { key_id, check_value, sessions: number(sessions)? })
        })
        .collect()
}

fn sessions_with(conn: &mut SqliteConnection, key_id: &str) -> QueryResult<i64> {
    sessions::table.filter(sessions::key_id.eq(key_id)).count().get_result(conn)
}

fn add(conn: &mut SqliteConnection, key_id: &str, check_value: &[u8]) -> QueryResult<()> {
    diesel::insert_into(sealing_keys::table)
        .values((sealing_keys::key_id.eq(key_id), sealing_keys::check_value.eq(check_value)))
        .on_conflict_do_nothing()
        .execute(conn)?;
    Ok(())
}

/// `false` when a session or a webhook needs the key.
fn retire(conn: &mut SqliteConnection, key_id: &str) -> QueryResult<bool> {
    let webhooks = webhooks::table.filter(webhooks::key_id.eq(key_id));
    let webhooks: i64 = webhooks.count().get_result(conn)?;
    if sessions_with(conn, key_id)? > 0 || webhooks > 0 {
        return Ok(false);
    }
    diesel::delete(sealing_keys::table.find(key_id)).execute(conn)?;
    Ok(true)
}

fn to_reseal(
    conn: &mut SqliteConnection,
    key_id: &str,
    after: Option<SessionId>,
    limit: u32,
) -> QueryResult<Vec<SealedSession>> {
    type Row = (Vec<u8>, String, String, Option<String>, Option<Vec<u8>>);
    let mut query = sessions::table
        .filter(sessions::key_id.is_not_null())
        .filter(sessions::key_id.ne(key_id))
        .select((
            sessions::id,
            sessions::client_did,
            sessions::server_did,
            sessions::key_id,
            sessions::session_key,
        ))
        .into_boxed();
    if let Some(after) = after {
        query = query.filter(sessions::id.gt(after.0.as_bytes().to_vec()));
    }
    let rows: Vec<Row> = query.order(sessions::id).limit(i64::from(limit)).load(conn)?;
    rows.into_iter()
        .filter_map(|(id, client, server, key_id, ciphertext)| {
            let key = SealedKey { key_id: key_id?, ciphertext: ciphertext? };
            Some((id, client, server, key))
        })
        .map(|(id, client, server, key)| {
            Ok(SealedSession {
                id: SessionId(uuid(&id)?),
                client_did: did(&client)?,
                server_did: did(&server)?,
                key,
            })
        })
        .collect()
}

/// Compares and swaps: `false` when the session no longer has `old`.
fn reseal(
    conn: &mut SqliteConnection,
    id: SessionId,
    old: &SealedKey,
    new: &SealedKey,
) -> QueryResult<bool> {
    let unchanged = sessions::table
        .find(id.0.as_bytes().as_slice())
        .filter(sessions::key_id.eq(&old.key_id))
        .filter(sessions::session_key.eq(&old.ciphertext));
    let swapped = diesel::update(unchanged)
        .set((sessions::key_id.eq(&new.key_id), sessions::session_key.eq(&new.ciphertext)))
        .execute(conn)?;
    Ok(swapped > 0)
}
