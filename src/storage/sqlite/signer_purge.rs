//! The purge of signers' nonces. It walks them in the order of their key, since those of one signer
//! lie side by side and leave together, page by page: a reader finds what has expired, and the
//! writer deletes it.

use std::time::Duration;

use diesel::connection::DefaultLoadingMode;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Binary, Text};

use crate::domain::{Cursor, Timestamp};
use crate::storage::Purged;

use super::purge::{before, recorded};
use super::schema::{signer_nonces, signers};
use super::types::{number, stored};

/// Rows that one read looks at. While it lasts, the WAL cannot start anew.
const LOOKED_AT: usize = 16_384;
const SIGNER_LENGTH: usize = 16;

#[derive(Debug, Clone, Default, QueryableByName)]
pub(super) struct NonceKey {
    #[diesel(sql_type = Binary)]
    signer: Vec<u8>,
    #[diesel(sql_type = Text)]
    nonce: String,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(embed)]
    key: NonceKey,
    #[diesel(sql_type = BigInt)]
    expires_at: i64,
}

impl NonceKey {
    /// Before all keys at the beginning.
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
pub(super) struct Found {
    pub(super) expired: Vec<NonceKey>,
    /// Where to go on; `None` at the end of the table.
    pub(super) next: Option<Cursor>,
}

/// Up to `limit` nonces after `from` that expired more than `margin` ago.
pub(super) fn find(
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
        let Row { key, expires_at } = row?;
        looked_at += 1;
        if expires_at < cutoff {
            found.expired.push(key.clone());
        }
        if looked_at == LOOKED_AT || found.expired.len() == limit {
            found.next = Some(key.into_cursor());
            break;
        }
    }
    Ok(found)
}

/// Deletes those of `keys` that expired more than `margin` ago, lowers the signers' counters by as
/// much, and forgets signers without any. The rows are looked at again: another process may have
/// purged them, and they may have been claimed anew.
pub(super) fn delete(
    conn: &mut SqliteConnection,
    now: Timestamp,
    margin: Duration,
    keys: &[NonceKey],
) -> QueryResult<Purged> {
    let cutoff = before(now, margin);
    let mut purged = Purged::default();
    for of_one_signer in keys.chunk_by(|a, b| a.signer == b.signer) {
        let mut deleted = 0;
        for NonceKey { signer, nonce } in of_one_signer {
            let expired = signer_nonces::table
                .find((signer, nonce))
                .filter(signer_nonces::expires_at.lt(cutoff));
            deleted += diesel::delete(expired).execute(conn)?;
        }
        if deleted > 0
            && let Some(NonceKey { signer, .. }) = of_one_signer.first()
        {
            let counter = signers::table.find(signer);
            let live = signers::live.eq(signers::live - stored(deleted));
            diesel::update(counter).set(live).execute(conn)?;
            diesel::delete(counter.filter(signers::live.eq(0))).execute(conn)?;
        }
        purged.signer_nonces_deleted += number::<u64>(stored(deleted))?;
    }
    recorded(conn, now, purged)
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;

    use super::*;
    use crate::storage::SqliteLocation;
    use crate::storage::sqlite::connection::{Role, Target};
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
    }
}
