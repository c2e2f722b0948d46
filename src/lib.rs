//! A queue-driven cluster that grows from zero and shrinks back to zero, as one program; recognising faces is its first
//! kind of job.
//!
//! # Components
//!
//! | module | what it is |
//! |---|---|
//! | [`job`], [`client`] | jobs and replies, and the way to submit them |
//! | [`worker`] | what a worker does with a job: prefetch, the [`JobHandler`](worker::JobHandler) that gives jobs a meaning, persisting |
//! | [`fleet`] | how many instances there are: pure decisions, events and time in, actions and the next wake-up out |
//! | [`cloud`] | the ports (queues, objects, machines, metadata) and their adapters: the embedded cloud, and AWS |
//! | [`app`] | the composition root: a [`Cluster`](app::Cluster) and the roles of the program |
//! | [`inference`], [`recognition`] | the first job handler: decode, detect, align, embed, name |
//! | [`settings`] | what is tunable, and where each value came from |
//! | [`simulator`] | the fleet's decisions on virtual time, against arrivals of a trace |
//! | [`cli`] | the command line |
//!
//! # Actors
//!
//! Each runs on an actix arbiter, is reached through the mailbox of its place, and is rebuilt by a guardian when it dies.
//!
//! | actor | one per | receives | sends |
//! |---|---|---|---|
//! | `WebRequest` | job that is waited for | `Routed`, `HangUp`, its deadline | `Register`, `Forget` |
//! | `ReplyRouter` | node with clients | `Register`, `Forget`, `Deliveries`, `RequestCapacity` | `Routed`, `Done`, `Served` |
//! | `QueuePoller` | queue that is received from | `Done`, `Nack`, `FinalPoll`, `Drain` | `RequestCapacity`, `Deliveries`, `QueueEmpty`, `Drained` |
//! | `InstanceSupervisor` | worker | `Deliveries`, `RequestCapacity`, `IdleExpired`, `QueueEmpty`, `Drained`, `End` | `Done`, `Nack`, `FinalPoll`, `Drain`, `Busy`, `Idle` |
//! | `IdleTimer` | worker | `Busy`, `Idle` | `IdleExpired` |
//! | `InstanceFleet` | controller | `DemandHint`, `Served`, `Retire` | calls to the cloud |
//! | `Guardian` | role of a process | `Died`, `StandDown` | |
//!
//! # A job of your own
//!
//! A handler makes one executor per thread; an executor makes an output of a job's payload:
//!
//! ```
//! use rollcall::{
//!     job::{Job, JobId, JobKind, Payload},
//!     worker::{Executor, JobHandler, Output},
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
//!     min_version: 0,
//!     submitted_ms: 0,
//! };
//! assert_eq!(execute(&job, b"four").expect("done").summary, "4 bytes");
//! # anyhow::Ok(())
//! ```
//!
//! `examples/checksum.rs` runs such a handler on a cluster: `cargo run --example checksum -- sum FILE…` starts workers
//! because of its jobs, prints the answers, and ends when the workers have gone away.
#![warn(missing_docs)]

mod actors;
pub mod app;
pub mod cli;
pub mod client;
pub mod clock;
pub mod cloud;
pub mod error;
pub mod fleet;
mod http;
pub mod inference;
pub mod job;
pub mod recognition;
mod results;
pub mod settings;
pub mod simulator;
#[cfg(test)]
mod testing;
mod wire;
pub mod worker;

/// For every program that links this library, so that benchmarks measure what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
