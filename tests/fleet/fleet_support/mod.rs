//! A world for the fleet's core, for tests.
pub mod bugs;
pub mod plan;
pub mod watch;
pub mod world;
