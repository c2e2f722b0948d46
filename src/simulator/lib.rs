//! Runs a controller against a simulated cloud: a discrete-event simulation on virtual time.
//!
//! [`simulate`] takes the [`Parameters`], a [`ControllerKind`], a [`Trace`] of arrivals and a seed, and returns a
//! [`Run`]: a [`Report`] with the figures, and a [`History`] for plots. The run is deterministic: virtual time is the
//! only clock, every random number comes from the seed, and every iteration order is defined.
//!
//! `docs/simulator.md` describes the model. The layers, each of which uses only those before it: the parameters and the
//! random streams; the queue, the instances and the rate limits; the state of the cloud (`state`) with its events
//! (`event`); the behaviour of instances, workers and API calls; the event loop (`simulation`).

#![warn(missing_docs)]

mod calls;
mod controller;
mod controller_kind;
mod cooldown_loop;
mod event;
mod event_queue;
mod history;
mod instances;
mod lifecycle;
pub mod oracle;
mod parameters;
mod queue;
mod queue_calls;
mod random;
mod rate_limits;
mod report;
mod requests;
mod simulation;
mod state;
#[cfg(test)]
mod tests;
mod time;
mod token_bucket;
pub mod traces;
mod usage;
mod workers;

pub use controller_kind::ControllerKind;
pub use history::{History, JobTimes, Sample};
pub use parameters::{Boot, CloudModel, Faults, Parameters, Prices, Service};
pub use report::{Quantiles, Report};
pub use simulation::{Run, simulate};
pub use time::Time;
pub use traces::{Arrival, JobIndex, Trace, TraceError};
pub use usage::{ApiCalls, Cost, PeakCalls};
