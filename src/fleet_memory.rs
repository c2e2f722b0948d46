//! What the controller has learned, as an object of the state bucket, so that its successor does not learn it anew.

mod boots;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use crate::{
    cloud::{CloudError, ObjectStore, Precondition},
    fleet,
};

pub use boots::BootMemory;
pub(crate) use boots::{BootsKeeper, RETRY};

/// Key of the object in the state bucket.
pub(crate) const KEY: &str = "controller-learned";
/// How often it is written at most.
pub(crate) const EVERY: Duration = Duration::from_secs(300);
/// How long a read or a write may take: a controller neither begins nor ends much later because of it.
const LIMIT: Duration = Duration::from_secs(5);
/// Largest object that is read, in bytes. Four thousand batches of arrivals take about 70 kB.
const MAX_BYTES: usize = 1 << 20;

/// Keeps what a controller has learned for the next one. Cheap to clone.
#[derive(Clone)]
pub struct Memory {
    objects: Arc<dyn ObjectStore>,
    bucket: String,
}

/// What a controller finds when it begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// What an earlier controller has kept.
    State(String),
    /// Nothing that can be used.
    Nothing,
    /// The store cannot be read: what is there must not be overwritten.
    Unknown,
}

impl Memory {
    /// Creates a handle to the object in this bucket.
    pub fn new(objects: Arc<dyn ObjectStore>, bucket: &str) -> Self {
        Self { objects, bucket: bucket.to_owned() }
    }

    /// Reads what an earlier controller has kept. An object that is damaged, or of another version, is nothing.
    pub(crate) async fn read(&self) -> Found {
        let object = match timeout(LIMIT, self.objects.get(&self.bucket, KEY)).await {
            Ok(Ok(object)) => object,
            Ok(Err(CloudError::NotFound(_))) => return Found::Nothing,
            Ok(Err(error)) => return Self::unknown(&error.to_string()),
            Err(_) => return Self::unknown("the store does not answer"),
        };
        let text = std::str::from_utf8(&object.bytes).ok().filter(|text| text.len() <= MAX_BYTES);
        match text.filter(|text| fleet::is_learned_state(text)) {
            Some(text) => Found::State(text.to_owned()),
            None => {
                let bytes = object.bytes.len();
                tracing::warn!(key = KEY, bytes, "what was learned cannot be read: the fleet learns anew");
                Found::Nothing
            }
        }
    }

    fn unknown(error: &str) -> Found {
        tracing::warn!(
            key = KEY,
            error,
            "what was learned was not read: this controller learns anew and keeps nothing"
        );
        Found::Unknown
    }

    /// Keeps `state`. Returns whether it has been written.
    pub(crate) async fn write(&self, state: String) -> bool {
        let put = self.objects.put(&self.bucket, KEY, Bytes::from(state), Precondition::Always);
        let error = match timeout(LIMIT, put).await {
            Ok(Ok(_)) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store does not answer".to_owned(),
        };
        tracing::warn!(key = KEY, error, "what was learned was not written");
        false
    }
}
