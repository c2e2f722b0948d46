//! `rollcall config show`.

use clap::Subcommand;

use crate::settings::Layers;

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

/// Prints the raw values, then what each "auto" came to.
pub fn run(args: Args, layers: &Layers) {
    match args.action {
        Action::Show => {
            print!("{layers}");
            println!("\n\"auto\" here:");
            for (key, value) in layers.resolved() {
                println!("{key:<36} {value}");
            }
        }
    }
}
