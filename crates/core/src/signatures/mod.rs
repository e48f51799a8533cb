//! Signed requests: HTTP Message Signatures (RFC 9421) with Content-Digest (RFC 9530).
//!
//! Pure functions over a request, a key and a time: no I/O, no clock, no randomness, so that
//! every rule can be tested and fuzzed. What needs I/O, the caller does in between.
//!
//! # The thirteen steps
//!
//! A message passes only if it passes every step, in this order. The first that it does not pass
//! names the refusal. Cheap refusals come before cryptography, and the nonce is spent after it.
//!
//! 1. `Signature` and `Signature-Input` are both there, and well formed: else
//!    `signature_required`, `signature_malformed`.
//! 2. Exactly one signature carries the profile's tag; others are ignored: `signature_tag_invalid`.
//! 3. `created`, `expires`, `nonce` and `keyid` are stated, and `alg` where the profile demands it;
//!    the nonce is long enough: `signature_params_incomplete`.
//! 4. The profile allows the algorithm, and the key's type demands it:
//!    `signature_alg_not_allowed`.
//! 5. It is fresh: created before it expires, not in the future, not expired, not valid for longer
//!    than the profile allows: `signature_window_invalid`.
//! 6. It covers what the profile demands, each component once: `signature_components_incomplete`.
//! 7. `keyid` names one key that may sign: `signature_key_unknown`; or its home cannot be asked:
//!    `signature_key_unavailable`.
//! 8. The key is not revoked, and what is known of that is fresh enough: `signature_key_revoked`,
//!    `signature_revocation_stale`.
//! 9. The signer's quota has room; step 13 decides: `claim_quota_reached`.
//! 10. The signature is the key's over the rebuilt signature base: `signature_invalid`.
//! 11. `Content-Digest`, where covered, is the body's: `signature_digest_mismatch`.
//! 12. The signer is a party to the session, when one is named, and it is live:
//!     `session_not_found`, `signature_not_a_party`, `session_ended`, `session_expired`.
//! 13. The nonce is new in the signer's scope, and is kept until no profile accepts the message any
//!     more: `signature_replayed`, `claim_quota_reached`. After the database was put back to an
//!     earlier state, the message is newer than that: `signature_before_restore`.
//!
//! [`check`] takes steps 1 to 6, except for what of step 4 needs the key: that is
//! [`Checked::with_key`]. [`Bound::verify`] takes steps 10 and 11; of a body that arrives later,
//! [`Checked::check_content`] takes step 11. The caller resolves [`Checked::key_id`] (7), asks about
//! revocation and the quota (8 and 9), checks the session (12), and claims [`Checked::nonce`] in the
//! signer's scope, to be kept until [`Checked::keep_nonce_until`] (13). Only then is the request
//! accepted.
//!
//! [`Signer`] makes what is checked here; [`inspect`] helps to explain what was refused.

mod algorithms;
mod base;
mod components;
mod digest;
mod input;
mod inspect;
mod parse;
mod pem;
mod profile;
mod refused;
mod request;
mod sign;
mod unique;
mod verify;

#[cfg(test)]
mod rfc9421_tests;

pub use algorithms::{Algorithm, VerifyingKey};
pub use base::NoBase;
pub use components::{Component, Covered, Form, InvalidComponent, NoValue};
pub use digest::{ContentDigest, DigestMismatch, content_digest};
pub use inspect::{Inspected, inspect};
pub use parse::{MAX_COMPONENTS, MAX_FIELD_LEN, MAX_PARAMETERS, MAX_SIGNATURES, Malformed};
pub use pem::{InvalidPem, public_key_from_pem};
pub use profile::{Coverage, Profile};
pub use refused::{
    AlgorithmNotAllowed, IncompleteComponents, IncompleteParameters, NotVerified, OutsideWindow,
    Refused, TagMismatch,
};
pub use request::{Body, InvalidTarget, NamedSession, Request, SESSION_FIELD, Target};
pub use sign::{CannotSign, InvalidSecretKey, SignedFields, Signer, SigningKey};
pub use verify::{Bound, Checked, check};
