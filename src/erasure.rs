//! Erasure of a person: from the gallery, and with every result that names them.
//!
//! A worker that had read the gallery before may still name the person in a job that was queued or under way, and store
//! that later. So a record of the erasure is kept for a while, and results that were stored since are looked through
//! again. The record contains a pseudonym in place of the name. See `docs/adr/0028-erasure-looks-again.md`.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use scopeguard::{ScopeGuard, guard};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};
use ulid::Ulid;
use utoipa::ToSchema;

use crate::{
    clock::now_ms,
    cloud::{CloudError, CloudResult, ObjectStore, Precondition},
    inference::gallery::{GalleryStores, check_name, store::GalleryError},
    job::JobId,
    pseudonyms::{Pseudonym, Pseudonyms},
    recognition::GalleryName,
    results::{Erased, ResultStore, Selection},
    settings::{CloudKind, Settings},
};

/// Prefix, in the state bucket, of the keys of the records.
const RECORDS: &str = "private/erasures/";
/// How long results are looked through again, in addition to `gallery.refresh`: longer than it takes a worker to read a
/// gallery, to do the jobs that it has begun with the one before, and to store their results.
const WATCH: Duration = Duration::from_secs(600);
/// After how long a first search of another process is completed, unless that had begun before this one started: longer
/// than most take, so that what was deleted is counted by one process, and it can say so.
const TAKE_OVER: Duration = Duration::from_secs(60);
/// How much the clocks of this machine and of the store may differ.
const CLOCK_SKEW: Duration = Duration::from_secs(300);
/// Shortest and longest time between two looks.
const LOOK_EVERY: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(600)];
/// How often another process's erasures are looked for. On AWS, this is a call.
const LOOK_FOR_OTHERS_EVERY: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(600)];

/// What was erased of a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Erasure {
    /// Photos (embeddings) in the gallery.
    pub photos: usize,
    /// Whether the name was reserved for somebody without photos.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reserved_name: bool,
    /// Objects.
    #[serde(flatten)]
    pub erased: Erased,
}

impl Erasure {
    /// Returns whether there was nothing of the person.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The record of an erasure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    gallery: GalleryName,
    person: Pseudonym,
    /// The first version of the gallery without the person. Who has the name in a later version was added again.
    version: u64,
    /// When the person had been removed from the gallery, in milliseconds since the Unix epoch.
    begun_ms: u64,
    /// Whether all results from before have been looked through.
    complete: bool,
}

/// Selects the results of any of several people.
struct AnyOf<'a>(Vec<Results<'a>>);

impl Selection for AnyOf<'_> {
    fn output(&self, output: &str) -> bool {
        self.0.iter().any(|results| results.output(output))
    }

    fn summary(&self, summary: &str) -> bool {
        self.0.iter().any(|results| results.summary(summary))
    }
}

/// Selects the results of a person.
struct Results<'a> {
    pseudonyms: &'a Pseudonyms,
    gallery: &'a GalleryName,
    person: &'a Pseudonym,
    /// Only those by an earlier version of the gallery, if there is one here.
    before: Option<u64>,
}

impl Record {
    /// Returns what selects the person's results; only those by a version of the gallery before this one, if there is
    /// one here.
    fn results<'a>(&'a self, pseudonyms: &'a Pseudonyms, before: Option<u64>) -> Results<'a> {
        Results { pseudonyms, gallery: &self.gallery, person: &self.person, before }
    }
}

/// What matters of a result.
#[derive(Deserialize)]
struct Sighting {
    faces: Vec<Sighted>,
    #[serde(default)]
    gallery: GalleryName,
    gallery_version: u64,
}

#[derive(Deserialize)]
struct Sighted {
    name: String,
}

impl Selection for Results<'_> {
    fn output(&self, output: &str) -> bool {
        let Ok(sighting) = serde_json::from_str::<Sighting>(output) else { return false };
        sighting.gallery == *self.gallery
            && self.before.is_none_or(|version| sighting.gallery_version < version)
            && sighting.faces.iter().any(|face| self.summary(&face.name))
    }

    fn summary(&self, summary: &str) -> bool {
        self.pseudonyms.of(self.gallery, summary) == *self.person
    }
}

struct Shared {
    store: Arc<dyn ObjectStore>,
    bucket: String,
    galleries: GalleryStores,
    results: ResultStore,
    /// How long results are looked through again.
    watch: Duration,
    /// How often another process's erasures are looked for.
    idle_pause: Duration,
    begun: Notify,
    /// When this process began to look, in milliseconds since the Unix epoch.
    started_ms: u64,
    /// The keys of the records of this process's erasures whose first search is not complete; whether it goes on.
    searches: StdMutex<HashMap<String, bool>>,
    /// Results that this process has looked at for every erasure that is not over, and that do not change any more.
    seen: Mutex<HashSet<JobId>>,
}

/// Erases people. Cheap to clone.
#[derive(Clone)]
pub struct Erasures(Arc<Shared>);

impl Erasures {
    /// Creates a handle for the galleries and results in `store`.
    pub fn new(store: Arc<dyn ObjectStore>, settings: &Settings) -> Self {
        Self(Arc::new(Shared {
            galleries: GalleryStores::new(store.clone(), settings),
            results: ResultStore::new(store.clone(), settings.store.clone()),
            bucket: settings.store.state.clone(),
            watch: settings.gallery.refresh + WATCH,
            idle_pause: LOOK_FOR_OTHERS_EVERY[usize::from(settings.cloud.kind == CloudKind::Aws)],
            begun: Notify::new(),
            started_ms: now_ms(),
            searches: StdMutex::default(),
            seen: Mutex::default(),
            store,
        }))
    }

    /// Removes a person from a gallery, and deletes every stored result that names them with its image, label and dead
    /// letters. Returns what was erased, and the version of the gallery. Results that are stored later, of jobs that were
    /// under way, are left to [`Self::run`] or [`Self::look_again`] in any process.
    ///
    /// # Errors
    /// `Refused` for a name that nobody can have. Any other error: the call must be repeated.
    pub async fn erase(&self, gallery: &GalleryName, name: &str) -> Result<(Erasure, u64), GalleryError> {
        check_name(name)?;
        let pseudonyms = self.pseudonyms().await?;
        let store = self.0.galleries.gallery(gallery);
        let reserved_name = store.release_name(name).await?;
        let (manifest, photos) = store.forget(name).await?;
        let mut record = Record {
            gallery: gallery.clone(),
            person: pseudonyms.of(gallery, name),
            version: manifest.version,
            begun_ms: now_ms(),
            complete: false,
        };
        let key = format!("{RECORDS}{}.json", Ulid::generate());
        self.note_search(&key, Some(true));
        let erased = async {
            self.put(&key, &record).await?;
            let erased = self.look_at_all(&record, &pseudonyms).await?;
            record.complete = true;
            self.put(&key, &record).await?;
            CloudResult::Ok(erased)
        };
        // If it fails, or is not awaited to its end, it is completed in the background.
        let unfinished = guard((), |()| {
            self.note_search(&key, Some(false));
            self.0.begun.notify_one();
        });
        let erased = erased.await?;
        ScopeGuard::into_inner(unfinished);
        self.note_search(&key, None);
        self.0.begun.notify_one();
        Ok((Erasure { photos, reserved_name, erased }, manifest.version))
    }

    /// Looks again whenever that is due, until the process ends.
    pub async fn run(self) {
        loop {
            let pause = match self.look_again(now_ms()).await {
                Ok(next) => next.unwrap_or(Duration::MAX).min(self.0.idle_pause),
                Err(error) => {
                    tracing::warn!(%error, "failed to look for results of people who were erased; trying again");
                    LOOK_EVERY[0]
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.0.begun.notified() => {}
            }
        }
    }

    /// Deletes results that have been stored since people were erased who are named in them, completes erasures whose
    /// process was killed, and deletes the records of those that are over. Returns how long after this the next call is
    /// due, if any erasure is not over.
    ///
    /// # Errors
    /// Any error of the store; the next call goes on.
    pub async fn look_again(&self, now_ms: u64) -> CloudResult<Option<Duration>> {
        let mut seen = self.0.seen.lock().await;
        let keys = self.record_keys().await?;
        if keys.is_empty() {
            *seen = HashSet::new();
            return Ok(None);
        }
        let pseudonyms = self.pseudonyms().await?;
        let mut records = Vec::with_capacity(keys.len());
        let mut others_search = false;
        for key in &keys {
            let record = match self.0.store.get(&self.0.bucket, key).await {
                Ok(record) => record,
                Err(CloudError::NotFound(_)) => continue, // another process has just deleted it
                Err(other) => return Err(other),
            };
            let mut record: Record = serde_json::from_slice(&record.bytes)
                .map_err(|error| CloudError::Invalid(format!("{key}: {error}")))?;
            if !record.complete && !self.may_take_over(key, &record, now_ms) {
                others_search = true;
                continue;
            }
            if !record.complete {
                log(self.look_at_all(&record, &pseudonyms).await?);
                record.complete = true;
                self.put(key, &record).await?;
                self.note_search(key, None);
            }
            records.push((key, record));
        }

        // One look for all of them: each result is read once, however many people are erased.
        let mut looked_at = seen.clone();
        let selections = records.iter().map(|(_, record)| record.results(&pseudonyms, Some(record.version)));
        let since_ms = records.iter().map(|(_, record)| record.begun_ms).min().unwrap_or_default();
        let since_ms = since_ms.saturating_sub(CLOCK_SKEW.as_millis() as u64);
        log(self.0.results.erase(since_ms, &mut looked_at, &AnyOf(selections.collect())).await?);
        // An erasure that has begun meanwhile, or whose first search goes on, has not been looked at. One that begins later
        // looks at everything first.
        if !others_search && self.record_keys().await? == keys {
            *seen = looked_at;
        }

        let mut next = others_search.then_some(LOOK_EVERY[0]);
        for (key, record) in records {
            let age = Duration::from_millis(now_ms.saturating_sub(record.begun_ms));
            if age > self.0.watch {
                self.0.store.delete(&self.0.bucket, key).await?;
            } else {
                let pause = pause(age, self.0.watch);
                next = Some(next.map_or(pause, |next| next.min(pause)));
            }
        }
        Ok(next)
    }

    /// Returns whether this process may complete the first search of an erasure: whoever had begun it has failed, or seems
    /// to have been killed.
    fn may_take_over(&self, key: &str, record: &Record, now_ms: u64) -> bool {
        let searches = self.0.searches.lock().unwrap_or_else(PoisonError::into_inner);
        match searches.get(key) {
            Some(goes_on) => !goes_on,
            None => {
                let age = Duration::from_millis(now_ms.abs_diff(record.begun_ms)); // clocks differ
                record.begun_ms < self.0.started_ms || age > TAKE_OVER
            }
        }
    }

    /// Notes whether the first search of one of this process's erasures goes on; `None` if it is complete.
    fn note_search(&self, key: &str, goes_on: Option<bool>) {
        let mut searches = self.0.searches.lock().unwrap_or_else(PoisonError::into_inner);
        match goes_on {
            Some(goes_on) => drop(searches.insert(key.to_owned(), goes_on)),
            None => drop(searches.remove(key)),
        }
    }

    async fn record_keys(&self) -> CloudResult<HashSet<String>> {
        let listed = self.0.store.list(&self.0.bucket, RECORDS).await?;
        Ok(listed.into_iter().map(|object| object.key).collect())
    }

    /// Looks through all results once.
    async fn look_at_all(&self, record: &Record, pseudonyms: &Pseudonyms) -> CloudResult<Erased> {
        self.0.results.erase(0, &mut HashSet::new(), &record.results(pseudonyms, None)).await
    }

    async fn put(&self, key: &str, record: &Record) -> CloudResult<()> {
        let bytes = serde_json::to_vec(record).map_err(|error| CloudError::Invalid(error.to_string()))?;
        self.0.store.put(&self.0.bucket, key, bytes.into(), Precondition::Always).await.map(drop)
    }

    async fn pseudonyms(&self) -> CloudResult<Pseudonyms> {
        Pseudonyms::open(&*self.0.store, &self.0.bucket).await
    }
}

fn log(erased: Erased) {
    if erased != Erased::default() {
        tracing::info!(?erased, "deleted results of people who have been erased");
    }
}

/// Returns how long after a look at an erasure of this age the next one is due: sooner at first, when the last jobs end
/// that were under way, and once when it is over.
fn pause(age: Duration, watch: Duration) -> Duration {
    let until_over = watch.saturating_sub(age) + Duration::from_millis(1);
    (age / 2).clamp(LOOK_EVERY[0], LOOK_EVERY[1]).min(until_over)
}

#[cfg(test)]
mod tests;
