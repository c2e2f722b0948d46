//! What must not happen to a gallery when the store fails, when others write at the same time, and when processes have
//! different versions.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{world::*, *};
use crate::{
    cloud::{CloudError, CloudResult, ETag, Object, ObjectInfo, ObjectStore, Precondition, local::LocalObjects},
    inference::gallery::{
        GalleryStores,
        cache::GalleryCache,
        keys::KEY,
        store::{GalleryError, GalleryStore},
    },
    recognition::GalleryName,
};

pub const BUCKET: &str = "rollcall-state";
/// What precedes the key in the text that a fault is compared with, if the call puts or deletes.
const PUT: &str = "put ";
const DELETE: &str = "delete ";
/// The same, for parts of the default gallery.
pub const DELETE_PART: &str = "delete gallery/parts/";

/// What happens instead of the next call on a key that contains some text.
pub enum Fault {
    /// It fails, and nothing is done.
    Fails,
    /// Somebody is added by another writer first.
    Before(Person),
    /// It is done, somebody is added by another writer, and the caller sees a conflict: as when S3 applies a put, the
    /// response is lost, and the repetition comes too late.
    After(Person),
    /// It is done, and the caller sees a conflict: as when S3 applies a put, the response is lost, and the repetition
    /// conflicts with it.
    Twice,
    /// Another writer renames this person to the other name first.
    Renamed(&'static str, &'static str),
}

/// A store with one fault.
pub struct Faulty {
    objects: Arc<LocalObjects>,
    other_writer: GalleryStore,
    fault: Mutex<Option<(&'static str, Fault)>>,
    reads: AtomicUsize,
}

impl Faulty {
    pub fn new(world: &World) -> Arc<Self> {
        let (objects, other_writer) = (world.objects.clone(), world.store());
        Arc::new(Self { objects, other_writer, fault: Mutex::default(), reads: AtomicUsize::new(0) })
    }

    pub fn store(self: &Arc<Self>, world: &World) -> GalleryStore {
        let stores = GalleryStores::new(self.clone(), &world.settings);
        stores.gallery(&GalleryName::default()).with_max_part(8 * DIMENSION)
    }

    pub fn next(&self, key: &'static str, fault: Fault) {
        *self.fault.lock().unwrap() = Some((key, fault));
    }

    fn take(&self, key: &str) -> Option<Fault> {
        let mut fault = self.fault.lock().unwrap();
        fault.take_if(|(part, _)| key.contains(*part)).map(|(_, fault)| fault)
    }

    async fn add(&self, person: Person) {
        self.other_writer.add_people(vec![person], model()).await.unwrap();
    }

    async fn before(&self, key: &str) -> CloudResult<Option<Fault>> {
        match self.take(key) {
            Some(Fault::Fails) => return Err(CloudError::Unavailable("as asked".into())),
            Some(Fault::Before(person)) => self.add(person).await,
            Some(Fault::Renamed(name, to)) => {
                self.other_writer.rename(name, to).await.unwrap().expect("renamed");
            }
            other => return Ok(other),
        }
        Ok(None)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put(&self, bucket: &str, key: &str, bytes: Bytes, when: Precondition) -> CloudResult<ETag> {
        let fault = self.before(&format!("{PUT}{key}")).await?;
        let put = self.objects.put(bucket, key, bytes, when).await?;
        match fault {
            Some(Fault::After(person)) => self.add(person).await,
            Some(Fault::Twice) => {}
            _ => return Ok(put),
        }
        Err(CloudError::Conflict(key.to_owned()))
    }
    async fn get(&self, bucket: &str, key: &str) -> CloudResult<Object> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.before(key).await?;
        self.objects.get(bucket, key).await
    }
    async fn get_if_changed(&self, bucket: &str, key: &str, etag: &ETag) -> CloudResult<Option<Object>> {
        self.before(key).await?;
        self.objects.get_if_changed(bucket, key, etag).await
    }
    async fn list(&self, bucket: &str, prefix: &str) -> CloudResult<Vec<ObjectInfo>> {
        self.objects.list(bucket, prefix).await
    }
    async fn delete(&self, bucket: &str, key: &str) -> CloudResult<()> {
        self.before(&format!("{DELETE}{key}")).await?;
        self.objects.delete(bucket, key).await
    }
    async fn check(&self, bucket: &str) -> CloudResult<()> {
        self.objects.check(bucket).await
    }
}

async fn names(store: &GalleryStore) -> HashSet<String> {
    store.everybody().await.unwrap().into_iter().map(|person| person.name).collect()
}

#[tokio::test]
async fn a_change_that_was_applied_although_it_seems_to_conflict_loses_nobody() {
    let mut world = World::new();
    world.fill(50).await;
    let faulty = Faulty::new(&world);
    let (ada, bob) = (world.person("person 020a"), world.person("person 040a"));
    faulty.next("put gallery/current", Fault::After(bob));
    faulty.store(&world).add_people(vec![ada], model()).await.unwrap();
    let names = names(&world.store()).await;
    assert_eq!(names.len(), 52);
    assert!(names.contains("person 020a") && names.contains("person 040a"));
    world.store().check().await.unwrap();
}

#[tokio::test]
async fn a_person_who_is_added_while_an_index_is_built_is_found() {
    let mut world = World::new();
    let people = world.fill(50).await;
    let faulty = Faulty::new(&world);
    let ada = world.person("person 020a");
    faulty.next("gallery/parts/", Fault::Before(ada.clone()));
    let gallery = GalleryCache::with_rules(faulty.store(&world), RULES).refresh().await.unwrap();
    check(&gallery, &[&people[..], &[ada]].concat(), &mut world);
    let reads = faulty.reads.load(Ordering::Relaxed);
    assert!(reads < 2 * people.len() / 4 + 10, "{reads} reads: the index was built once");
}

#[tokio::test]
async fn an_index_is_not_completed_if_a_part_cannot_be_read() {
    let mut world = World::new();
    let people = world.fill(50).await;
    let faulty = Faulty::new(&world);
    let cache = GalleryCache::with_rules(faulty.store(&world), RULES);
    let last = world.objects.list(BUCKET, "gallery/parts/").await.unwrap().pop().unwrap();
    faulty.next(last.key.leak(), Fault::Fails);
    assert!(matches!(cache.refresh().await, Err(GalleryError::Store(CloudError::Unavailable(_)))));
    assert_eq!(world.index_files(), 0);
    check(&cache.refresh().await.unwrap(), &people, &mut world);
}

#[tokio::test]
async fn a_part_that_is_missing_is_reported_and_the_gallery_can_be_replaced() {
    let mut world = World::new();
    let people = world.fill(50).await;
    let parts = world.objects.list(BUCKET, "gallery/parts/").await.unwrap();
    world.objects.delete(BUCKET, &parts[3].key).await.unwrap();
    let store = world.store();
    for error in [
        store.everybody().await.map(drop).unwrap_err(),
        store.check().await.map(drop).unwrap_err(),
        world.cache().refresh().await.map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().contains(&parts[3].key), "{error}");
    }
    store.replace(people.clone(), model()).await.unwrap();
    assert_eq!(names(&store).await.len(), 50);
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_removal_that_leaves_bytes_behind_is_an_error() {
    let mut world = World::new();
    world.fill(5).await;
    let faulty = Faulty::new(&world);
    faulty.next(DELETE_PART, Fault::Fails);
    let store = faulty.store(&world);
    assert!(matches!(store.remove("person 000").await, Err(GalleryError::Store(CloudError::Unavailable(_)))));
    assert_eq!(names(&store).await.len(), 4, "the person is no longer there");
    assert!(store.remove("person 000").await.unwrap().is_none());
    assert_only_current_parts(&world).await;
}

#[tokio::test]
async fn a_repeated_removal_deletes_what_a_killed_writer_has_left() {
    let mut world = World::new();
    world.fill(5).await;
    // A removal, whose process is killed between the new manifest and the deletion of the part with the person.
    let parts = world.objects.list(BUCKET, "gallery/parts/").await.unwrap();
    let faulty = Faulty::new(&world);
    faulty.next(DELETE_PART, Fault::Fails);
    faulty.store(&world).remove("person 000").await.unwrap_err();
    assert!(world.objects.get(BUCKET, &parts[0].key).await.is_ok(), "the fault leaves it");
    // An enrolment, killed before the manifest: its parts contain the others in the part too.
    let key = format!("gallery/parts/{}", PartId::new(1 + world.store().manifest().await.unwrap().version));
    let copy = world.objects.get(BUCKET, &parts[0].key).await.unwrap().bytes;
    world.objects.put(BUCKET, &key, copy, Precondition::Always).await.unwrap();

    world.store().remove("person 001").await.unwrap().unwrap();
    assert_only_current_parts(&world).await;
}

/// Checks that of the gallery nothing is stored but the current version.
pub async fn assert_only_current_parts(world: &World) {
    let listed = world.objects.list(BUCKET, "gallery/parts/").await.unwrap();
    let listed: HashSet<String> = listed.into_iter().map(|object| object.key).collect();
    let manifest = world.store().manifest().await.unwrap();
    let current = manifest.parts.iter().map(|part| format!("gallery/parts/{}", part.id)).collect();
    assert_eq!(listed, current);
}

#[tokio::test]
async fn parts_of_killed_writers_are_deleted_when_they_are_old() {
    let mut world = World::new();
    world.fill(5).await;
    let old = ulid::Ulid::from_parts(1_000_000, u128::MAX); // of no known version
    let version = world.store().manifest().await.unwrap().version;
    let young = PartId::new(version + 1);
    for id in [old.to_string(), young.to_string()] {
        let key = format!("gallery/parts/{id}");
        world.objects.put(BUCKET, &key, "x".into(), Precondition::Always).await.unwrap();
    }
    world.store().delete_orphans().await.unwrap();
    let left = world.objects.list(BUCKET, "gallery/parts/").await.unwrap();
    assert!(left.iter().all(|object| !object.key.ends_with(&old.to_string())));
    assert!(left.iter().any(|object| object.key.ends_with(&young.to_string())), "it may become a part");
    assert_eq!(names(&world.store()).await.len(), 5);
}

#[tokio::test]
async fn a_process_with_an_earlier_version_still_finds_people_who_have_changed() {
    let mut world = World::new();
    let people = world.fill(50).await;
    let (behind, ahead) = (world.cache(), world.cache());
    behind.refresh().await.unwrap();
    ahead.refresh().await.unwrap();
    let more = world.embedding();
    world.store().add(&people[20].name, vec![more.clone()], model()).await.unwrap();
    let newer = ahead.refresh().await.unwrap();
    assert_eq!(named(&newer, &more), people[20].name);
    assert_eq!(named(&behind.current(), &people[20].embeddings[0]), people[20].name);
}

#[tokio::test]
async fn an_index_that_is_newer_than_a_restored_store_is_built_again() {
    let mut world = World::new();
    let people = world.fill(50).await;
    let objects = world.objects.clone();
    let keys = async || objects.list(BUCKET, "gallery/").await.unwrap().into_iter().map(|object| object.key);
    let mut saved = Vec::new();
    for key in keys().await {
        let bytes = objects.get(BUCKET, &key).await.unwrap().bytes;
        saved.push((key, bytes));
    }
    let later = world.person("later");
    world.store().add_people(vec![later], model()).await.unwrap();
    let running = world.cache();
    running.refresh().await.unwrap();

    for key in keys().await {
        world.objects.delete(BUCKET, &key).await.unwrap();
    }
    for (key, bytes) in saved {
        world.objects.put(BUCKET, &key, bytes, Precondition::Always).await.unwrap();
    }
    check(&world.cache().refresh().await.unwrap(), &people, &mut world);
    check(&running.refresh().await.unwrap(), &people, &mut world);
    assert_eq!(world.index_files(), 1);
}

#[tokio::test]
async fn snapshots_of_earlier_releases_are_told_apart() {
    let mut world = World::new();
    let people: Vec<Person> = (0..50).map(|n| world.person(&format!("person {n:03}"))).collect();
    let put = async |version: u64, people: &[Person]| {
        let bytes = wire::to_bytes(&Snapshot(version, people.to_vec())).unwrap();
        world.objects.put(BUCKET, KEY, bytes, Precondition::Always).await.unwrap();
    };
    put(5, &people).await;
    world.cache().refresh().await.unwrap();
    put(6, &people[1..]).await;
    let gallery = world.cache().refresh().await.unwrap();
    assert_ne!(named(&gallery, &people[0].embeddings[0]), people[0].name);
    check(&gallery, &people[1..], &mut world);
}

#[tokio::test]
async fn an_index_of_embeddings_of_another_length_is_not_used() {
    let mut world = World::new();
    world.fill(50).await;
    let cache = world.cache();
    cache.refresh().await.unwrap();
    let longer = |n: usize| (0..64).map(|i| f32::from(u8::from(i == n))).collect::<Vec<f32>>();
    let people: Vec<Person> =
        (0..40).map(|n| Person::new(format!("new {n:02}"), vec![longer(n), longer(n + 20)])).collect();
    world.store().replace(people, ModelId::known("other")).await.unwrap();
    let gallery = cache.refresh().await.unwrap();
    assert_eq!(named(&gallery, &longer(7)), "new 07");
    assert_eq!(world.index_files(), 1, "there is a new one");
}

#[tokio::test]
async fn a_person_whose_photo_cannot_be_deleted_is_removed_by_a_repeated_call() {
    let mut world = World::new();
    let faulty = Faulty::new(&world);
    let gallery = faulty.store(&world);
    let id = gallery.add("Ada", vec![world.embedding()], model()).await.unwrap().ids[0];
    assert!(gallery.keep_photo("Ada", id, Bytes::from_static(b"photo")).await.unwrap());
    faulty.next("delete private/photos/", Fault::Fails);
    assert!(gallery.forget("Ada").await.is_err());
    assert!(gallery.kept_photo(id).await.unwrap().is_some());
    assert_eq!(gallery.forget("Ada").await.unwrap().1, 1, "it is found again");
    assert_eq!(gallery.kept_photo(id).await.unwrap(), None);
}
