//! The rule of claims, sessions and the purge, in memory and plain enough to be believed.

use std::collections::BTreeMap;

use onceguard::domain::{
    Accepted, Claim, Did, EndReason, IDEMPOTENCY_WINDOW_SECONDS, Outcome, Refusal, Scope, Session,
    SessionId, SessionState, Timestamp,
};

use super::{MARGIN, QUOTA, RETENTION};

/// The store's rule, in memory. Its times are the database's, as if no row had been aged.
#[derive(Default)]
pub(super) struct Model {
    pub(super) sessions: BTreeMap<SessionId, Modelled>,
    pub(super) signers: BTreeMap<Did, BTreeMap<String, Used>>,
    pub(super) revoked: Vec<Did>,
}

pub(super) struct Modelled {
    pub(super) session: Session,
    pub(super) used: BTreeMap<String, Used>,
}

#[derive(Clone, Copy)]
pub(super) struct Used {
    at: Timestamp,
    expires_at: Timestamp,
    key: Option<[u8; 16]>,
}

impl Model {
    pub(super) fn is_revoked(&self, did: &Did) -> bool {
        self.revoked.contains(did)
    }

    fn used(&self, claim: &Claim) -> Option<Used> {
        match &claim.scope {
            Scope::Session(id) => self.sessions.get(id)?.used.get(claim.nonce.as_str()).copied(),
            Scope::Signer { did, .. } => self.signers.get(did)?.get(claim.nonce.as_str()).copied(),
        }
    }

    /// schema.md, "Per claim, first that applies", word by word.
    pub(super) fn claim(&mut self, claim: &Claim, at: Timestamp) -> Outcome {
        let used = self.used(claim);
        if let Some(used) = used
            && used.key.is_some()
            && used.key == claim.idempotency
            && at - used.at <= chrono::Duration::seconds(IDEMPOTENCY_WINDOW_SECONDS)
        {
            return Outcome::Accepted(Accepted {
                used_at: used.at,
                expires_at: used.expires_at,
                repeated: true,
            });
        }
        let parties = match &claim.scope {
            Scope::Session(id) => {
                let Some(Modelled { session, .. }) = self.sessions.get(id) else {
                    return Outcome::Refused(Refusal::SessionNotFound);
                };
                let seen = Session { observed_at: at, ..session.clone() };
                match seen.state() {
                    SessionState::Active => {}
                    SessionState::Ended { at, reason } => {
                        return Outcome::Refused(Refusal::SessionEnded { ended_at: at, reason });
                    }
                    SessionState::Expired { at, reason } => {
                        return Outcome::Refused(Refusal::SessionExpired { ended_at: at, reason });
                    }
                }
                vec![session.client_did.clone(), session.server_did.clone()]
            }
            Scope::Signer { did, .. } => vec![did.clone()],
        };
        if parties.iter().any(|party| self.is_revoked(party)) {
            return Outcome::Refused(Refusal::DidRevoked);
        }
        if matches!(claim.scope, Scope::Signer { expires_at, .. } if expires_at <= at) {
            return Outcome::Refused(Refusal::Expired);
        }
        if let Some(used) = used {
            return Outcome::Replayed { first_used_at: used.at };
        }
        let (nonces, expires_at) = match &claim.scope {
            Scope::Session(id) => {
                let Modelled { session, used } = self.sessions.get_mut(id).unwrap();
                if session.max_claims.is_some_and(|most| used.len() as u64 >= most) {
                    return Outcome::Refused(Refusal::ClaimQuotaReached);
                }
                (used, session.deadline)
            }
            Scope::Signer { did, expires_at, .. } => {
                let used = self.signers.entry(did.clone()).or_default();
                if used.len() as u64 >= QUOTA {
                    return Outcome::Refused(Refusal::ClaimQuotaReached);
                }
                (used, *expires_at)
            }
        };
        let used = Used { at, expires_at, key: claim.idempotency };
        nonces.insert(claim.nonce.as_str().to_owned(), used);
        Outcome::Accepted(Accepted { used_at: at, expires_at, repeated: false })
    }

    pub(super) fn end(&mut self, id: SessionId, at: Timestamp, reason: EndReason) {
        let session = &mut self.sessions.get_mut(&id).unwrap().session;
        session.ended_at = Some(at);
        session.end_reason = Some(reason);
    }

    pub(super) fn purge(&mut self, now: Timestamp) {
        for Modelled { session, .. } in self.sessions.values_mut() {
            session.observed_at = now;
            if session.ended_at.is_none()
                && let SessionState::Expired { at, reason } = session.state()
            {
                session.ended_at = Some(at);
                session.end_reason = Some(reason);
            }
        }
        self.sessions.retain(|_, Modelled { session, .. }| {
            session.ended_at.is_none_or(|at| at + RETENTION > now)
        });
        for used in self.signers.values_mut() {
            used.retain(|_, used| used.expires_at + MARGIN > now);
        }
    }

    /// Makes the model's rows those that the store's choice among a batch's claims left.
    pub(super) fn follow(&mut self, claim: &Claim, found: &Outcome) {
        let nonces = match &claim.scope {
            Scope::Session(id) => &mut self.sessions.get_mut(id).unwrap().used,
            Scope::Signer { did, .. } => self.signers.entry(did.clone()).or_default(),
        };
        if let Outcome::Accepted(Accepted { used_at, expires_at, .. }) = *found {
            let used = Used { at: used_at, expires_at, key: claim.idempotency };
            nonces.insert(claim.nonce.as_str().to_owned(), used);
        } else {
            nonces.remove(claim.nonce.as_str());
        }
    }

    /// How many more nonces the claim's scope has room for; negative when it holds too many.
    pub(super) fn room(&self, claim: &Claim) -> i64 {
        let (most, used) = match &claim.scope {
            Scope::Session(id) => {
                let Modelled { session, used } = &self.sessions[id];
                (session.max_claims.unwrap_or(u32::MAX.into()), used.len())
            }
            Scope::Signer { did, .. } => (QUOTA, self.signers.get(did).map_or(0, BTreeMap::len)),
        };
        i64::try_from(most).unwrap() - i64::try_from(used).unwrap()
    }
}
