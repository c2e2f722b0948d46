//! What a worker does with a job: when it receives it, who handles it, and what is kept of it. No actors.

pub mod job_runner;
pub mod prefetch;
