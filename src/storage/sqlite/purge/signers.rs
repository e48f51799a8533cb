//! The purge of signers' nonces. It walks them in the order of their keys, because the nonces of
//! one signer lie side by side, so that whole pages are emptied. A reader finds the expired nonces,
//! and the writer deletes them.
//!
//! The same transaction records the latest expiry of the deleted nonces, so that none of them is
//! accepted again, even when the machine's clock is set back later.

use std::time::Duration;

use diesel::connection::DefaultLoadingMode;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Binary, Text};

use crate::domain::{Cursor, Timestamp};
use crate::storage::sqlite::schema::{signer_nonces, signers};
use crate::storage::sqlite::types::{before, number, stored};
use crate::storage::sqlite::{SqliteStore, history};
use crate::storage::{PurgeBatch, Purged, Result};

impl SqliteStore {
    pub(super) async fn delete_signer_nonces(
        &self,
        margin: Duration,
        from: Cursor,
        limit: u32,
    ) -> Result<PurgeBatch> {
        let find = move |conn: &mut _, now| find(conn, now, margin, &from, limit);
        let Found { expired, next } = self.0.read("purge_signer_nonces", find).await?;
        let purged = if expired.is_empty() {
            Purged::default()
        } else {
            let delete = move |conn: &mut _, now| delete(conn, now, margin, &expired);
            self.0.write("purge", delete).await?
        };
        Ok(PurgeBatch { purged, next })
    }
}

/// The rows that one read looks at. During a read, the WAL cannot restart.
const LOOKED_AT: usize = 16_384;
const SIGNER_LENGTH: usize = 16;

#[derive(Debug, Clone, Default, QueryableByName)]
pub(super) struct NonceKey {
    #[diesel(sql_type = Binary)]
    signer: Vec<u8>,
    #[diesel(sql_type = Text)]
    nonce: String,
}

/// A nonce that has expired.
#[derive(QueryableByName)]
pub(crate) struct Row {
    #[diesel(embed)]
    key: NonceKey,
    #[diesel(sql_type = BigInt)]
    expires_at: i64,
}

impl NonceKey {
    /// The beginning, before all keys.
    fn of(cursor: &Cursor) -> QueryResult<Self> {
        let (signer, nonce) = cursor.position().split_at_checked(SIGNER_LENGTH).unwrap_or_default();
        let nonce =
            std::str::from_utf8(nonce).map_err(|e| Error::DeserializationError(e.into()))?;
        Ok(Self { signer: signer.to_owned(), nonce: nonce.to_owned() })
    }

    fn into_cursor(self) -> Cursor {
        Cursor::new([self.signer.as_slice(), self.nonce.as_bytes()].concat())
    }
}

/// What one read found.
pub(crate) struct Found {
    pub(crate) expired: Vec<Row>,
    /// Where to go on; `None` at the end of the table.
    pub(crate) next: Option<Cursor>,
}

/// Up to `limit` nonces after `from` that expired more than `margin` ago.
pub(crate) fn find(
    conn: &mut SqliteConnection,
    now: Timestamp,
    margin: Duration,
    from: &Cursor,
    limit: u32,
) -> QueryResult<Found> {
    let cutoff = before(now, margin);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let NonceKey { signer, nonce } = NonceKey::of(from)?;
    let rows = diesel::sql_query(
        "SELECT signer, nonce, expires_at FROM signer_nonces
            WHERE (signer, nonce) > (?, ?) ORDER BY signer, nonce LIMIT ?",
    )
    .bind::<Binary, _>(signer)
    .bind::<Text, _>(nonce)
    .bind::<BigInt, _>(stored(LOOKED_AT))
    .load_iter::<Row, DefaultLoadingMode>(conn)?;
    let mut found = Found { expired: Vec::new(), next: None };
    let mut looked_at = 0;
    for row in rows {
        let row = row?;
        let key = row.key.clone();
        looked_at += 1;
        if row.expires_at < cutoff {
            found.expired.push(row);
        }
        if looked_at == LOOKED_AT || found.expired.len() == limit {
            found.next = Some(key.into_cursor());
            break;
        }
    }
    Ok(found)
}

/// Deletes those of `rows` that are unchanged and expired more than `margin` ago, lowers the
/// signers' counters accordingly, and deletes signers without nonces. Meanwhile, another process
/// may have purged a row, and the nonce may have been claimed again.
fn delete(
    conn: &mut SqliteConnection,
    now: Timestamp,
    margin: Duration,
    rows: &[Row],
) -> QueryResult<Purged> {
    let cutoff = before(now, margin);
    let mut purged = Purged::default();
    let mut until = None;
    for of_one_signer in rows.chunk_by(|a, b| a.key.signer == b.key.signer) {
        let mut deleted = 0;
        for Row { key: NonceKey { signer, nonce }, expires_at } in of_one_signer {
            let as_found = signer_nonces::table
                .find((signer, nonce))
                .filter(signer_nonces::expires_at.eq(expires_at))
                .filter(signer_nonces::expires_at.lt(cutoff));
            if diesel::delete(as_found).execute(conn)? > 0 {
                deleted += 1;
                until = until.max(Some(*expires_at));
            }
        }
        if deleted > 0
            && let Some(Row { key: NonceKey { signer, .. }, .. }) = of_one_signer.first()
        {
            let counter = signers::table.find(signer);
            let live = signers::live.eq(signers::live - stored(deleted));
            diesel::update(counter).set(live).execute(conn)?;
            diesel::delete(counter.filter(signers::live.eq(0))).execute(conn)?;
        }
        purged.signer_nonces_deleted += number::<u64>(stored(deleted))?;
    }
    if let Some(until) = until {
        history::purged(conn, until)?;
    }
    Ok(purged)
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;

    use super::*;
    use crate::config::SqliteLocation;
    use crate::storage::sqlite::connection::target::{Role, Target};
    use crate::storage::sqlite::migrations;

    #[test]
    fn what_was_claimed_anew_meanwhile_stays() {
        let target = Target::prepare(&SqliteLocation::Memory).unwrap();
        let mut conn = target.connect(Role::Writer).unwrap();
        migrations::up(&mut conn).unwrap();
        conn.batch_execute(
            "INSERT INTO signers VALUES (zeroblob(16), 'did:web:a', 2);
             INSERT INTO signer_nonces VALUES
                 (zeroblob(16), 'a', 0, 1, NULL), (zeroblob(16), 'b', 0, 1, NULL)",
        )
        .unwrap();
        let now = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let margin = Duration::ZERO;
        let found = find(&mut conn, now, margin, &Cursor::default(), 10).unwrap();
        assert_eq!(found.expired.len(), 2);
        // Another process purges one of them, and it is claimed again.
        conn.batch_execute("UPDATE signer_nonces SET expires_at = 9e18 WHERE nonce = 'a'").unwrap();
        let purged = delete(&mut conn, now, margin, &found.expired).unwrap();
        assert_eq!(purged.signer_nonces_deleted, 1);
        let left: Vec<String> =
            signer_nonces::table.select(signer_nonces::nonce).load(&mut conn).unwrap();
        assert_eq!(left, ["a"]);
        assert_eq!(signers::table.select(signers::live).first::<i64>(&mut conn), Ok(1));
        let until = history::read(&mut conn).unwrap().purged_until.unwrap();
        assert_eq!(until.timestamp_micros(), 1, "the expiry of what was removed");
    }
}
