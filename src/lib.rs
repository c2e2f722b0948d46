//! Rollcall: face recognition that scales itself. The tree is described in ARCHITECTURE.md.

pub mod actors;
pub mod cloud;
pub mod http;
pub mod inference;
pub mod recognition;
pub mod settings;
pub mod wire;
