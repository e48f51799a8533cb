//! Pure types and rules: what a session, a nonce, a claim, a DID and a key are.
//!
//! Nothing here does I/O or reads a clock; every time is handed in. A value of one of
//! these types is well-formed by construction: parsing is the only way to make one.
//!
//! What a claim goes through on its way is `#[inline]`: the service is another crate.

mod claim;
mod code;
mod did;
mod did_document;
mod did_record;
mod did_url;
mod event;
mod instance;
mod key;
mod metadata;
mod multikey;
mod namespace;
mod nonce;
mod page;
mod peer;
mod publication;
mod record;
mod search;
mod session;
mod timestamp;
mod token;
mod webhook;
mod word;

pub use claim::{
    Accepted, Ask, Claim, Facts, IDEMPOTENCY_WINDOW_SECONDS, IdempotencyDigest,
    MAX_EXPIRY_AHEAD_SECONDS, Outcome, Refusal, Scope, UsedNonce, judge,
};
pub use code::Code;
pub use did::{Did, InvalidDid, SignerKey};
pub use did_document::{
    DidDocument, InvalidDocument, KeyAgreement, UnusableMethod, VerificationMethod,
};
pub use did_record::{DidFilter, DidForgotten, DidRecord, DidRevoked, DidStored, Gone, NewDid};
pub use did_url::{DidUrl, InvalidDidUrl};
pub use event::{
    Actor, CallersType, ERASED_BATCH, Event, EventData, EventFilter, EventType, Finding, Hash,
    Head, HeadKey, InvalidEvent, InvalidHead, InvalidType, Link, LinkedEvent, LogVerifier,
    MAX_SUBJECT, NO_HASH, NewEvent, OWN_PREFIX, OWN_SOURCE, OwnType, PURGED_BATCH, Places, SUCCESS,
    SignedHead, VerifiedLog, leap, link,
};
pub use instance::{Instance, InstanceState};
pub use key::{InvalidKey, KeyType, PublicKey};
pub use metadata::{InvalidMetadata, Metadata, pointer_to};
pub use multikey::InvalidMultikey;
pub use namespace::{InvalidNamespace, Namespace};
pub use nonce::{InvalidNonce, InvalidNonceBytes, Nonce};
pub use page::{Cursor, InvalidCursor, MAX_PAGE, MAX_PAGE_BYTES, Page, PageFiller, PageRequest};
pub use peer::Peer;
pub use publication::{
    EventCursor, EventPage, PUBLICATION_KEPT_SECONDS, PublicationKey, Published,
};
pub use record::{
    Checksum, InactiveOwner, InvalidContent, InvalidRecordId, InvalidRecordKind, LiveRecord,
    MAX_RECORD_METADATA, NewRecord, Precondition, Record, RecordChange, RecordCursor, RecordFeed,
    RecordFilter, RecordId, RecordKey, RecordKind, RecordLimits, RecordQuota, RecordTag,
    RecordUsage, RecordWritten, RecordsChanged, SealedContent, StoredContent,
};
pub use search::{Found, FoundId, FoundPlace, InvalidSearch, Search, Searched, Words};
pub use session::{
    Changed, End, EndReason, InvalidSessionId, Lifetime, NewSession, Opened, Parties, SealedKey,
    Session, SessionFilter, SessionId, SessionPatch, SessionState, StateFilter,
    activity_granularity,
};
pub use timestamp::{Timestamp, rfc3339};
pub use token::{
    ApiToken, Binding, InvalidToken, NewToken, TokenHash, TokenScope, TokenScopes, TokenText,
};
pub use webhook::{
    Delivery, DeliveryState, HeardType, InvalidHeardType, MAX_ATTEMPTS, MAX_RETRY_AFTER_SECONDS,
    MAX_WEBHOOK_TYPES, MAX_WEBHOOKS, Webhook, WebhookKey, WebhookSecret, WebhookSignature,
    WebhookState, hears, retry_after, webhook_body,
};
pub use word::{MAX_WORD_LEN, is_word};
