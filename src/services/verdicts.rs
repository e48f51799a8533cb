//! Verdicts: is this signed request from who it says, fresh, and not a replay?
//!
//! The order of the checks is fixed, and the first that fails names the verdict: cheap refusals
//! come before cryptography, and the nonce is spent only after the signature verified, so that
//! a forged message costs its supposed signer nothing.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{Asker, Claims, Dids, Lookup, ResolvedDid, ServiceError, Sessions};
use crate::clock::Clock;
use crate::config::AllowedAgents;
use crate::domain::{
    Claim, Code, Did, DidUrl, End, Outcome, Peer, Refusal as ClaimRefusal, Scope, SessionId,
    SessionState, Timestamp,
};
use crate::metrics::Metrics;
use crate::signatures::{
    self, Checked, ContentDigest, KeyId, NamedSession, Profile, Refused, Request, VerifyingKey,
};

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
    metrics: Arc<Metrics>,
}

/// A request to judge.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub request: Request<'a>,
    /// The profile's name; `None` is `onceguard`.
    pub profile: Option<&'a str>,
    /// The session that the request belongs to, as its receiver knows it. It, or the one that the
    /// request itself names, must be live, and the signer a party; no request belongs to two.
    pub session: Option<SessionId>,
    /// Whether the request counts as a claim in its session. A call of this service itself does
    /// not: its signature is the caller's credential.
    pub counts: bool,
    /// Who had it judged: what the look-ups of its key cost is on this account.
    pub peer: Peer,
    /// The only signers to look at, where it matters; another is refused before its key is
    /// looked up.
    pub signers: Option<&'a AllowedAgents>,
    /// Learns what is found out of the request.
    pub seen: &'a Seen,
}

/// What is found out of a request while it is judged, also when it is refused.
#[derive(Debug, Default)]
pub struct Seen {
    profile: OnceLock<String>,
    signer: OnceLock<Did>,
    accepted: OnceLock<()>,
}

/// The word for a request that passed every check, where another one has its code.
pub const ACCEPTED: &str = "accepted";

impl Seen {
    /// The name of the profile that it was judged by.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.profile.get().map(String::as_str)
    }

    /// Who signed: by the request's own word, unless it was accepted.
    #[must_use]
    pub fn signer(&self) -> Option<&Did> {
        self.signer.get()
    }

    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.accepted.get().is_some()
    }
}

impl Case<'_> {
    /// The session that must be live. Of two there is none.
    fn belongs_to(&self) -> Option<NamedSession> {
        match (self.request.named_session(), self.session) {
            (None, known) => known.map(NamedSession::Id),
            (Some(NamedSession::Id(named)), Some(known)) if named != known => {
                Some(NamedSession::Unreadable)
            }
            (named, _) => named,
        }
    }
}

/// A request whose signature verified. Until [`Verdicts::accept`] has spent its nonce, it may
/// still be a replay.
pub struct Verified<'a> {
    checked: Checked<'a>,
    key_id: DidUrl,
    alg: &'static str,
    session: Option<NamedSession>,
    counts: bool,
    seen: &'a Seen,
    metrics: &'a Metrics,
}

impl Verified<'_> {
    /// Who signed.
    #[must_use]
    pub const fn did(&self) -> &Did {
        self.key_id.did()
    }

    /// Check 11, and what check 6 asks of a body, where the body was awaited: it is here now.
    ///
    /// # Errors
    /// The check that it did not pass.
    pub fn check_content(&self, content: &[u8]) -> Result<(), Denied> {
        let checked = self.checked.check_content(content).map_err(Denied::from);
        checked.inspect_err(|denied| {
            count(self.metrics, Err(denied), &self.checked.profile().name);
        })
    }
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
    /// What the signed `Content-Digest` says. The body was compared with it where it was seen.
    pub content_digest: Option<ContentDigest>,
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
    #[error("the setting agents.allow does not let {0} call")]
    NotAllowed(Did),
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
    #[error("the session {}", if .0.reason.is_expiry() { "has expired" } else { "was ended" })]
    SessionOver(End),
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
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { dids, claims, sessions, clock, profiles, max_stale, metrics }
    }

    /// Judges a request of which nothing is awaited and, if everything else passed, spends its
    /// nonce.
    ///
    /// # Errors
    /// [`ServiceError`] when it cannot be said. The inner error is the check that failed.
    pub async fn judge(&self, case: &Case<'_>) -> Result<Result<Verdict, Denied>, ServiceError> {
        match self.verify(case).await? {
            Ok(verified) => self.accept(&verified).await,
            Err(denied) => Ok(Err(denied)),
        }
    }

    /// Checks 1 to 11; the body's part in them is left to [`Verified::check_content`] where the
    /// body is awaited. Nothing is spent.
    ///
    /// # Errors
    /// [`ServiceError`] when it cannot be said. The inner error is the check that failed.
    pub async fn verify<'a>(
        &'a self,
        case: &Case<'a>,
    ) -> Result<Result<Verified<'a>, Denied>, ServiceError> {
        let profile = match self.profile(case.profile) {
            Ok(profile) => profile,
            Err(denied) => return Ok(Err(denied)),
        };
        // A request is judged once.
        let _ = case.seen.profile.set(profile.name.clone());
        let verified = self.verify_by(profile, case).await?;
        Ok(verified.inspect_err(|denied| count(&self.metrics, Err(denied), &profile.name)))
    }

    async fn verify_by<'a>(
        &'a self,
        profile: &'a Profile,
        case: &Case<'a>,
    ) -> Result<Result<Verified<'a>, Denied>, ServiceError> {
        let checked = match signatures::check(&case.request, profile, self.clock.now()) {
            Ok(checked) => checked,
            Err(refused) => return Ok(Err(refused.into())),
        };
        // All profiles name keys by DID URL so far; another way is another lookup here.
        let KeyId::DidUrl(key_id) = checked.key_id().clone() else {
            let reason = format!("the profile {} has no way to find keys", profile.name);
            return Ok(Err(Denied::KeyUnknown(reason)));
        };
        let _ = case.seen.signer.set(key_id.did().clone());
        if case.signers.is_some_and(|signers| !signers.allow(key_id.did())) {
            return Ok(Err(Denied::NotAllowed(key_id.did().clone())));
        }
        let resolved = match self.dids.get(key_id.did(), None, Asker::Stranger(case.peer)).await {
            Err(ServiceError::Upstream(_) | ServiceError::NoPlace { .. }) => {
                return Ok(Err(Denied::KeyUnavailable(key_id.did().clone())));
            }
            Err(error) => return Err(error),
            Ok(Lookup::Found(resolved)) => resolved,
            Ok(Lookup::NotFound) => {
                let reason = format!("no key is known of {}", key_id.did());
                return Ok(Err(Denied::KeyUnknown(reason)));
            }
            Ok(Lookup::Unresolvable(why)) => {
                return Ok(Err(Denied::KeyUnknown(format!("{}: {why}", key_id.did()))));
            }
        };
        let proven = self.prove(&checked, &key_id, &resolved).await;
        if proven.is_ok() {
            self.dids.keep(&resolved).await?;
        }
        Ok(proven.map(|alg| Verified {
            checked,
            key_id,
            alg,
            session: case.belongs_to(),
            counts: case.counts,
            seen: case.seen,
            metrics: &self.metrics,
        }))
    }

    fn profile(&self, name: Option<&str>) -> Result<&Profile, Denied> {
        let name = name.unwrap_or("onceguard");
        let found = self.profiles.iter().find(|profile| profile.name == name);
        found.ok_or_else(|| Denied::UnknownProfile(name.to_owned()))
    }

    /// Steps 7 to 11, and the part of 4 that needs the key; the algorithm's name.
    async fn prove(
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
        if !self.claims.may_have_room(did).await {
            return Err(Denied::QuotaReached);
        }
        bound.verify()?;
        Ok(bound.algorithm().as_str())
    }

    /// Steps 12 and 13: the request is accepted once its nonce is spent.
    ///
    /// # Errors
    /// [`ServiceError`] when it cannot be said. The inner error is the check that failed.
    pub async fn accept(
        &self,
        verified: &Verified<'_>,
    ) -> Result<Result<Verdict, Denied>, ServiceError> {
        let verdict = self.spend(verified).await?;
        if verdict.is_ok() {
            let _ = verified.seen.accepted.set(());
        }
        count(&self.metrics, verdict.as_ref().map(drop), &verified.checked.profile().name);
        Ok(verdict)
    }

    async fn spend(
        &self,
        verified: &Verified<'_>,
    ) -> Result<Result<Verdict, Denied>, ServiceError> {
        let Verified { checked, alg, session, counts, .. } = verified;
        let did = verified.did();
        let content_digest = match checked.content_digest() {
            Ok(digest) => digest,
            Err(mismatch) => return Ok(Err(Refused::from(mismatch).into())),
        };
        let session = match *session {
            None => None,
            Some(NamedSession::Id(id)) => Some(id),
            Some(NamedSession::Unreadable) => return Ok(Err(Denied::SessionNotFound)),
        };
        if let Some(id) = session
            && let Some(denied) = self.deny_in_session(id, did).await?
        {
            return Ok(Err(denied));
        }
        let claim = Claim {
            scope: Scope::Signer {
                did: did.clone(),
                expires_at: checked.keep_nonce_until(&self.profiles),
                session: session.filter(|_| *counts),
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
                    content_digest,
                    session,
                }));
            }
            Outcome::Replayed { first_used_at } => Denied::Replayed { first_used_at },
            Outcome::Refused(refusal) => match refusal {
                ClaimRefusal::Expired => Denied::ExpiredMeanwhile,
                ClaimRefusal::DidRevoked => Denied::KeyRevoked(did.clone()),
                ClaimRefusal::ClaimQuotaReached => Denied::QuotaReached,
                ClaimRefusal::SessionUsedUp => Denied::SessionUsedUp,
                ClaimRefusal::SessionNotFound => Denied::SessionNotFound,
                ClaimRefusal::SessionOver(end) => Denied::SessionOver(end),
            },
        };
        Ok(Err(denied))
    }

    /// Why `did` may not act in a session; of sessions of others, their parties alone learn more.
    /// The claim looks again, atomically, whether the session is live; its parties never change.
    async fn deny_in_session(
        &self,
        id: SessionId,
        did: &Did,
    ) -> Result<Option<Denied>, ServiceError> {
        let Some(session) = self.sessions.read(id).await? else {
            return Ok(Some(Denied::SessionNotFound));
        };
        if !session.has_party(did) {
            return Ok(Some(Denied::NotAParty));
        }
        Ok(match session.state() {
            SessionState::Active => None,
            SessionState::Over(end) => Some(Denied::SessionOver(end)),
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
            named.map(|method| &method.verifying_key).ok_or_else(|| {
                let unusable = resolved.unusable_methods.iter();
                match unusable.into_iter().find(|method| method.id.as_ref() == Some(&url)) {
                    Some(method) => unknown(format!("{url} cannot be used: {}", method.reason)),
                    None => unknown(format!("{} has no key {url} that may sign", key_id.did())),
                }
            })
        }
        (None, Some(only), None) => Ok(&only.verifying_key),
        (None, None, _) => Err(unknown(format!("{} has no key that may sign", key_id.did()))),
        (None, Some(_), Some(_)) => Err(unknown(format!(
            "{} has several keys: name one in the keyid, by its fragment",
            key_id.did()
        ))),
    }
}

fn count(metrics: &Metrics, verdict: Result<(), &Denied>, profile: &str) {
    let code = verdict.map_or_else(|denied| Code::from(denied).as_str(), |()| ACCEPTED);
    metrics.verdicts.with_label_values(&[code, profile]).inc();
}

impl From<&Denied> for Code {
    fn from(denied: &Denied) -> Self {
        match denied {
            Denied::UnknownProfile(_) => Self::ValidationFailed,
            Denied::Signature(refused) => refused.into(),
            Denied::NotAllowed(_) => Self::Forbidden,
            Denied::KeyUnknown(_) => Self::SignatureKeyUnknown,
            Denied::KeyUnavailable(_) => Self::SignatureKeyUnavailable,
            Denied::KeyRevoked(_) => Self::SignatureKeyRevoked,
            Denied::RevocationStale(_) => Self::SignatureRevocationStale,
            Denied::QuotaReached | Denied::SessionUsedUp => Self::ClaimQuotaReached,
            Denied::SessionNotFound => Self::SessionNotFound,
            Denied::SessionOver(end) => end.reason.into(),
            Denied::NotAParty => Self::SignatureNotAParty,
            Denied::Replayed { .. } => Self::SignatureReplayed,
            Denied::ExpiredMeanwhile => Self::SignatureWindowInvalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signatures::{Body, Target};

    #[test]
    fn a_request_belongs_to_one_session_at_most() {
        let [one, other] = [(); 2].map(|()| SessionId(uuid::Uuid::now_v7()));
        let (id, unreadable) = (NamedSession::Id, Some(NamedSession::Unreadable));
        for (named, known, belongs_to) in [
            (None, None, None),
            (None, Some(one), Some(id(one))),
            (Some(one.to_string()), None, Some(id(one))),
            (Some(one.to_string()), Some(one), Some(id(one))),
            (Some(one.to_string()), Some(other), unreadable),
            (Some("nonsense".to_owned()), None, unreadable),
            (Some("nonsense".to_owned()), Some(one), unreadable),
        ] {
            let headers: Vec<_> = named.iter().map(|id| ("X-Session-Id", id.as_bytes())).collect();
            let request = Request {
                method: "GET",
                target: Target::parse("https://service.example/").unwrap(),
                headers: &headers,
                body: Body::Unseen,
            };
            let case = Case {
                request,
                profile: None,
                session: known,
                counts: true,
                peer: Peer::of_address([192, 0, 2, 1].into()),
                signers: None,
                seen: &Seen::default(),
            };
            assert_eq!(case.belongs_to(), belongs_to, "{named:?} {known:?}");
        }
    }
}
