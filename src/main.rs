//! The binary: hands the command line to the library.

use std::process::ExitCode;

use clap::Parser as _;
use onceguard::cli::Cli;

fn main() -> ExitCode {
    onceguard::cli::run(Cli::parse())
}
