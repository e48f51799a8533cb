//! The claim rule on SQLite: the writer's thread decides all asks that wait, in one transaction.

pub(super) mod ask;
pub(super) mod decide;
mod gate;
mod nonces;
pub(super) mod sessions;
mod statements;
mod times;

use diesel::prelude::*;

use self::nonces::{session_nonce, signer_nonce};
use super::SqliteStore;
use super::schema::signers;
use super::types::number;
use crate::domain::{Ask, Facts, Namespace, Nonce, SessionId, SignerKey, UsedNonce};
use crate::storage::Result;

impl SqliteStore {
    pub async fn claim(&self, asks: &[Ask<'_>]) -> Vec<Result<Facts>> {
        self.0.claim(asks).await
    }

    pub async fn live_nonces(&self, SignerKey(key): SignerKey) -> Result<u64> {
        let live = move |conn: &mut _, _| {
            let live = signers::table.find(key.as_slice()).select(signers::live);
            number(live.get_result::<i64>(conn).optional()?.unwrap_or_default())
        };
        self.0.read("live_nonces", live).await
    }

    pub async fn namespace_nonce(
        &self,
        namespace: &Namespace,
        nonce: &Nonce,
    ) -> Result<Option<UsedNonce>> {
        let (SignerKey(key), nonce) = (namespace.key(), nonce.clone());
        let find = move |conn: &mut _, _| signer_nonce(conn, &key, nonce.as_str());
        self.0.read("namespace_nonce", find).await
    }

    pub async fn session_nonce(
        &self,
        session: SessionId,
        nonce: &Nonce,
    ) -> Result<Option<UsedNonce>> {
        let nonce = nonce.clone();
        let find = move |conn: &mut _, _| session_nonce(conn, session.0.as_bytes(), nonce.as_str());
        self.0.read("session_nonce", find).await
    }
}
