//! Sessions, nonces, DIDs and claims for tests, and claims as the services make them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use onceguard::clock::Clock;
use onceguard::config::{self, OnCut, Replication, SealingKeyBytes};
use onceguard::domain::{
    Actor, Ask, Binding, Checksum, Claim, Cursor, Did, DidDocument, EventData, Facts,
    IdempotencyDigest, KeyType, Metadata, Namespace, NewDid, NewEvent, NewRecord, NewSession,
    Nonce, Opened, Outcome, OwnType, Peer, Precondition, PublicKey, RecordChange, RecordId,
    RecordKey, RecordKind, RecordLimits, RecordWritten, RecordsChanged, Scope, SealedContent,
    SealedKey, Session, SessionId, Timestamp, judge,
};
use onceguard::metrics::Metrics;
use onceguard::resolvers::{Account, did_key};
use onceguard::services::{OpenSession, Sealer, SealingKeys, Sessions};
use onceguard::storage::{
    Answer, Asked, Joining, Marks, Memory, OnLock, PurgeStep, Purged, Reading, RecordWriter, Store,
    StoreError,
};
use serde_json::json;
use serde_json::value::to_raw_value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

/// A number that this process has not used yet.
pub fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The account of a network, for DIDs of which nothing is stored.
pub fn an_account() -> Account {
    Account { peer: a_peer(1), known: false }
}

/// The network with this number.
pub fn a_peer(number: u8) -> Peer {
    Peer::of_address([198, 51, 100, number].into())
}

/// A DID that no other test has.
pub fn a_did() -> Did {
    did(&format!("did:web:agent-{}.example", Uuid::now_v7().simple()))
}

pub fn did(text: &str) -> Did {
    Did::parse(text).unwrap()
}

/// What confines a token to this namespace.
pub fn a_binding(namespace: &str, max_ttl_seconds: u32) -> Binding {
    Binding { namespace: Namespace::parse(namespace).unwrap(), max_ttl_seconds }
}

pub fn nonce(text: &str) -> Nonce {
    Nonce::parse(text).unwrap()
}

/// A nonce that no other test has.
pub fn a_nonce() -> Nonce {
    nonce(&format!("nonce-{}", unique()))
}

/// A session between two new DIDs, without key, idle timeout or limit.
pub fn a_session() -> NewSession {
    NewSession {
        id: SessionId(Uuid::now_v7()),
        id_is_chosen: false,
        retention_seconds: 7 * 86_400,
        client_did: a_did(),
        server_did: a_did(),
        session_key: None,
        ttl_seconds: 3_600,
        max_ttl_seconds: 86_400,
        idle_timeout_seconds: None,
        max_claims: None,
        metadata: Metadata::default(),
        user_agent: None,
        ip_address: None,
    }
}

/// The same, between these.
pub fn a_session_between(client: &Did, server: &Did) -> NewSession {
    NewSession { client_did: client.clone(), server_did: server.clone(), ..a_session() }
}

/// Bytes in place of a sealed key. A store never looks into them.
pub fn a_sealed_key(key_id: &str) -> SealedKey {
    let mut ciphertext = vec![0xa5; 40];
    ciphertext.extend_from_slice(&unique().to_be_bytes());
    SealedKey { key_id: key_id.to_owned(), ciphertext }
}

/// How an instance begins to serve.
pub fn joining(replication: Replication, on_cut: OnCut) -> Joining {
    Joining {
        name: "127.0.0.1:8080".into(),
        host: "test".into(),
        replication,
        on_cut,
        skew: Duration::from_mins(1),
        known_until: None,
        issued_until: None,
        clock: Clock::system(),
        memory: Memory::new(Vec::new),
        marks: Marks::new(|_| {}),
    }
}

/// An event of the service's, if it has this type, or else of a caller.
pub fn an_event(kind: &str, subject: &impl ToString) -> NewEvent {
    let data = json!({"why": "test"});
    if let Some(own) = OwnType::ALL.iter().find(|own| own.as_str() == kind) {
        return NewEvent::own(*own, Actor::Operator, subject.to_string(), &data);
    }
    let data = EventData::parse(&to_raw_value(&data).unwrap()).unwrap();
    NewEvent::of_caller(kind, Actor::Operator, &subject.to_string(), data).unwrap()
}

/// A valid key; a different one for each number.
pub fn a_public_key(number: u8) -> PublicKey {
    let secret = ed25519_dalek::SigningKey::from_bytes(&[number; 32]);
    PublicKey::new(KeyType::Ed25519, secret.verifying_key().as_bytes()).unwrap()
}

pub fn a_new_did() -> NewDid {
    NewDid { did: a_did(), key: a_public_key(1), owner_address: None }
}

/// A DID's document with one key; a different one for each number.
pub fn a_document(did: &Did, number: u8) -> DidDocument {
    let key = did_key::encode(&a_public_key(number)).unwrap();
    let json = json!({
        "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
        "id": did.as_str(),
        "verificationMethod": [{
            "id": format!("{did}#key-{number}"),
            "type": "Multikey",
            "controller": did.as_str(),
            "publicKeyMultibase": key.method_specific_id(),
        }],
        "authentication": [format!("{did}#key-{number}")],
    });
    DidDocument::parse(did, json).unwrap()
}

/// A resolver's reading of [`a_document`], made just now.
pub async fn a_reading(store: &Store, did: &Did, number: u8) -> Reading {
    Reading {
        did: did.clone(),
        source: "web",
        answer: Answer::Document { document: a_document(did, number), owner_address: None },
        version: None,
        asked_at: store.now().await.unwrap(),
        ttl: minutes(5),
    }
}

/// Opens a session that must be openable.
pub async fn opened(store: &Store, new: NewSession) -> Session {
    match store.open_session(new).await.unwrap() {
        Opened::Created(session) => session,
        other => panic!("the session was not opened: {other:?}"),
    }
}

/// Reads a session that must exist.
pub async fn read(store: &Store, id: SessionId) -> Session {
    store.session(id).await.unwrap().unwrap_or_else(|| panic!("session {id} is gone"))
}

pub fn in_session(session: SessionId, nonce: Nonce) -> Claim {
    Claim { scope: Scope::Session(session), nonce, idempotency: None }
}

pub fn by_signer(did: &Did, nonce: Nonce, expires_at: Timestamp) -> Claim {
    Claim {
        scope: Scope::Signer { did: did.clone(), expires_at, issued_at: None, session: None },
        nonce,
        idempotency: None,
    }
}

/// The signer's claim, in a session of the signer that must be live and counts it.
pub fn naming(claim: Claim, named: SessionId) -> Claim {
    let Scope::Signer { did, expires_at, issued_at, .. } = claim.scope else {
        panic!("not by a signer")
    };
    Claim { scope: Scope::Signer { did, expires_at, issued_at, session: Some(named) }, ..claim }
}

/// The signer's claim of a message that says when it was issued.
pub fn issued(claim: Claim, at: Timestamp) -> Claim {
    let Scope::Signer { did, expires_at, session, .. } = claim.scope else {
        panic!("not by a signer")
    };
    Claim { scope: Scope::Signer { did, expires_at, issued_at: Some(at), session }, ..claim }
}

pub fn with_key(claim: Claim, key: u8) -> Claim {
    Claim { idempotency: Some(digest(key)), ..claim }
}

pub const fn digest(key: u8) -> IdempotencyDigest {
    [key; 16]
}

/// The database's clock, `seconds` from now.
pub async fn in_seconds(store: &Store, seconds: i64) -> Timestamp {
    store.now().await.unwrap() + chrono::Duration::seconds(seconds)
}

/// Claims different scopes or nonces at a store. As the service does, it asks again for claims in
/// sessions with `max_claims`, and for claims that a lock delays.
pub async fn ask_all(store: &Store, claims: &[Claim]) -> Vec<Result<Facts, StoreError>> {
    let mut on_lock = OnLock::Skip;
    let mut counted = vec![false; claims.len()];
    let mut answers: Vec<_> =
        claims.iter().map(|_| Err(StoreError::Locked("never decided".into()))).collect();
    for _ in 0..100 {
        let is_open = |answer: &Result<_, _>| matches!(answer, Err(StoreError::Locked(_)));
        let open: Vec<_> = (0..claims.len()).filter(|index| is_open(&answers[*index])).collect();
        if open.is_empty() {
            break;
        }
        let ask = |index: &usize| {
            let claim = &claims[*index];
            let wants_row = claim.idempotency.is_some();
            Ask { claim, wants_row, counted: counted[*index] }
        };
        let asks: Vec<_> = open.iter().map(ask).collect();
        let asked = store.claim(&asks, on_lock).await;
        assert_eq!(asked.len(), asks.len(), "one answer for each ask");
        for (index, asked) in open.into_iter().zip(asked) {
            match asked {
                Ok(Asked::Decided(facts)) => answers[index] = Ok(facts),
                Ok(Asked::Counted) => counted[index] = true,
                Ok(Asked::Busy) => on_lock = OnLock::Wait,
                Err(error) => answers[index] = Err(error),
            }
        }
    }
    answers
}

pub async fn ask(store: &Store, claim: &Claim) -> Facts {
    let mut facts = ask_all(store, std::slice::from_ref(claim)).await;
    facts.remove(0).unwrap()
}

/// The outcomes of claims of different scopes or nonces, in order.
pub async fn claim_all(store: &Store, claims: &[Claim]) -> Vec<Outcome> {
    let facts = ask_all(store, claims).await;
    claims.iter().zip(facts).map(|(claim, facts)| outcome(claim, &facts.unwrap())).collect()
}

pub async fn claim(store: &Store, claim: &Claim) -> Outcome {
    outcome(claim, &ask(store, claim).await)
}

pub fn outcome(claim: &Claim, facts: &Facts) -> Outcome {
    judge(claim, facts, true).unwrap_or_else(|| panic!("facts that decide nothing: {facts:?}"))
}

/// The number of each outcome.
pub fn count(outcomes: &[Outcome], word: &str) -> usize {
    outcomes.iter().filter(|outcome| outcome.as_str() == word).count()
}

pub const fn minutes(count: u64) -> Duration {
    Duration::from_mins(count)
}

pub const fn days(count: u64) -> Duration {
    Duration::from_hours(count * 24)
}

/// Bytes in the form of an SQL literal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// The first batch of a step of the purge.
pub async fn purge_batch(store: &Store, step: PurgeStep, limit: u32) -> Purged {
    store.purge(step, &Cursor::default(), limit).await.unwrap().purged
}

/// The service of sessions, as an instance has it.
pub fn sessions_of(store: &Store) -> Sessions {
    let keys = SealingKeys::new(vec![SealingKeyBytes(Zeroizing::new([7; 32]))]).unwrap();
    let config =
        config::Sessions { default_ttl: minutes(60), max_ttl: days(1), retention: days(7) };
    let metrics = Arc::new(Metrics::new().unwrap());
    Sessions::start(store.clone(), Sealer::new(&keys), &config, metrics)
}

/// What a caller asks for who opens such a session, without a key.
pub fn asked(new: NewSession) -> OpenSession {
    OpenSession {
        id: Some(new.id),
        client_did: new.client_did,
        server_did: new.server_did,
        session_key: None,
        ttl_seconds: Some(new.ttl_seconds),
        idle_timeout_seconds: new.idle_timeout_seconds,
        max_claims: new.max_claims,
        metadata: new.metadata,
        user_agent: new.user_agent,
        ip_address: new.ip_address,
    }
}

/// A kind and an id.
pub fn a_record_key(kind: &str, id: &str) -> RecordKey {
    RecordKey { kind: RecordKind::parse(kind).unwrap(), id: RecordId::parse(id).unwrap() }
}

/// A record with this ciphertext.
pub fn a_new_record(ciphertext: &[u8]) -> NewRecord {
    let iv = [7; 12];
    let checksum = Sha256::digest([iv.as_slice(), ciphertext].concat());
    let checksum = Checksum::parse(&hex(&checksum)).unwrap();
    NewRecord {
        content: SealedContent::new(iv, ciphertext.to_vec(), checksum).unwrap(),
        client_time: None,
        metadata: Metadata::default(),
        expires_at: None,
    }
}

/// A change; `None` deletes.
pub fn a_change(
    key: &RecordKey,
    precondition: Precondition,
    put: Option<NewRecord>,
) -> RecordChange {
    RecordChange { key: key.clone(), precondition, random: unique().to_be_bytes(), put }
}

/// Limits that no test reaches unless it means to.
pub const fn no_limits() -> RecordLimits {
    RecordLimits {
        max_records: 1_000_000,
        max_bytes: 1_000_000_000,
        agents_max_records: 1_000_000,
        agents_max_bytes: 1_000_000_000,
    }
}

/// Makes one change that must be made.
pub async fn changed(store: &Store, owner: &Did, change: RecordChange) -> RecordWritten {
    let changes = vec![change];
    match store.change_records(owner, RecordWriter::Holder, changes, no_limits()).await.unwrap() {
        RecordsChanged::Done(mut written) => written.remove(0),
        other => panic!("not made: {other:?}"),
    }
}
