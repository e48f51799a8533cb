//! The command line: one file per command. Results go to standard output, everything else to
//! standard error. Commands that delete data ask first. A secret is printed only by the command
//! that makes it.

mod archive_rows;
mod audit;
mod backup;
mod command;
mod config;
mod curl;
mod database;
mod doctor;
mod failure;
mod format;
mod health;
mod instances;
mod key;
mod migrate;
mod out;
mod profile;
mod progress;
mod purge;
mod quiet;
mod records;
mod recover;
mod restore;
mod sealing;
mod seed;
mod serve;
mod sign;
mod stats;
mod token;
mod transfer;
mod verify;
mod webhooks;

pub use command::{Cli, run};
pub use failure::Failure;
use quiet::quiet;
