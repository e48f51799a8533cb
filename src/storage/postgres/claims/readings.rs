//! What was claimed. Never a licence to act: only a claim is.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::used;
use crate::domain::{Namespace, Nonce, SessionId, SignerKey, UsedNonce};
use crate::storage::Result;
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::schema::{nonces, signer_nonces, signers};
use crate::storage::postgres::sessions::row::unsigned;

impl PostgresStore {
    pub async fn live_nonces(&self, scope: SignerKey) -> Result<u64> {
        self.read("live_nonces", async |c| {
            let live = signers::table.find(scope.0.as_slice()).select(signers::live);
            let live: Option<i64> = live.first(c).await.optional()?;
            unsigned(live.unwrap_or_default())
        })
        .await
    }

    pub async fn namespace_nonce(
        &self,
        namespace: &Namespace,
        nonce: &Nonce,
    ) -> Result<Option<UsedNonce>> {
        self.read("namespace_nonce", async |c| {
            let key = namespace.key();
            let row = signer_nonces::table
                .find((key.0.as_slice(), nonce.as_str()))
                .select((
                    signer_nonces::used_at,
                    signer_nonces::expires_at,
                    signer_nonces::idempotency,
                ))
                .first(c)
                .await
                .optional()?;
            row.map(|(used_at, expires_at, digest)| used(used_at, expires_at, digest)).transpose()
        })
        .await
    }

    pub async fn session_nonce(
        &self,
        session: SessionId,
        nonce: &Nonce,
    ) -> Result<Option<UsedNonce>> {
        self.read("session_nonce", async |c| {
            let row = nonces::table
                .find((session.0, nonce.as_str()))
                .select((nonces::used_at, nonces::expires_at, nonces::idempotency))
                .first(c)
                .await
                .optional()?;
            row.map(|(used_at, expires_at, digest)| used(used_at, expires_at, digest)).transpose()
        })
        .await
    }
}
