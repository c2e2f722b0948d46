//! A world for the fleet's core, for tests.
#![allow(dead_code)] // each test file uses a part

pub mod bugs;
pub mod plan;
pub mod watch;
pub mod world;
