//! Rollcall: face recognition that scales itself. The tree is described in ARCHITECTURE.md.

pub mod actors;
pub mod cli;
pub mod cloud;
pub mod inference;
pub mod recognition;
pub mod settings;
pub mod wire;
