//! The fleet's decisions: how many instances there are, and what is done about it.
//!
//! [`FleetCore::step`] takes an event and the time and returns a [`Step`]: actions, and the time at which it wants an
//! [`Event::Tick`] if no other event comes before. Everything here is a pure function of these arguments. What is *observed*
//! of instances and what is *intended* for them are separate: an intent counts as an instance until it has been observed,
//! has failed, or has taken too long.
//!
//! # Phases
//!
//! Each phase owns its state, and its `decide` returns a [`Step`] of its own, so that a rule and its time are written once.
//! A phase reads what it needs of the others. In the order of a step:
//!
//! - `demand` reads the queue's depth; `policy` turns the demand into a target;
//! - `terminations` terminates what is `unhealthy` and what the `sweep` chooses;
//! - `starts` starts stopped instances, `launches` launches new ones, up to the target;
//! - `descriptions` describes the instances; what they show is kept in `instances`.
//!
//! `estimators` learns times for the policies, `journal` keeps decisions for people, and `event_log` encodes events so that
//! they can be replayed.
//!
//! # Promises
//!
//! At every step:
//!
//! - live and intended instances never exceed the cap;
//! - no working instance is stopped or terminated: workers stop themselves, and an action can only launch, start, or
//!   terminate what is stopped, did not come up, or is dead;
//! - every demand is served in the end;
//! - calls to the cloud are bounded in time, however many events arrive.
//!
//! They assume that the cloud carries out and shows whatever it is asked within `fleet.describe_lag` of its answer; that an
//! instance that boots at all boots within `fleet.boot_timeout`; and that no job takes `fleet.silent_timeout`. A new
//! controller epoch knows nothing of the calls that its predecessor had under way. It may start stopped instances at once,
//! but it launches and sweeps only after `describe_lag`, when their effects are sure to show.

mod action;
mod activity_log;
mod calls;
mod counts;
mod demand;
mod depth;
mod descriptions;
mod estimators;
mod event;
pub mod event_log;
pub mod explain;
mod fleet_core;
mod forecast;
mod idle_stop;
mod instance;
mod instances;
mod journal;
mod launches;
mod learned_times;
pub mod policy;
mod removal;
mod rules;
mod schedule;
mod situation;
mod starts;
mod step;
mod sweep;
mod terminations;
mod timestamp;
mod tracked;
mod unhealthy;
pub mod view;

pub use action::{Action, Cause};
pub use counts::Counts;
pub use depth::Depth;
pub use event::Event;
pub use fleet_core::FleetCore;
pub use idle_stop::IdleStop;
pub use instance::{Instance, InstanceId, InstanceState};
pub use learned_times::LearnedTimes;
pub use rules::{FleetRules, Policy};
pub use schedule::{NoWindow, Window, scheduled};
pub use step::Step;
pub use timestamp::Timestamp;
