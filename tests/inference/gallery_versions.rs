//! The gallery changes in versions: no writer overwrites another's change, readers follow without a restart, and a
//! person who is removed is gone.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::{collections::HashMap, sync::Arc};

use crate::support::{Contents, MemoryStore, gallery_in, model};
use futures_util::future::join_all;
use rollcall::{
    cloud::ObjectStore as _,
    inference::gallery::{
        Person,
        cache::GalleryCache,
        keys::KEY,
        store::{GalleryError, GalleryStore},
    },
    settings::{Layers, Machine, Settings},
};

/// Returns an empty store, and the gallery in it.
fn gallery() -> (Arc<MemoryStore>, GalleryStore) {
    let settings = Settings::from_layers(&Layers::load(None, HashMap::new()).unwrap(), Machine::with_cores(1)).unwrap();
    let store = Arc::new(MemoryStore::default());
    (store.clone(), gallery_in(&store, &settings))
}

/// Returns a different unit vector for each number below 64.
fn embedding(number: usize) -> Vec<f32> {
    (0..64).map(|i| f32::from(u8::from(i == number))).collect()
}

/// Returns the keys of the objects.
async fn keys(store: &MemoryStore) -> Vec<String> {
    store.list(BUCKET, "").await.unwrap().into_iter().map(|object| object.key).collect()
}

const BUCKET: &str = "rollcall-state";

#[tokio::test]
async fn a_gallery_nobody_has_written_is_empty_at_version_0() {
    let empty = Contents::of(&gallery().1).await;
    assert_eq!((empty.version, empty.model, empty.people.len()), (0, None, 0));
}

#[tokio::test]
async fn concurrent_writers_all_keep_their_changes() {
    let (_, gallery) = gallery();
    let people: Vec<String> = (0..12).map(|n| format!("person {n:02}")).collect();
    let adds = people.iter().enumerate().map(|(n, name)| {
        let gallery = gallery.clone();
        async move { gallery.add(name, vec![embedding(n)], model("m")).await.unwrap() }
    });
    join_all(adds).await;
    let after = Contents::of(&gallery).await;
    assert_eq!(after.names(), people);
    assert_eq!(after.version, 12);
}

#[tokio::test]
async fn adding_the_same_photo_again_writes_nothing() {
    let (store, gallery) = gallery();
    let first = gallery.add("Ada", vec![embedding(1)], model("m")).await.unwrap();
    let again = gallery.add("Ada", vec![embedding(1).iter().map(|v| v * 3.0).collect()], model("m")).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(store.writes(), 2, "a part and the manifest");
    let added = gallery.add("Ada", vec![embedding(2)], model("m")).await.unwrap();
    assert_eq!((added.version, added.photos, added.ids.len()), (2, 2, 1));
    assert_ne!(added.ids, first.ids);
}

#[tokio::test]
async fn a_removed_person_is_in_no_later_snapshot() {
    let (store, gallery) = gallery();
    gallery.add("Ada", vec![embedding(1)], model("m")).await.unwrap();
    gallery.add("Bob", vec![embedding(2)], model("m")).await.unwrap();
    let left = gallery.remove("Ada").await.unwrap().unwrap();
    assert_eq!((left.people(), left.version), (1, 3));
    assert_eq!(Contents::of(&gallery).await.names(), ["Bob"]);
    let keys = keys(&store).await;
    assert!(matches!(&keys[..], [current, part] if current == KEY && part.starts_with("gallery/parts/")), "{keys:?}");
    assert_eq!(gallery.remove("Ada").await.unwrap(), None);
}

#[tokio::test]
async fn an_import_is_all_or_nothing() {
    let (store, gallery) = gallery();
    let person = |name: &str, embedding: Vec<f32>| Person::new(name, vec![embedding]);
    let refused =
        gallery.add_people(vec![person("Ada", embedding(1)), person("no face", embedding(2))], model("m")).await;
    assert!(matches!(refused, Err(GalleryError::Refused(why)) if why.contains("no face")));
    assert_eq!(store.writes(), 0);
    gallery.add_people(vec![person("Ada", embedding(1)), person("Bob", embedding(2))], model("m")).await.unwrap();
    // Embeddings of another model are accepted only if they replace all others.
    assert!(matches!(gallery.add("Eve", vec![vec![1.0, 0.0]], model("m")).await, Err(GalleryError::Refused(_))));
    let other = gallery.replace(vec![person("Eve", vec![1.0, 0.0])], model("other")).await.unwrap();
    assert_eq!(other.version, 2);
    assert_eq!(Contents::of(&gallery).await.names(), ["Eve"]);
    assert_eq!(keys(&store).await.len(), 2, "the part of the others is gone");
}

#[tokio::test]
async fn the_configured_limits_of_the_gallery_are_enforced() {
    let mut settings =
        Settings::from_layers(&Layers::load(None, HashMap::new()).unwrap(), Machine::with_cores(1)).unwrap();
    settings.gallery.max_people = 1;
    let gallery = gallery_in(&Arc::new(MemoryStore::default()), &settings);
    gallery.add("Ada", vec![embedding(1)], model("m")).await.unwrap();
    let refused = gallery.add("Bob", vec![embedding(2)], model("m")).await;
    assert!(matches!(refused, Err(GalleryError::Refused(why)) if why.contains("gallery.max_people")));
}

#[tokio::test]
async fn a_reader_follows_changes_and_removals() {
    let (_, gallery) = gallery();
    let cache = GalleryCache::new(gallery.clone());
    assert_eq!(cache.refresh().await.unwrap().version, 0);
    gallery.add("Ada", vec![embedding(1)], model("m")).await.unwrap();
    assert_eq!(cache.current().version, 0);
    let ada = cache.refresh().await.unwrap();
    assert_eq!(ada.nearest(&embedding(1)), Ok(Some(("Ada", 1.0))));
    gallery.remove("Ada").await.unwrap();
    cache.refresh().await.unwrap();
    assert_eq!(cache.current().nearest(&embedding(1)), Ok(None));
}

#[tokio::test]
async fn a_reader_that_requires_a_newer_version_fetches_it_at_once() {
    let (store, gallery) = gallery();
    let cache = Arc::new(GalleryCache::new(gallery.clone()));
    let wanted = gallery.add("Ada", vec![embedding(1)], model("m")).await.unwrap().version;
    let before = store.reads();
    let seen = join_all((0..20).map(|_| cache.at_least(wanted))).await;
    assert!(seen.iter().all(|gallery| gallery.version == wanted));
    // One read of the manifest and one of its part serve all callers that wait.
    assert_eq!(store.reads() - before, 2);
    assert_eq!(cache.at_least(wanted).await.version, wanted);
    assert_eq!(store.reads() - before, 2);
}

#[tokio::test]
async fn a_missing_version_is_requested_at_most_every_50_ms() {
    let (store, gallery) = gallery();
    let cache = GalleryCache::new(gallery);
    let start = std::time::Instant::now();
    while store.reads() < 3 {
        assert_eq!(cache.at_least(7).await.version, 0);
        tokio::task::yield_now().await;
    }
    // However slow the machine, the second and the third read each waited for 50 ms.
    assert!(start.elapsed() >= std::time::Duration::from_millis(100));
}

#[tokio::test]
async fn an_unreadable_gallery_is_an_error_that_names_the_object() {
    use rollcall::cloud::{ObjectStore as _, Precondition};
    let (store, gallery) = gallery();
    store.put(BUCKET, KEY, "nonsense".into(), Precondition::Always).await.unwrap();
    assert!(gallery.manifest().await.unwrap_err().to_string().contains("gallery/current"));
    let cache = GalleryCache::new(gallery);
    assert!(cache.refresh().await.is_err());
    assert_eq!(cache.at_least(3).await.version, 0);
}
