//! The fleet's decisions: how many instances there should be, and how to get there.
//!
//! [`FleetCore::step`] takes an event and the time and returns a [`Step`]: actions, and the time at which it needs an
//! [`Event::Tick`] if no other event arrives earlier. Everything here is a pure function of these arguments. The
//! *observed* state of instances and the *intended* one are separate: an intent counts as an instance until it has been
//! observed, has failed, or has taken too long.
//!
//! This is a crate of its own so that the compiler keeps adapters and actors out, and so that it is optimised in debug
//! builds, where the tests simulate days of it.
//!
//! # Phases
//!
//! Each phase owns its state, and its `decide` returns its own [`Step`], so that a rule and its wake-up are in one
//! place. A phase reads what it needs from the others. In the order of a step:
//!
//! - `demand` reads the queue's depth; `policy` turns the demand into a target;
//! - `terminations` terminates instances that are `unhealthy` or chosen by the `sweep`;
//! - `starts` starts stopped instances, and `launches` launches new ones, up to the target, as far as `failed_boots`
//!   permits; `refusals` counts those that the cloud refuses, for display;
//! - `descriptions` describes the instances; the result is kept in `instances`.
//!
//! `adaptive` learns thresholds for the policy of that name, `estimators` learns times for all, `decision_log` keeps decisions for display, and `event_log` encodes
//! events for replay.
//!
//! # Invariants
//!
//! At every step:
//!
//! - live and intended instances never exceed the cap;
//! - no working instance is stopped or terminated, except to replace one of an earlier version: workers stop themselves,
//!   and actions can only launch, start, or terminate instances that are stopped, did not come up, are dead, or are
//!   replaced;
//! - every demand is served eventually, if boots succeed in the end;
//! - while boots fail, at most one instance is booting, with pauses that double;
//! - calls to the cloud are bounded in time, however many events arrive.
//!
//! They assume that the cloud carries out each request and shows its effect within `fleet.describe_lag` of its answer;
//! that an instance that boots at all boots within `fleet.boot_timeout`; and that no job takes as long as
//! `fleet.silent_timeout`. A new controller epoch does not know which calls its predecessor had under way. It may start
//! stopped instances immediately, but launches and sweeps only after `describe_lag`, when the effects of those calls
//! are certain to be visible.

#![warn(missing_docs)]

mod action;
mod activity_log;
mod adaptive;
pub mod arrivals;
mod boot_outcome;
mod calls;
mod cloud_error;
mod counts;
mod decision_log;
mod demand;
mod depth;
mod descriptions;
mod drift;
mod estimators;
mod event;
pub mod event_log;
pub mod explain;
mod failed_boots;
mod fleet_core;
mod forecast;
mod idle_stop;
mod instance;
mod instances;
mod launches;
mod learned_times;
pub mod policy;
mod refusals;
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
pub use adaptive::{LearnedThresholds, SURPLUS_IDLE, is_learned_state};
pub use boot_outcome::BootOutcome;
pub use calls::INSTANCES_PER_CALL;
pub use cloud_error::{CloudError, CloudResult};
pub use counts::Counts;
pub use demand::fall_is_hinted;
pub use depth::Depth;
pub use event::Event;
pub use failed_boots::{Degraded, RememberedBoots};
pub use fleet_core::FleetCore;
pub use idle_stop::IdleStop;
pub use instance::{Instance, InstanceId, InstanceState};
pub use learned_times::LearnedTimes;
pub use refusals::Refused;
pub use rules::{FleetRules, Policy};
pub use schedule::{NoWindow, Window, scheduled};
pub use step::Step;
pub use timestamp::Timestamp;
