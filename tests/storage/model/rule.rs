//! The rule of claims, sessions and the purge, in memory and plain enough to be believed.

use std::collections::BTreeMap;

use onceguard::domain::{
    Accepted, Claim, Did, End, IDEMPOTENCY_WINDOW_SECONDS, Outcome, Refusal, Scope, Session,
    SessionId, SessionState, Timestamp,
};

use super::{MARGIN, QUOTA, RETENTION};

/// The store's rule, in memory. Its times are the database's, as if no row had been aged.
#[derive(Default)]
pub(super) struct Model {
    pub(super) sessions: BTreeMap<SessionId, Modelled>,
    /// And namespaces.
    pub(super) signers: BTreeMap<String, BTreeMap<String, Used>>,
    pub(super) revoked: Vec<Did>,
}

pub(super) struct Modelled {
    pub(super) session: Session,
    pub(super) used: BTreeMap<String, Used>,
    /// Accepted claims of signers who named it.
    pub(super) named: u64,
}

impl Modelled {
    pub(super) fn claims(&self) -> u64 {
        self.used.len() as u64 + self.named
    }

    fn room(&self) -> i64 {
        let most = self.session.max_claims.unwrap_or(u32::MAX.into());
        i64::try_from(most).unwrap() - i64::try_from(self.claims()).unwrap()
    }
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
            other => self.signers.get(holder(other)?)?.get(claim.nonce.as_str()).copied(),
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
        let mut parties = Vec::new();
        if let Some(id) = session_of(claim) {
            let Some(Modelled { session, .. }) = self.sessions.get(&id) else {
                return Outcome::Refused(Refusal::SessionNotFound);
            };
            let signer = match &claim.scope {
                Scope::Signer { did, .. } => Some(did),
                _ => None,
            };
            if signer.is_some_and(|signer| !session.has_party(signer)) {
                return Outcome::Refused(Refusal::NotAParty);
            }
            let seen = Session { observed_at: at, ..session.clone() };
            match seen.state() {
                SessionState::Active => {}
                SessionState::Over(end) => {
                    return Outcome::Refused(Refusal::SessionOver(end));
                }
            }
            parties.extend([session.client_did.clone(), session.server_did.clone()]);
        }
        if let Scope::Signer { did, .. } = &claim.scope {
            parties.push(did.clone());
        }
        if parties.iter().any(|party| self.is_revoked(party)) {
            return Outcome::Refused(Refusal::DidRevoked);
        }
        if claim.scope.expires_at().is_some_and(|expires_at| expires_at <= at) {
            return Outcome::Refused(Refusal::Expired);
        }
        if let Some(used) = used {
            return Outcome::Replayed { first_used_at: used.at };
        }
        if let Some((refusal, _)) = self.rooms(claim).into_iter().find(|(_, room)| *room <= 0) {
            return Outcome::Refused(refusal);
        }
        let expires_at = match &claim.scope {
            Scope::Session(id) => self.sessions[id].session.deadline,
            Scope::Signer { expires_at, .. } | Scope::Namespace { expires_at, .. } => *expires_at,
        };
        self.insert(claim, Used { at, expires_at, key: claim.idempotency });
        Outcome::Accepted(Accepted { used_at: at, expires_at, repeated: false })
    }

    fn nonces(&mut self, claim: &Claim) -> &mut BTreeMap<String, Used> {
        match &claim.scope {
            Scope::Session(id) => &mut self.sessions.get_mut(id).unwrap().used,
            other => self.signers.entry(holder(other).unwrap().to_owned()).or_default(),
        }
    }

    fn named(&mut self, claim: &Claim) -> Option<&mut u64> {
        match &claim.scope {
            Scope::Signer { session: Some(id), .. } => {
                Some(&mut self.sessions.get_mut(id).unwrap().named)
            }
            _ => None,
        }
    }

    fn insert(&mut self, claim: &Claim, used: Used) {
        let new = self.nonces(claim).insert(claim.nonce.as_str().to_owned(), used).is_none();
        if let (true, Some(named)) = (new, self.named(claim)) {
            *named += 1;
        }
    }

    fn remove(&mut self, claim: &Claim) {
        let held = self.nonces(claim).remove(claim.nonce.as_str()).is_some();
        if let (true, Some(named)) = (held, self.named(claim)) {
            *named -= 1;
        }
    }

    pub(super) fn end(&mut self, id: SessionId, end: End) {
        self.sessions.get_mut(&id).unwrap().session.end = Some(end);
    }

    pub(super) fn purge(&mut self, now: Timestamp) {
        for Modelled { session, .. } in self.sessions.values_mut() {
            session.observed_at = now;
            if let SessionState::Over(end) = session.state() {
                session.end = Some(end);
            }
        }
        self.sessions.retain(|_, Modelled { session, .. }| {
            session.end.is_none_or(|end| end.at + RETENTION > now)
        });
        for used in self.signers.values_mut() {
            used.retain(|_, used| used.expires_at + MARGIN > now);
        }
    }

    /// Makes the model's rows those that the store's choice among a batch's claims left.
    pub(super) fn follow(&mut self, claim: &Claim, found: &Outcome) {
        if let Outcome::Accepted(Accepted { used_at, expires_at, .. }) = *found {
            self.insert(claim, Used { at: used_at, expires_at, key: claim.idempotency });
        } else {
            self.remove(claim);
        }
    }

    /// How many more nonces each limit of the claim has room for, in the order in which they
    /// refuse; negative when there are too many.
    pub(super) fn rooms(&self, claim: &Claim) -> Vec<(Refusal, i64)> {
        match &claim.scope {
            Scope::Session(id) => vec![(Refusal::ClaimQuotaReached, self.sessions[id].room())],
            other => {
                let used = self.signers.get(holder(other).unwrap()).map_or(0, BTreeMap::len);
                let room = i64::try_from(QUOTA).unwrap() - i64::try_from(used).unwrap();
                let named = session_of(claim);
                let named = named.map(|id| (Refusal::SessionUsedUp, self.sessions[&id].room()));
                named.into_iter().chain([(Refusal::ClaimQuotaReached, room)]).collect()
            }
        }
    }
}

/// The session that must let the claim pass.
fn session_of(claim: &Claim) -> Option<SessionId> {
    match &claim.scope {
        Scope::Session(id) => Some(*id),
        Scope::Signer { session, .. } => *session,
        Scope::Namespace { .. } => None,
    }
}

/// The signer or the namespace, by a name that no other has.
fn holder(scope: &Scope) -> Option<&str> {
    match scope {
        Scope::Session(_) => None,
        Scope::Signer { did, .. } => Some(did.as_str()),
        Scope::Namespace { namespace, .. } => Some(namespace.marked()),
    }
}
