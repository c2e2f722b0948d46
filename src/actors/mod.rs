//! The actors. Besides these only `http/`, `main.rs` and the composition root (`app.rs` with `app/`) know actix.

pub mod guardian;
pub mod idle_timer;
pub mod instance_fleet;
pub mod instance_supervisor;
pub mod messages;
pub mod queue_poller;
pub mod reply_router;
pub mod web_request;
pub mod web_tier;
