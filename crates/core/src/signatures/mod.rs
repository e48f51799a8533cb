//! Signed requests: HTTP Message Signatures (RFC 9421) with Content-Digest (RFC 9530).
//!
//! Pure functions over a request, a key and a time: no I/O, no clock, no randomness, so that
//! every rule can be tested and fuzzed. The caller does what needs I/O in between, in this order:
//!
//! 1. [`check`] reads and checks the signature without a key (steps 1 to 6);
//! 2. the caller resolves [`Checked::key_id`] (7);
//! 3. [`Checked::with_key`] holds the key's type against the profile and `alg` (the rest of 4);
//! 4. the caller asks whether the key is revoked, and for the signer's quota (8 and 9);
//! 5. [`Bound::verify`] verifies signature and digest (10 and 11). The digest of a body that
//!    arrives only now is verified by [`Checked::check_content`];
//! 6. the caller checks the session and claims [`Checked::nonce`] in the signer's scope, to be
//!    kept until [`Checked::keep_nonce_until`] (12 and 13). Only then is the request accepted.
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
pub use profile::{Coverage, KeyIdForm, Profile, SESSION_FIELD};
pub use refused::{
    AlgorithmNotAllowed, IncompleteComponents, IncompleteParameters, NotVerified, OutsideWindow,
    Refused, TagMismatch,
};
pub use request::{Body, InvalidTarget, NamedSession, Request, Target};
pub use sign::{CannotSign, InvalidSecretKey, SignedFields, Signer, SigningKey};
pub use verify::{Bound, Checked, KeyId, check};
