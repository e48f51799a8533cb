//! The rows of nonces that were used.

use diesel::prelude::*;

use super::ask::Key;
use crate::domain::UsedNonce;
use crate::storage::sqlite::schema::{nonces, signer_nonces};
use crate::storage::sqlite::types::{timestamp, unreadable};

/// The nonce's row of a signer, or in a namespace.
pub(super) fn signer_nonce(
    conn: &mut SqliteConnection,
    signer: &Key,
    nonce: &str,
) -> QueryResult<Option<UsedNonce>> {
    signer_nonces::table
        .find((signer.as_slice(), nonce))
        .select((signer_nonces::used_at, signer_nonces::expires_at, signer_nonces::idempotency))
        .get_result(conn)
        .optional()?
        .map(used_nonce)
        .transpose()
}

/// The nonce's row in a session.
pub(super) fn session_nonce(
    conn: &mut SqliteConnection,
    session: &Key,
    nonce: &str,
) -> QueryResult<Option<UsedNonce>> {
    nonces::table
        .find((session.as_slice(), nonce))
        .select((nonces::used_at, nonces::expires_at, nonces::idempotency))
        .get_result(conn)
        .optional()?
        .map(used_nonce)
        .transpose()
}

fn used_nonce(row: (i64, i64, Option<Vec<u8>>)) -> QueryResult<UsedNonce> {
    let (used_at, expires_at, idempotency) = row;
    Ok(UsedNonce {
        used_at: timestamp(used_at)?,
        expires_at: timestamp(expires_at)?,
        idempotency: idempotency
            .map(|bytes| bytes.try_into().map_err(|_| unreadable("digest")))
            .transpose()?,
    })
}
