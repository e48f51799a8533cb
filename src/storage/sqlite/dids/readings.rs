//! What resolvers read about DIDs. Readings can arrive in any order; the newer of two counts.

use diesel::prelude::*;

use super::find;
use crate::domain::{DidRecord, PublicKey, Timestamp};
use crate::storage::sqlite::SqliteStore;
use crate::storage::sqlite::schema::dids;
use crate::storage::sqlite::types::stored;
use crate::storage::sqlite::words::index_did;
use crate::storage::{Answer, Reading, Result, TAKEN_AHEAD};

impl SqliteStore {
    pub async fn record_did(&self, reading: Reading) -> Result<Option<DidRecord>> {
        self.0.write("record_did", move |conn, now| record(conn, now, &reading)).await
    }
}

/// Records a reading, unless the stored row takes precedence. Returns what is stored then.
fn record(
    conn: &mut SqliteConnection,
    now: Timestamp,
    reading: &Reading,
) -> QueryResult<Option<DidRecord>> {
    let before = find(conn, now, &reading.did)?;
    if before.as_ref().is_some_and(|record| !gives_way(record, reading, now)) {
        return Ok(before);
    }
    let micros = now.timestamp_micros();
    let read = (
        dids::source.eq(reading.source),
        dids::version.eq(reading.version.map(stored)),
        dids::fetched_at.eq(reading.asked_at.timestamp_micros()),
        dids::stale_at.eq(reading.stale_at().timestamp_micros()),
        dids::updated_at.eq(micros),
    );
    match &reading.answer {
        Answer::Document { document, owner_address } => {
            let key = document.first_key();
            let json = serde_json::to_string(document.json())
                .map_err(|error| diesel::result::Error::SerializationError(error.into()))?;
            let content = (
                dids::public_key.eq(key.map(PublicKey::as_bytes)),
                dids::key_type.eq(key.map(|key| key.key_type().as_str())),
                dids::owner_address.eq(owner_address.as_ref()),
                dids::document.eq(json),
                dids::gone.eq(None::<String>),
            );
            diesel::insert_into(dids::table)
                .values((
                    dids::did.eq(reading.did.as_str()),
                    dids::created_at.eq(micros),
                    read,
                    content.clone(),
                ))
                .on_conflict(dids::did)
                .do_update()
                .set((read, content))
                .execute(conn)?;
            index_did(conn, &reading.did)?;
        }
        // What was read before is kept.
        Answer::Gone(gone) => {
            diesel::update(dids::table.find(reading.did.as_str()))
                .set((read, dids::gone.eq(gone.as_str())))
                .execute(conn)?;
        }
    }
    find(conn, now, &reading.did)
}

/// A reading never replaces a revoked row, a row of a higher version, or a row that was asked for
/// later; except when that time is well in the future, because then the clock was ahead. A row that
/// was stored by hand has no `stale_at`.
fn gives_way(record: &DidRecord, reading: &Reading, now: Timestamp) -> bool {
    let newer_version = record.version.zip(reading.version).is_some_and(|(has, new)| has > new);
    let after =
        |fetched_at: Timestamp| reading.asked_at < fetched_at && fetched_at <= now + TAKEN_AHEAD;
    let later = record.fetched_at.is_some_and(after);
    record.revoked_at.is_none() && !newer_version && (record.stale_at.is_none() || !later)
}
