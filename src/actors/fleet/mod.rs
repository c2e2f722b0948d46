//! The fleet's decisions, pure: no actix, no clock, no I/O. `instance_fleet.rs` is the shell.

pub mod view;
