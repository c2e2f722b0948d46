//! What Rollcall's test binaries share: a complete Rollcall process, uploads, AWS emulators, ports, waiting.

pub mod assets;
#[cfg(feature = "aws")]
pub mod emulators;
pub mod http;
pub mod openapi;
mod ports;
mod rollcall;
pub mod uploads;
mod wait;

use std::env;

#[cfg(feature = "aws")]
pub use emulators::Emulator;
pub use ports::free_port;
pub use rollcall::{Rollcall, RollcallOptions, peak_memory, small_disks_work};
pub use wait::wait_until;

/// Returns the path of an example. Cargo builds the examples with the tests, into a folder beside the programs.
pub fn example(name: &str) -> String {
    let path = std::path::Path::new(&program()).with_file_name("examples").join(name);
    assert!(path.is_file(), "{} is not built", path.display());
    path.into_os_string().into_string().expect("a path that is text")
}

/// Returns the path of the program under test.
pub fn program() -> String {
    env::var("CARGO_BIN_EXE_rollcall").expect("cargo runs the tests and sets this")
}
