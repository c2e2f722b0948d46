//! Keys of galleries in the state bucket.

/// Key of the default gallery's manifest in the state bucket.
pub const KEY: &str = "gallery/current";
/// Prefix of the keys of the other galleries, before their name.
pub(super) const NAMED: &str = "galleries/";
/// End of the key of a manifest.
pub(super) const MANIFEST: &str = "/current";

/// Returns whether a key in the state bucket is that of a manifest. The parts that it names are below the folder that the
/// manifest is in, never change, and are deleted only after another manifest has taken its place.
pub fn is_manifest(key: &str) -> bool {
    key == KEY || key.strip_prefix(NAMED).is_some_and(|rest| rest.ends_with(MANIFEST))
}
