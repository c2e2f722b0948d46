//! The ports of one worker, on either cloud.

use std::sync::Arc;

use crate::cloud::{Metadata, ObjectStore, Queues};

/// The ports that a worker uses.
pub(super) struct WorkerPorts {
    pub queues: Arc<dyn Queues>,
    pub objects: Arc<dyn ObjectStore>,
    pub metadata: Arc<dyn Metadata>,
}
