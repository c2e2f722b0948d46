//! The rules for names of buckets and objects, which are the same for every store.

use super::{CloudError, CloudResult};

/// Longest key in bytes: S3's limit.
const MAX_KEY: usize = 1024;
/// Longest segment (between slashes) in bytes: the limit of most file systems.
const MAX_SEGMENT: usize = 255;

/// Checks that a key is a relative path whose segments are plain names.
pub(crate) fn check_key(key: &str) -> CloudResult<()> {
    if key.len() > MAX_KEY {
        return Err(CloudError::Invalid(format!("the key has {} bytes; the limit is {MAX_KEY}", key.len())));
    }
    key.split('/').try_for_each(|segment| check_segment(segment, key))
}

/// Checks that a prefix can be the beginning of a key. The empty prefix is one.
pub(crate) fn check_prefix(prefix: &str) -> CloudResult<()> {
    prefix.split('/').filter(|s| !s.is_empty()).try_for_each(|segment| check_segment(segment, prefix))
}

/// Checks that a bucket's name is a plain name.
pub(crate) fn check_bucket(bucket: &str) -> CloudResult<()> {
    check_segment(bucket, bucket)
}

fn check_segment(segment: &str, whole: &str) -> CloudResult<()> {
    let problem = match segment {
        "" => "an empty segment",
        "." | ".." => "a segment that is . or ..",
        s if s.len() > MAX_SEGMENT => "a segment over 255 bytes",
        s if s.contains(['/', '\\']) || s.chars().any(char::is_control) => "a backslash or control character",
        _ => return Ok(()),
    };
    Err(CloudError::Invalid(format!("{whole:?} has {problem}")))
}
