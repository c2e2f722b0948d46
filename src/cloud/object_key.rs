//! Which names buckets and objects may have, in any store.

use super::{CloudError, CloudResult};

/// Longest key (S3's limit), and longest part between slashes (most file systems' limit). Bytes.
const MAX_KEY: usize = 1024;
const MAX_SEGMENT: usize = 255;

/// A relative path whose parts are all names.
pub fn check_key(key: &str) -> CloudResult<()> {
    if key.len() > MAX_KEY {
        return Err(CloudError::Invalid(format!("a key of {} bytes; the limit is {MAX_KEY}", key.len())));
    }
    key.split('/').try_for_each(|segment| check_segment(segment, key))
}

/// The beginning of a key; nothing begins every key.
pub fn check_prefix(prefix: &str) -> CloudResult<()> {
    prefix.split('/').filter(|s| !s.is_empty()).try_for_each(|segment| check_segment(segment, prefix))
}

/// A name without slashes.
pub fn check_bucket(bucket: &str) -> CloudResult<()> {
    check_segment(bucket, bucket)
}

fn check_segment(segment: &str, whole: &str) -> CloudResult<()> {
    let problem = match segment {
        "" => "an empty part",
        "." | ".." => "a part that is . or ..",
        s if s.len() > MAX_SEGMENT => "a part over 255 bytes",
        s if s.contains(['/', '\\']) || s.chars().any(char::is_control) => "a backslash or control character",
        _ => return Ok(()),
    };
    Err(CloudError::Invalid(format!("key {whole:?} has {problem}")))
}
