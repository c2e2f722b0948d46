//! What crosses a queue, and what is kept in binary: a version byte, then bincode. This file alone knows the bytes.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use ulid::Ulid;

use crate::recognition::{Failure, Recognition};

/// First byte of everything encoded here. Raised when a type below changes shape.
const VERSION: u8 = 1;
/// Upper bound for one decoded value. Without it, ten hostile bytes can ask for terabytes.
const MAX_BYTES: usize = 64 << 20;

/// Identifies one job, from the upload to its stored result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId(pub u128);

impl JobId {
    /// A fresh id: time and 80 random bits, so that nobody can guess it.
    #[allow(clippy::new_without_default)] // each call differs
    pub fn new() -> Self {
        Self(Ulid::generate().0)
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ulid(self.0).fmt(f)
    }
}

impl std::str::FromStr for JobId {
    type Err = ulid::DecodeError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(Self(Ulid::from_string(s)?.0))
    }
}

/// What is wanted of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Name the faces; keep image and label in the store.
    Recognise,
    /// Answer with the faces' embeddings; keep nothing.
    Embed,
}

/// The image of a job: in the message, or (too large for one) in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ImageRef {
    Inline(Bytes),
    Stored { bucket: String, key: String },
}

/// One image to recognise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub task: Task,
    /// Name of the queue that takes the reply.
    pub reply_to: String,
    /// The file name it came with, made safe.
    pub file: String,
    pub image: ImageRef,
    /// The gallery version that the sender has seen: a worker with an older one looks for a newer first.
    pub gallery_version: u64,
    /// Milliseconds since the Unix epoch.
    pub submitted_ms: u64,
}

/// The answer to a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    pub id: JobId,
    pub outcome: Result<Recognition, Failure>,
    /// The instance that did it.
    pub worker: String,
    /// Milliseconds from the worker's receive to this reply.
    pub worker_ms: f32,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("unreadable message: {0}")]
    Malformed(String),
    #[error("message has format {found}, this program reads {VERSION}: upgrade the older side")]
    Version { found: u8 },
}

fn format() -> Configuration<LittleEndian, Fixint, Limit<MAX_BYTES>> {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<MAX_BYTES>()
}

/// Bytes of a value.
pub fn to_bytes<T: Serialize>(value: &T) -> Result<Bytes, WireError> {
    let mut out = vec![VERSION];
    bincode::serde::encode_into_std_write(value, &mut out, format())
        .map_err(|e| WireError::Malformed(e.to_string()))?;
    Ok(out.into())
}

/// The value of bytes; every byte must be used.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let (&version, rest) = bytes.split_first().ok_or_else(|| WireError::Malformed("empty".into()))?;
    if version != VERSION {
        return Err(WireError::Version { found: version });
    }
    let (value, used) =
        bincode::serde::decode_from_slice(rest, format()).map_err(|e| WireError::Malformed(e.to_string()))?;
    if used != rest.len() {
        return Err(WireError::Malformed(format!("{} bytes too many", rest.len() - used)));
    }
    Ok(value)
}
