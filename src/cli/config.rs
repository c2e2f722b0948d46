//! `rollcall config show`.

use clap::Subcommand;

use crate::settings::{Layers, Settings};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Each key, its value, and the file or variable it came from
    Show,
}

/// Prints the raw values, then what "auto" came to.
pub fn run(args: Args, layers: &Layers, settings: &Settings) {
    match args.action {
        Action::Show => {
            print!("{layers}");
            println!("\n\"auto\" on this machine:");
            for (key, value) in [
                ("http.threads", settings.http.threads.to_string()),
                ("fleet.max_instances", settings.fleet.max_instances.to_string()),
                ("fleet.poll_every", humantime::format_duration(settings.fleet.poll_every).to_string()),
                ("fleet.describe_every", humantime::format_duration(settings.fleet.describe_every).to_string()),
                ("worker.idle_stop", humantime::format_duration(settings.worker.idle_stop).to_string()),
                ("worker.threads", settings.worker.threads.to_string()),
            ] {
                println!("{key:<36} {value}");
            }
        }
    }
}
