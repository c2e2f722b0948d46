//! Runs one of Rollcall's fuzz targets under AFL++, or once on a file: see `tools/fuzz.py`.

use std::{env, fs, panic, process::ExitCode};

use rollcall::fuzzing::{TARGETS, Target};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => {
            for target in TARGETS {
                println!("{}", target.name);
            }
            ExitCode::SUCCESS
        }
        ["run", name, file] => match (Target::find(name), fs::read(file)) {
            (Some(target), Ok(input)) => {
                target.run(&input);
                ExitCode::SUCCESS
            }
            (None, _) => failed(&format!("there is no target {name}: see `rollcall-fuzz list`")),
            (_, Err(error)) => failed(&format!("{file}: {error}")),
        },
        ["fuzz", name] => match Target::find(name) {
            Some(target) => {
                // A panic that the program catches is not a finding; one that leaves the target aborts the process. A report
                // would only take time, and memory that counts.
                panic::set_hook(Box::new(|_| ()));
                afl::fuzz(false, |input| target.run_or_abort(input));
                ExitCode::SUCCESS
            }
            None => failed(&format!("there is no target {name}: see `rollcall-fuzz list`")),
        },
        _ => failed("usage: rollcall-fuzz list | run TARGET FILE | fuzz TARGET (under AFL++)"),
    }
}

fn failed(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(2)
}
