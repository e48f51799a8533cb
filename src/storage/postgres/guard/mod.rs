//! The guard at the door of each connection: no connection is used before it is known that the
//! database behind it is the one that this instance served before, with everything that it had.
//! A database that lacks something was cut. The guard recovers it, or waits for an operator who does.
//!
//! It never lets a connection decide that it has not checked: `mark_commit()`, which every
//! transaction that decides calls, fails there. `docs/cuts.md` says why that is enough.

mod heartbeat;
mod judge;
mod kept;
mod known;
mod remembered;
mod repair;
mod seen;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diesel::QueryResult;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use self::judge::{Acknowledged, Verdict, elsewhere, judge};
use self::kept::Kept;
use self::known::{Beat, ConnectionMark, Heartbeat, Known, LastAcknowledged};
use self::remembered::Remembered;
pub(super) use self::repair::ADOPT;
pub(super) use self::seen::here;
use self::seen::{Seen, is_present, look};
use super::arriving::arriving;
use super::connection::failure::{ConnectError, SETUP_TIMEOUT};
use super::connection::operation::Operation;
use super::grants::lacking;
use crate::config::OnCut;
use crate::domain::Timestamp;
use crate::metrics::Metrics;
use crate::storage::marks::{LatestIssue, Stage};
use crate::storage::{Joining, Mark, StoreError};

/// How often a connection looks before it gives up: another one may be putting the database right.
const LOOKS: usize = 50;
/// The wait before it looks again for that reason.
const WAIT: Duration = Duration::from_millis(100);

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

/// Why the database is not served.
#[derive(Debug, Clone)]
struct Halt {
    why: String,
    /// Whether it may be read and revoked in.
    is_ours: bool,
}

pub(super) struct Guard {
    instance: Uuid,
    joining: Joining,
    known: Mutex<Known>,
    halt: Mutex<Option<Halt>>,
    last: LastAcknowledged,
    latest_issue: Arc<LatestIssue>,
    kept: Mutex<Kept>,
    /// Counts the servers that are not used any more, for the pools.
    server: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

impl Guard {
    /// Looks at the database as it is found at the start.
    pub(super) async fn new(
        c: &mut AsyncPgConnection,
        instance: Uuid,
        joining: Joining,
        latest_issue: Arc<LatestIssue>,
        server: Arc<AtomicU64>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ConnectError> {
        let seen = seen_by(c, &Remembered::default()).await?;
        let known = Mutex::new(Known::of(&seen, joining.known_until));
        let (halt, last) = (Mutex::default(), LastAcknowledged::new());
        let kept = Mutex::new(Kept::none(seen.generation, seen.here()));
        Ok(Self { instance, joining, known, halt, last, latest_issue, kept, server, metrics })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest time that an accepted message states as its own.
    fn issued_until(&self) -> Option<Timestamp> {
        self.latest_issue.get()
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

    /// The heartbeat that is sent now.
    pub(super) fn begin_heartbeat(&self) -> Heartbeat {
        self.known().begin_heartbeat()
    }

    /// Sends it, and returns what is to be remembered once it is acknowledged.
    pub(super) async fn beat(
        &self,
        c: &mut AsyncPgConnection,
        heartbeat: &Heartbeat,
        stage: Stage,
    ) -> QueryResult<(Mark, Beat)> {
        let issued_until = self.issued_until();
        heartbeat::send(c, self.instance, &self.joining, issued_until, heartbeat, stage).await
    }

    /// It is acknowledged.
    pub(super) fn end_heartbeat(&self, heartbeat: &Heartbeat, beat: Beat) {
        self.known().end_heartbeat(heartbeat, beat);
    }

    /// Keeps a mark outside of the database, unless it is of a generation that is over.
    pub(super) fn keep(&self, mark: &Mark) {
        let mut kept = self.kept();
        if self.known().generation == mark.generation && kept.yields_to(mark) {
            self.joining.marks.keep(mark);
        }
    }

    /// Sees that the mark outside of the database is of this generation and this server, before
    /// anything is decided there: an instance that is killed right then must know at its next start
    /// what an old primary lacks. `false` if there is another generation meanwhile.
    async fn keep_place(
        &self,
        c: &mut AsyncPgConnection,
        seen: &Seen,
    ) -> Result<bool, ConnectError> {
        let is_kept = || self.kept().is_of(seen.generation, seen.here());
        if !is_kept() {
            let heartbeat = self.begin_heartbeat();
            let (mark, answer) = in_time(self.beat(c, &heartbeat, Stage::Serving)).await?;
            self.end_heartbeat(&heartbeat, answer);
            self.keep(&mark);
        }
        Ok(is_kept())
    }

    /// Refuses an operation while the database is not served, unless it may run even then.
    pub(super) fn let_pass(&self, operation: Operation) -> Result<(), StoreError> {
        let halt = self.halt.lock().unwrap_or_else(PoisonError::into_inner);
        match &*halt {
            Some(Halt { why, is_ours }) if !is_ours || !operation.even_if_cut => {
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
    /// so. Only a recovery may take long.
    pub(super) async fn admit(
        &self,
        c: &mut AsyncPgConnection,
        decides: bool,
    ) -> Result<Admission, ConnectError> {
        for _ in 0..LOOKS {
            let remembered = self.known().remembered();
            let seen = seen_by(c, &remembered).await?;
            let (verdict, mark) = self.judge(&seen, &remembered, decides);
            let done = match verdict {
                Verdict::Nothing => {
                    let admission = Admission { mark, cut: false };
                    if self.keep_place(c, &seen).await? {
                        let mark = admission.mark.as_deref();
                        in_time(check(c, seen.generation, mark)).await?;
                        self.go_on();
                        return Ok(admission);
                    }
                    false
                }
                Verdict::LookAgain => false,
                Verdict::Take => {
                    self.take(&seen, &remembered);
                    true
                }
                Verdict::Adopt => in_time(self.adopt(c)).await?,
                Verdict::Recover(_) if self.joining.on_cut == OnCut::Recover => {
                    self.recover(c).await.map_err(|error| unchecked(&error))?
                }
                Verdict::Recover(why) => {
                    self.halt(&format!("{why}: run `onceguard recover`"), true);
                    return Ok(Admission { mark: None, cut: true });
                }
                Verdict::Refuse(why) => {
                    self.halt(&why, false);
                    return Err(ConnectError::went_back(&why));
                }
            };
            if !done {
                sleep(WAIT).await;
            }
        }
        Err(ConnectError::passing("the database is being recovered"))
    }

    /// Judges what was seen, and opens the connection if nothing is to be done.
    fn judge(
        &self,
        seen: &Seen,
        remembered: &Remembered,
        decides: bool,
    ) -> (Verdict, Option<Arc<ConnectionMark>>) {
        let mut known = self.known();
        let acknowledged =
            Acknowledged { until: known.until(self.last.at()), issued: self.latest_issue.get() };
        let verdict = judge(seen, remembered, &known, acknowledged, self.joining.replication);
        if verdict != Verdict::Nothing {
            return (verdict, None);
        }
        known.server = Some(seen.here());
        (verdict, decides.then(|| known.open_connection()))
    }
}

/// For a connection of a command, which no instance's memory is compared with. Only the server is.
pub(super) async fn check_server(c: &mut AsyncPgConnection) -> Result<Admission, ConnectError> {
    if !in_time(is_present(c)).await? {
        return Ok(Admission::default());
    }
    let seen = seen_by(c, &Remembered::default()).await?;
    let cut = elsewhere(&seen).is_some();
    if !cut {
        in_time(check(c, seen.generation, None)).await?;
    }
    Ok(Admission { mark: None, cut })
}

/// For the connection of a transfer, which alone may use a database that is being filled.
pub(super) async fn check_target(c: &mut AsyncPgConnection) -> Result<Admission, ConnectError> {
    match in_time(arriving(c)).await? {
        Some(_) => Ok(Admission::default()),
        None => check_server(c).await,
    }
}

/// What the connection finds. Says so if it may not even look, or if a transfer has not ended.
async fn seen_by(c: &mut AsyncPgConnection, remembered: &Remembered) -> Result<Seen, ConnectError> {
    let error = match in_time(look(c, remembered)).await {
        Ok(seen) => return Ok(seen),
        Err(error) => error,
    };
    if let Ok(Some(arriving)) = in_time(arriving(c)).await {
        return Err(ConnectError::arriving(&arriving));
    }
    match in_time(lacking(c)).await {
        Ok(Some(lacking)) => Err(ConnectError::unsuitable(&lacking)),
        Ok(None) | Err(_) => Err(error),
    }
}

/// A part of a check. A server or a network that fell silent must not hold it.
async fn in_time<T>(part: impl Future<Output = QueryResult<T>>) -> Result<T, ConnectError> {
    let Ok(result) = timeout(SETUP_TIMEOUT, part).await else {
        let seconds = SETUP_TIMEOUT.as_secs();
        return Err(ConnectError::passing(format!(
            "the connection could not be checked: no answer within {seconds} s: is the network \
             silent, or the server, or its synchronous standby?"
        )));
    };
    result.map_err(|error| unchecked(&error))
}

/// Marks the connection as checked, for `mark_commit()`.
async fn check(
    c: &mut AsyncPgConnection,
    generation: Uuid,
    mark: Option<&ConnectionMark>,
) -> QueryResult<()> {
    let mark = mark.map(|mark| format!("; SET onceguard.mark = '{}'", mark.id)).unwrap_or_default();
    let set = format!("SET onceguard.checked = '{generation}'{mark}");
    c.batch_execute(&set).await
}

fn unchecked(error: &diesel::result::Error) -> ConnectError {
    ConnectError::passing(format!("the connection could not be checked: {error}"))
}
