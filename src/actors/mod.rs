//! The actors and their messages. A message from an actor to its owner, or to those who registered with it, is in the
//! file of that actor; every other message is in the file of the actor that handles it.

pub mod actor_ref;
pub mod dead_letter_consumer;
pub mod guardian;
pub mod idle_timer;
pub mod instance_fleet;
pub mod instance_supervisor;
pub mod queue_poller;
pub mod reply_router;
pub mod web_request;
