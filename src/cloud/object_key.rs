//! The checks of bucket names, keys and prefixes that every store makes. S3 restricts bucket names further.

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

/// Checks that every segment of a prefix is empty or a plain name. The empty prefix is valid.
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
        s if s.contains(['/', '\\']) || s.chars().any(char::is_control) => "a slash, backslash or control character",
        _ => return Ok(()),
    };
    Err(CloudError::Invalid(format!("{whole:?} has {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_segments_may_be_as_long_as_the_limits() {
        let key = |bytes: usize| "a/".repeat(400) + &"x".repeat(bytes - 800);
        assert!(check_key(&key(MAX_KEY)).is_ok());
        assert!(check_key(&key(MAX_KEY + 1)).is_err());
        assert!(check_bucket(&"x".repeat(MAX_SEGMENT)).is_ok());
        assert!(check_bucket(&"x".repeat(MAX_SEGMENT + 1)).is_err());
    }

    #[test]
    fn segments_are_plain_names() {
        for bad in ["", "/", "a//b", "a/", ".", "a/../b", "a\\b", "a\nb"] {
            assert!(check_key(bad).is_err(), "{bad:?}");
        }
        assert!(check_prefix("").is_ok() && check_prefix("a/").is_ok() && check_prefix("../").is_err());
    }
}
