//! Calls that publish events, each at most once for its key.

use std::time::Duration;

use diesel::prelude::*;
use uuid::Uuid;

use super::SqliteStore;
use super::events::write;
use super::schema::publications;
use super::types::{before, number, stored, uuid};
use crate::domain::{NewEvent, PublicationKey, Published, Timestamp};
use crate::storage::Result;

impl SqliteStore {
    pub async fn publish_once(
        &self,
        events: Vec<NewEvent>,
        key: PublicationKey,
    ) -> Result<Published> {
        let publish = move |conn: &mut _, now| publish(conn, now, &events, &key);
        let published = self.0.write("publish_once", publish).await?;
        self.0.published.notify_one();
        Ok(published)
    }
}

fn publish(
    conn: &mut SqliteConnection,
    now: Timestamp,
    events: &[NewEvent],
    key: &PublicationKey,
) -> QueryResult<Published> {
    let known: Option<(Vec<u8>, Vec<u8>)> = publications::table
        .find(key.digest.as_slice())
        .select((publications::content, publications::events))
        .get_result(conn)
        .optional()?;
    if let Some((content, ids)) = known {
        if content != key.content {
            return Ok(Published::OtherContent);
        }
        let ids: QueryResult<_> = ids.chunks(size_of::<Uuid>()).map(uuid).collect();
        return Ok(Published::Done { ids: ids?, repeated: true });
    }
    let ids: QueryResult<Vec<_>> = events.iter().map(|event| write(conn, now, event)).collect();
    let ids = ids?;
    let bytes: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
    diesel::insert_into(publications::table)
        .values((
            publications::digest.eq(key.digest.as_slice()),
            publications::content.eq(key.content.as_slice()),
            publications::events.eq(bytes),
            publications::at.eq(now.timestamp_micros()),
        ))
        .execute(conn)?;
    Ok(Published::Done { ids, repeated: false })
}

/// Forgets up to `limit` calls that are older than `kept`, and returns how many.
pub(super) fn forget(
    conn: &mut SqliteConnection,
    now: Timestamp,
    kept: Duration,
    limit: u32,
) -> QueryResult<u64> {
    let old: Vec<Vec<u8>> = publications::table
        .filter(publications::at.lt(before(now, kept)))
        .order(publications::at)
        .limit(i64::from(limit))
        .select(publications::digest)
        .load(conn)?;
    let old = publications::table.filter(publications::digest.eq_any(old));
    number(stored(diesel::delete(old).execute(conn)?))
}
