//! The purge of signers' nonces. It walks them in the order of their key, since those of one signer
//! lie side by side and leave together, page by page: a reader finds what has expired, and the
//! writer deletes it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use diesel::connection::DefaultLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Text};

use crate::domain::Timestamp;
use crate::storage::Purged;

use super::clock;
use super::purge::before;
use super::schema::{signer_nonces, signers};
use super::types::{number, stored};

/// Rows that one read looks at. While it lasts, the WAL cannot start anew.
const LOOKED_AT: usize = 16_384;

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

/// Where the walk has come to: what it looked at last. From the beginning at first, and again after
/// the end.
#[derive(Default)]
pub(super) struct Walk(Mutex<NonceKey>);

impl Walk {
    pub(super) fn position(&self) -> NonceKey {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn continue_after(&self, key: NonceKey) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

/// What one read found.
pub(super) struct Found {
    pub(super) expired: Vec<NonceKey>,
    /// What it looked at last; `None` at the end of the table.
    pub(super) last: Option<NonceKey>,
}

/// Up to `limit` nonces after `position` that expired more than `margin` ago.
pub(super) fn find(
    conn: &mut SqliteConnection,
    now: Timestamp,
    margin: Duration,
    position: &NonceKey,
    limit: usize,
) -> QueryResult<Found> {
    let cutoff = before(now, margin);
    let rows = diesel::sql_query(
        "SELECT signer, nonce, expires_at FROM signer_nonces
            WHERE (signer, nonce) > (?, ?) ORDER BY signer, nonce LIMIT ?",
    )
    .bind::<Binary, _>(&position.signer)
    .bind::<Text, _>(&position.nonce)
    .bind::<BigInt, _>(stored(LOOKED_AT))
    .load_iter::<Row, DefaultLoadingMode>(conn)?;
    let mut found = Found { expired: Vec::new(), last: None };
    let mut looked_at = 0;
    for row in rows {
        let Row { key, expires_at } = row?;
        looked_at += 1;
        if expires_at < cutoff {
            found.expired.push(key.clone());
        }
        if looked_at == LOOKED_AT || found.expired.len() == limit {
            found.last = Some(key);
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
        if let Some(NonceKey { signer, .. }) = of_one_signer.first() {
            let counter = signers::table.find(signer);
            let live = signers::live.eq(signers::live - stored(deleted));
            diesel::update(counter).set(live).execute(conn)?;
            diesel::delete(counter.filter(signers::live.eq(0))).execute(conn)?;
        }
        purged.signer_nonces_deleted += number::<u64>(stored(deleted))?;
    }
    if purged != Purged::default() {
        clock::record(conn, now)?;
    }
    Ok(purged)
}
