//! The simulator: a small cloud on virtual time, in which the controller's own core runs against arrivals of a trace.
//!
//! Everything is deterministic: virtual time is the only clock, every random number comes from the seed, nothing is
//! iterated in an order that could change. One call is one run: [`simulate`] gives a [`Run`], whose [`Report`] has the
//! figures and whose history the plots are made of. What is supposed of the cloud: `docs/simulator.md`.

mod agenda;
mod calls;
mod controller;
mod cooldown_loop;
mod ec2;
mod history;
mod queue;
mod random;
mod report;
mod throttle;
pub mod traces;
mod usage;
mod workers;
mod world;

/// Virtual time since the beginning of the run.
pub type Time = std::time::Duration;

/// A job's place in its trace.
pub type JobIndex = usize;

pub use controller::Contender;
pub use history::{History, JobTimes, Sample};
pub use report::{Quantiles, Report};
pub use traces::{Arrival, Trace, TraceError};
pub use usage::{ApiCalls, Cost};
pub use world::{Run, simulate};
