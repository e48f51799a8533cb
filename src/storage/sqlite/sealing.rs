//! Sealing keys by id and check value, and the swap of one sealed session key for another.

use diesel::prelude::*;

use crate::domain::{SealedKey, SessionId};
use crate::storage::{KnownSealingKey, SealedSession};

use super::schema::{sealing_keys, sessions};
use super::types::{did, number, uuid};

pub(super) fn keys(conn: &mut SqliteConnection) -> QueryResult<Vec<KnownSealingKey>> {
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

pub(super) fn add(
    conn: &mut SqliteConnection,
    key_id: &str,
    check_value: &[u8],
) -> QueryResult<()> {
    diesel::insert_into(sealing_keys::table)
        .values((sealing_keys::key_id.eq(key_id), sealing_keys::check_value.eq(check_value)))
        .on_conflict_do_nothing()
        .execute(conn)?;
    Ok(())
}

/// `false` when a session needs it.
pub(super) fn retire(conn: &mut SqliteConnection, key_id: &str) -> QueryResult<bool> {
    if sessions_with(conn, key_id)? > 0 {
        return Ok(false);
    }
    diesel::delete(sealing_keys::table.find(key_id)).execute(conn)?;
    Ok(true)
}

pub(super) fn to_reseal(
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
pub(super) fn reseal(
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
