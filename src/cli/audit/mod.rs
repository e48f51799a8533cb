//! `onceguard audit`: the log of events, on the machine.

mod verify;

use clap::Subcommand;

use super::{Failure, quiet};
use crate::config::{Need, Sources};

#[derive(Debug, Subcommand)]
pub(super) enum Audit {
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
            Self::Verify(verify) => {
                let config = quiet(sources, Need::Everything)?;
                verify.run(&config).await
            }
        }
    }
}
