//! A wall clock that can be set for the processes that are started with it.

use std::{fs, os::unix::fs::FileExt as _, path::Path, process::Command};

/// The wall clock of some processes.
pub struct Clock {
    /// Holds the offset from the real clock.
    file: fs::File,
    /// What processes that have this clock need in their environment.
    pub environment: [(&'static str, String); 2],
}

impl Clock {
    /// Builds the library that moves the clock, with the C compiler that Rust links with.
    pub fn build(folder: &Path) -> Self {
        let (library, path) = (folder.join("clock.so"), folder.join("clock"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chaos/clock.c");
        let compiler = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
        assert!(compiler.expect("cc starts").success(), "{source} does not compile");
        fs::write(&path, 0_i64.to_ne_bytes()).expect("a file");
        let file = fs::OpenOptions::new().write(true).open(&path).expect("a file");
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        Self { file, environment: [("LD_PRELOAD", text(&library)), ("CHAOS_CLOCK", text(&path))] }
    }

    /// Sets the clock to this many milliseconds after the real one.
    pub fn set(&self, offset_ms: i64) {
        self.file.write_all_at(&offset_ms.to_ne_bytes(), 0).expect("written");
    }
}
