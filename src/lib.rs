//! Rollcall.

pub mod actors;
pub mod app;
pub mod cli;
pub mod client;
pub mod clock;
pub mod cloud;
pub mod error;
pub mod fleet;
pub mod fleet_log;
pub mod http;
pub mod inference;
pub mod job;
pub mod recognition;
pub mod results;
pub mod settings;
pub mod simulator;
#[cfg(test)]
mod testing;
pub mod wire;
pub mod worker;

/// For every program that links this library, so that benchmarks measure what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
