//! What is fuzzed: functions that take bytes from outside, with what must hold whatever the bytes are.
//!
//! Each target runs the functions of the program itself. `make fuzz` runs them under AFL++, and a test of this module runs
//! them on the corpus and on mutations of it. Only then, or with the feature `fuzzing`, is this module a part of the
//! program: see `docs/adr/0031-fuzzing.md`.

mod images;
pub mod memory;
mod settings;
mod values;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::abort,
};

use crate::{
    cloud::local::fuzzing as local,
    http::{compreface_fuzzing as compreface, fuzzing as http},
};

/// A function that takes bytes from outside, and its limit of memory.
pub struct Target {
    /// Name of the target, and of the folder with its corpus.
    pub name: &'static str,
    /// Panics if something does not hold.
    check: fn(&[u8]),
    /// Most bytes that it may allocate.
    memory: usize,
    /// Makes the part of the corpus that is not made by `tools/fuzz_corpus.py`: a name and the bytes of each file.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "jpeg", check: images::jpeg, memory: images::MEMORY, seeds: Vec::new },
    Target { name: "png", check: images::png, memory: images::MEMORY, seeds: Vec::new },
    Target { name: "webp", check: images::webp, memory: images::MEMORY, seeds: Vec::new },
    Target { name: "image", check: images::any, memory: images::MEMORY, seeds: Vec::new },
    Target { name: "upload", check: http::upload, memory: http::MEMORY, seeds: http::seeds },
    Target { name: "compreface", check: compreface::request, memory: http::MEMORY, seeds: compreface::seeds },
    Target { name: "wire", check: values::wire, memory: 4 << 20, seeds: values::seeds },
    Target { name: "journal", check: local::damaged_file, memory: 16 << 20, seeds: local::damaged_file_seeds },
    Target { name: "settings", check: settings::settings, memory: 4 << 20, seeds: settings::seeds },
    Target { name: "socket", check: local::frames, memory: local::FRAMES_MEMORY, seeds: local::frames_seeds },
];

impl Target {
    /// Returns the target with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Runs the target once.
    ///
    /// # Panics
    /// Something does not hold, or the input makes the program allocate too much.
    pub fn run(&self, input: &[u8]) {
        let ((), bytes) = memory::peak(|| (self.check)(input));
        assert!(bytes <= self.memory, "{bytes} bytes were allocated; at most {} may be", self.memory);
    }

    /// Runs the target once, and ends the process if it panics.
    pub fn run_or_abort(&self, input: &[u8]) {
        if catch_unwind(AssertUnwindSafe(|| self.run(input))).is_err() {
            abort();
        }
    }
}

#[cfg(test)]
mod tests;
