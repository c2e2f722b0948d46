//! The actors, and the only folder besides `http/`, `app.rs` and `main.rs` that knows actix.

pub mod fleet;
pub mod web_tier;
