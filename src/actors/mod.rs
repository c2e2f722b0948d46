//! The actors, and their messages beside them. A message that an actor sends to whoever owns it is in the actor's file;
//! every other is beside the actor that handles it.

pub mod fleet_recorder;
pub mod guardian;
pub mod idle_timer;
pub mod instance_fleet;
pub mod instance_supervisor;
pub mod mailbox;
pub mod queue_poller;
pub mod reply_router;
pub mod web_request;
