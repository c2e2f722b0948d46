//! A queue-driven cluster that grows from zero and shrinks back to zero, in one program. Face recognition is its first
//! kind of job.
//!
//! # Components
//!
//! | module | contents |
//! |---|---|
//! | [`job`], [`client`] | jobs and replies, and how to submit them |
//! | [`worker`] | how a worker processes a job: prefetch, the [`JobHandler`](worker::JobHandler) that executes jobs, persisting |
//! | [`fleet`] | how many instances there should be: pure decisions, events and time in, actions and the next wake-up out |
//! | [`cloud`] | the ports (queues, objects, instances, metadata) and their adapters: the embedded cloud, and AWS |
//! | [`app`] | the composition root: a [`Cluster`](app::Cluster) and the roles of the program |
//! | [`inference`], [`recognition`] | the first job handler: decode, detect, align, embed, name |
//! | [`settings`] | the settings, and the origin of each value |
//! | [`fleet_log`] | the file of the fleet's event log (`fleet.record`) |
//! | [`fleet_history`] | what the fleet did, for the page that draws it |
//! | [`fleet_memory`] | what the fleet has learned, and which boots have failed, kept for the next controller |
//! | [`clock`] | the wall clock |
//! | [`simulator`] | the fleet's decisions on virtual time, for the arrivals of a trace |
//! | [`cli`] | the command line |
//!
//! # Actors
//!
//! Each runs on an actix arbiter. All except `WebRequest` and `Guardian` are reached through references, and a guardian
//! rebuilds them when they die, or ends the process if they must not be rebuilt.
//!
//! | actor | one per | receives | sends |
//! |---|---|---|---|
//! | `WebRequest` | job whose client waits | `Routed`, `HangUp`, its deadline | `Register`, `Forget` |
//! | `ReplyRouter` | node with clients | `Register`, `Forget`, `Deliveries`, `RequestCapacity` | `Routed`, `Done`, `Served` |
//! | `DeadLetterConsumer` | controller | `Deliveries`, `RequestCapacity` | `Done`, `Nack` |
//! | `QueuePoller` | queue that a process polls | `Done`, `Nack`, `FinalPoll`, `Drain` | `RequestCapacity`, `Deliveries`, `QueueEmpty`, `Drained` |
//! | `InstanceSupervisor` | worker | `Deliveries`, `RequestCapacity`, `IdleExpired`, `QueueEmpty`, `Drained`, `End` | `Done`, `Nack`, `FinalPoll`, `Drain`, `Busy`, `Idle`, `StandDown` |
//! | `IdleTimer` | worker | `Busy`, `Idle` | `IdleExpired` |
//! | `InstanceFleet` | controller | `DemandHint`, `Served`, `Retire` | calls to the cloud |
//! | `Guardian` | process; on AWS, tier of a process | `Died` (from each guarded actor when it is dropped), `StandDown` | |
//!
//! `DemandHint` and `HangUp` come from `client`; `Retire`, `End` and some `StandDown`s from `app`.
//!
//! # A job of your own
//!
//! A handler creates one executor per thread; an executor turns a job's payload into an output:
//!
//! ```
//! use rollcall::{
//!     job::{Job, JobId, JobKind, Output, Payload},
//!     worker::{Executor, JobHandler},
//! };
//!
//! struct Length;
//!
//! impl JobHandler for Length {
//!     fn executor(&self) -> anyhow::Result<Executor> {
//!         Ok(Box::new(|_job, payload| Output::json(&payload.len(), format!("{} bytes", payload.len()))))
//!     }
//! }
//!
//! let mut execute = Length.executor()?;
//! let job = Job {
//!     id: JobId::new(),
//!     kind: JobKind(1_000),
//!     reply_to: "replies".into(),
//!     file: "a.txt".into(),
//!     payload: Payload::Inline("four".into()),
//!     dataset: String::new(),
//!     min_version: 0,
//!     submitted_ms: 0,
//! };
//! assert_eq!(execute(&job, b"four").expect("done").summary, "4 bytes");
//! # anyhow::Ok(())
//! ```
//!
//! `examples/checksum.rs` runs such a handler on a cluster: `cargo run --example checksum -- sum FILE…` submits jobs,
//! which start workers, prints the checksums, and ends when the workers have stopped.
#![warn(missing_docs)]

mod access;
mod actors;
pub mod app;
mod audit;
mod backup;
pub mod cli;
pub mod client;
pub mod clock;
pub mod cloud;
mod erasure;
pub mod fleet_history;
pub mod fleet_log;
pub mod fleet_memory;
mod fleet_metrics;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod http;
pub mod inference;
pub mod job;
mod private_files;
mod pseudonyms;
pub mod recognition;
mod results;
pub mod settings;
mod telemetry;
#[cfg(test)]
mod testing;
mod unicode;
mod wire;
pub mod worker;

pub use http::{COMPREFACE_ROUTES, ROUTES};
#[doc(inline)]
pub use rollcall_fleet as fleet;
#[doc(inline)]
pub use rollcall_simulator as simulator;

/// Set for every program that links this library, so that benchmarks measure the allocator in use.
#[cfg(not(any(test, feature = "fuzzing")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The same allocator, which counts, so that the fuzz targets can limit what an input makes the program allocate.
#[cfg(any(test, feature = "fuzzing"))]
#[global_allocator]
static ALLOCATOR: fuzzing::memory::Counting<mimalloc::MiMalloc> = fuzzing::memory::Counting(mimalloc::MiMalloc);
