//! The ports of one worker, on either cloud.

use std::sync::Arc;

use crate::cloud::{Metadata, ObjectStore, Queues};

/// What a worker reaches of its cloud.
pub(super) struct WorkerPorts {
    pub queues: Arc<dyn Queues>,
    pub objects: Arc<dyn ObjectStore>,
    pub metadata: Arc<dyn Metadata>,
}
