//! `onceguard audit`: reads the log of events (the audit trail, and what callers published), and checks
//! it.

mod export;
mod follow;
mod list;
mod log;
mod verify;

use std::sync::Arc;

use clap::Subcommand;

use self::log::Log;
use super::{Failure, database, quiet};
use crate::config::{Need, Sources};
use crate::metrics::Metrics;
use crate::services::Events;

#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// List events, in the order of the log
    #[command(after_help = "Example:\n  \
        onceguard audit list --type onceguard.did.revoked --from 2026-11-20T00:00:00Z")]
    List(list::List),
    /// Print events as they come, until it is stopped
    #[command(after_help = "It begins with what comes next, unless --since says where.\n\n\
        Example:\n  onceguard audit follow --type onceguard.claim.replayed")]
    Follow(follow::Follow),
    /// Print events for other programs: one line of CloudEvents 1.0 JSON for each
    #[command(after_help = "Example:\n  onceguard audit export > events.ndjson")]
    Export(export::Export),
    /// Check that no event was changed, removed, inserted, moved or cut off
    #[command(
        after_help = "Walks along the whole log, and compares it with the signed heads of the \
        database and of DATA_DIR/audit-heads. Exits with 1 if anything is not as it was written, \
        and names it.\n\n\
        Heads that were copied to another machine show more: who could change the database and this \
        data folder cannot have changed them.\n\n\
        Example:\n  onceguard audit verify --heads /mnt/elsewhere/audit-heads"
    )]
    Verify(verify::Verify),
}

impl Audit {
    pub(super) async fn run(self, sources: &Sources) -> Result<(), Failure> {
        match self {
            Self::List(command) => read(sources, async |log| command.run(log).await).await,
            Self::Follow(command) => read(sources, async |log| command.run(log).await).await,
            Self::Export(command) => read(sources, async |log| command.run(log).await).await,
            Self::Verify(command) => command.run(&quiet(sources, Need::Everything)?).await,
        }
    }
}

/// Opens the log for a command that only reads it.
async fn read(
    sources: &Sources,
    command: impl AsyncFnOnce(&Log) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let config = quiet(sources, Need::Database)?;
    let store = database::open_complete(&config).await?;
    let metrics = Arc::new(Metrics::new()?);
    let done = command(&Log(Events::new(store.clone(), &config.events, metrics))).await;
    store.close().await;
    done
}
