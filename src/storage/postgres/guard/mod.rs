//! The guard at the door of each connection: no connection is used before it is known that the
//! database behind it is the one that this instance served before, with everything that it had.
//! A database that lacks something was cut. The guard recovers it, or waits for an operator who does.
//!
//! It never lets a connection decide that it has not checked: `mark_commit()`, which every
//! transaction that decides calls, fails there. `docs/cuts.md` says why that is enough.

mod known;
mod repair;
mod seen;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use uuid::Uuid;

pub(super) use self::known::ConnectionMark;
use self::known::{Known, LastAcknowledged, Remembered};
pub(super) use self::repair::ADOPT;
use self::seen::{Seen, look};
use super::connection::connect::ConnectError;
use crate::config::{OnCut, Replication};
use crate::domain::Timestamp;
use crate::metrics::Metrics;
use crate::storage::{Joining, StoreError};

/// How often a connection is looked at again after the database was put right.
const LOOKS: usize = 5;
/// Operations of a database that was cut: those that tell its state, and those that revoke, with what
/// they need to know who asks.
const EVEN_IF_CUT: [&str; 14] = [
    "departure",
    "did",
    "end_sessions_of_revoked",
    "history",
    "lease",
    "list_tokens",
    "migrations",
    "now",
    "raise_skew",
    "revoke_did",
    "revoke_token",
    "serving",
    "token_used",
    "tokens",
];
/// How a connection may be used.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// Counts what it decides; `None` for connections that decide nothing.
    pub(super) mark: Option<Arc<ConnectionMark>>,
    /// Behind it is a database that was cut.
    pub(super) cut: bool,
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(mark) = &self.mark {
            mark.close();
        }
    }
}

/// What is to be done before a connection may be used.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Nothing,
    /// Another connection put it right meanwhile.
    LookAgain,
    /// The database was recovered, and the recovery covers what this instance remembers.
    Take,
    /// It is on its server for the first time, or nothing was lost by a promotion.
    Adopt,
    Recover(String),
    /// This is not the database that the instance served: nothing helps but another server.
    Refuse(String),
}

/// Why the database is not served.
#[derive(Debug, Clone)]
struct Halt {
    why: String,
    /// Whether it may be read and revoked in.
    is_ours: bool,
}

pub(super) struct Guard {
    joining: Joining,
    known: Mutex<Known>,
    halt: Mutex<Option<Halt>>,
    /// One connection puts the database right, and the others wait for it.
    turn: tokio::sync::Mutex<()>,
    last: LastAcknowledged,
    /// Counts the servers that are not used any more, for the pools.
    server: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

impl Guard {
    /// Looks at the database as it is found at the start.
    pub(super) async fn new(
        c: &mut AsyncPgConnection,
        joining: Joining,
        server: Arc<AtomicU64>,
        metrics: Arc<Metrics>,
    ) -> QueryResult<Self> {
        let seen = look(c, &Remembered::default()).await?;
        let known = Mutex::new(Known::of(&seen, joining.known_until));
        let (halt, turn, last) =
            (Mutex::default(), tokio::sync::Mutex::default(), LastAcknowledged::new());
        Ok(Self { joining, known, halt, turn, last, server, metrics })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) const fn joining(&self) -> &Joining {
        &self.joining
    }

    pub(super) fn recovered_at(&self) -> Option<Timestamp> {
        self.known().recovered_at
    }

    /// Something was acknowledged on the connection of this mark.
    pub(super) fn acknowledge(&self, mark: &ConnectionMark) {
        mark.acknowledge();
        self.last.note();
    }

    /// A time that the database's clock had not passed when something was last acknowledged.
    fn until(&self) -> Timestamp {
        self.known().until(self.last.at())
    }

    /// The closed connections that the heartbeat that is sent now stands for.
    pub(super) fn begin_heartbeat(&self) -> Vec<Uuid> {
        self.known().closed()
    }

    /// That heartbeat is acknowledged.
    pub(super) fn end_heartbeat(
        &self,
        generation: Uuid,
        at: Timestamp,
        sent: Instant,
        heartbeats: HashMap<Uuid, i64>,
        closed: &[Uuid],
    ) {
        let mut known = self.known();
        // Of another generation it says nothing about this one.
        if known.generation == generation {
            known.acknowledge(at, sent, heartbeats, closed);
        }
    }

    /// Lets an operation pass, unless the database must not be used now.
    pub(super) fn let_pass(&self, operation: &str) -> Result<(), StoreError> {
        let halt = self.halt.lock().unwrap_or_else(PoisonError::into_inner);
        match &*halt {
            Some(Halt { why, is_ours }) if !is_ours || !is_allowed_if_cut(operation) => {
                Err(StoreError::WentBack(why.clone()))
            }
            _ => Ok(()),
        }
    }

    /// What may be told of why the database is not served.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        let halt = self.halt.lock().unwrap_or_else(PoisonError::into_inner);
        halt.as_ref().map(|halt| ConnectError::went_back(&halt.why).refusal())?
    }

    fn halt(&self, why: &str, is_ours: bool) {
        let mut halt = self.halt.lock().unwrap_or_else(PoisonError::into_inner);
        if halt.as_ref().is_none_or(|halt| halt.why != why) {
            tracing::error!(why, "the database is not served");
            self.metrics.went_back.set(1);
            self.server.fetch_add(1, Ordering::Relaxed);
        }
        *halt = Some(Halt { why: why.to_owned(), is_ours });
    }

    fn go_on(&self) {
        let halted = self.halt.lock().unwrap_or_else(PoisonError::into_inner).take();
        if halted.is_some() {
            tracing::info!("the database is served again");
            self.metrics.went_back.set(0);
            self.server.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Checks a connection before it is used. If the database was cut, recovers it first, or says
    /// so.
    pub(super) async fn admit(
        &self,
        c: &mut AsyncPgConnection,
        decides: bool,
    ) -> Result<Admission, ConnectError> {
        for _ in 0..LOOKS {
            let remembered = self.known().remembered();
            let seen = look(c, &remembered).await.map_err(unchecked)?;
            match self.judge(&seen, &remembered) {
                Verdict::Nothing => {
                    let mark = self.remember(&seen, decides);
                    let admission = Admission { mark, cut: false };
                    let mark = admission.mark.as_deref();
                    check(c, seen.generation, mark).await.map_err(unchecked)?;
                    self.go_on();
                    return Ok(admission);
                }
                Verdict::LookAgain => {}
                Verdict::Take => self.take(&seen),
                Verdict::Adopt => {
                    let _turn = self.turn.lock().await;
                    self.adopt(c, &seen).await.map_err(unchecked)?;
                }
                Verdict::Recover(why) if self.joining.on_cut == OnCut::Recover => {
                    let _turn = self.turn.lock().await;
                    self.recover(c, &seen, &why).await.map_err(unchecked)?;
                }
                Verdict::Recover(why) => {
                    self.halt(&format!("{why}: run `onceguard recover`"), true);
                    return Ok(Admission { mark: None, cut: true });
                }
                Verdict::Refuse(why) => {
                    self.halt(&why, false);
                    return Err(ConnectError::went_back(&why));
                }
            }
        }
        Err(ConnectError::passing("the database is being recovered"))
    }

    fn judge(&self, seen: &Seen, remembered: &Remembered) -> Verdict {
        let (here, until) = (seen.here(), self.until());
        let known = self.known();
        // Of another generation it is covered, and not missing.
        if remembered.generation != known.generation {
            return Verdict::LookAgain;
        }
        if seen.generation != known.generation {
            if !seen.ancestors.contains(&known.generation) {
                return Verdict::Refuse(format!(
                    "its generation {} does not follow {}, which this instance has served: it is \
                     an earlier state or another database; is an old primary back?",
                    seen.generation, known.generation
                ));
            }
            if let Some(why) = self.misplaced(seen) {
                return Verdict::Recover(why);
            }
            let skew = Duration::from_secs(u64::try_from(seen.skew_seconds).unwrap_or(0));
            let covered = seen.not_before.is_some_and(|not_before| not_before >= until + skew);
            return if covered {
                Verdict::Take
            } else {
                Verdict::Recover("it was recovered before this instance last wrote to it".into())
            };
        }
        // A promotion without a loss makes no generation: then the timeline tells.
        if let Some(before) = known.server
            && before.was_promoted_from(here)
        {
            return Verdict::Refuse(format!(
                "its timeline is {}, and this instance has served it on {}: an old primary is back",
                here.timeline, before.timeline
            ));
        }
        let lost = (seen.lost > 0).then(|| {
            "it lacks commits that were acknowledged: it was put back to an earlier state"
                .to_owned()
        });
        match lost.or_else(|| self.misplaced(seen)) {
            Some(why) => Verdict::Recover(why),
            None if seen.recorded() == Some(here) => Verdict::Nothing,
            None => Verdict::Adopt,
        }
    }

    /// Why the server may lack commits, though what this instance remembers is there.
    fn misplaced(&self, seen: &Seen) -> Option<String> {
        let promoted = seen.recorded().is_some_and(|before| seen.here().was_promoted_from(before));
        let keeps_all = self.joining.replication == Replication::Synchronous;
        if promoted && keeps_all { None } else { elsewhere(seen) }
    }

    /// The connection fits. It is remembered where the database is.
    fn remember(&self, seen: &Seen, decides: bool) -> Option<Arc<ConnectionMark>> {
        let mut known = self.known();
        known.server = Some(seen.here());
        // Recovered meanwhile: the connection will fail its first `mark_commit()`.
        (decides && known.generation == seen.generation).then(|| known.open_connection())
    }
}

/// Whether this operation may run in a database that was cut.
pub(super) fn is_allowed_if_cut(operation: &str) -> bool {
    EVEN_IF_CUT.contains(&operation)
}

/// Why the server is not the one that the database's history names.
fn elsewhere(seen: &Seen) -> Option<String> {
    let (recorded, here) = (seen.recorded()?, seen.here());
    if recorded == here {
        None
    } else if here.was_promoted_from(recorded) {
        let (to, from) = (here.timeline, recorded.timeline);
        Some(format!(
            "its server was promoted (from timeline {from} to {to}), and may lack commits"
        ))
    } else {
        Some("it is a copy of the database that was served".to_owned())
    }
}

/// For a connection of a command, which no instance's memory is compared with. Only the server is.
pub(super) async fn check_server(c: &mut AsyncPgConnection) -> QueryResult<Admission> {
    if !seen::is_present(c).await? {
        return Ok(Admission::default());
    }
    let seen = look(c, &Remembered::default()).await?;
    let cut = elsewhere(&seen).is_some();
    if !cut {
        check(c, seen.generation, None).await?;
    }
    Ok(Admission { mark: None, cut })
}

/// Marks the connection as checked, for `mark_commit()`.
async fn check(
    c: &mut AsyncPgConnection,
    generation: Uuid,
    mark: Option<&ConnectionMark>,
) -> QueryResult<()> {
    let mut set = format!("SET onceguard.checked = '{generation}'");
    if let Some(mark) = mark {
        set += &format!("; SET onceguard.mark = '{}'", mark.id);
    }
    c.batch_execute(&set).await
}

#[allow(clippy::needless_pass_by_value, reason = "it maps errors")]
fn unchecked(error: diesel::result::Error) -> ConnectError {
    ConnectError::passing(format!("the connection could not be checked: {error}"))
}
