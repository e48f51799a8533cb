//! Random sequences of operations, on a store and on a model of its rules. Every outcome must be
//! the same.

mod operations;
mod rule;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use futures_util::future::join_all;
use onceguard::domain::{
    Accepted, Changed, Claim, Did, End, EndReason, Namespace, Opened, Outcome, Refusal, Scope,
    Session, SessionId, SessionPatch, SessionState,
};
use onceguard::services::Sessions;
use onceguard::storage::{PurgeStep, Purged};
use proptest::prelude::*;
use tokio::runtime::Runtime;
use uuid::Uuid;

use self::operations::{Attempt, Opening, Operation, PARTIES, SLOTS, Target, operation};
use self::rule::{Model, Modelled};
use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    Limits, TestStore, a_session, an_event, ask_all, asked, by_signer, days, did, digest,
    in_session, minutes, naming, nonce, outcome, purge_batch, sessions_of, unique,
};

const QUOTA: u64 = 4;
const MAX_CLAIMS: u64 = 3;
const RETENTION: Duration = days(7);
const MARGIN: Duration = minutes(1);

/// A store and its model.
struct Pair<'a> {
    store: &'a TestStore,
    sessions: Sessions,
    model: Model,
    slots: [SessionId; SLOTS],
    parties: [Did; PARTIES],
}

impl<'a> Pair<'a> {
    fn new(store: &'a TestStore) -> Self {
        let case = unique();
        Self {
            store,
            sessions: sessions_of(store),
            model: Model::default(),
            slots: std::array::from_fn(|_| SessionId(Uuid::now_v7())),
            parties: std::array::from_fn(|n| did(&format!("did:web:party-{n}-of-{case}.example"))),
        }
    }

    fn steady(&self, mut session: Session) -> Session {
        for time in [
            &mut session.created_at,
            &mut session.expires_at,
            &mut session.deadline,
            &mut session.last_activity,
            &mut session.observed_at,
        ] {
            *time = self.store.steady(*time);
        }
        if let Some(end) = &mut session.end {
            end.at = self.store.steady(end.at);
        }
        session
    }

    fn steady_outcome(&self, outcome: Outcome) -> Outcome {
        let steady = |at| self.store.steady(at);
        match outcome {
            Outcome::Accepted(accepted) => Outcome::Accepted(Accepted {
                used_at: steady(accepted.used_at),
                expires_at: steady(accepted.expires_at),
                repeated: accepted.repeated,
            }),
            Outcome::Replayed { first_used_at } => {
                Outcome::Replayed { first_used_at: steady(first_used_at) }
            }
            Outcome::Refused(Refusal::SessionOver(End { at, reason })) => {
                Outcome::Refused(Refusal::SessionOver(End { at: steady(at), reason }))
            }
            Outcome::Refused(_) => outcome,
        }
    }

    async fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Open(openings) => self.open(openings).await,
            Operation::Claim(attempts) => self.claim(attempts).await,
            Operation::End { slots } => self.end(slots).await,
            Operation::Patch { slot, ttl_minutes } => {
                let patch =
                    SessionPatch { ttl_seconds: Some(ttl_minutes * 60), ..SessionPatch::default() };
                let changed = self.store.update_session(self.slots[slot], patch).await.unwrap();
                if let Some(session) = self.changed(slot, changed) {
                    let expected = session.observed_at + minutes(ttl_minutes.into());
                    assert!(session.expires_at <= session.deadline.min(expected));
                    let modelled = &mut self.model.sessions.get_mut(&session.id).unwrap().session;
                    modelled.expires_at = session.expires_at;
                }
            }
            Operation::Revoke { party } => {
                let party = self.parties[party].clone();
                let revoked =
                    self.store.revoke_did(&party, an_event("onceguard.did.revoked", &party)).await;
                assert_eq!(revoked.unwrap().first, !self.model.is_revoked(&party));
                self.model.revoked.push(party);
            }
            Operation::EndSessionsOfRevoked => self.end_sessions_of_revoked().await,
            Operation::Pass { seconds } => self.store.pass(Duration::from_secs(seconds)).await,
            Operation::Purge => self.purge().await,
        }
    }

    async fn open(&mut self, openings: Vec<Opening>) {
        let new = |opening: &Opening| {
            let mut new = a_session();
            new.id = self.slots[opening.slot];
            new.client_did = self.parties[opening.client].clone();
            new.server_did = self.parties[opening.server].clone();
            new.max_claims = opening.counted.then_some(MAX_CLAIMS);
            new.idle_timeout_seconds = opening.idle.then_some(600);
            new.ttl_seconds = opening.ttl_minutes * 60;
            new
        };
        let new: Vec<_> = openings.iter().map(new).collect();
        let before = self.model.sessions.keys().copied().collect::<Vec<_>>();
        let opened = join_all(new.iter().map(|new| self.sessions.open(asked(new.clone())))).await;
        let (mut exist, mut created) = (Vec::new(), before);
        for (new, opened) in new.iter().zip(opened) {
            let parties = [&new.client_did, &new.server_did];
            let revoked = parties.map(|party| self.model.is_revoked(party));
            match opened.unwrap() {
                Opened::Created(session) => {
                    assert!(!created.contains(&new.id) && revoked == [false, false], "opened");
                    created.push(new.id);
                    let session = self.steady(session);
                    let modelled =
                        Modelled { session: session.clone(), used: BTreeMap::new(), named: 0 };
                    self.model.sessions.insert(session.id, modelled);
                }
                Opened::Exists => exist.push(new.id),
                Opened::Revoked(party) => assert!(self.model.is_revoked(&party), "revoked"),
                other => panic!("the database was never recovered: {other:?}"),
            }
        }
        assert!(exist.iter().all(|id| created.contains(id)), "exists");
    }

    async fn end(&mut self, slots: Vec<usize>) {
        let ended = join_all(slots.iter().map(|slot| self.sessions.end(self.slots[*slot], None)));
        let ended = ended.await;
        // One of two that end the same session at the same time comes first.
        let mut over = Vec::new();
        for (slot, changed) in slots.into_iter().zip(ended) {
            match changed.unwrap() {
                Changed::Over(session) => over.push((slot, Changed::Over(session))),
                changed => {
                    if let Some(session) = self.changed(slot, changed) {
                        self.model.end(session.id, session.end.unwrap());
                    }
                }
            }
        }
        for (slot, changed) in over {
            self.changed(slot, changed);
        }
    }

    /// Compares a change's answer with the model; `Some` when it was done.
    fn changed(&self, slot: usize, changed: Changed) -> Option<Session> {
        let modelled = self.model.sessions.get(&self.slots[slot]).map(|found| &found.session);
        let over = |session: &Session| {
            let modelled = modelled.expect("the model has it");
            Session { observed_at: session.observed_at, ..modelled.clone() }.state()
        };
        match changed {
            Changed::NotFound => {
                assert!(modelled.is_none(), "not found");
                None
            }
            Changed::Over(session) => {
                let session = self.steady(session);
                assert_eq!(session.state(), over(&session));
                assert_ne!(session.state(), SessionState::Active);
                None
            }
            Changed::Done(session) => {
                let session = self.steady(session);
                assert_eq!(over(&session), SessionState::Active, "done");
                Some(session)
            }
            Changed::VersionMismatch(session) => panic!("no version was given: {session:?}"),
        }
    }

    async fn claim(&mut self, attempts: Vec<Attempt>) {
        let now = self.store.now().await.unwrap();
        let mut claims = Vec::<Claim>::new();
        for attempt in attempts {
            let nonce = nonce(&format!("n{}", attempt.nonce));
            let mut claimed = match attempt.scope {
                Target::Session { slot } => in_session(self.slots[slot], nonce),
                Target::Signer { party, expires_in_seconds, named } => {
                    let expires_at = now + chrono::Duration::seconds(expires_in_seconds);
                    let claimed = by_signer(&self.parties[party], nonce, expires_at);
                    match named {
                        Some(slot) => naming(claimed, self.slots[slot]),
                        None => claimed,
                    }
                }
                Target::Namespace { party, expires_in_seconds } => {
                    let namespace = Namespace::parse(self.parties[party].as_str()).unwrap();
                    let expires_at = now + chrono::Duration::seconds(expires_in_seconds);
                    let scope = Scope::Namespace { namespace, expires_at, issued_at: None };
                    Claim { scope, nonce, idempotency: None }
                }
            };
            claimed.idempotency = attempt.key.map(digest);
            let same = |other: &Claim| {
                other.nonce == claimed.nonce
                    && match (&other.scope, &claimed.scope) {
                        (Scope::Session(a), Scope::Session(b)) => a == b,
                        (Scope::Signer { did: a, .. }, Scope::Signer { did: b, .. }) => a == b,
                        (
                            Scope::Namespace { namespace: a, .. },
                            Scope::Namespace { namespace: b, .. },
                        ) => a == b,
                        _ => false,
                    }
            };
            if !claims.iter().any(same) {
                claims.push(claimed);
            }
        }
        let facts = ask_all(self.store, &claims).await;
        let mut about_room = Vec::new();
        for (claimed, facts) in claims.iter().zip(facts) {
            let facts = facts.unwrap();
            let found = self.steady_outcome(outcome(claimed, &facts));
            let mut steady = claimed.clone();
            if let Scope::Signer { expires_at, .. } | Scope::Namespace { expires_at, .. } =
                &mut steady.scope
            {
                *expires_at = self.store.steady(*expires_at);
            }
            let at = self.store.steady(facts.at);
            let expected = self.model.claim(&steady, at);
            if found != expected {
                // Which of a batch's claims get the last rooms is the store's choice.
                assert!(
                    is_about_room(&found) && is_about_room(&expected),
                    "{claimed:?} found {found:?}, expected {expected:?}"
                );
                self.model.follow(&steady, &found);
            }
            if is_about_room(&found) {
                about_room.push((steady, found));
            }
        }
        for (claimed, found) in about_room {
            for (refusal, room) in self.model.rooms(&claimed) {
                assert!(room >= 0, "{claimed:?}: too many were accepted");
                let refused = found == Outcome::Refused(refusal);
                assert!(!refused || room == 0, "{claimed:?}: {refusal:?} although there is room");
            }
        }
        self.compare_sessions().await;
    }

    /// Reads every session, compares it, and takes over its last activity (which claims may
    /// move).
    async fn compare_sessions(&mut self) {
        for id in self.slots {
            let stored = self.store.session(id).await.unwrap().map(|found| self.steady(found));
            let modelled = self.model.sessions.get_mut(&id);
            assert_eq!(stored.is_some(), modelled.is_some(), "{id}");
            let (Some(stored), Some(modelled)) = (stored, modelled) else { continue };
            if modelled.session.max_claims.is_some() {
                assert_eq!(stored.claims, modelled.claims(), "claims are counted exactly");
            }
            let session = &mut modelled.session;
            assert!(stored.last_activity >= session.last_activity);
            session.last_activity = stored.last_activity;
            session.observed_at = stored.observed_at;
            assert_eq!(stored.state(), session.state(), "{id}");
            assert_eq!(stored.expires_at, session.expires_at, "{id}");
        }
    }

    async fn end_sessions_of_revoked(&mut self) {
        while self.store.end_sessions_of_revoked(None, None, 2).await.unwrap() == 2 {}
        for id in self.slots {
            let Some(stored) = self.store.session(id).await.unwrap() else { continue };
            let stored = self.steady(stored);
            let session = &self.model.sessions[&id].session;
            let revoked = self.model.is_revoked(&session.client_did)
                || self.model.is_revoked(&session.server_did);
            let live = Session { observed_at: stored.observed_at, ..session.clone() }.state()
                == SessionState::Active;
            if revoked && live {
                let end = stored.end.unwrap();
                assert_eq!(end.reason, EndReason::DidRevoked);
                self.model.end(id, end);
            }
        }
        self.compare_sessions().await;
    }

    async fn purge(&mut self) {
        self.compare_sessions().await;
        let steps = [
            PurgeStep::EndOverdueSessions,
            PurgeStep::DeleteEndedSessions { retention: RETENTION },
            PurgeStep::DeleteSignerNonces { margin: MARGIN },
        ];
        for step in steps {
            while purge_batch(self.store, step, 3).await != Purged::default() {}
        }
        let now = self.store.steady(self.store.now().await.unwrap());
        self.model.purge(now);
        self.compare_sessions().await;
    }
}

/// Whether there being room decided this outcome.
fn is_about_room(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Accepted(Accepted { repeated: false, .. })
            | Outcome::Refused(Refusal::ClaimQuotaReached | Refusal::SessionUsedUp)
    )
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

fn check(on: Database, cases: u32) {
    let store = RUNTIME.block_on(on.store_with(Limits { quota_per_signer: QUOTA }));
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let operations = prop::collection::vec(operation(), 1..40);
    let result = proptest::test_runner::TestRunner::new(config).run(&operations, |operations| {
        RUNTIME.block_on(async {
            let mut pair = Pair::new(&store);
            for operation in operations {
                pair.apply(operation).await;
            }
        });
        Ok(())
    });
    let _entered = RUNTIME.enter();
    drop(store);
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

#[test]
fn sqlite_decides_as_the_model() {
    check(Sqlite, 40);
}

#[test]
fn sqlite_in_memory_decides_as_the_model() {
    check(Memory, 200);
}

#[test]
fn postgres_decides_as_the_model() {
    check(Postgres, 40);
}
