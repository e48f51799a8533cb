//! `onceguard purge`: runs now the purge that the service runs every few minutes.

use clap::Args;
use serde_json::json;

use super::{Failure, database, health, out};
use crate::clock::{BELIEVED_AFTER, Clock};
use crate::config::Config;
use crate::domain::Actor;
use crate::jobs::{LeaseKeeper, purge};
use crate::metrics::Metrics;
use crate::storage::{Purged, Store};

#[derive(Debug, Args)]
#[command(after_help = "It runs beside serving instances, in small batches that leave room for \
    claims (jobs.purge_batch, jobs.purge_pause_milliseconds).\n\n\
    Examples:\n  onceguard purge --dry-run\n  onceguard purge --json")]
pub(super) struct Purge {
    /// Only count what the purge would end and remove
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Purge {
    pub(super) async fn run(self, config: Config) -> Result<(), Failure> {
        let store = database::open_migrated(&config).await?;
        let limits = purge::Limits::new(&config);
        let purged = if self.dry_run {
            store.purge_preview(&limits.steps()).await.map_err(Failure::from)
        } else {
            purge_now(&store, &config, &limits).await
        };
        store.close().await;
        self.print(purged?)
    }

    fn print(&self, purged: Purged) -> Result<(), Failure> {
        let counts = [
            ("sessions_expired", "sessions expired", purged.sessions_expired),
            ("sessions_idle", "sessions idled", purged.sessions_idle),
            ("sessions_deleted", "ended sessions deleted", purged.sessions_deleted),
            ("session_nonces_deleted", "nonces of sessions deleted", purged.session_nonces_deleted),
            ("signer_nonces_deleted", "nonces of signers deleted", purged.signer_nonces_deleted),
            ("events_deleted", "events deleted", purged.events_deleted),
            ("events_emptied", "events of callers emptied", purged.events_emptied),
            ("dids_deleted", "unused DIDs deleted", purged.dids_deleted),
            ("records_expired", "records expired", purged.records_expired),
            ("tombstones_deleted", "tombstones of records deleted", purged.tombstones_deleted),
            ("erased_rows_deleted", "rows of erased records deleted", purged.erased_rows_deleted),
            (
                "publications_forgotten",
                "calls that published events forgotten",
                purged.publications_forgotten,
            ),
            ("deliveries_deleted", "deliveries to webhooks deleted", purged.deliveries_deleted),
        ];
        if self.json {
            let mut object = json!({ "dry_run": self.dry_run });
            for (name, _, count) in counts {
                object.as_object_mut().map(|fields| fields.insert(name.to_owned(), count.into()));
            }
            return out::json(&object);
        }
        if self.dry_run {
            out::note("nothing was changed; a purge would now find");
        }
        let rows = counts.map(|(_, what, count)| [what.to_owned(), count.to_string()]);
        out::table(["WHAT", "ROWS"], &rows)
    }
}

async fn purge_now(
    store: &Store,
    config: &Config,
    limits: &purge::Limits,
) -> Result<Purged, Failure> {
    // This process has only just started. A serving instance saw whether the clock jumped.
    if let Ok(instance) = health::ask(config)
        && let Some(seconds) = instance.clock_jump_seconds()
    {
        return Err(Failure::Refused(format!(
            "nothing was purged: the running instance saw the machine's clock jump by {seconds} s; \
             set the clock right, or wait until it has kept its new time for {} minutes",
            BELIEVED_AFTER.num_minutes()
        )));
    }
    let metrics = Metrics::new()?;
    let holder = format!("command-{}", uuid::Uuid::now_v7());
    let Some(mut keeper) = LeaseKeeper::take(store, purge::NAME, holder).await? else {
        return Err(Failure::Refused(
            "an instance is purging now; try again when it has finished".to_owned(),
        ));
    };
    let (clock, actor) = (Clock::system(), Actor::Operator);
    let purged = purge::run(store, &metrics, &clock, limits, actor, &mut keeper).await;
    let released = keeper.release(purged.is_ok()).await;
    let purged = purged?;
    released?;
    Ok(purged)
}
