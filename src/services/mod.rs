//! The use cases: what the service does, whoever asks and over whatever protocol.
//!
//! Services know the store and the domain; they never know HTTP. Every nonce goes through
//! [`Claims`], every key through [`Dids`].

mod claims;
mod dids;
mod error;
mod sealing;
mod sessions;
mod tokens;
mod verdicts;

pub use claims::Claims;
pub(crate) use dids::end_sessions as end_revoked_sessions;
pub use dids::{Dids, Lookup, PutDid, ResolvedDid, Revocation, VerificationMethod};
pub use error::ServiceError;
pub use sealing::{
    KEY_FILE, Rotation, Sealer, SealingError, SealingKeys, admit_keys, check_keys, generate_key,
    rotate,
};
pub use sessions::{OpenSession, Sessions, UpdateSession};
pub use tokens::{ADMIN_TOKEN_FILE, AdminToken, Tokens};
pub use verdicts::{Case, Denied, Verdict, Verdicts};
