//! How a worker processes a job: when it receives the job, how the job is handled, and what is kept of it. No actors,
//! no HTTP.

pub mod drain;
mod handler;
pub mod job_runner;
pub mod pool;
pub mod prefetch;
pub mod reply_sender;
pub mod service_time;

pub use handler::{Executor, JobHandler};
