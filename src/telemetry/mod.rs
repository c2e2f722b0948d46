//! What Rollcall measures of itself: the catalogue of its metrics, and how those of workers reach a node.
//!
//! Code that measures uses the macros of the crate `metrics`. In a process with the web tier, they reach the recorder that
//! `/metrics` shows. Nobody scrapes workers, which come and go: a worker collects what it measures ([`Collector`]), and
//! sends it as a [`WorkerReport`] through the queue of its replies; the node adds it to its own metrics.

mod catalogue;
mod collector;
mod report;

pub use catalogue::install;
#[cfg(test)]
pub use catalogue::recorder;
#[cfg(test)]
use catalogue::{CATALOGUE, Kind, Metric, Values};
pub use collector::Collector;
pub use report::WorkerReport;
#[cfg(any(test, feature = "fuzzing"))]
pub use report::{Sample, Value};

#[cfg(test)]
mod tests;
