//! Queues on SQS.

mod attributes;
mod batch_calls;
mod batcher;
mod encoding;
mod queue;
mod queues;

pub use queues::SqsQueues;
