//! What a worker does with a job: when it receives it, who handles it, and what is kept of it. No actors, no HTTP.

mod handler;
pub mod job_runner;
pub mod pool;
pub mod prefetch;
pub mod service_time;

pub use handler::{Executor, JobHandler, Output};
