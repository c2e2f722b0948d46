//! What `ObjectStore` promises, as cases that hold for every adapter. The test file of an adapter makes a [`World`] and
//! instantiates them with `object_store_contract!`.

use std::{any::Any, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all, stream};
use rollcall::cloud::{CloudError, ETag, NewObject, ObjectInfo, ObjectStore, Precondition};

/// An adapter with an empty bucket of its own.
pub struct World {
    /// Two handles to one store: what one writes, the other reads.
    pub stores: [Arc<dyn ObjectStore>; 2],
    pub bucket: String,
    /// What must live as long as the adapter.
    pub _keep: Box<dyn Any + Send + Sync>,
}

impl World {
    fn store(&self) -> &dyn ObjectStore {
        &*self.stores[0]
    }

    async fn put(&self, key: &str, bytes: &[u8], when: Precondition) -> Result<ETag, CloudError> {
        self.store().put(&self.bucket, key, Bytes::copy_from_slice(bytes), when).await
    }

    async fn write(&self, key: &str, bytes: &[u8]) -> ETag {
        self.put(key, bytes, Precondition::Always).await.expect("written")
    }

    async fn read(&self, key: &str) -> Bytes {
        self.stores[1].get(&self.bucket, key).await.expect("there").bytes
    }
}

fn is_conflict<T: std::fmt::Debug>(result: &Result<T, CloudError>) -> bool {
    matches!(result, Err(CloudError::Conflict(_)))
}

fn is_not_found<T: std::fmt::Debug>(result: &Result<T, CloudError>) -> bool {
    matches!(result, Err(CloudError::NotFound(_)))
}

pub async fn bytes_come_back_as_they_were_put(world: &World) {
    let large: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    for (key, bytes) in [("empty", &b""[..]), ("zeros", &[0; 10]), ("deep/er/still.bin", b"x"), ("large", &large)] {
        let etag = world.write(key, bytes).await;
        let object = world.stores[1].get(&world.bucket, key).await.expect("there");
        assert!(object.bytes == bytes, "{key}");
        assert_eq!(object.etag, etag, "{key}");
    }
}

pub async fn an_object_that_was_never_put_is_not_found(world: &World) {
    let got = world.store().get(&world.bucket, "nothing").await;
    assert!(is_not_found(&got), "{got:?}");
    let got = world.store().get_if_changed(&world.bucket, "nothing", &ETag("x".into())).await;
    assert!(is_not_found(&got), "{got:?}");
}

pub async fn a_bucket_that_can_be_reached_passes_the_check(world: &World) {
    for _ in 0..2 {
        world.store().check(&world.bucket).await.expect("it can be reached, empty or not");
        world.write("deep/er", b"x").await;
    }
    let wrong = world.store().check("No/bucket").await;
    assert!(matches!(wrong, Err(CloudError::Invalid(_))), "{wrong:?}");
}

pub async fn a_later_put_replaces_the_object_and_its_version(world: &World) {
    let first = world.write("k", b"first").await;
    let second = world.write("k", b"second").await;
    assert_ne!(first, second);
    assert_eq!(world.read("k").await, "second");
}

pub async fn put_if_absent_writes_once(world: &World) {
    world.put("k", b"first", Precondition::Absent).await.expect("nothing is there");
    let second = world.put("k", b"second", Precondition::Absent).await;
    assert!(is_conflict(&second), "{second:?}");
    assert_eq!(world.read("k").await, "first");
    world.store().delete(&world.bucket, "k").await.expect("deleted");
    world.put("k", b"third", Precondition::Absent).await.expect("nothing is there again");
}

pub async fn put_if_match_replaces_only_that_version(world: &World) {
    let gone = world.put("k", b"x", Precondition::Match(ETag("00".into()))).await;
    assert!(is_conflict(&gone), "nothing to match: {gone:?}");
    let first = world.write("k", b"first").await;
    let second = world.put("k", b"second", Precondition::Match(first.clone())).await.expect("it is the first");
    let late = world.put("k", b"late", Precondition::Match(first)).await;
    assert!(is_conflict(&late), "{late:?}");
    assert_eq!(world.read("k").await, "second");
    world.put("k", b"third", Precondition::Match(second)).await.expect("the returned version is the present one");
}

pub async fn exactly_one_of_the_racing_writers_wins(world: &World) {
    let base = world.write("match", b"base").await;
    for (key, when) in [("absent", Precondition::Absent), ("match", Precondition::Match(base))] {
        let racers = (0..16).map(|n: usize| {
            let (store, when) = (world.stores[n % 2].clone(), when.clone());
            let bucket = world.bucket.clone();
            tokio::spawn(async move { store.put(&bucket, key, Bytes::from(format!("racer {n}")), when).await })
        });
        let results: Vec<_> = join_all(racers).await.into_iter().map(|r| r.expect("no panic")).collect();
        let winners: Vec<usize> = (0..16).filter(|n| results[*n].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{key}: {results:?}");
        assert!(results.iter().all(|r| r.is_ok() || is_conflict(r)), "{key}: {results:?}");
        assert_eq!(world.read(key).await, format!("racer {}", winners[0]), "{key}");
    }
}

pub async fn buffered_objects_are_readable_at_once_and_durable_after_a_flush(world: &World) {
    let buffered = |key: String, bytes: &'static str| NewObject {
        bucket: world.bucket.clone(),
        key,
        bytes: bytes.into(),
        when: Precondition::Always,
    };
    for (n, bytes) in ["first", "second"].into_iter().enumerate() {
        let objects = vec![buffered("buffered".into(), bytes), buffered(format!("many/{n}"), "")];
        world.store().put_buffered(objects).await.expect("written");
        assert_eq!(world.read("buffered").await, bytes);
    }
    world.store().flush().await.expect("durable");
    assert_eq!(world.read("buffered").await, "second");
    assert_eq!(world.store().list(&world.bucket, "many/").await.expect("a listing").len(), 2);
    let etag = world.stores[1].get(&world.bucket, "buffered").await.expect("there").etag;
    world.put("buffered", b"third", Precondition::Match(etag)).await.expect("it has a version like any other");
    let wrong = world.store().put_buffered(vec![buffered("../up".into(), "")]).await;
    assert!(matches!(wrong, Err(CloudError::Invalid(_))), "{wrong:?}");
}

pub async fn a_buffered_put_respects_its_precondition(world: &World) {
    let put = async |bytes: &'static str, when| {
        let object = NewObject { bucket: world.bucket.clone(), key: "k".into(), bytes: bytes.into(), when };
        world.store().put_buffered(vec![object]).await
    };
    put("first", Precondition::Absent).await.expect("nothing is there");
    let second = put("second", Precondition::Absent).await;
    assert!(matches!(second, Err(CloudError::Conflict(_))), "{second:?}");
    assert_eq!(world.read("k").await, "first");
    let etag = world.stores[1].get(&world.bucket, "k").await.expect("there").etag;
    put("third", Precondition::Match(etag.clone())).await.expect("it is the first");
    let late = put("late", Precondition::Match(etag)).await;
    assert!(matches!(late, Err(CloudError::Conflict(_))), "{late:?}");
    assert_eq!(world.read("k").await, "third");
    world.store().flush().await.expect("durable");
}

pub async fn only_a_changed_object_is_fetched_again(world: &World) {
    let first = world.write("k", b"first").await;
    let same = world.store().get_if_changed(&world.bucket, "k", &first).await;
    assert_eq!(same.expect("there"), None);
    let second = world.write("k", b"second").await;
    let changed = world.store().get_if_changed(&world.bucket, "k", &first).await.expect("there").expect("changed");
    assert_eq!((&changed.bytes[..], changed.etag), (&b"second"[..], second));
}

pub async fn a_reader_sees_a_whole_object(world: &World) {
    let versions: Vec<Bytes> = (b'a'..=b'd').map(|byte| Bytes::from(vec![byte; 300_000])).collect();
    world.write("k", &versions[0]).await;
    let writers = versions.iter().map(|version| async move {
        for _ in 0..5 {
            world.put("k", version, Precondition::Always).await.expect("written");
        }
    });
    let readers = (0..20).map(|_| async {
        let bytes = world.read("k").await;
        assert!(versions.contains(&bytes), "{} bytes of several versions", bytes.len());
    });
    tokio::join!(join_all(writers), join_all(readers));
}

pub async fn a_listing_has_every_key_with_the_prefix_in_order(world: &World) {
    let keys = ["a", "b/1", "b/2/x", "b/20", "b0", "c"];
    for key in keys {
        world.write(key, key.as_bytes()).await;
    }
    let list = async |prefix: &str| -> Vec<String> {
        let listed = world.store().list(&world.bucket, prefix).await.expect("a listing");
        assert!(listed.iter().all(|o: &ObjectInfo| o.size == o.key.len() as u64), "{listed:?}");
        let ages = listed.iter().map(|o| o.modified_ms.abs_diff(rollcall::clock::now_ms()));
        assert!(ages.max().is_none_or(|age| age < 600_000), "{listed:?}");
        listed.into_iter().map(|o| o.key).collect()
    };
    assert_eq!(list("").await, keys);
    assert_eq!(list("b/").await, ["b/1", "b/2/x", "b/20"]);
    assert_eq!(list("b/2").await, ["b/2/x", "b/20"]);
    assert_eq!(list("b").await, ["b/1", "b/2/x", "b/20", "b0"]);
    assert_eq!(list("nothing/").await, [""; 0]);
}

pub async fn a_listing_spans_more_than_one_page(world: &World) {
    let keys: Vec<String> = (0..1100).map(|n| format!("many/{n:04}")).collect();
    stream::iter(&keys).for_each_concurrent(32, |key| async { drop(world.write(key, b"").await) }).await;
    let listed = world.store().list(&world.bucket, "many/").await.expect("a listing");
    assert_eq!(listed.into_iter().map(|o| o.key).collect::<Vec<_>>(), keys);
}

pub async fn a_deleted_object_is_gone_and_deleting_nothing_is_fine(world: &World) {
    world.write("a/b", b"x").await;
    world.write("a/c", b"x").await;
    for _ in 0..2 {
        world.store().delete(&world.bucket, "a/b").await.expect("deleted");
    }
    let got = world.store().get(&world.bucket, "a/b").await;
    assert!(is_not_found(&got), "{got:?}");
    assert_eq!(world.read("a/c").await, "x");
    world.store().delete(&world.bucket, "never/there").await.expect("nothing to do");
}

pub async fn user_file_names_are_valid_keys(world: &World) {
    for key in [
        "with space.jpg",
        "plus+and&amp=?#%41.jpg",
        "Ünï-日本語 🙂.jpg",
        "a'b\"c.jpg",
        "~tilde",
        "trailing ",
        "...",
        ".hidden",
    ] {
        world.write(key, key.as_bytes()).await;
        assert_eq!(world.read(key).await, key);
        let listed = world.store().list(&world.bucket, key).await.expect("a listing");
        assert_eq!(listed.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), [key]);
    }
}

pub async fn keys_that_are_not_relative_paths_are_refused(world: &World) {
    let (long, long_segment) = ("x/".repeat(600) + "x", format!("a/{}", "x".repeat(256)));
    let short = ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\nb", "a\0b", "\u{7f}"];
    for key in short.into_iter().chain([&*long, &*long_segment]) {
        let wrong = |error: CloudError| matches!(error, CloudError::Invalid(_));
        let (store, bucket) = (world.store(), &world.bucket);
        assert!(store.put(bucket, key, Bytes::new(), Precondition::Always).await.is_err_and(wrong), "put {key:?}");
        assert!(store.get(bucket, key).await.is_err_and(wrong), "get {key:?}");
        assert!(store.get_if_changed(bucket, key, &ETag("x".into())).await.is_err_and(wrong), "get {key:?}");
        assert!(store.delete(bucket, key).await.is_err_and(wrong), "delete {key:?}");
    }
    assert_eq!(world.store().list(&world.bucket, "").await.expect("a listing"), []);
}

/// Defines tests of all cases on the adapter that `$world` (an async fn) makes; see [`contract_tests`].
#[macro_export]
macro_rules! object_store_contract {
    ($how:ident, $adapter:ident, $world:path) => {
        $crate::contract_tests! { $how, objects, $adapter, $world,
            bytes_come_back_as_they_were_put
            an_object_that_was_never_put_is_not_found
            a_bucket_that_can_be_reached_passes_the_check
            a_later_put_replaces_the_object_and_its_version
            put_if_absent_writes_once
            put_if_match_replaces_only_that_version
            exactly_one_of_the_racing_writers_wins
            buffered_objects_are_readable_at_once_and_durable_after_a_flush
            a_buffered_put_respects_its_precondition
            only_a_changed_object_is_fetched_again
            a_reader_sees_a_whole_object
            a_listing_has_every_key_with_the_prefix_in_order
            a_listing_spans_more_than_one_page
            a_deleted_object_is_gone_and_deleting_nothing_is_fine
            user_file_names_are_valid_keys
            keys_that_are_not_relative_paths_are_refused
        }
    };
}
