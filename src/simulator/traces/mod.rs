//! Traces: when jobs arrive, and how long each takes on a thread. Generated from a seed by name, or read from a file.

mod arrival;
mod error;
mod file;
mod shapes;
mod trace;

pub use arrival::{Arrival, JobIndex, MAX_ARRIVALS};
pub use error::TraceError;
pub use trace::Trace;
