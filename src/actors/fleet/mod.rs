//! The fleet's decisions, pure: no actix, no clock, no I/O. `instance_fleet.rs` is the shell.
//!
//! [`FleetCore::step`] takes an event and the time and answers with actions; [`FleetCore::next_deadline`] says when it
//! wants a [`Event::Tick`] if nothing else happens. What is *observed* of instances and what is *intended* for them are
//! separate: an intent counts as an instance until it has been observed, has failed, or has taken too long.
//!
//! Promises, at every step: live + intended instances never exceed the cap; nothing that runs is ever stopped from here
//! (workers stop themselves, an action can only launch, start, or terminate what is stopped or did not boot); every demand
//! is served in the end; calls to the cloud are bounded in time, however many events arrive.

mod action;
mod event;
mod intents;
mod observe;
pub mod policy;
mod rules;
mod state;
mod step;
mod story;
mod sweep;
pub mod view;

/// Time since the controller's start.
pub type Time = std::time::Duration;

pub use action::{Action, Cause};
pub use event::Event;
pub use rules::FleetRules;
pub use state::FleetCore;
