//! Parses the command, runs it, and converts its outcome to an exit code.

use std::process::ExitCode;

use clap::Parser;
use rollcall::cli::{self, Cli};

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
