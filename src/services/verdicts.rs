//! Verdicts: is this signed request from who it says, fresh, and not a replay?
//!
//! The order of the checks is fixed, and the first that fails names the verdict: cheap refusals
//! come before cryptography, and the nonce is spent only after the signature verified, so that
//! a forged message costs its supposed signer nothing.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;

use super::{Claims, Dids, Lookup, ResolvedDid, ServiceError, Sessions};
use crate::clock::Clock;
use crate::domain::{
    Claim, Did, DidUrl, EndReason, Outcome, Refusal as ClaimRefusal, Scope, SessionId,
    SessionState, Timestamp,
};
use crate::signatures::{self, Checked, KeyId, Profile, Refused, Request, VerifyingKey};

/// For how long a signer whose quota was full is refused before its signature is looked at.
/// The claim decides; this only spares the cryptography.
const FULL_FOR: Duration = Duration::from_secs(1);
const FULL_SIGNERS: u64 = 10_000;

/// Judges signed requests. Clones share everything.
#[derive(Clone)]
pub struct Verdicts {
    dids: Dids,
    claims: Claims,
    sessions: Sessions,
    clock: Clock,
    profiles: Arc<[Profile]>,
    /// For how long past its time a key may sign while its home cannot be asked.
    max_stale: Duration,
    full: Cache<Did, ()>,
}

/// A request to judge.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub request: Request<'a>,
    /// The profile's name; `None` is `onceguard`.
    pub profile: Option<&'a str>,
    /// The session that the request belongs to: it must be live, and the signer a party.
    pub session: Option<SessionId>,
}

/// A request that passed every check, and whose nonce is now spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub did: Did,
    pub keyid: String,
    pub alg: &'static str,
    pub profile: String,
    pub created: Timestamp,
    pub expires: Timestamp,
    pub nonce: String,
    /// The covered components, as identifiers (RFC 9421, section 2).
    pub covered: Vec<String>,
    pub session: Option<SessionId>,
}

/// The first check that a request did not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("there is no profile of this name: {0}")]
    UnknownProfile(String),
    /// The checks that need nothing but the request and the key.
    #[error(transparent)]
    Signature(#[from] Refused),
    #[error("{0}")]
    KeyUnknown(String),
    #[error("{0} could not be read from where it lives")]
    KeyUnavailable(Did),
    #[error("the DID {0} is revoked")]
    KeyRevoked(Did),
    #[error("whether {0} is revoked could not be read from where it lives for too long")]
    RevocationStale(Did),
    #[error("the signer holds as many live nonces as it may; some expire soon")]
    QuotaReached,
    #[error("there is no such session")]
    SessionNotFound,
    #[error("the session was ended")]
    SessionEnded { ended_at: Timestamp, reason: EndReason },
    #[error("the session has expired")]
    SessionExpired { ended_at: Timestamp, reason: EndReason },
    #[error("the session has used all of its max_claims")]
    SessionUsedUp,
    #[error("the signer is not a party to the session")]
    NotAParty,
    #[error("the nonce was used before: this message is a replay")]
    Replayed { first_used_at: Timestamp },
    /// By the database's clock, though not by ours.
    #[error("the signature has expired by the database's clock")]
    ExpiredMeanwhile,
}

impl Verdicts {
    #[must_use]
    pub fn new(
        dids: Dids,
        claims: Claims,
        sessions: Sessions,
        profiles: Arc<[Profile]>,
        max_stale: Duration,
        clock: Clock,
    ) -> Self {
        Self {
            dids,
            claims,
            sessions,
            clock,
            profiles,
            max_stale,
            full: Cache::builder().max_capacity(FULL_SIGNERS).time_to_live(FULL_FOR).build(),
        }
    }

    /// Judges a request and, if everything else passed, spends its nonce.
    ///
    /// # Errors
    /// [`ServiceError`] when it cannot be said. The inner error is the check that failed.
    pub async fn judge(&self, case: &Case<'_>) -> Result<Result<Verdict, Denied>, ServiceError> {
        let profile = match self.profile(case.profile) {
            Ok(profile) => profile,
            Err(denied) => return Ok(Err(denied)),
        };
        let checked = match signatures::check(&case.request, profile, self.clock.now()) {
            Ok(checked) => checked,
            Err(refused) => return Ok(Err(refused.into())),
        };
        // All profiles name keys by DID URL so far; another way is another lookup here.
        let KeyId::DidUrl(key_id) = checked.key_id().clone() else {
            let reason = format!("the profile {} has no way to find keys", profile.name);
            return Ok(Err(Denied::KeyUnknown(reason)));
        };
        let resolved = match self.dids.get(key_id.did(), None).await {
            Err(ServiceError::Upstream(_)) => {
                return Ok(Err(Denied::KeyUnavailable(key_id.did().clone())));
            }
            Err(error) => return Err(error),
            Ok(Lookup::Found(resolved)) => resolved,
            Ok(Lookup::NotFound) => {
                let reason = format!("no key is known of {}", key_id.did());
                return Ok(Err(Denied::KeyUnknown(reason)));
            }
            Ok(Lookup::Unresolvable(reason)) => return Ok(Err(Denied::KeyUnknown(reason))),
        };
        match self.verify(&checked, &key_id, &resolved) {
            Ok(alg) => self.spend(&checked, &key_id, case.session, alg).await,
            Err(denied) => Ok(Err(denied)),
        }
    }

    fn profile(&self, name: Option<&str>) -> Result<&Profile, Denied> {
        let name = name.unwrap_or("onceguard");
        let found = self.profiles.iter().find(|profile| profile.name == name);
        found.ok_or_else(|| Denied::UnknownProfile(name.to_owned()))
    }

    /// Steps 7 to 11, and the part of 4 that needs the key; the algorithm's name.
    fn verify(
        &self,
        checked: &Checked<'_>,
        key_id: &DidUrl,
        resolved: &ResolvedDid,
    ) -> Result<&'static str, Denied> {
        let did = key_id.did();
        let revoked = resolved.is_revoked();
        let key = match select(key_id, resolved) {
            Ok(key) => key,
            // A DID that was revoked before its key was seen.
            Err(_) if revoked => return Err(Denied::KeyRevoked(did.clone())),
            // Its home may have the key by now.
            Err(_) if resolved.stale_for.is_some() => {
                return Err(Denied::KeyUnavailable(did.clone()));
            }
            Err(denied) => return Err(denied),
        };
        let bound = checked.with_key(key)?;
        if revoked {
            return Err(Denied::KeyRevoked(did.clone()));
        }
        if resolved.stale_for.is_some_and(|stale_for| stale_for > self.max_stale) {
            return Err(Denied::RevocationStale(did.clone()));
        }
        if self.full.contains_key(did) {
            return Err(Denied::QuotaReached);
        }
        bound.verify()?;
        Ok(bound.algorithm().as_str())
    }

    /// Steps 12 and 13.
    async fn spend(
        &self,
        checked: &Checked<'_>,
        key_id: &DidUrl,
        session: Option<SessionId>,
        alg: &'static str,
    ) -> Result<Result<Verdict, Denied>, ServiceError> {
        let did = key_id.did();
        if let Some(id) = session
            && let Some(denied) = self.deny_in_session(id, did).await?
        {
            return Ok(Err(denied));
        }
        let claim = Claim {
            scope: Scope::Signer {
                did: did.clone(),
                expires_at: checked.keep_nonce_until(&self.profiles),
                session,
            },
            nonce: checked.nonce().clone(),
            idempotency: None,
        };
        let outcomes = self.claims.claim(vec![claim]).await?;
        let Some(outcome) = outcomes.first() else {
            return Err(ServiceError::Internal("a claim without an outcome".into()));
        };
        let denied = match *outcome {
            Outcome::Accepted(_) => {
                return Ok(Ok(Verdict {
                    did: did.clone(),
                    keyid: checked.key_id().to_string(),
                    alg,
                    profile: checked.profile().name.clone(),
                    created: checked.created(),
                    expires: checked.expires(),
                    nonce: checked.nonce().to_string(),
                    covered: checked.covered().iter().map(|c| c.identifier.clone()).collect(),
                    session,
                }));
            }
            Outcome::Replayed { first_used_at } => Denied::Replayed { first_used_at },
            Outcome::Refused(refusal) => match refusal {
                ClaimRefusal::Expired => Denied::ExpiredMeanwhile,
                ClaimRefusal::DidRevoked => Denied::KeyRevoked(did.clone()),
                ClaimRefusal::ClaimQuotaReached => {
                    self.full.insert(did.clone(), ()).await;
                    Denied::QuotaReached
                }
                ClaimRefusal::SessionUsedUp => Denied::SessionUsedUp,
                ClaimRefusal::SessionNotFound => Denied::SessionNotFound,
                ClaimRefusal::SessionEnded { ended_at, reason } => {
                    Denied::SessionEnded { ended_at, reason }
                }
                ClaimRefusal::SessionExpired { ended_at, reason } => {
                    Denied::SessionExpired { ended_at, reason }
                }
            },
        };
        Ok(Err(denied))
    }

    /// Why `did` may not act in a session. The claim looks again, atomically, whether the
    /// session is live; its parties never change.
    async fn deny_in_session(
        &self,
        id: SessionId,
        did: &Did,
    ) -> Result<Option<Denied>, ServiceError> {
        let Some(session) = self.sessions.read(id).await? else {
            return Ok(Some(Denied::SessionNotFound));
        };
        Ok(match session.state() {
            SessionState::Ended { at, reason } => {
                Some(Denied::SessionEnded { ended_at: at, reason })
            }
            SessionState::Expired { at, reason } => {
                Some(Denied::SessionExpired { ended_at: at, reason })
            }
            SessionState::Active if session.has_party(did) => None,
            SessionState::Active => Some(Denied::NotAParty),
        })
    }
}

/// The key that a `keyid` names: the one with its fragment, else the only one there is.
fn select<'a>(key_id: &DidUrl, resolved: &'a ResolvedDid) -> Result<&'a VerifyingKey, Denied> {
    let methods = || resolved.verification_methods.iter().filter(|method| method.authentication);
    let unknown = |reason: String| Denied::KeyUnknown(reason);
    let (mut all, url) = (methods(), key_id.to_string());
    match (key_id.fragment(), all.next(), all.next()) {
        (Some(_), ..) => {
            let named = methods().find(|method| method.id == url);
            named
                .map(|method| &method.verifying_key)
                .ok_or_else(|| unknown(format!("{} has no key {url} that may sign", key_id.did())))
        }
        (None, Some(only), None) => Ok(&only.verifying_key),
        (None, None, _) => Err(unknown(format!("{} has no key that may sign", key_id.did()))),
        (None, Some(_), Some(_)) => Err(unknown(format!(
            "{} has several keys: name one in the keyid, by its fragment",
            key_id.did()
        ))),
    }
}

impl Denied {
    /// The code in answers.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownProfile(_) => "validation_failed",
            Self::Signature(refused) => refused.code(),
            Self::KeyUnknown(_) => "signature_key_unknown",
            Self::KeyUnavailable(_) => "signature_key_unavailable",
            Self::KeyRevoked(_) => "signature_key_revoked",
            Self::RevocationStale(_) => "signature_revocation_stale",
            Self::QuotaReached | Self::SessionUsedUp => "claim_quota_reached",
            Self::SessionNotFound => "session_not_found",
            Self::SessionEnded { .. } => "session_ended",
            Self::SessionExpired { .. } => "session_expired",
            Self::NotAParty => "signature_not_a_party",
            Self::Replayed { .. } => "signature_replayed",
            Self::ExpiredMeanwhile => "signature_window_invalid",
        }
    }
}
