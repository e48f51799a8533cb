//! `onceguard recover`: makes a database safe to use that was put back to an earlier state.

use std::path::{Path, PathBuf};

use chrono::Duration;
use clap::Args;
use serde_json::json;

use super::{Failure, database, format, out};
use crate::clock::{Clock, TOLERANCE};
use crate::config::Config;
use crate::domain::{Actor, Did, Timestamp};
use crate::jobs::heartbeat;
use crate::services::{self, JOURNAL_FILE};
use crate::storage::{Act, Recovered, Recovery, Remembered, Store};

/// The most stored keys that are named.
pub(super) const MAX_KEYS: u32 = 1000;

#[derive(Debug, Args)]
#[command(
    after_help = "Run it after every restore by another tool, before an instance serves: pg_restore, \
    point-in-time recovery, a copied file, a snapshot, or a fail-over that lost commits. No instance \
    may serve meanwhile. What was revoked since the copy is revoked again, as far as the journal of the \
    data folder knows. docs/recovery.md says what it costs.\n\n\
    --nothing-lost is for a database that was moved or upgraded after every instance had stopped, and \
    has everything: it ends no session. If anything was lost, what was lost can be accepted again.\n\n\
    --clock-was-ahead is for a database whose clock was ahead, and is right now: with the times of \
    then, claims are refused until the clock comes there.\n\n\
    Examples:\n  onceguard recover\n  onceguard recover --nothing-lost\n  \
    onceguard recover --yes --json\n  \
    onceguard recover --revocations /var/lib/other-instance/revocations"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Recover {
    /// Take the database as it is: it was moved or upgraded, and has everything
    #[arg(long, conflicts_with = "revocations")]
    nothing_lost: bool,
    /// Do not take times for true that the database's clock had when it was ahead. It must be right
    /// now
    #[arg(long, conflicts_with = "nothing_lost")]
    clock_was_ahead: bool,
    /// Also revoke again what this file names: the journal (DATA_DIR/revocations) of another
    /// instance, or events of the log, one as JSON a line
    #[arg(long, value_name = "FILE")]
    revocations: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Recover {
    pub(super) async fn run(self, config: Config) -> Result<(), Failure> {
        database::must_exist(&config)?;
        let _lock = database::lock(&config)?;
        let remembered = remembered(&config, self.revocations.as_deref())?;
        let store = database::open_migrated(&config).await?;
        if self.nothing_lost {
            let done = adopt(&store, &config, self.yes).await;
            store.close().await;
            done?;
            let adopted = json!({ "nothing_lost": true });
            return if self.json { out::json(&adopted) } else { Ok(()) };
        }
        let done = self.recover(&store, &config, remembered).await;
        store.close().await;
        let (recovered, keys) = done?;
        if self.json { print_json(&recovered, &keys) } else { print(&recovered, &keys) }
    }

    /// What was done, and the DIDs whose keys an operator must look at.
    async fn recover(
        &self,
        store: &Store,
        config: &Config,
        remembered: Vec<Remembered>,
    ) -> Result<(Recovered, Vec<Did>), Failure> {
        database::nobody_serves(store, "nothing was recovered").await?;
        if self.clock_was_ahead {
            clock_is_right(store).await?;
        }
        let question = if self.clock_was_ahead {
            "This ends every open session of the database, and has it refuse messages that were \
             issued before now, or that do not say when they were issued. Do it after the clock was \
             ahead, and is right again, and only then."
        } else {
            "This ends every open session of the database, and has it refuse messages that were \
             issued before now. Do it after the database was put back to an earlier state, and only \
             then."
        };
        out::confirm(question, self.yes)?;
        let skew = config.signatures.skew().to_std().unwrap_or_default();
        let (now, Known { latest, issued_until }) = (Clock::system().now(), Known::of(config));
        let (now, clock_was_at) =
            if self.clock_was_ahead { (now, Some(latest)) } else { (latest, None) };
        let actor = Actor::Operator;
        let recovery = Recovery { skew, now, issued_until, clock_was_at, actor, remembered };
        let recovered = store.recover(recovery).await?;
        heartbeat::forget(config)?;
        let keys = store.stored_keys(MAX_KEYS).await?;
        Ok((recovered, keys))
    }
}

/// What this machine knows of the times of the lost database, whose clock may have been ahead.
pub(super) struct Known {
    /// The latest time: by this machine's clock, or by the database's when it last answered.
    pub(super) latest: Timestamp,
    /// The latest time that an accepted message states as its own.
    pub(super) issued_until: Option<Timestamp>,
}

impl Known {
    pub(super) fn of(config: &Config) -> Self {
        let mark = heartbeat::remembered(config).unwrap_or_else(|unreadable| {
            out::note(format!("warning: {unreadable}"));
            None
        });
        let now = Clock::system().now();
        let latest = mark.as_ref().map_or(now, |mark| mark.at.max(now));
        Self { latest, issued_until: mark.and_then(|mark| mark.issued_until) }
    }
}

/// Refuses while the database's clock and this machine's differ: one of them is not right yet.
async fn clock_is_right(store: &Store) -> Result<(), Failure> {
    refuse_apart(store.now().await? - Clock::system().now())
}

fn refuse_apart(apart: Duration) -> Result<(), Failure> {
    if apart.abs() <= TOLERANCE {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "nothing was recovered: the database's clock is {} s from this machine's; set both right, by \
         NTP, and run this again",
        apart.num_seconds()
    )))
}

/// Takes the database as it is, where it is.
async fn adopt(store: &Store, config: &Config, yes: bool) -> Result<(), Failure> {
    database::nobody_serves(store, "nothing was changed").await?;
    let question = "This takes the database as it is. If it lacks anything that was committed, what \
                    it lacks can be accepted again. Do it after a move or an upgrade that followed a \
                    clean stop, and only then.";
    out::confirm(question, yes)?;
    store.adopt(Actor::Operator).await?;
    heartbeat::forget(config)?;
    out::note("The database is taken as it is. Nothing ended.");
    Ok(())
}

/// What is remembered outside of the database, in the data folder's journal and in this file.
pub(super) fn remembered(config: &Config, more: Option<&Path>) -> Result<Vec<Remembered>, Failure> {
    let journal = config.data_dir.join(JOURNAL_FILE);
    let (mut all, unreadable) = services::remembered(&config.data_dir).map_err(|error| {
        Failure::Failed(format!(
            "{}: {error}; it has what was revoked, so mend it, or move it away if you must",
            journal.display()
        ))
    })?;
    if unreadable > 0 {
        out::note(format!(
            "warning: {unreadable} lines of {} cannot be read, and do not count",
            journal.display()
        ));
    }
    if let Some(file) = more {
        let failed =
            |error: &dyn std::fmt::Display| Failure::Failed(format!("{}: {error}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
        all.extend(services::read_events(&text).map_err(|error| failed(&error))?);
        all.sort_by_key(|entry| entry.at);
    }
    Ok(all)
}

fn print_json(recovered: &Recovered, keys: &[Did]) -> Result<(), Failure> {
    out::json(&json!({
        "generation": recovered.generation,
        "ancestor": recovered.ancestor,
        "recovered_at": format::time(recovered.at),
        "not_before": format::time(recovered.not_before),
        "ahead_until": recovered.ahead_until.map(format::time),
        "sessions_ended": recovered.sessions_ended,
        "dids_stale": recovered.dids_stale,
        "leases_released": recovered.leases_released,
        "done_again": words(&recovered.done_again),
        "stored_keys": keys.iter().map(Did::as_str).collect::<Vec<_>>(),
    }))
}

fn print(recovered: &Recovered, keys: &[Did]) -> Result<(), Failure> {
    let mut rows = vec![
        ("generation", recovered.generation.to_string()),
        ("the one before", recovered.ancestor.to_string()),
        ("messages are refused that were issued up to", format::time(recovered.not_before)),
        ("sessions ended", recovered.sessions_ended.to_string()),
        ("cached DIDs to be read anew", recovered.dids_stale.to_string()),
        ("jobs released", recovered.leases_released.to_string()),
    ];
    if let Some(until) = recovered.ahead_until {
        let what = "messages may be of before that do not say when they were issued, up to";
        rows.push((what, format::time(until)));
    }
    let rows: Vec<_> = rows.into_iter().map(|(what, now)| [what.to_owned(), now]).collect();
    out::table(["WHAT", "NOW"], &rows)?;
    print_what_is_left(&recovered.done_again, keys)
}

pub(super) fn words(done_again: &[Act]) -> Vec<String> {
    done_again.iter().map(ToString::to_string).collect()
}

/// What was revoked again, and what only the operator can do after a recovery.
pub(super) fn print_what_is_left(done_again: &[Act], keys: &[Did]) -> Result<(), Failure> {
    if !done_again.is_empty() {
        out::note("The database had forgotten these, and knows them again:");
        for act in words(done_again) {
            out::line(format!("again: {act}"))?;
        }
    }
    out::note(
        "Revoke again the DIDs and the tokens that were revoked since the copy was made, and that \
         this data folder did not hear of: the database has forgotten that.",
    );
    if !keys.is_empty() {
        out::note(
            "These DIDs have keys that were stored by hand. Their keys have no home to be read \
             from: store again those that were replaced since the copy was made.",
        );
        for did in keys {
            out::line(did.as_str())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_still_wrong_is_not_taken_for_right() {
        for (seconds, right) in [(0, true), (59, true), (-59, true), (61, false), (-61, false)] {
            assert_eq!(refuse_apart(Duration::seconds(seconds)).is_ok(), right, "{seconds}");
        }
    }
}
