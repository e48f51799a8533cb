//! The sample data, which is always the same: `did:example` DIDs, with keys that anyone can derive
//! from their names. It is not for databases that matter.

use std::fmt::Display;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::{Claim, Did, KeyType, Nonce, PublicKey, Scope, SessionId};
use crate::signatures::SigningKey;

/// Everything that one seed puts into a database.
pub(super) struct Set {
    pub(super) dids: Vec<SampleDid>,
    pub(super) sessions: Vec<SampleSession>,
    pub(super) claims: Vec<Claim>,
}

pub(super) struct SampleDid {
    pub(super) did: Did,
    pub(super) key: PublicKey,
    pub(super) revoked: bool,
}

pub(super) struct SampleSession {
    pub(super) id: SessionId,
    pub(super) client: Did,
    pub(super) server: Did,
    pub(super) key: [u8; 32],
}

impl Set {
    /// 4 DIDs, of which mallory is revoked; 3 sessions in a ring, with a nonce in each.
    pub(super) fn dev() -> Result<Self, String> {
        let names = ["alice", "bob", "carol", "mallory"].map(str::to_owned);
        Self::build("dev", &names, |name| name == "mallory", 1, 1)
    }

    /// 50 DIDs, of which every tenth is revoked; 4 sessions for each active DID, with 10 nonces in
    /// each.
    pub(super) fn staging() -> Result<Self, String> {
        let names: Vec<_> = (1..=50).map(|number| format!("agent-{number:02}")).collect();
        Self::build("staging", &names, |name| name.ends_with('0'), 4, 10)
    }

    /// Every active DID opens `sessions` sessions with the DIDs after it, and uses `nonces` nonces
    /// in each.
    fn build(
        set: &str,
        names: &[String],
        is_revoked: impl Fn(&str) -> bool,
        sessions: usize,
        nonces: usize,
    ) -> Result<Self, String> {
        let mut dids = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let did = Did::parse(&format!("did:example:{name}")).map_err(text)?;
            let key_type = if index % 2 == 0 { KeyType::Ed25519 } else { KeyType::Secp256k1 };
            dids.push(SampleDid { key: key(key_type, name)?, did, revoked: is_revoked(name) });
        }
        let active: Vec<_> = dids.iter().filter(|did| !did.revoked).map(|did| &did.did).collect();
        let mut built = Self { dids: Vec::new(), sessions: Vec::new(), claims: Vec::new() };
        for (index, client) in active.iter().enumerate() {
            for server in active.iter().cycle().skip(index + 1).take(sessions) {
                let label = format!("{set} session {client} {server}");
                let id = SessionId(Uuid::from_u128(u128::from_be_bytes(half(&digest(&label)))));
                built.sessions.push(SampleSession {
                    id,
                    client: (*client).clone(),
                    server: (*server).clone(),
                    key: digest(&format!("{label} key")),
                });
                for number in 1..=nonces {
                    let nonce = Nonce::parse(&format!("sample-{number}")).map_err(text)?;
                    built.claims.push(Claim {
                        scope: Scope::Session(id),
                        nonce,
                        idempotency: None,
                    });
                }
            }
        }
        built.dids = dids;
        Ok(built)
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn digest(label: &str) -> [u8; 32] {
    Sha256::digest(format!("onceguard sample {label}")).into()
}

fn half(digest: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(digest) {
        *to = *from;
    }
    half
}

/// The public key of the secret key that is the digest of `name`.
fn key(key_type: KeyType, name: &str) -> Result<PublicKey, String> {
    let secret = SigningKey::from_bytes(key_type, &digest(name)).map_err(text)?;
    Ok(secret.public_key().clone())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_sets_have_the_promised_sizes() {
        let dev = Set::dev().unwrap();
        assert_eq!((dev.dids.len(), dev.sessions.len(), dev.claims.len()), (4, 3, 3));
        assert_eq!(dev.dids.iter().filter(|did| did.revoked).count(), 1);
        let staging = Set::staging().unwrap();
        assert_eq!(
            (staging.dids.len(), staging.sessions.len(), staging.claims.len()),
            (50, 180, 1800)
        );
        assert_eq!(staging.dids.iter().filter(|did| did.revoked).count(), 5);
        let ids: HashSet<_> = staging.sessions.iter().map(|session| session.id).collect();
        assert_eq!(ids.len(), 180);
    }
}
