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
            let (fleet, worker) = (&settings.fleet, &settings.worker);
            let show = |duration| humantime::format_duration(duration).to_string();
            for (key, value) in [
                ("http.threads", settings.http.threads.to_string()),
                ("fleet.max_instances", fleet.max_instances.to_string()),
                ("fleet.poll_every", show(fleet.poll_every)),
                ("fleet.describe_every", show(fleet.describe_every)),
                ("fleet.describe_lag", show(fleet.describe_lag)),
                ("fleet.boot_cold", show(fleet.boot_cold)),
                ("fleet.boot_warm", show(fleet.boot_warm)),
                ("fleet.billing_minimum", show(fleet.billing_minimum)),
                ("worker.idle_stop", show(worker.idle_stop)),
                ("worker.threads", worker.threads.to_string()),
            ] {
                println!("{key:<36} {value}");
            }
        }
    }
}
