//! Parses the command, runs it, and turns its outcome into an exit code.

use std::process::ExitCode;

use clap::Parser;
use rollcall::cli::{self, Cli};

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
