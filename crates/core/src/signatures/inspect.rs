//! Looks at a signature that no profile has passed, to explain it. Nothing may be accepted by
//! what is found here: freshness, coverage and the rest are not looked at.

use super::algorithms::{Algorithm, VerifyingKey};
use super::base::signature_base;
use super::components::Covered;
use super::parse;
use super::profile::Profile;
use super::request::Request;

/// What a signature was made over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The text that is signed, rebuilt from the request (RFC 9421, section 2.5).
    pub base: String,
    /// As stated.
    pub keyid: Option<String>,
    signature: Vec<u8>,
}

/// The signature that a profile would judge, or the only one there is; `None` when it is not
/// clear which that is, or its base cannot be rebuilt.
#[must_use]
pub fn inspect(request: &Request<'_>, profile: &Profile) -> Option<Inspected> {
    let mut signatures = parse::signatures(request).ok()??;
    if signatures.len() > 1 {
        signatures.retain(|signature| signature.parameters.tag == profile.tag);
    }
    let only = signatures.pop().filter(|_| signatures.is_empty())?;
    let covered = Covered::read_all(&only.covered).ok()?;
    let base = signature_base(request, &covered, &only.verbatim).ok()?;
    Some(Inspected { base, keyid: only.parameters.keyid, signature: only.signature })
}

impl Inspected {
    /// Whether the signature is this key's over the base, by the profile's algorithm for its
    /// type, or where it has none by any.
    #[must_use]
    pub fn verifies(&self, key: &VerifyingKey, profile: &Profile) -> bool {
        let of_type = |algorithm: &Algorithm| algorithm.key_type() == key.key_type();
        let verifies = |algorithm| key.verifies(algorithm, self.base.as_bytes(), &self.signature);
        match profile.algorithm_for(key.key_type()) {
            Some(algorithm) => verifies(algorithm),
            None => Algorithm::ALL.into_iter().filter(of_type).any(verifies),
        }
    }
}
