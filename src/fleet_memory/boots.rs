//! The boots that failed, as an object of the state bucket, so that a controller's successor does not pay for them again.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::LIMIT;
use crate::{
    cloud::{CloudError, CloudResult, ObjectStore, Precondition},
    fleet::RememberedBoots,
};

/// Key of the object in the state bucket.
pub(crate) const KEY: &str = "controller-failed-boots";
/// The version of the format.
const VERSION: u32 = 1;

/// The pause after a write that has failed.
pub(crate) const RETRY: Duration = Duration::from_secs(30);

/// The object.
#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    /// What was launched.
    launches: String,
    /// `None` if the latest boot succeeded.
    boots: Option<RememberedBoots>,
}

/// Remembers failed boots for the next controller. Cheap to clone.
#[derive(Clone)]
pub struct BootMemory {
    objects: Arc<dyn ObjectStore>,
    bucket: String,
    launches: String,
}

impl BootMemory {
    /// Creates a handle to the object in this bucket. `launches` says what the controller launches: failed boots of anything else, such
    /// as of an earlier image, say nothing about it.
    pub fn new(objects: Arc<dyn ObjectStore>, bucket: &str, launches: String) -> Self {
        Self { objects, bucket: bucket.to_owned(), launches }
    }

    /// Reads what an earlier controller has remembered. If that is nothing, or cannot be read, the count begins at zero.
    pub(crate) async fn read(&self) -> Option<RememberedBoots> {
        let object = match timeout(LIMIT, self.objects.get(&self.bucket, KEY)).await {
            Ok(Ok(object)) => object,
            Ok(Err(CloudError::NotFound(_))) => return None,
            Ok(Err(error)) => return Self::unreadable(&error.to_string()),
            Err(_) => return Self::unreadable("the store does not answer"),
        };
        match serde_json::from_slice::<Content>(&object.bytes) {
            Ok(content) if content.version == VERSION => content.boots.filter(|_| content.launches == self.launches),
            Ok(content) => Self::unreadable(&format!("it has the version {}", content.version)),
            Err(error) => Self::unreadable(&error.to_string()),
        }
    }

    fn unreadable(error: &str) -> Option<RememberedBoots> {
        tracing::warn!(key = KEY, error, "failed boots of an earlier controller are not known: counting from zero");
        None
    }

    /// Remembers `boots`. Returns whether they have been written.
    pub(crate) async fn write(&self, boots: Option<RememberedBoots>) -> bool {
        let error = match timeout(LIMIT, self.put(boots)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store does not answer".to_owned(),
        };
        tracing::warn!(key = KEY, error, "failed boots were not written");
        false
    }

    async fn put(&self, boots: Option<RememberedBoots>) -> CloudResult<()> {
        let content = Content { version: VERSION, launches: self.launches.clone(), boots };
        let bytes = serde_json::to_vec(&content).map_err(|error| CloudError::Invalid(error.to_string()))?;
        self.objects.put(&self.bucket, KEY, bytes.into(), Precondition::Always).await.map(drop)
    }
}

/// What is in the store, and whether it is being written. Writes follow each other, so that the latest is the last.
#[derive(Default)]
pub(crate) struct BootsKeeper {
    pub(crate) memory: Option<BootMemory>,
    /// What was restored or written last.
    stored: Option<RememberedBoots>,
    /// Whether something is being restored or written, or a write has failed and is not repeated yet.
    is_busy: bool,
}

impl BootsKeeper {
    pub(crate) fn new(memory: Option<BootMemory>) -> Self {
        Self { memory, ..Self::default() }
    }

    /// Notes that nothing must be written until [`Self::end`].
    pub(crate) fn begin(&mut self) {
        self.is_busy = true;
    }

    /// Notes that something was restored or written, which is `stored` then, or that a pause is over.
    pub(crate) fn end(&mut self, stored: Option<Option<RememberedBoots>>) {
        self.is_busy = false;
        if let Some(stored) = stored {
            self.stored = stored;
        }
    }

    /// Returns where to write `boots`, if they have changed and nothing else is being done.
    pub(crate) fn due(&self, boots: &Option<RememberedBoots>) -> Option<BootMemory> {
        self.memory.clone().filter(|_| !self.is_busy && *boots != self.stored)
    }
}
