//! Sealing: session keys and secrets of webhooks are encrypted before they reach a database.
//!
//! XChaCha20-Poly1305 with a random 24-byte nonce in front of the ciphertext. The associated
//! data binds a sealed key to its session and its parties, or to its webhook, so that a row copied
//! onto another one cannot be opened there.

mod admission;
mod error;
mod keys;
mod rotation;

use std::sync::Arc;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::ServiceError;
use crate::config::SealingKeyBytes;
use crate::domain::{Did, SealedKey, SessionId};

pub use admission::{admit_keys, check_keys};
pub use error::SealingError;
pub use keys::{KEY_FILE, SealingKeys, generate_key};
pub use rotation::{Rotation, rotate};

const SESSION_KEY: &[u8] = b"onceguard/session_key/v1";
const WEBHOOK_SECRET: &[u8] = b"onceguard/webhook_secret/v1";
const NONCE_BYTES: usize = 24;

/// Seals with one key and opens with any of several. Clones share the keys.
#[derive(Clone)]
pub struct Sealer {
    /// The first seals.
    keys: Arc<[SealingKey]>,
}

struct SealingKey {
    id: String,
    check_value: Vec<u8>,
    cipher: XChaCha20Poly1305,
}

impl SealingKey {
    fn new(bytes: &SealingKeyBytes) -> Self {
        let derive = |label: &[u8]| -> [u8; 32] {
            Sha256::new().chain_update(label).chain_update(*bytes.0).finalize().into()
        };
        let id = derive(b"onceguard/sealing_key_id/v1");
        let id = id.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        Self {
            id: format!("{id:016x}"),
            check_value: derive(b"onceguard/sealing_key_check/v1").to_vec(),
            cipher: XChaCha20Poly1305::new((&*bytes.0).into()),
        }
    }
}

impl Sealer {
    #[must_use]
    pub fn new(keys: &SealingKeys) -> Self {
        Self { keys: keys.iter().map(SealingKey::new).collect() }
    }

    /// The id of the key that seals: hexadecimal, derived from the key, not secret.
    #[must_use]
    pub fn key_id(&self) -> &str {
        self.keys.first().map_or("", |key| &key.id)
    }

    /// Whether the key with this id is configured, to seal or to open.
    #[must_use]
    pub fn has_key(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }

    /// Seals a session's key.
    pub fn seal(
        &self,
        plaintext: &[u8],
        session: SessionId,
        client: &Did,
        server: &Did,
    ) -> Result<SealedKey, ServiceError> {
        self.seal_for(plaintext, &session_parts(&session, client, server))
    }

    /// Seals a webhook's secret.
    pub fn seal_webhook(&self, secret: &[u8], webhook: Uuid) -> Result<SealedKey, ServiceError> {
        self.seal_for(secret, &[WEBHOOK_SECRET, webhook.as_bytes()])
    }

    /// The first part says for what it is sealed, and the others for whom.
    fn seal_for(&self, plaintext: &[u8], parts: &[&[u8]]) -> Result<SealedKey, ServiceError> {
        let failed = |what: &str| ServiceError::Internal(format!("sealing failed: {what}"));
        let key = self.keys.first().ok_or_else(|| failed("no key"))?;
        let mut nonce = [0_u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| failed(&error.to_string()))?;
        let aad = associated_data(&key.id, parts);
        let payload = Payload { msg: plaintext, aad: &aad };
        let sealed =
            key.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| failed("cipher"))?;
        let mut ciphertext = nonce.to_vec();
        ciphertext.extend_from_slice(&sealed);
        Ok(SealedKey { key_id: key.id.clone(), ciphertext })
    }

    /// Opens a session's key.
    ///
    /// # Errors
    /// [`ServiceError::Internal`] when the key that sealed it is not configured, or the row was
    /// damaged or moved.
    pub fn open(
        &self,
        sealed: &SealedKey,
        session: SessionId,
        client: &Did,
        server: &Did,
    ) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
        let what = format!("session {session}");
        self.open_for(sealed, &what, &session_parts(&session, client, server))
    }

    /// Opens a webhook's secret.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_webhook(
        &self,
        sealed: &SealedKey,
        webhook: Uuid,
    ) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
        let what = format!("webhook {webhook}");
        self.open_for(sealed, &what, &[WEBHOOK_SECRET, webhook.as_bytes()])
    }

    fn open_for(
        &self,
        sealed: &SealedKey,
        what: &str,
        parts: &[&[u8]],
    ) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
        let key = self.keys.iter().find(|key| key.id == sealed.key_id).ok_or_else(|| {
            ServiceError::Internal(format!(
                "{what} is sealed with key {}, which is not configured",
                sealed.key_id
            ))
        })?;
        let damaged = || ServiceError::Internal(format!("the sealed key of {what} is damaged"));
        let (nonce, ciphertext) =
            sealed.ciphertext.split_first_chunk::<NONCE_BYTES>().ok_or_else(damaged)?;
        let aad = associated_data(&key.id, parts);
        let payload = Payload { msg: ciphertext, aad: &aad };
        let opened = key.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| damaged())?;
        Ok(Zeroizing::new(opened))
    }
}

fn session_parts<'a>(session: &'a SessionId, client: &'a Did, server: &'a Did) -> [&'a [u8]; 4] {
    [SESSION_KEY, session.0.as_bytes(), client.as_str().as_bytes(), server.as_str().as_bytes()]
}

/// What it is for, the key's id, and the other parts. Each with its length in front, so that no two
/// different lists read the same.
fn associated_data(key_id: &str, parts: &[&[u8]]) -> Vec<u8> {
    let (purpose, others) = parts.split_at(parts.len().min(1));
    let mut data = Vec::with_capacity(256);
    for part in purpose.iter().copied().chain([key_id.as_bytes()]).chain(others.iter().copied()) {
        data.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        data.extend_from_slice(part);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(bytes: &[u8]) -> Sealer {
        let keys = bytes.iter().map(|byte| SealingKeyBytes(Zeroizing::new([*byte; 32])));
        Sealer::new(&SealingKeys::new(keys.collect()).expect("at least one key"))
    }

    fn parties() -> (SessionId, Did, Did) {
        let did = |text| Did::parse(text).expect("a DID");
        (SessionId(Uuid::now_v7()), did("did:web:a"), did("did:web:b"))
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_or_an_older_key() {
        let (id, client, server) = parties();
        let sealed = sealer(&[1]).seal(b"secret", id, &client, &server).expect("sealed");
        assert!(!sealed.ciphertext.windows(6).any(|window| window == b"secret"));
        let opened = sealer(&[2, 1]).open(&sealed, id, &client, &server).expect("opened");
        assert_eq!(*opened, b"secret");
    }

    #[test]
    fn another_key_session_or_party_does_not_open_it() {
        let (id, client, server) = parties();
        let one = sealer(&[1]);
        let sealed = one.seal(b"secret", id, &client, &server).expect("sealed");
        assert!(sealer(&[2]).open(&sealed, id, &client, &server).is_err());
        assert!(one.open(&sealed, SessionId(Uuid::now_v7()), &client, &server).is_err());
        assert!(one.open(&sealed, id, &server, &client).is_err());
        for index in 0..sealed.ciphertext.len() {
            let mut damaged = sealed.clone();
            damaged.ciphertext[index] ^= 1;
            assert!(one.open(&damaged, id, &client, &server).is_err(), "byte {index}");
        }
        let short = SealedKey { ciphertext: vec![0; 5], ..sealed };
        assert!(one.open(&short, id, &client, &server).is_err());
    }

    #[test]
    fn two_seals_of_one_key_differ() {
        let (id, client, server) = parties();
        let one = sealer(&[1]);
        let first = one.seal(b"secret", id, &client, &server).expect("sealed");
        assert_ne!(first, one.seal(b"secret", id, &client, &server).expect("sealed"));
    }
}
