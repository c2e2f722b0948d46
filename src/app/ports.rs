//! The ports of one worker, on either cloud.

use std::sync::Arc;

use crate::cloud::{Metadata, ObjectStore, Queues, metered::Metered};

/// The ports that a worker uses.
pub(super) struct WorkerPorts {
    pub queues: Arc<dyn Queues>,
    pub objects: Arc<dyn ObjectStore>,
    pub metadata: Arc<dyn Metadata>,
}

impl WorkerPorts {
    /// Returns ports whose calls are counted.
    pub fn metered(self) -> Self {
        let Self { queues, objects, metadata } = self;
        Self { queues: Arc::new(Metered::new(queues)), objects: Arc::new(Metered::new(objects)), metadata }
    }
}
