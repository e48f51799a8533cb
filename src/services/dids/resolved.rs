//! What is known of a DID at a moment: its keys, parsed once, and what may be done with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::domain::{Did, DidDocument, DidRecord, Gone, PublicKey, Timestamp, UnusableMethod};
use crate::resolvers::{Unusable, did_key};
use crate::services::ServiceError;
use crate::signatures::VerifyingKey;
use crate::storage::Answer;

/// What came of looking a DID up.
#[derive(Debug, Clone)]
pub enum Lookup {
    Found(Arc<ResolvedDid>),
    NotFound,
    /// It has no document that may be used, and why.
    Unresolvable(Unusable),
}

/// What is known of a DID now.
#[derive(Debug)]
pub struct ResolvedDid {
    pub did: Did,
    /// The first that may sign. `None` for a DID that was revoked unseen, or has no such key.
    pub key: Option<PublicKey>,
    /// Every key that this service can use, in the document's order.
    pub verification_methods: Vec<VerificationMethod>,
    /// What the document has beside them that cannot be used, and why.
    pub unusable_methods: Vec<UnusableMethod>,
    pub owner_address: Option<String>,
    pub revoked_at: Option<Timestamp>,
    /// Its home has taken it out of use, though perhaps not for good: nothing may sign.
    pub deactivated: bool,
    /// `key` for a did:key, `stored` for what a `PUT` left, `revoked` for a DID known only by
    /// its revocation, else the resolver's name.
    pub source: String,
    /// The block at which it was read, where there are blocks.
    pub version: Option<u64>,
    /// When its home was asked, or, where there is no home to ask, when this was read.
    pub fetched_at: Timestamp,
    /// When it will be read again.
    pub stale_at: Timestamp,
    /// For how long it had been stale when its home could not be asked again.
    pub stale_for: Option<Duration>,
    /// `None` when nothing is stored about it.
    pub created_at: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
    document: Option<DidDocument>,
    /// Whether it is remembered that this DID is in use: see [`super::Dids::keep`].
    kept: AtomicBool,
    loaded: Instant,
    age_when_loaded: Duration,
}

/// A key of a DID, by its DID URL (DID Core 1.0, section 5.2).
#[derive(Debug, Clone)]
pub struct VerificationMethod {
    pub id: String,
    pub key: PublicKey,
    /// Whether it may sign.
    pub authentication: bool,
    /// The same key, parsed once.
    pub verifying_key: VerifyingKey,
}

/// When something was read, and until when it holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) fetched_at: Timestamp,
    pub(super) stale_at: Timestamp,
    pub(super) age: Duration,
    pub(super) stale_for: Option<Duration>,
}

impl ResolvedDid {
    /// How long ago it was read, not trusting any two clocks to agree.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age_when_loaded + self.loaded.elapsed()
    }

    /// Whether nothing may sign as this DID any more.
    #[must_use]
    pub const fn is_revoked(&self) -> bool {
        self.revoked_at.is_some() || self.deactivated
    }

    /// The DID document (W3C DID Core 1.0, section 5): the one that was read, or one that is made
    /// of the key where none was. `None` without either.
    #[must_use]
    pub fn document(&self) -> Option<Map<String, Value>> {
        let made = || Some(made_document(&self.did, self.key.as_ref()?));
        let document = self.document.clone().or_else(made)?;
        Some(document.json().clone())
    }

    /// A did:key, which is its own home; `record` if anything is stored about it.
    pub(super) fn of_did_key(
        did: &Did,
        key: PublicKey,
        record: Option<DidRecord>,
        times: Times,
    ) -> Result<Self, ServiceError> {
        let known = match record {
            Some(record) => Self::known(record, times),
            None => Self::unseen(did, times),
        };
        Self { key: Some(key), source: "key".to_owned(), ..known }.with_parsed_keys()
    }

    pub(super) fn of_record(record: DidRecord, times: Times) -> Result<Self, ServiceError> {
        Self::known(record, times).with_parsed_keys()
    }

    /// With what its home said, which was asked at that moment.
    pub(super) fn with_document(
        self,
        document: DidDocument,
        asked: Instant,
    ) -> Result<Self, ServiceError> {
        let key = document.first_key().cloned();
        Self { key, document: Some(document), loaded: asked, ..self }.with_parsed_keys()
    }

    /// Whether this call is the first to keep it.
    pub(super) fn keep(&self) -> bool {
        // A read first: a DID that is kept already is the rule.
        !self.kept.load(Ordering::Relaxed) && !self.kept.swap(true, Ordering::Relaxed)
    }

    /// It could not be kept.
    pub(super) fn keep_later(&self) {
        self.kept.store(false, Ordering::Relaxed);
    }

    /// What its home said, if there is anything to store.
    pub(super) fn answer(&self) -> Option<Answer> {
        let owner_address = self.owner_address.clone();
        self.document.clone().map(|document| Answer::Document { document, owner_address })
    }

    /// What its home has taken out of use before anything was seen of it.
    pub(super) fn deactivated_unseen(did: &Did, source: &str, times: Times) -> Self {
        Self { deactivated: true, source: source.to_owned(), ..Self::unseen(did, times) }
    }

    fn known(record: DidRecord, times: Times) -> Self {
        Self {
            // Of a document, what it says today: an earlier version may have seen a key in it.
            key: match &record.document {
                Some(document) => document.first_key().cloned(),
                None => record.key,
            },
            owner_address: record.owner_address,
            revoked_at: record.revoked_at,
            deactivated: record.gone == Some(Gone::Deactivated),
            source: record.source.unwrap_or_else(|| "revoked".to_owned()),
            version: record.version,
            created_at: Some(record.created_at),
            updated_at: Some(record.updated_at),
            document: record.document,
            kept: AtomicBool::new(true),
            ..Self::unseen(&record.did, times)
        }
    }

    pub(super) fn unseen(did: &Did, times: Times) -> Self {
        Self {
            did: did.clone(),
            key: None,
            verification_methods: Vec::new(),
            unusable_methods: Vec::new(),
            owner_address: None,
            revoked_at: None,
            deactivated: false,
            source: String::new(),
            version: None,
            fetched_at: times.fetched_at,
            stale_at: times.stale_at,
            stale_for: times.stale_for,
            created_at: None,
            updated_at: None,
            document: None,
            kept: AtomicBool::new(false),
            loaded: Instant::now(),
            age_when_loaded: times.age,
        }
    }

    fn with_parsed_keys(mut self) -> Result<Self, ServiceError> {
        let made = || Some(made_document(&self.did, self.key.as_ref()?));
        if let Some(document) = self.document.clone().or_else(made) {
            self.verification_methods =
                document.methods().iter().map(VerificationMethod::of).collect::<Result<_, _>>()?;
            self.unusable_methods = document.unusable().to_vec();
        }
        Ok(self)
    }

    /// What it takes in memory, roughly, in bytes.
    pub(super) fn bytes(&self) -> usize {
        // Parsed JSON takes a few times its text.
        let document = self.document.as_ref().map_or(0, |document| {
            4 * serde_json::to_vec(document.json()).map_or(0, |text| text.len())
        });
        let methods: usize = self
            .verification_methods
            .iter()
            .map(|method| size_of::<VerificationMethod>() + method.id.len() + 33)
            .sum();
        let unusable: usize = self
            .unusable_methods
            .iter()
            .map(|method| {
                let id = method.id.as_ref().map_or(0, String::len);
                size_of::<UnusableMethod>() + id + method.pointer.len() + method.reason.len()
            })
            .sum();
        // The document has a copy of them.
        size_of::<Self>() + document + methods + 2 * unusable
    }
}

impl VerificationMethod {
    fn of(method: &crate::domain::VerificationMethod) -> Result<Self, ServiceError> {
        let verifying_key = VerifyingKey::new(&method.key)
            .map_err(|error| ServiceError::Internal(format!("the key {}: {error}", method.id)))?;
        Ok(Self {
            id: method.id.clone(),
            key: method.key.clone(),
            authentication: method.authentication,
            verifying_key,
        })
    }
}

/// The document of a DID that has nothing but a key.
fn made_document(did: &Did, key: &PublicKey) -> DidDocument {
    if did.method() == did_key::METHOD {
        DidDocument::of_did_key(did, key.clone())
    } else {
        DidDocument::of_key(did, format!("{did}#key-1"), key.clone())
    }
}
