//! Whole programs on one machine: worker processes, HTTP, the page in a browser, set-up.

mod browser;
mod example_job;
mod fleet_explain;
mod http_api;
mod http_limits;
mod setup;
mod whole_road;
