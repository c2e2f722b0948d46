//! `[store]`: buckets and object keys.

use std::time::Duration;

use super::{layers::SettingsError, reader::Reader};

/// Longest name of a bucket in S3.
const MAX_BUCKET: usize = 63;
/// Longest retention in days: a hundred years.
pub(super) const MAX_DAYS: usize = 36_500;
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Settings of the object store.
#[derive(Clone, Debug)]
pub struct Store {
    /// Bucket of the images.
    pub input: String,
    /// Template of an image's key.
    pub input_key: String,
    /// Bucket of the labels.
    pub output: String,
    /// Template of a label's key.
    pub output_key: String,
    /// Bucket of the galleries, the full results and the state of the cluster.
    pub state: String,
    /// How long results are kept, with their images and labels; `None` for ever.
    pub retention: Option<Duration>,
}

impl Store {
    pub(super) fn read(r: &Reader<'_>) -> Result<Self, SettingsError> {
        Ok(Self {
            input: r.name("store.input", MAX_BUCKET)?,
            input_key: key_template(r, "store.input_key")?,
            output: r.name("store.output", MAX_BUCKET)?,
            output_key: key_template(r, "store.output_key")?,
            state: r.name("store.state", MAX_BUCKET)?,
            retention: match r.count("store.retention_days", 0..=MAX_DAYS)? {
                0 => None,
                days => Some(DAY * days as u32),
            },
        })
    }
}

/// Reads a template of relative keys. It must contain `{id}`, `{file}` or `{stem}`, so that keys differ between
/// uploads.
fn key_template(r: &Reader<'_>, key: &'static str) -> Result<String, SettingsError> {
    let allowed = "a key such as {id}/{file}: text with {id}, {file} and {stem}, at least one of them";
    r.checked(key, allowed, |template| {
        let rest = template.replace("{id}", "").replace("{file}", "").replace("{stem}", "");
        rest.len() < template.len()
            && !rest.contains(['{', '}', '\\'])
            && !template.starts_with('/')
            && !template.contains("..")
    })
}
