//! Rollcall: face recognition that scales itself. The tree is described in ARCHITECTURE.md.

pub mod actors;
pub mod app;
pub mod cli;
pub mod cloud;
pub mod http;
pub mod inference;
pub mod keys;
pub mod recognition;
pub mod records;
pub mod settings;
pub mod wire;

/// For every program that links this library, so that benchmarks measure what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
