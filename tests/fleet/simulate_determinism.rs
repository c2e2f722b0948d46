//! The same command gives the same report, byte for byte, in every format; another seed gives another one.

use std::{path::Path, process::Command};

/// Returns the text, the JSON and the page of a comparison in a cloud with faults.
fn outputs(dir: &Path, seed: &str) -> [Vec<u8>; 3] {
    let page = dir.join("page.html");
    let print = |extra: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .args(["simulate", "--trace", "diurnal", "--seed", seed, "--policy", "deadline"])
            .args(["--policy", "cooldown-loop", "--compare", "config/report.toml"])
            .args(extra)
            .env("ROLLCALL__SIMULATE__CAPACITY_ERRORS", "0.1")
            .env("ROLLCALL__SIMULATE__LOST_ANSWERS", "0.1")
            .env("ROLLCALL__SIMULATE__BOOT_FAILURES", "0.05")
            .env("ROLLCALL__SIMULATE__CRASHES", "0.01")
            .output()
            .expect("the program starts");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    let text = print(&["--html", page.to_str().expect("a path of text")]);
    [text, print(&["--json"]), std::fs::read(page).expect("the page was written")]
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (first, again, other) = (outputs(dir.path(), "7"), outputs(dir.path(), "7"), outputs(dir.path(), "8"));
    for ((first, again), other) in first.iter().zip(&again).zip(&other) {
        assert!(!first.is_empty() && first == again, "two runs of one seed differ");
        assert!(first != other, "two seeds give the same bytes");
    }
}
