//! `rollcall config show`.

use std::fmt::Write as _;

use clap::Subcommand;

use crate::settings::{Entry, Layers, Machine, Settings, SettingsError};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show each key, its value, and the file or variable that set it; for "auto", the resolved value and the reason
    Show,
}

/// Prints every setting with its effective value and its origin. "auto" depends on the machine.
///
/// # Errors
/// A value is not allowed.
pub fn run(args: Args, layers: &Layers, machine: Machine) -> Result<(), SettingsError> {
    match args.action {
        Action::Show => print!("{}", table(&Settings::effective(layers, machine)?)),
    }
    Ok(())
}

/// Formats one line per setting: key, value, origin.
fn table(entries: &[Entry]) -> String {
    let mut table = String::new();
    for Entry { key, value, origin, auto } in entries {
        let auto = auto.map(|reason| format!(" (\"auto\": {reason})")).unwrap_or_default();
        writeln!(table, "{key:<36} {value:<34} {origin}{auto}").expect("writing to a string cannot fail");
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::settings::{Int8, SFACE_INT8};

    fn shown(env: &[(&str, &str)], machine: Machine) -> String {
        let env: HashMap<_, _> = env.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let layers = Layers::load(None, env).expect("known keys");
        table(&Settings::effective(&layers, machine).expect("allowed values"))
    }

    #[test]
    fn each_line_has_key_effective_value_and_origin() {
        let env = [("ROLLCALL__WORKER__IDLE_STOP", "auto"), ("ROLLCALL__FLEET__LEASE", "40s")];
        let text = shown(&env, Machine { int8: Int8::AvxVnni, ..Machine::with_cores(3) });
        let line = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("{key} "))).expect("a line");
            line.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" | ")
        };
        assert_eq!(line("gallery.max_people"), "gallery.max_people | 10000 | default");
        assert_eq!(line("fleet.lease"), "fleet.lease | \"40s\" | ROLLCALL__FLEET__LEASE");
        let reason = "default (\"auto\": one per core on the embedded cloud)";
        assert_eq!(line("fleet.max_instances"), format!("fleet.max_instances | 3 | {reason}"));
        let reason = "ROLLCALL__WORKER__IDLE_STOP (\"auto\": on the embedded cloud)";
        assert_eq!(line("worker.idle_stop"), format!("worker.idle_stop | \"30s\" | {reason}"));
        let reason = "default (\"auto\": because the CPU has AVX-VNNI)";
        let embedder = "recognition.embedder";
        assert_eq!(line(embedder), format!("{embedder} | {SFACE_INT8:?} {reason}"));
        let reason = "default (\"auto\": on the embedded cloud)";
        assert_eq!(line("fleet.record"), format!("fleet.record | \".rollcall/fleet.jsonl\" | {reason}"));
    }
}
