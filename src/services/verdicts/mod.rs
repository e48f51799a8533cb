//! Verdicts: is this signed request from who it says, fresh, and not a replay?
//!
//! The order of the checks is fixed, and the first that fails names the verdict: cheap refusals
//! come before cryptography, and the nonce is spent only after the signature verified, so that
//! a forged message costs its supposed signer nothing. [`signatures`] lists the thirteen steps;
//! here they are taken, with what they need of the database and of the DIDs' homes.

mod case;
mod denied;
mod keys;
mod verified;

use std::sync::Arc;
use std::time::Duration;

use super::{Asker, Claims, Dids, Lookup, ResolvedDid, ServiceError, Sessions};
use crate::clock::Clock;
use crate::domain::{Claim, Did, DidUrl, Outcome, Peer, Scope, SessionId, SessionState};
use crate::metrics::Metrics;
use crate::signatures::{self, NamedSession, Profile, Refused};

pub use case::{Case, Seen};
pub use denied::Denied;
use denied::Stop;
pub use verified::{Verdict, Verified};

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

/// The word for a request that passed every check, where another one has its code.
pub const ACCEPTED: &str = "accepted";

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
        let judged = async {
            let verified = self.check(case).await?;
            self.spend(&verified).await
        };
        Stop::told(judged.await)
    }

    /// Steps 1 to 11; the body's part in them is left to [`Verified::check_content`] where the
    /// body is awaited. Nothing is spent.
    ///
    /// # Errors
    /// [`ServiceError`] when it cannot be said. The inner error is the check that failed.
    pub async fn verify<'a>(
        &'a self,
        case: &Case<'a>,
    ) -> Result<Result<Verified<'a>, Denied>, ServiceError> {
        Stop::told(self.check(case).await)
    }

    /// Steps 12 and 13: the request is accepted once its nonce is spent.
    ///
    /// # Errors
    /// [`ServiceError`] when it cannot be said. The inner error is the check that failed.
    pub async fn accept(
        &self,
        verified: &Verified<'_>,
    ) -> Result<Result<Verdict, Denied>, ServiceError> {
        Stop::told(self.spend(verified).await)
    }

    /// Steps 1 to 11, counted when one fails.
    async fn check<'a>(&'a self, case: &Case<'a>) -> Result<Verified<'a>, Stop> {
        let profile = self.profile(case.profile)?;
        // A request is judged once.
        let _ = case.seen.profile.set(profile.name.clone());
        let verified = self.check_by(profile, case).await;
        verified.inspect_err(|stop| stop.count(&self.metrics, profile))
    }

    /// Steps 12 and 13, counted whatever comes of them.
    async fn spend(&self, verified: &Verified<'_>) -> Result<Verdict, Stop> {
        let profile = verified.checked.profile();
        let verdict = self.claim(verified).await;
        let verdict = verdict.inspect_err(|stop| stop.count(&self.metrics, profile))?;
        let _ = verified.seen.accepted.set(());
        self.metrics.verdict(ACCEPTED, &profile.name);
        Ok(verdict)
    }

    fn profile(&self, name: Option<&str>) -> Result<&Profile, Denied> {
        let name = name.unwrap_or("onceguard");
        let found = self.profiles.iter().find(|profile| profile.name == name);
        found.ok_or_else(|| Denied::UnknownProfile(name.to_owned()))
    }

    /// Steps 1 to 11.
    async fn check_by<'a>(
        &'a self,
        profile: &'a Profile,
        case: &Case<'a>,
    ) -> Result<Verified<'a>, Stop> {
        // 1 to 6: it has one signature for this profile, which says enough, is fresh and covers
        // enough.
        let checked = signatures::check(&case.request, profile, self.clock.now())?;
        // 7: its keyid names a key.
        let key_id = checked.key_id().clone();
        let did = key_id.did();
        let _ = case.seen.signer.set(did.clone());
        if case.signers.is_some_and(|signers| !signers.allow(did)) {
            return Err(Denied::NotAllowed(did.clone()).into());
        }
        let resolved = self.resolve(&key_id, case.peer).await?;
        let key = keys::key_of(&key_id, &resolved)?;
        // The rest of 4: the algorithm is the key's.
        let bound = checked.with_key(key)?;
        // 8: it is not revoked, as far as is known, and that is fresh enough.
        if resolved.is_revoked() {
            return Err(Denied::KeyRevoked(did.clone()).into());
        }
        if resolved.stale_for.is_some_and(|stale_for| stale_for > self.max_stale) {
            return Err(Denied::RevocationStale(did.clone()).into());
        }
        // 9: the signer's quota has room. Step 13 decides.
        if !self.claims.may_have_room(did).await {
            return Err(Denied::QuotaReached.into());
        }
        // 10 and 11: the signature is the key's, and the digest the body's.
        bound.verify()?;
        let alg = bound.algorithm().as_str();
        self.dids.keep(&resolved).await?;
        Ok(Verified {
            checked,
            key_id,
            alg,
            session: case.belongs_to(),
            counts: case.counts,
            repeat: case.repeat,
            seen: case.seen,
            metrics: &self.metrics,
        })
    }

    /// What is known of the signer.
    async fn resolve(&self, key_id: &DidUrl, peer: Peer) -> Result<Arc<ResolvedDid>, Stop> {
        let did = key_id.did();
        match self.dids.get(did, None, Asker::Stranger(peer)).await {
            Ok(Lookup::Found(resolved)) => Ok(resolved),
            Ok(Lookup::NotFound) => {
                Err(Denied::KeyUnknown(format!("no key is known of {did}")).into())
            }
            Ok(Lookup::Unresolvable(why)) => {
                Err(Denied::KeyUnknown(format!("{did}: {why}")).into())
            }
            Err(ServiceError::Upstream(_) | ServiceError::NoPlace { .. }) => {
                Err(Denied::KeyUnavailable(did.clone()).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Steps 12 and 13.
    async fn claim(&self, verified: &Verified<'_>) -> Result<Verdict, Stop> {
        let Verified { checked, alg, counts, .. } = verified;
        let did = verified.did();
        let content_digest = checked.content_digest().map_err(Refused::from)?;
        // 12: the session, when there is one, is live, and the signer a party to it. The claim
        // looks, unless it is none in the session.
        let session = match verified.session {
            None => None,
            Some(NamedSession::Id(id)) => Some(id),
            Some(NamedSession::Unreadable) => return Err(Denied::SessionNotFound.into()),
        };
        if let Some(id) = session.filter(|_| !counts) {
            self.must_let_pass(id, did).await?;
        }
        // 13: the nonce was never used before.
        let claim = Claim {
            scope: Scope::Signer {
                did: did.clone(),
                expires_at: checked.keep_nonce_until(&self.profiles),
                issued_at: Some(checked.created()),
                session: session.filter(|_| *counts),
            },
            nonce: checked.nonce().clone(),
            idempotency: verified.repeat,
        };
        let outcomes = self.claims.claim_of_message(claim).await?;
        let repeated = match outcomes.first() {
            Some(Outcome::Accepted(accepted)) => accepted.repeated,
            Some(Outcome::Replayed { first_used_at }) => {
                return Err(Denied::Replayed { first_used_at: *first_used_at }.into());
            }
            Some(Outcome::Refused(refusal)) => return Err(Denied::claim(*refusal, did).into()),
            None => return Err(ServiceError::Internal("a claim without an outcome".into()).into()),
        };
        Ok(Verdict {
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
            repeated,
        })
    }

    /// Step 12 for a request that does not count in its session, by the claim's rule: of a session,
    /// only its parties learn more.
    async fn must_let_pass(&self, id: SessionId, signer: &Did) -> Result<(), Stop> {
        let session = self.sessions.read(id).await?.ok_or(Denied::SessionNotFound)?;
        if !session.has_party(signer) {
            return Err(Denied::NotAParty.into());
        }
        match session.state() {
            SessionState::Active => Ok(()),
            SessionState::Over(end) => Err(Denied::SessionOver(end).into()),
        }
    }
}
