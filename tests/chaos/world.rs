//! What chaos does to a cluster, and what a cluster shows to the ledger.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
};

use rand::rngs::ChaCha12Rng;

/// How clients reach a cluster.
#[derive(Clone)]
pub struct Access {
    /// Base URLs of the web nodes that may be running. Shared with the world, which changes it.
    pub urls: Arc<Mutex<Vec<String>>>,
    /// A token with each role, and one that was revoked.
    pub upload: String,
    pub read: String,
    pub admin: String,
    pub revoked: String,
    /// Maximum number of instances.
    pub cap: usize,
}

impl Access {
    /// Returns the URL of a path on one of the nodes.
    pub fn url(&self, choice: usize, path: &str) -> String {
        let urls = self.urls.lock().expect("no panic");
        format!("{}{path}", urls[choice % urls.len()])
    }
}

/// What is stored when all is over.
#[derive(Default)]
pub struct Kept {
    /// The markers of photos that are found in any byte that is stored.
    pub markers: HashSet<String>,
    /// Of each object of a photo or a label: the job in its key.
    pub objects: Vec<(String, String)>,
    /// The jobs with a record.
    pub records: HashSet<String>,
    /// Names of erased people that are found in any byte.
    pub people: HashSet<String>,
}

/// A cluster.
pub trait World {
    fn access(&self) -> Access;

    /// Longest time between two faults, in milliseconds.
    fn longest_pause_ms(&self) -> u64;

    /// Does something to the cluster, and returns what.
    async fn fault(&mut self, rng: &mut ChaCha12Rng) -> &'static str;

    /// Repairs everything, and waits until no job is left in the queue.
    async fn finish(&mut self);

    /// Returns what is stored. The cluster may be ended for this.
    async fn kept(&mut self) -> Kept;

    /// Returns what was measured, by name.
    fn measured(&self) -> BTreeMap<String, f64>;

    /// Returns what the world itself found to be wrong.
    fn violations(&self) -> Vec<String>;
}

/// The bytes that precede a photo's number in its bytes and in its file name.
pub const MARKER: &str = "chaos-";
/// Length of a marker.
pub const MARKER_LEN: usize = MARKER.len() + 20;
/// What the names of people begin with.
pub const PERSON: &str = "person-";

/// Adds the markers and the people in some bytes.
pub fn find(bytes: &[u8], kept: &mut Kept) {
    for (prefix, len, found) in [(MARKER, MARKER_LEN, &mut kept.markers), (PERSON, PERSON.len() + 20, &mut kept.people)]
    {
        for start in memchr::memmem::find_iter(bytes, prefix) {
            if let Some(text) = bytes.get(start..start + len).and_then(|text| std::str::from_utf8(text).ok())
                && text[prefix.len()..].bytes().all(|byte| byte.is_ascii_digit())
            {
                found.insert(text.to_owned());
            }
        }
    }
}

/// Adds an object of the bucket with photos, labels or state.
pub fn add_object(bucket: &str, key: &str, kept: &mut Kept) {
    if let Some(id) = key.strip_prefix("recognitions/").and_then(|key| key.strip_suffix(".json")) {
        kept.records.insert(id.to_owned());
    } else if let Some(id) = key.strip_prefix("claims/") {
        kept.objects.push((format!("{bucket}/{key}"), id.to_owned()));
    } else if bucket.contains("input") || bucket.contains("output") {
        let id = key.split('/').next().unwrap_or_default().to_owned();
        kept.objects.push((format!("{bucket}/{key}"), id));
    }
}
