//! The sample data, which is always the same: `did:example` DIDs, with keys that anyone can derive
//! from their names. It is not for databases that matter.

use std::fmt::Display;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::{
    Checksum, Claim, Did, KeyType, Metadata, NewRecord, Nonce, PublicKey, RecordId, RecordKey,
    RecordKind, Scope, SealedContent, SessionId,
};
use crate::signatures::SigningKey;

use super::webhook::SampleWebhook;

/// Everything that one seed puts into a database.
pub(super) struct Set {
    pub(super) dids: Vec<SampleDid>,
    pub(super) sessions: Vec<SampleSession>,
    pub(super) claims: Vec<Claim>,
    /// Those of one owner come one after the other.
    pub(super) records: Vec<SampleRecord>,
    pub(super) webhook: Option<SampleWebhook>,
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

pub(super) struct SampleRecord {
    pub(super) owner: Did,
    pub(super) key: RecordKey,
    pub(super) random: [u8; 8],
    pub(super) new: NewRecord,
}

/// How much of what each active DID has.
struct Each {
    sessions: usize,
    /// In each session.
    nonces: usize,
    records: usize,
}

impl Set {
    /// 4 DIDs, of which mallory is revoked; 3 sessions in a ring, with a nonce in each; 2 records of
    /// each active DID.
    pub(super) fn dev() -> Result<Self, String> {
        let names = ["alice", "bob", "carol", "mallory"].map(str::to_owned);
        let each = Each { sessions: 1, nonces: 1, records: 2 };
        Self::build("dev", &names, |name| name == "mallory", &each)
    }

    /// 50 DIDs, of which every tenth is revoked; 4 sessions for each active DID, with 10 nonces in
    /// each; 10 records of each active DID; a webhook.
    pub(super) fn staging() -> Result<Self, String> {
        let names: Vec<_> = (1..=50).map(|number| format!("agent-{number:02}")).collect();
        let each = Each { sessions: 4, nonces: 10, records: 10 };
        let webhook = SampleWebhook {
            id: Uuid::from_u128(u128::from_be_bytes(first(&digest("staging webhook")))),
            secret: digest("staging webhook secret"),
        };
        let built = Self::build("staging", &names, |name| name.ends_with('0'), &each)?;
        Ok(Self { webhook: Some(webhook), ..built })
    }

    /// Every active DID opens sessions with the DIDs after it, uses nonces in each, and has records.
    fn build(
        set: &str,
        names: &[String],
        is_revoked: impl Fn(&str) -> bool,
        each: &Each,
    ) -> Result<Self, String> {
        let mut dids = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let did = Did::parse(&format!("did:example:{name}")).map_err(text)?;
            let key_type = if index % 2 == 0 { KeyType::Ed25519 } else { KeyType::Secp256k1 };
            dids.push(SampleDid { key: key(key_type, name)?, did, revoked: is_revoked(name) });
        }
        let active: Vec<_> = dids.iter().filter(|did| !did.revoked).map(|did| &did.did).collect();
        let mut built = Self {
            dids: Vec::new(),
            sessions: Vec::new(),
            claims: Vec::new(),
            records: Vec::new(),
            webhook: None,
        };
        for (index, client) in active.iter().enumerate() {
            for server in active.iter().cycle().skip(index + 1).take(each.sessions) {
                let label = format!("{set} session {client} {server}");
                let id = SessionId(Uuid::from_u128(u128::from_be_bytes(first(&digest(&label)))));
                built.sessions.push(SampleSession {
                    id,
                    client: (*client).clone(),
                    server: (*server).clone(),
                    key: digest(&format!("{label} key")),
                });
                for number in 1..=each.nonces {
                    let nonce = Nonce::parse(&format!("sample-{number}")).map_err(text)?;
                    built.claims.push(Claim {
                        scope: Scope::Session(id),
                        nonce,
                        idempotency: None,
                    });
                }
            }
            for number in 0..each.records {
                built.records.push(record(client, number)?);
            }
        }
        built.dids = dids;
        Ok(built)
    }
}

/// A record of an owner. Nothing is encrypted in it: the bytes are digests.
fn record(owner: &Did, number: usize) -> Result<SampleRecord, String> {
    const KINDS: [&str; 5] = ["sync", "key", "credential", "sync", "backup"];
    let kind = KINDS.get(number % KINDS.len()).copied().unwrap_or_default();
    let label = format!("record {owner} {kind} {number}");
    let iv = first(&digest(&format!("{label} iv")));
    let ciphertext = digest(&label).repeat(4 * (number + 1));
    let checksum =
        Checksum(Sha256::new().chain_update(iv).chain_update(&ciphertext).finalize().into());
    Ok(SampleRecord {
        owner: owner.clone(),
        key: RecordKey {
            kind: RecordKind::parse(kind).map_err(text)?,
            id: RecordId::parse(&format!("sample-{number}")).map_err(text)?,
        },
        random: first(&digest(&format!("{label} random"))),
        new: NewRecord {
            content: SealedContent::new(iv, ciphertext, checksum).map_err(text)?,
            client_time: None,
            metadata: Metadata::kept(r#"{"sample":"true"}"#.to_owned()),
            expires_at: None,
        },
    })
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn digest(label: &str) -> [u8; 32] {
    Sha256::digest(format!("onceguard sample {label}")).into()
}

/// The beginning of a digest.
fn first<const N: usize>(digest: &[u8; 32]) -> [u8; N] {
    let mut first = [0; N];
    for (to, from) in first.iter_mut().zip(digest) {
        *to = *from;
    }
    first
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
        assert_eq!((dev.records.len(), staging.records.len()), (6, 450));
        assert_eq!(staging.dids.iter().filter(|did| did.revoked).count(), 5);
        let ids: HashSet<_> = staging.sessions.iter().map(|session| session.id).collect();
        assert_eq!(ids.len(), 180);
        assert!(dev.webhook.is_none() && staging.webhook.is_some());
    }
}
