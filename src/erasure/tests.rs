//! Whoever was erased is in no result that is stored later, unless they were added again.

use super::*;
use crate::{job::Output, recognition::ModelId, testing::World};

/// Stores a result in which `name` was recognised by this version of the default gallery, as a worker does.
async fn store(world: &World, id: u128, name: &str, gallery_version: u64) {
    let result = serde_json::json!({ "label": name, "faces": [{ "name": name }], "gallery_version": gallery_version });
    let output = Output::json(&result, name).expect("JSON");
    world.results.store_output(&world.job(id, "photo"), "photo".into(), &output, "i-1").await.expect("stored");
    world.results.flush().await.expect("durable");
}

async fn exists(world: &World, id: u128) -> bool {
    world.results.get(JobId(id)).await.expect("read").is_some()
}

async fn records(world: &World) -> usize {
    world.objects.list(&world.settings.store.state, RECORDS).await.expect("listed").len()
}

struct Enrolled {
    world: World,
    erasures: Erasures,
    gallery: GalleryName,
}

/// Ada and Bob are in the gallery, whose version is 2.
async fn enrolled() -> Enrolled {
    let world = World::new().await;
    let gallery = GalleryName::default();
    let store = GalleryStores::new(world.objects.clone(), &world.settings).gallery(&gallery);
    for (name, embedding) in [("Ada", vec![1.0, 0.0]), ("Bob", vec![0.0, 1.0])] {
        store.add(name, vec![embedding], ModelId::known("m")).await.expect("added");
    }
    let erasures = Erasures::new(world.objects.clone(), &world.settings);
    Enrolled { world, erasures, gallery }
}

/// Returns a time at which an erasure that has just begun is over.
fn over(world: &World) -> u64 {
    now_ms() + (world.settings.gallery.refresh + WATCH).as_millis() as u64 + 1
}

#[tokio::test]
async fn results_stored_after_the_erasure_are_found_by_the_next_look() {
    let Enrolled { world, erasures, gallery } = enrolled().await;
    store(&world, 1, "Ada", 2).await;
    store(&world, 2, "Bob", 2).await;
    let (erasure, version) = erasures.erase(&gallery, "Ada").await.expect("erased");
    let erased = Erased { results: 1, images: 1, labels: 1, dead_letters: 0 };
    assert_eq!((erasure, version), (Erasure { photos: 1, reserved_name: false, erased }, 3));
    assert!(!exists(&world, 1).await);

    store(&world, 3, "Ada", 2).await; // by a worker that had read the gallery before
    assert!(erasures.look_again(now_ms()).await.expect("looked").is_some(), "the erasure is not over");
    assert!(!exists(&world, 3).await);
    store(&world, 4, "Ada", 2).await;
    assert_eq!(erasures.look_again(over(&world)).await, Ok(None), "this was the final one");
    assert!(!exists(&world, 4).await);
    assert!(exists(&world, 2).await);
    assert_eq!(records(&world).await, 0);
}

#[tokio::test]
async fn a_result_is_read_once_however_many_people_are_erased() {
    let Enrolled { world, erasures, gallery } = enrolled().await;
    erasures.erase(&gallery, "Ada").await.expect("erased");
    store(&world, 1, "somebody", 2).await;
    erasures.look_again(now_ms()).await.expect("looked");
    let seen = || async { erasures.0.seen.lock().await.clone() };
    assert_eq!(seen().await, HashSet::from([JobId(1)]));
    world.results.store_pending(JobId(2), "a.txt".into()).await.expect("stored");
    erasures.look_again(now_ms()).await.expect("looked");
    assert_eq!(seen().await, HashSet::from([JobId(1)]), "what is pending changes");

    // A result that was read before is found by the first look of the next erasure, and one from after it by the next.
    store(&world, 3, "Bob", 2).await;
    erasures.look_again(now_ms()).await.expect("looked");
    assert_eq!(erasures.erase(&gallery, "Bob").await.expect("erased").0.erased.results, 1);
    store(&world, 4, "Bob", 2).await;
    erasures.look_again(now_ms()).await.expect("looked");
    assert!(!exists(&world, 3).await && !exists(&world, 4).await);
    erasures.look_again(over(&world)).await.expect("looked");
    erasures.look_again(over(&world)).await.expect("looked");
    assert!(seen().await.is_empty(), "nothing is remembered without an erasure");
}

#[tokio::test]
async fn who_was_added_again_keeps_their_new_results() {
    let Enrolled { world, erasures, gallery } = enrolled().await;
    erasures.erase(&gallery, "Ada").await.expect("erased");
    let store_of = GalleryStores::new(world.objects.clone(), &world.settings).gallery(&gallery);
    let added = store_of.add("Ada", vec![vec![1.0, 0.0]], ModelId::known("m")).await.expect("added");
    let version = added.version;
    store(&world, 1, "Ada", version).await;
    erasures.look_again(now_ms()).await.expect("looked");
    assert!(exists(&world, 1).await);
    // An erasure of the new person finds it.
    assert_eq!(erasures.erase(&gallery, "Ada").await.expect("erased").0.erased.results, 1);
}

#[tokio::test]
async fn the_same_name_in_another_gallery_is_another_person() {
    let Enrolled { world, erasures, .. } = enrolled().await;
    store(&world, 1, "Ada", 2).await;
    let staff = GalleryName::try_from("staff".to_owned()).expect("a name");
    assert!(erasures.erase(&staff, "Ada").await.expect("nobody").0.is_empty());
    assert!(exists(&world, 1).await);
}

#[tokio::test]
async fn results_of_who_was_removed_before_are_erased_too() {
    let Enrolled { world, erasures, gallery } = enrolled().await;
    store(&world, 1, "Ada", 2).await;
    let store_of = GalleryStores::new(world.objects.clone(), &world.settings).gallery(&gallery);
    store_of.remove("Ada").await.expect("removed");
    let (erasure, _) = erasures.erase(&gallery, "Ada").await.expect("erased");
    assert_eq!((erasure.photos, erasure.erased.results), (0, 1));
}

#[tokio::test]
async fn an_erasure_whose_process_was_killed_is_completed() {
    let Enrolled { world, erasures, gallery } = enrolled().await;
    store(&world, 1, "Ada", 2).await;
    let pseudonyms = erasures.pseudonyms().await.expect("a key");
    let person = pseudonyms.of(&gallery, "Ada");
    // Long ago, and before any result was looked through.
    let record = Record { gallery, person, version: 1, begun_ms: now_ms() + 3_600_000, complete: false };
    erasures.put(&format!("{RECORDS}x.json"), &record).await.expect("put");
    erasures.look_again(now_ms()).await.expect("looked");
    assert!(!exists(&world, 1).await);
    store(&world, 2, "Ada", 1).await;
    erasures.look_again(now_ms()).await.expect("looked");
    assert!(exists(&world, 2).await, "from then on, only later results are read");
}

#[tokio::test]
async fn a_look_leaves_the_first_search_of_another_process_to_it() {
    let Enrolled { world, erasures, gallery } = enrolled().await;
    store(&world, 1, "Ada", 2).await;
    let pseudonyms = erasures.pseudonyms().await.expect("a key");
    let person = pseudonyms.of(&gallery, "Ada");
    let record = Record { gallery, person, version: 3, begun_ms: now_ms(), complete: false };
    let key = format!("{RECORDS}x.json");
    erasures.put(&key, &record).await.expect("put");
    assert!(erasures.look_again(now_ms()).await.expect("looked").is_some(), "it is looked at again");
    assert!(exists(&world, 1).await, "who deletes it counts it");

    // It is complete now, and had not seen this one.
    store(&world, 2, "Ada", 2).await;
    erasures.put(&key, &Record { complete: true, ..record.clone() }).await.expect("put");
    erasures.look_again(now_ms()).await.expect("looked");
    assert!(!exists(&world, 2).await);

    // Nobody completes this one.
    store(&world, 3, "Ada", 2).await;
    erasures.put(&format!("{RECORDS}y.json"), &record).await.expect("put");
    erasures.look_again(now_ms() + TAKE_OVER.as_millis() as u64 + 1).await.expect("looked");
    assert!(!exists(&world, 3).await);
}

#[tokio::test]
async fn a_search_that_fails_is_completed_by_the_next_look() {
    let Enrolled { world, erasures, gallery } = enrolled().await;
    store(&world, 1, "Ada", 2).await;
    let person = erasures.pseudonyms().await.expect("a key").of(&gallery, "Ada");
    let record = Record { gallery, person, version: 3, begun_ms: now_ms(), complete: false };
    let key = format!("{RECORDS}x.json");
    erasures.put(&key, &record).await.expect("put");
    erasures.note_search(&key, Some(true));
    erasures.look_again(now_ms()).await.expect("looked");
    assert!(exists(&world, 1).await, "it goes on");
    erasures.note_search(&key, Some(false));
    erasures.look_again(now_ms()).await.expect("looked");
    assert!(!exists(&world, 1).await);
    assert!(erasures.0.searches.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn the_record_does_not_contain_the_name_and_labels_cannot_be_erased() {
    let Enrolled { world, erasures, gallery } = enrolled().await;
    erasures.erase(&gallery, "Ada").await.expect("erased");
    let state = &world.settings.store.state;
    let listed = world.objects.list(state, RECORDS).await.expect("listed");
    let record = world.objects.get(state, &listed[0].key).await.expect("the record");
    assert!(!String::from_utf8_lossy(&record.bytes).contains("Ada"));
    for label in ["unknown", "no face", ""] {
        assert!(matches!(erasures.erase(&gallery, label).await, Err(GalleryError::Refused(_))), "{label:?}");
    }
}

#[test]
fn the_looks_after_an_erasure_become_rarer_and_the_final_one_is_when_it_is_over() {
    let seconds = Duration::from_secs;
    let (mut age, mut looks) = (Duration::ZERO, Vec::new());
    while age <= seconds(602) {
        age += pause(age, seconds(602));
        looks.push(age.as_secs());
    }
    assert_eq!(looks, [5, 10, 15, 22, 33, 50, 75, 113, 170, 256, 384, 576, 602]);
}

#[tokio::test]
async fn a_name_without_photos_is_something_to_erase() {
    let Enrolled { world, erasures, gallery } = enrolled().await;
    let store = GalleryStores::new(world.objects.clone(), &world.settings).gallery(&gallery);
    assert!(store.reserve_name("Cleo").await.expect("reserved"));
    let (erasure, _) = erasures.erase(&gallery, "Cleo").await.expect("erased");
    assert!(erasure.reserved_name && !erasure.is_empty(), "{erasure:?}");
    let json = serde_json::to_value(erasure).expect("JSON");
    assert_eq!((&json["reserved_name"], &json["photos"]), (&true.into(), &0.into()));
    assert!(store.reserved_names().await.expect("read").is_empty());
    let (again, _) = erasures.erase(&gallery, "Cleo").await.expect("erased");
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(serde_json::to_value(again).expect("JSON").get("reserved_name"), None);
}
