//! The use cases: what the service does, whoever asks and over whatever protocol.
//!
//! Services know the store and the domain; they never know HTTP, and HTTP never knows the store. Every nonce goes through
//! [`Claims`], every key through [`Dids`].

mod agents;
mod claims;
mod dids;
mod erasure;
mod error;
mod events;
mod evidence;
mod heads;
mod instances;
mod journal;
mod queue;
mod readiness;
mod records;
mod sealing;
mod searches;
mod sessions;
mod statistics;
mod tokens;
mod verdicts;
mod webhooks;

use serde_json::Value;

use crate::domain::{Actor, NewEvent, OwnType};
use crate::origin::Origin;

pub use agents::{Agents, TooMany};
pub use claims::Claims;
pub(crate) use dids::end_sessions as end_revoked_sessions;
pub use dids::{Asker, Dids, Lookup, PutDid, ResolvedDid, Revocation, VerificationMethod};
pub use erasure::{ErasedDid, Erasure};
pub use error::ServiceError;
pub use events::{Events, TooManyEvents};
pub use evidence::Evidence;
pub use heads::{HEADS_FILE, Heads, notes_of};
pub use instances::Instances;
pub use journal::{InvalidEntry, JOURNAL_FILE, Journal, read_events, remembered};
pub use readiness::{Ability, Readiness};
pub use records::{InactiveRemoved, RecordOperation, Records};
pub use sealing::{
    KEY_FILE, Rotation, Sealer, SealingError, SealingKeys, admit_keys, check_keys, generate_key,
    rotate,
};
pub use searches::Searches;
pub use sessions::{OpenSession, Sessions, UpdateSession};
pub use statistics::Statistics;
pub use tokens::{ADMIN_TOKEN_FILE, AdminToken, Tokens};
pub use verdicts::{ACCEPTED, Case, Denied, Seen, Verdict, Verdicts, Verified};
pub use webhooks::{
    ConfiguredWebhook, Deliverer, InvalidEndpoint, InvalidWebhookUrl, Replay, ReplayOutcome,
    Unchanged, UpdateWebhook, WebhookUrl, Webhooks,
};

/// An event of what a call asks for, or a job does.
#[allow(clippy::needless_pass_by_value, reason = "ids and texts, as they come")]
fn event(kind: OwnType, actor: Actor, subject: impl ToString, data: &Value) -> NewEvent {
    NewEvent::own(kind, actor, subject, data).asked_by(Origin::current().request_id())
}
