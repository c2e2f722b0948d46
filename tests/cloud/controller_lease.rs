//! Of several controllers, only one acts at a time, and another takes over when it dies or releases the lease.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{join_all, pending, select_all};
use rollcall::cloud::{
    CloudError, CloudResult, ETag, Object, ObjectInfo, ObjectStore, Precondition, lease::Lease, local::LocalObjects,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

const TIME: Duration = Duration::from_secs(30);

/// Creates `n` processes' leases on one object.
fn leases(n: usize) -> (TempDir, Arc<LocalObjects>, Vec<Lease>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Arc::new(LocalObjects::open(folder.path()).expect("a store"));
    let lease = |n| Lease::new(store.clone(), "state", "controller", &format!("node {n}"), TIME);
    let leases = (0..n).map(lease).collect();
    (folder, store, leases)
}

#[tokio::test(start_paused = true)]
async fn only_one_of_several_contenders_acquires_the_lease() {
    let (_folder, _store, leases) = leases(8);
    let contenders: Vec<_> = leases.iter().map(|lease| Box::pin(lease.acquire())).collect();
    let (mut held, _, others) = select_all(contenders).await;
    tokio::select! {
        () = held.lost() => panic!("it renews for as long as it lives"),
        _ = select_all(others) => panic!("two act"),
        () = sleep(20 * TIME) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_holder_dies_another_takes_over_in_time_with_a_higher_epoch() {
    let (_folder, _store, leases) = leases(2);
    let mut held = leases[0].acquire().await;
    let other = tokio::spawn({
        let lease = leases[1].clone();
        async move { lease.acquire().await }
    });
    assert!(timeout(5 * TIME, held.lost()).await.is_err(), "it renews for as long as it lives");
    assert!(!other.is_finished());
    let epoch = held.epoch();
    drop(held);
    let died = Instant::now(); // of the paused clock
    let held = other.await.expect("no panic");
    assert_eq!(held.epoch(), epoch + 1);
    assert!(died.elapsed() <= TIME * 4 / 3, "{:?}", died.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_without_waiting_for_its_expiry() {
    let (_folder, _store, leases) = leases(2);
    let held = leases[0].acquire().await;
    let other = tokio::spawn({
        let lease = leases[1].clone();
        async move { lease.acquire().await }
    });
    sleep(TIME / 2).await;
    let epoch = held.epoch();
    held.release().await;
    let released = Instant::now();
    assert_eq!(other.await.expect("no panic").epoch(), epoch + 1);
    assert!(released.elapsed() <= TIME / 3, "{:?}", released.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_holder_notices_that_its_lease_was_taken() {
    let (_folder, store, leases) = leases(1);
    let mut held = leases[0].acquire().await;
    store.put("state", "controller", "taken by force".into(), Precondition::Always).await.expect("written");
    timeout(TIME, held.lost()).await.expect("it notices at its next renewal");
}

/// How calls to the store behave.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Calls {
    Work,
    /// They return an error at once.
    Fail,
    /// They never return.
    Hang,
    /// They are carried out, but return an error.
    LoseAnswers,
}

/// The connection of one process to the store.
struct Connection {
    store: Arc<LocalObjects>,
    calls: Mutex<Calls>,
    /// When the last write that succeeded began.
    written: Mutex<Instant>,
    /// The tags of all versions that were written.
    versions: Mutex<HashSet<String>>,
}

impl Connection {
    fn new(store: Arc<LocalObjects>) -> Arc<Self> {
        Arc::new(Self {
            store,
            calls: Mutex::new(Calls::Work),
            written: Mutex::new(Instant::now()),
            versions: Mutex::default(),
        })
    }

    fn calls(&self, calls: Calls) {
        *self.calls.lock().expect("no panic") = calls;
    }

    async fn call(&self) -> CloudResult<()> {
        let calls = *self.calls.lock().expect("no panic");
        match calls {
            Calls::Work | Calls::LoseAnswers => Ok(()),
            Calls::Fail => Err(CloudError::Unavailable("no network".into())),
            Calls::Hang => pending().await,
        }
    }
}

#[async_trait]
impl ObjectStore for Connection {
    async fn put(&self, bucket: &str, key: &str, bytes: Bytes, when: Precondition) -> CloudResult<ETag> {
        self.call().await?;
        let began = Instant::now();
        let etag = self.store.put(bucket, key, bytes, when).await?;
        assert!(self.versions.lock().expect("no panic").insert(etag.0.clone()), "a standby would see no change");
        *self.written.lock().expect("no panic") = began;
        match *self.calls.lock().expect("no panic") {
            Calls::LoseAnswers => Err(CloudError::Unavailable("the answer was lost".into())),
            _ => Ok(etag),
        }
    }

    async fn get(&self, bucket: &str, key: &str) -> CloudResult<Object> {
        self.call().await?;
        self.store.get(bucket, key).await
    }

    async fn get_if_changed(&self, bucket: &str, key: &str, etag: &ETag) -> CloudResult<Option<Object>> {
        self.call().await?;
        self.store.get_if_changed(bucket, key, etag).await
    }

    async fn list(&self, bucket: &str, prefix: &str) -> CloudResult<Vec<ObjectInfo>> {
        self.call().await?;
        self.store.list(bucket, prefix).await
    }

    async fn delete(&self, bucket: &str, key: &str) -> CloudResult<()> {
        self.call().await?;
        self.store.delete(bucket, key).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_reach_the_store_gives_up_before_another_may_act() {
    for calls in [Calls::Fail, Calls::Hang] {
        let (_folder, store, leases) = leases(1);
        let connection = Connection::new(store);
        let mut held = Lease::new(connection.clone(), "state", "controller", "cut off", TIME).acquire().await;
        let epoch = held.epoch();
        let other = tokio::spawn({
            let lease = leases[0].clone();
            async move { (lease.acquire().await.epoch(), Instant::now()) }
        });
        assert!(timeout(2 * TIME, held.lost()).await.is_err(), "{calls:?}: it renews while it can");
        connection.calls(calls);
        timeout(2 * TIME, held.lost()).await.unwrap_or_else(|_| panic!("{calls:?}: the holder never gives up"));

        let gave_up = Instant::now();
        let renewed = *connection.written.lock().expect("no panic");
        assert!(gave_up < renewed + TIME, "{calls:?}: {:?} after its last renewal", gave_up - renewed);
        assert!(!other.is_finished(), "{calls:?}: the other must wait");
        let (next_epoch, taken) = timeout(2 * TIME, other).await.expect("it takes over").expect("no panic");
        assert!(taken >= renewed + TIME, "{calls:?}: {:?} after the last renewal", taken - renewed);
        assert_eq!(next_epoch, epoch + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_keeps_the_lease_through_a_short_outage() {
    let (_folder, store, leases) = leases(1);
    let connection = Connection::new(store);
    let mut held = Lease::new(connection.clone(), "state", "controller", "node", TIME).acquire().await;
    let other = tokio::spawn({
        let lease = leases[0].clone();
        async move { lease.acquire().await }
    });
    for _ in 0..5 {
        connection.calls(Calls::Fail);
        assert!(timeout(TIME / 3, held.lost()).await.is_err(), "it tries again");
        connection.calls(Calls::Work);
        assert!(timeout(TIME, held.lost()).await.is_err(), "it has renewed in time");
    }
    assert!(!other.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_cancelled_or_with_a_lost_response_is_recognised_as_ours() {
    let (_folder, store, leases) = leases(1);
    let connection = Connection::new(store);
    let mut held = Lease::new(connection.clone(), "state", "controller", "node", TIME).acquire().await;
    let epoch = held.epoch();
    let other = tokio::spawn({
        let lease = leases[0].clone();
        async move { lease.acquire().await.epoch() }
    });
    for _ in 0..5 {
        connection.calls(Calls::LoseAnswers);
        assert!(timeout(TIME / 3, held.lost()).await.is_err(), "the versions that it finds are its own");
        connection.calls(Calls::Work);
        assert!(timeout(TIME, held.lost()).await.is_err(), "it goes on");
    }
    connection.calls(Calls::LoseAnswers);
    assert!(timeout(TIME * 2 / 5, held.lost()).await.is_err(), "one more renewal without an answer");
    connection.calls(Calls::Work);
    assert!(!other.is_finished());
    held.release().await;
    let next = timeout(TIME / 3, other).await.expect("the release goes through").expect("no panic");
    assert_eq!(next, epoch + 1);
}

#[tokio::test(start_paused = true)]
async fn epochs_only_rise() {
    let (_folder, store, leases) = leases(3);
    let mut last = 0;
    for (n, lease) in leases.iter().cycle().take(9).enumerate() {
        if n == 5 {
            store.delete("state", "controller").await.expect("deleted");
            while rollcall::clock::now_ms() <= last {} // the epochs so far rose faster than the clock
        }
        let held = lease.acquire().await;
        assert!(held.epoch() > last, "also after its object was deleted");
        last = held.epoch();
        held.release().await;
    }
    let racers = join_all(leases.iter().map(|lease| timeout(TIME / 10, lease.acquire()))).await;
    assert_eq!(racers.into_iter().flatten().count(), 1);
}
