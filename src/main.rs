//! The binary: hands the command line to the library.

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;
use onceguard::cli::Cli;

/// Requests are parsed on one thread and decided on others: what one allocates another frees,
/// which this allocator does without a lock.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    onceguard::cli::run(Cli::parse())
}
