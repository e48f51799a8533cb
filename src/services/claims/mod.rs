//! The one way a nonce is claimed.
//!
//! Callers wait in a bounded queue, one for each kind of claim. Whatever is waiting there is handed
//! to the store as one batch; while that batch is being committed the next one gathers. A claim
//! never waits for others to come, and no kind waits for another.
//!
//! A batch waits for no session and no signer that another transaction has locked. What it skipped
//! is asked again off the line, all together, and waits there: mostly another instance has the row
//! for a moment. A row that stays locked is then asked for by itself, until its patience ends.

mod asking;
mod batch;
mod lines;
mod room;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::oneshot;

use self::asking::Asking;
use self::batch::{Answered, Manner, Way, Why};
use self::lines::{Line, Lines};
use self::room::Room;
use super::queue::{Full, Queue, Reserved, Sizes};
use super::{Evidence, ServiceError};
use crate::config;
use crate::domain::{
    Claim, Did, Namespace, Nonce, Outcome, OwnType, Refusal, Scope, SessionId, Timestamp, UsedNonce,
};
use crate::metrics::Metrics;
use crate::storage::{ClaimKind, Store, StoreError};

type Answer = Result<Vec<Outcome>, ServiceError>;

/// Claims that must wait before a second batch is committed beside the first. Smaller batches are
/// faster one after the other.
const CROWD: usize = 256;

/// For how long a claim is asked again that a lock is in the way of: longer than a frozen instance
/// can keep one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Claims of a kind that may wait for rows that stay locked; one more is refused.
const ROOM_BY_ROW: usize = 1024;
/// Rows of a kind that are waited for by themselves at a time: one that stays locked does not keep
/// the next one, which is free again, from its claims.
const ROWS: usize = 2;

/// The queues of claims. Clones share them.
#[derive(Clone)]
pub struct Claims {
    store: Store,
    metrics: Arc<Metrics>,
    lines: Arc<Lines>,
    quotas: Arc<Room>,
    evidence: Option<Evidence>,
}

impl Claims {
    /// Batches are committed on the current Tokio runtime.
    #[must_use]
    pub fn start(store: Store, config: &config::Claims, metrics: Arc<Metrics>) -> Self {
        let queue = |kind, way, sizes| {
            let manner = Manner { counted: kind == ClaimKind::Counted, way };
            let asking = Asking::new(store.clone(), Arc::clone(&metrics), manner);
            Arc::new(Queue::new(asking, sizes, metrics.claim_queue_depth.clone()))
        };
        let line = |kind| {
            let (flights, max_batch) = (store.claim_batches(kind), config.max_batch);
            let sizes = Sizes { room: config.queue, max_batch, flights, crowd: CROWD };
            let skipped = Sizes { flights: 1, ..sizes };
            let by_row = Sizes { room: ROOM_BY_ROW, max_batch, flights: ROWS, crowd: 1 };
            Line {
                queue: queue(kind, Way::Skip, sizes),
                skipped: queue(kind, Way::Together, skipped),
                by_row: queue(kind, Way::ByRow, by_row),
            }
        };
        let lines = Lines {
            in_session: line(ClaimKind::InSession),
            counted: line(ClaimKind::Counted),
            by_signer: line(ClaimKind::BySigner),
            by_signer_in_session: line(ClaimKind::BySignerInSession),
        };
        let quotas = Arc::new(Room::new(config.quota_per_signer));
        Self { store, metrics, lines: Arc::new(lines), quotas, evidence: None }
    }

    /// Replays leave evidence in the log of events.
    #[must_use]
    pub fn evidenced(self, evidence: Evidence) -> Self {
        Self { evidence: Some(evidence), ..self }
    }

    /// Spares a caller reading claims that there is no room for, of whatever kind they are.
    ///
    /// # Errors
    /// [`ServiceError::Overloaded`] while not one claim has room.
    pub fn must_have_room(&self) -> Result<(), ServiceError> {
        let is_full = |kind: &ClaimKind| self.lines.of(*kind).queue.is_full();
        let full = self.store.claim_kinds().iter().all(is_full);
        if full { Err(self.overloaded()) } else { Ok(()) }
    }

    /// The same for a claim in a session.
    ///
    /// # Errors
    /// [`ServiceError::Overloaded`] while it has no room.
    pub fn must_have_room_in_session(&self) -> Result<(), ServiceError> {
        let full = self.lines.in_session.queue.is_full();
        if full { Err(self.overloaded()) } else { Ok(()) }
    }

    fn overloaded(&self) -> ServiceError {
        self.metrics.claims_refused_overloaded.inc();
        ServiceError::Overloaded
    }

    /// Claims each nonce on its own and returns their outcomes in order, after the commit.
    ///
    /// # Errors
    /// [`ServiceError::Overloaded`] when a queue has no room, and nothing was changed;
    /// [`StoreError::OutcomeUnknown`] when any of the claims may or may not have been accepted.
    pub async fn claim(&self, claims: Vec<Claim>) -> Answer {
        self.claim_as(OwnType::ClaimReplayed, claims).await
    }

    /// The same for the nonce of a signed message.
    ///
    /// # Errors
    /// As [`Self::claim`].
    pub async fn claim_of_message(&self, claim: Claim) -> Answer {
        self.claim_as(OwnType::SignatureReplayed, vec![claim]).await
    }

    /// `replayed` is what a replay is in the log of events.
    async fn claim_as(&self, replayed: OwnType, claims: Vec<Claim>) -> Answer {
        let (count, signers) = (claims.len() as u64, signers(&claims));
        let outcomes = self.decide(replayed, claims).await;
        if outcomes.as_ref().is_err_and(batch::is_unknown) {
            self.metrics.claims_outcome_unknown.inc_by(count);
        }
        let outcomes = outcomes?;
        for (index, signer) in signers {
            self.quotas.count(&signer);
            if outcomes.get(index) == Some(&Outcome::Refused(Refusal::ClaimQuotaReached)) {
                self.quotas.is_full(&signer).await;
            }
        }
        Ok(outcomes)
    }

    async fn decide(&self, replayed: OwnType, claims: Vec<Claim>) -> Answer {
        let mut answered = self.ask(claims).await?;
        let replay = |claim: &Claim, first_used_at| {
            if let Some(evidence) = &self.evidence {
                evidence.note(replayed, claim, first_used_at);
            }
            Ok(Outcome::Replayed { first_used_at })
        };
        if answered.iter().all(Answered::is_decided) {
            return batch::answer(answered.into_iter().map(|answered| match answered {
                Answered::Decided(outcome) => outcome,
                Answered::Replayed(claim, first_used_at) => replay(&claim, first_used_at),
                Answered::Undecided(..) => Err(batch::unanswered()),
            }));
        }
        // On the heap: this is rarer.
        Box::pin(async {
            self.ask_counted(&mut answered).await;
            let pursued = answered.into_iter().map(|answered| self.pursue(answered, &replay));
            batch::answer(join_all(pursued).await.into_iter())
        })
        .await
    }

    /// What comes of the claims when they are first asked, in order.
    async fn ask(&self, claims: Vec<Claim>) -> Result<Vec<Answered>, ServiceError> {
        let mut kinds = claims.iter().map(|claim| self.store.claim_kind(&claim.scope));
        let Some(first) = kinds.next() else { return Ok(Vec::new()) };
        if kinds.all(|kind| kind == first) {
            let queue = &self.lines.of(first).queue;
            let room = queue.reserve(claims.len()).map_err(|Full| self.overloaded())?;
            return answers(room.fill(claims).map_err(|Full| self.overloaded())?).await;
        }
        // On the heap: this is rarer.
        Box::pin(self.ask_of_many_kinds(claims)).await
    }

    async fn ask_of_many_kinds(&self, claims: Vec<Claim>) -> Result<Vec<Answered>, ServiceError> {
        let count = claims.len();
        let parts = self.parts(claims);
        // There is room for all, or none is asked.
        let rooms: Vec<Reserved<Asking>> = parts
            .iter()
            .map(|part| self.lines.of(part.kind).queue.reserve(part.claims.len()))
            .collect::<Result<_, Full>>()
            .map_err(|Full| self.overloaded())?;
        let asked = parts.into_iter().zip(rooms).map(|(part, room)| async {
            let answered = match room.fill(part.claims) {
                Ok(answered) => answers(answered).await,
                Err(Full) => Err(self.overloaded()),
            };
            (part.places, answered)
        });
        let mut all: Vec<Option<Answered>> = (0..count).map(|_| None).collect();
        for (places, answered) in join_all(asked).await {
            let answered = answered.unwrap_or_else(|error| {
                places.iter().map(|_| Answered::Decided(Err(error.clone()))).collect()
            });
            for (place, answered) in places.into_iter().zip(answered) {
                if let Some(slot) = all.get_mut(place) {
                    *slot = Some(answered);
                }
            }
        }
        let unanswered = || Answered::Decided(Err(batch::unanswered()));
        Ok(all.into_iter().map(|answered| answered.unwrap_or_else(unanswered)).collect())
    }

    /// The claims of each kind. Signers' claims all go together where any of them names a session:
    /// of equal ones, the first must win.
    fn parts(&self, claims: Vec<Claim>) -> Vec<Part> {
        let kind = |claim: &Claim| self.store.claim_kind(&claim.scope);
        let together = claims.iter().any(|claim| kind(claim) == ClaimKind::BySignerInSession);
        let mut parts: Vec<Part> = Vec::new();
        for (place, claim) in claims.into_iter().enumerate() {
            let kind = match kind(&claim) {
                ClaimKind::BySigner if together => ClaimKind::BySignerInSession,
                kind => kind,
            };
            match parts.iter_mut().find(|part| part.kind == kind) {
                Some(part) => {
                    part.places.push(place);
                    part.claims.push(claim);
                }
                None => parts.push(Part { kind, places: vec![place], claims: vec![claim] }),
            }
        }
        parts
    }

    /// Asks the claims in sessions that were found to limit them, as such and all together.
    async fn ask_counted(&self, answered: &mut [Answered]) {
        let (mut slots, mut claims) = (Vec::new(), Vec::new());
        for slot in answered {
            if let Answered::Undecided(claim, Why::Counted) = slot {
                claims.push((**claim).clone());
                slots.push(slot);
            }
        }
        if claims.is_empty() {
            return;
        }
        let queue = &self.lines.counted.queue;
        let answered = match queue.reserve(claims.len()).and_then(|room| room.fill(claims)) {
            Ok(answered) => answers(answered).await,
            Err(Full) => Err(self.overloaded()),
        };
        match answered {
            Ok(answered) => slots.into_iter().zip(answered).for_each(|(slot, new)| *slot = new),
            Err(error) => {
                for slot in slots {
                    *slot = Answered::Decided(Err(error.clone()));
                }
            }
        }
    }

    /// Asks a claim until it is decided, or a lock has been in its way for too long.
    async fn pursue(
        &self,
        mut answered: Answered,
        replay: &impl Fn(&Claim, Timestamp) -> Result<Outcome, ServiceError>,
    ) -> Result<Outcome, ServiceError> {
        let (mut way, mut until, mut stays_locked) = (Way::Skip, None, false);
        loop {
            let (claim, why) = match answered {
                Answered::Decided(outcome) => return outcome,
                Answered::Replayed(claim, first_used_at) => return replay(&claim, first_used_at),
                Answered::Undecided(claim, why) => (claim, why),
            };
            let now = Instant::now();
            let over = now >= *until.get_or_insert_with(|| now + PATIENCE);
            let kind = self.store.claim_kind(&claim.scope);
            let line = self.lines.of(if why.counted() { ClaimKind::Counted } else { kind });
            let error;
            (way, error) = match why {
                Why::Counted => (Way::Skip, busy_for_too_long()),
                Why::Busy { .. } if stays_locked || line.by_row.has_row_of(&claim) => {
                    (Way::ByRow, busy_for_too_long())
                }
                Why::Busy { .. } => (Way::Together, busy_for_too_long()),
                // The row may have been another's: the next one to skip it tells.
                Why::Locked { error, .. } if way == Way::Together => {
                    stays_locked = true;
                    (Way::Skip, error)
                }
                Why::Locked { error, .. } => (Way::ByRow, error),
            };
            if over {
                return Err(error.into());
            }
            let asked = line.queue(way).reserve(1).and_then(|room| room.fill(vec![*claim]));
            let Ok(answer) = asked else { return Err(error.into()) };
            let next = answers(answer).await?.pop();
            answered = next.unwrap_or_else(|| Answered::Decided(Err(batch::unanswered())));
        }
    }

    /// Whether a signer's quota may have room for another nonce. Only a claim says that it has.
    pub async fn may_have_room(&self, signer: &Did) -> bool {
        self.quotas.may_be_left(signer, &self.store).await
    }

    /// Whether a nonce was used in a session. Never a licence to act: only a claim is.
    pub async fn used(
        &self,
        session: SessionId,
        nonce: &Nonce,
    ) -> Result<Option<UsedNonce>, ServiceError> {
        Ok(self.store.session_nonce(session, nonce).await?)
    }

    /// The same in a namespace, for as long as it is kept.
    pub async fn used_in_namespace(
        &self,
        namespace: &Namespace,
        nonce: &Nonce,
    ) -> Result<Option<UsedNonce>, ServiceError> {
        Ok(self.store.namespace_nonce(namespace, nonce).await?)
    }

    /// How many nonces a namespace holds.
    pub async fn live_in_namespace(&self, namespace: &Namespace) -> Result<u64, ServiceError> {
        Ok(self.store.live_nonces(namespace.key()).await?)
    }

    /// Refuses new claims, and returns when all that are waiting have their answer.
    pub async fn close(&self) {
        join_all(self.lines.queues().map(|queue| queue.close())).await;
    }
}

/// Who signs which of the claims. Nothing is allocated for claims in sessions.
fn signers(claims: &[Claim]) -> Vec<(usize, Did)> {
    let signer = |(index, claim): (usize, &Claim)| match &claim.scope {
        Scope::Signer { did, .. } => Some((index, did.clone())),
        Scope::Session(_) | Scope::Namespace { .. } => None,
    };
    claims.iter().enumerate().filter_map(signer).collect()
}

/// Claims of one kind, and their places among the claims of the call.
struct Part {
    kind: ClaimKind,
    places: Vec<usize>,
    claims: Vec<Claim>,
}

fn busy_for_too_long() -> StoreError {
    StoreError::Locked("another transaction keeps a session or a signer locked".into())
}

async fn answers(
    answered: oneshot::Receiver<Vec<Answered>>,
) -> Result<Vec<Answered>, ServiceError> {
    answered.await.map_err(|_| StoreError::OutcomeUnknown("the batch was abandoned".into()).into())
}
