//! `rollcall completions` and `rollcall manual`: what shells and `man` read, made from the command line itself.

use std::{io, path::PathBuf};

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

/// Print the completions of a shell.
#[derive(clap::Args)]
pub(super) struct Completions {
    /// The shell: `rollcall completions bash > /etc/bash_completion.d/rollcall`
    shell: Shell,
}

/// Write the manual pages.
#[derive(clap::Args)]
pub(super) struct Manual {
    /// The folder to which one page per command is written
    dir: PathBuf,
}

/// Prints the completions of a command line.
pub(super) fn completions(args: Completions, mut program: Command) {
    clap_complete::generate(args.shell, &mut program, "rollcall", &mut io::stdout());
}

/// Writes `rollcall.1`, `rollcall-up.1` and so on.
///
/// # Errors
/// The folder cannot be made or written.
pub(super) fn manual(args: Manual, program: Command) -> anyhow::Result<()> {
    let made = std::fs::create_dir_all(&args.dir).and_then(|()| clap_mangen::generate_to(program, &args.dir));
    made.with_context(|| format!("the manual pages cannot be written to {}", args.dir.display()))
}
