//! `onceguard records`: moves the sealed records of one DID to another database. They stay sealed.

mod export;
mod import;
mod line;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;

use super::{Failure, database};
use crate::config::Config;
use crate::domain::Did;
use crate::metrics::Metrics;
use crate::services;

#[derive(Debug, Subcommand)]
pub(super) enum Records {
    /// Write all records of a DID into a file
    #[command(
        after_help = "Ciphertexts stay as their owner made them; metadata is readable. It may \
        run beside serving instances.\n\n\
        Example:\n  onceguard records export --did did:web:agent.example --out agent.records"
    )]
    Export {
        /// Whose records
        #[arg(long, value_parser = parse_did)]
        did: Did,
        /// The file to make; it must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the records of such a file into the database, under a DID
    #[command(
        after_help = "The file is checked as a whole first. Records that are there already, \
        with the same checksum, are left as they are; so the command can be repeated when it was \
        interrupted. A record that is there with another checksum is never overwritten.\n\n\
        Example:\n  onceguard records import --did did:web:agent.example agent.records"
    )]
    Import {
        /// Whose records; it must be the DID of the file
        #[arg(long, value_parser = parse_did)]
        did: Did,
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Records {
    pub(super) async fn run(self, config: Config) -> Result<(), Failure> {
        let store = database::open_migrated(&config).await?;
        let metrics = Arc::new(Metrics::new()?);
        let records = services::Records::new(store.clone(), &config.records, metrics);
        let done = match self {
            Self::Export { did, out, json } => export::run(&records, &did, &out, json).await,
            Self::Import { did, file, json } => import::run(&records, &did, &file, json).await,
        };
        store.close().await;
        done
    }
}

fn parse_did(text: &str) -> Result<Did, String> {
    Did::parse(text).map_err(|error| error.to_string())
}
