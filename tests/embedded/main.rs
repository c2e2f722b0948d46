//! Whole programs on one machine: worker processes, HTTP, the page in a browser, set-up.

mod access;
mod audit;
mod backup;
mod bad_inputs;
mod browser;
mod damaged_queue;
mod deletion;
mod earlier_release;
mod end_to_end;
mod erasure;
mod example_job;
mod fleet_explain;
mod full_disk;
mod galleries;
mod headroom;
mod http_api;
mod http_limits;
mod http_refusals;
mod hung_workers;
mod poison_jobs;
mod queue_memory;
mod rate_limits;
mod retention;
mod setup;
mod tls;
mod token_secrecy;
