//! Measures onceguard beside what people would use instead: the same work, over the same
//! connections, with the same load generator. `make bench`, `make bench-scale` and `make
//! bench-overload` run it.
//!
//! Everything listens on 127.0.0.1, keeps its data in one folder that is removed at the end, and
//! shares the machine with everything else. So compare only ratios between rows with other
//! machines.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unchecked_time_subtraction,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a benchmark"
)]

mod bare;
mod bench;
mod compare;
mod course;
mod figures;
mod load;
mod machine;
mod naive;
mod onceguard;
mod overload;
mod pgbench;
mod plot;
mod postgres;
mod preload;
mod process;
mod records;
mod redis;
mod report;
mod results;
mod rows;
mod scale;
mod targets;
mod verdicts;
mod wire;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

/// The service's allocator, for the verdicts. The bare server and the handler with one INSERT use
/// the same one.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Cargo says so to every benchmark.
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// All contenders by turns, against the targets
    Compare(compare::Arguments),
    /// Claims beside many live nonces, and while expired ones are purged
    Scale(scale::Arguments),
    /// Four times as much as can be done
    Overload(overload::Arguments),
    /// Serves the HTTP ceiling
    #[command(hide = true)]
    Bare,
    /// Serves one INSERT per request on DATABASE_URL
    #[command(hide = true)]
    Naive,
}

fn main() -> std::process::ExitCode {
    let done = match Arguments::parse().command {
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Scale(arguments) => scale::run(&arguments),
        Command::Overload(arguments) => overload::run(&arguments),
        Command::Bare => bare::serve(),
        Command::Naive => naive::serve(),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
