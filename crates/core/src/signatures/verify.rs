//! The checks of a signed request that need no I/O, in their order. What they leave to the
//! caller, and when, the parent module says; nothing is accepted here.

use super::algorithms::{Algorithm, VerifyingKey};
use super::base::{NoBase, signature_base};
use super::components::{Component, Covered};
use super::digest::{self, ContentDigest, DigestMismatch};
use super::input::Parameters;
use super::parse::{self, RawSignature};
use super::profile::Profile;
use super::refused::{
    AlgorithmNotAllowed, IncompleteComponents, IncompleteParameters, NotVerified, OutsideWindow,
    Refused, TagMismatch,
};
use super::request::{Body, Request};
use crate::domain::{DidUrl, Nonce, Timestamp};

/// A request whose signature is complete, fresh and covers enough. Nothing is proven yet.
#[derive(Clone)]
pub struct Checked<'a> {
    request: Request<'a>,
    profile: &'a Profile,
    key_id: DidUrl,
    stated_alg: Option<String>,
    nonce: Nonce,
    created: Timestamp,
    expires: Timestamp,
    /// Whether the signature says `expires` itself.
    states_expires: bool,
    covered: Vec<Covered>,
    /// The value of `@signature-params`.
    parameters: String,
    signature: Vec<u8>,
}

/// Checks 1 to 6: signature present, chosen, complete, of an allowed algorithm, fresh, and over
/// enough of the request.
///
/// # Errors
/// [`Refused`] for the first check that the request does not pass.
pub fn check<'a>(
    request: &Request<'a>,
    profile: &'a Profile,
    now: Timestamp,
) -> Result<Checked<'a>, Refused> {
    let signatures = parse::signatures(request)?.ok_or(Refused::Required)?;
    let RawSignature { covered, parameters, verbatim, signature, .. } =
        choose(signatures, profile)?;
    let complete = complete(parameters, profile)?;
    if let Some(alg) = &complete.alg
        && !profile.algorithms.iter().any(|allowed| allowed.parameter() == Some(alg))
    {
        return Err(AlgorithmNotAllowed::Stated(alg.clone()).into());
    }
    let (created, expires) = window(complete.created, complete.expires, profile, now)?;
    let covered = Covered::read_all(&covered).map_err(IncompleteComponents::from)?;
    covers_enough(&covered, request, profile)?;
    let key_id = DidUrl::parse(&complete.keyid)?;
    Ok(Checked {
        request: *request,
        profile,
        key_id,
        stated_alg: complete.alg,
        nonce: complete.nonce,
        created,
        expires,
        states_expires: complete.expires.is_some(),
        covered,
        parameters: verbatim,
        signature,
    })
}

impl<'a> Checked<'a> {
    #[must_use]
    pub const fn profile(&self) -> &'a Profile {
        self.profile
    }

    /// The key to look up, which its DID names.
    #[must_use]
    pub const fn key_id(&self) -> &DidUrl {
        &self.key_id
    }

    /// The nonce to claim in the signer's scope, once everything else has passed.
    #[must_use]
    pub const fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    #[must_use]
    pub const fn created(&self) -> Timestamp {
        self.created
    }

    /// As stated, or by the profile's default.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The last moment at which this message could still be accepted, and its nonce must be
    /// remembered: by its own profile, and by `others` that it may be judged by next. A store that
    /// forgets the nonce at that very moment must refuse a claim of it from then on.
    #[must_use]
    pub fn keep_nonce_until(&self, others: &[Profile]) -> Timestamp {
        let accepted_until = |profile: &Profile| {
            let expires = if self.states_expires {
                self.expires
            } else {
                self.created + profile.default_lifetime?
            };
            Some(expires + profile.skew)
        };
        let others = others.iter().filter_map(accepted_until);
        others.fold(self.expires + self.profile.skew, Timestamp::max)
    }

    #[must_use]
    pub fn covered(&self) -> &[Covered] {
        &self.covered
    }

    /// Whether all of a component is signed.
    #[must_use]
    pub fn covers(&self, component: &Component) -> bool {
        self.covered.iter().any(|covered| covered.component.includes(component))
    }

    /// Checks 6 and 11 of a body that was awaited, now that it is here.
    ///
    /// # Errors
    /// [`Refused::Components`] when there is a body after all and the signature does not cover
    /// it, or [`Refused::Digest`].
    pub fn check_content(&self, content: &[u8]) -> Result<(), Refused> {
        let request = Request { body: Body::Seen(content), ..self.request };
        covers_enough(&self.covered, &request, self.profile)?;
        self.check_digest(content)
    }

    /// Check 11.
    fn check_digest(&self, content: &[u8]) -> Result<(), Refused> {
        match self.content_digest()? {
            Some(digest) => Ok(digest.check(content)?),
            None => Ok(()),
        }
    }

    /// What the signed `Content-Digest` says; `None` where none is covered.
    ///
    /// # Errors
    /// [`DigestMismatch`] when it says nothing that we trust, or two things.
    pub fn content_digest(&self) -> Result<Option<ContentDigest>, DigestMismatch> {
        if !self.covers(&Component::field(digest::FIELD)) {
            return Ok(None);
        }
        let field = self.request.field(digest::FIELD).ok_or(DigestMismatch::NoneUsable)?;
        ContentDigest::parse(&field).map(Some)
    }

    /// The text that is signed, rebuilt from the request (RFC 9421, section 2.5).
    ///
    /// # Errors
    /// [`NoBase`] when the request has no value for a component that is covered.
    pub fn signature_base(&self) -> Result<String, NoBase> {
        signature_base(&self.request, &self.covered, &self.parameters)
    }

    /// The rest of check 4: the key's type demands an algorithm, the profile allows it, and
    /// `alg`, when stated, agrees.
    ///
    /// # Errors
    /// [`Refused::Algorithm`] when one of them does not.
    pub fn with_key<'k>(&'k self, key: &'k VerifyingKey) -> Result<Bound<'k>, Refused> {
        let key_type = key.key_type();
        let algorithm =
            self.profile.algorithm_for(key_type).ok_or(AlgorithmNotAllowed::KeyType(key_type))?;
        match &self.stated_alg {
            Some(stated) if algorithm.parameter() != Some(stated) => {
                Err(AlgorithmNotAllowed::OtherKeyType { stated: stated.clone(), key_type }.into())
            }
            _ => Ok(Bound { checked: self, key, algorithm }),
        }
    }
}

/// A checked request with the key and the algorithm to verify it by.
#[derive(Clone, Copy)]
pub struct Bound<'k> {
    checked: &'k Checked<'k>,
    key: &'k VerifyingKey,
    algorithm: Algorithm,
}

impl Bound<'_> {
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Checks 10 and 11: the signature is the key's over this request, and `Content-Digest`,
    /// where covered, is one that we trust, and that of the body where it is seen. A body that is
    /// awaited is left to [`Checked::check_content`].
    ///
    /// # Errors
    /// [`Refused::Invalid`] or [`Refused::Digest`].
    pub fn verify(&self) -> Result<(), Refused> {
        let Checked { request, signature, .. } = self.checked;
        let base = self.checked.signature_base().map_err(NotVerified::from)?;
        if !self.key.verifies(self.algorithm, base.as_bytes(), signature) {
            return Err(NotVerified::Signature.into());
        }
        match request.body {
            Body::Seen(content) => self.checked.check_digest(content),
            Body::Awaited { .. } | Body::Unseen => {
                self.checked.content_digest()?;
                Ok(())
            }
        }
    }
}

/// Check 2. Signatures of others are ignored; two that could be meant are refused.
fn choose(signatures: Vec<RawSignature>, profile: &Profile) -> Result<RawSignature, TagMismatch> {
    let mut candidates: Vec<_> = match &profile.tag {
        Some(tag) => signatures
            .into_iter()
            .filter(|signature| signature.parameters.tag.as_ref() == Some(tag))
            .collect(),
        None => signatures,
    };
    match (candidates.pop(), candidates.len()) {
        (Some(only), 0) => Ok(only),
        (last, others) => {
            let found = others + usize::from(last.is_some());
            Err(match &profile.tag {
                Some(tag) => TagMismatch::Tagged { tag: tag.clone(), found },
                None => TagMismatch::Untagged(found),
            })
        }
    }
}

/// The parameters of a signature that has all it must have.
struct Complete {
    created: i64,
    /// `None` where the profile has a default.
    expires: Option<i64>,
    nonce: Nonce,
    alg: Option<String>,
    keyid: String,
}

/// Check 3.
fn complete(parameters: Parameters, profile: &Profile) -> Result<Complete, IncompleteParameters> {
    use IncompleteParameters::{EmptyKeyId, Missing, Nonce as BadNonce};

    let created = parameters.created.ok_or(Missing("created"))?;
    if parameters.expires.is_none() && profile.default_lifetime.is_none() {
        return Err(Missing("expires"));
    }
    let nonce = parameters.nonce.ok_or(Missing("nonce"))?;
    if parameters.alg.is_none() && profile.alg_required {
        return Err(Missing("alg"));
    }
    let keyid = parameters.keyid.ok_or(Missing("keyid"))?;
    if keyid.is_empty() {
        return Err(EmptyKeyId);
    }
    let nonce = Nonce::parse(&nonce)
        .ok()
        .filter(|nonce| nonce.as_str().len() >= profile.min_nonce_len)
        .ok_or(BadNonce { min: profile.min_nonce_len.max(1) })?;
    let (expires, alg) = (parameters.expires, parameters.alg);
    Ok(Complete { created, expires, nonce, alg, keyid })
}

/// Check 5.
fn window(
    created: i64,
    expires: Option<i64>,
    profile: &Profile,
    now: Timestamp,
) -> Result<(Timestamp, Timestamp), OutsideWindow> {
    let time = |seconds| Timestamp::from_timestamp(seconds, 0).ok_or(OutsideWindow::NoTime);
    let created = time(created)?;
    let expires = match (expires, profile.default_lifetime) {
        (Some(seconds), _) => time(seconds)?,
        (None, Some(lifetime)) => {
            created.checked_add_signed(lifetime).ok_or(OutsideWindow::NoTime)?
        }
        (None, None) => return Err(OutsideWindow::NoTime),
    };
    if created >= expires {
        Err(OutsideWindow::Backwards)
    } else if created > now + profile.skew {
        Err(OutsideWindow::Future)
    } else if expires < now - profile.skew {
        Err(OutsideWindow::Expired)
    } else if expires - created > profile.max_window {
        Err(OutsideWindow::TooLong(profile.max_window.num_seconds()))
    } else {
        Ok((created, expires))
    }
}

/// Check 6.
fn covers_enough(
    covered: &[Covered],
    request: &Request<'_>,
    profile: &Profile,
) -> Result<(), IncompleteComponents> {
    let is_covered =
        |wanted: &Component| covered.iter().any(|covered| covered.component.includes(wanted));
    for alternatives in &profile.coverage.always {
        if !alternatives.iter().any(|set| set.iter().all(is_covered)) {
            return Err(IncompleteComponents::NotCovered(alternatives.clone()));
        }
    }
    match profile.coverage.conditional(request).find(|wanted| !is_covered(wanted)) {
        Some(missing) => Err(IncompleteComponents::NotCovered(vec![vec![missing.clone()]])),
        None => Ok(()),
    }
}
