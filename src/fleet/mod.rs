//! The fleet's decisions, pure: no actix, no clock, no I/O. `instance_fleet.rs` is the shell.
//!
//! [`FleetCore::step`] takes an event and the time and answers with actions; [`FleetCore::next_deadline`] says when it
//! wants a [`Event::Tick`] if nothing else happens. What is *observed* of instances and what is *intended* for them are
//! separate: an intent counts as an instance until it has been observed, has failed, or has taken too long.
//!
//! Promises, at every step: live + intended instances never exceed the cap; nothing that works is ever stopped or
//! terminated from here (workers stop themselves; an action can only launch, start, or terminate what is stopped, did not
//! come up, or is dead); every demand is served in the end; calls to the cloud are bounded in time, however many events
//! arrive.
//!
//! What they rest on: whatever is asked of the cloud is carried out and shown within `fleet.describe_lag` of the answer;
//! whatever boots at all boots within `fleet.boot_timeout`; and no job takes `fleet.silent_timeout`. A new life of the
//! controller knows nothing of calls that its former life had under way. It may start stopped instances at once, but it
//! launches and sweeps only after `describe_lag`, when they are sure to show.

mod action;
mod answers;
mod calls;
mod demand;
mod depth;
mod event;
mod event_log;
pub mod explain;
mod grow;
mod idle_stop;
mod instance;
mod instances;
mod launches;
mod learned_times;
mod observe;
pub mod policy;
pub mod record;
mod rules;
mod state;
mod step;
mod sweep;
pub mod view;

/// Time since the controller's start.
pub type Time = std::time::Duration;

pub use action::{Action, Cause};
pub use depth::Depth;
pub use event::Event;
pub use idle_stop::IdleStop;
pub use instance::{Instance, InstanceId, InstanceState};
pub use rules::FleetRules;
pub use state::FleetCore;
