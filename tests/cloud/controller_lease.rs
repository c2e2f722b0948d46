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

const LEASE_DURATION: Duration = Duration::from_secs(30);

/// Creates `n` handles of one lease, each of its own process.
fn leases(n: usize) -> (TempDir, Arc<LocalObjects>, Vec<Lease>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Arc::new(LocalObjects::open(folder.path()).expect("a store"));
    let lease = |n| Lease::new(store.clone(), "state", "controller", &format!("node {n}"), LEASE_DURATION);
    let leases = (0..n).map(lease).collect();
    (folder, store, leases)
}

#[tokio::test(start_paused = true)]
async fn only_one_of_several_contenders_acquires_the_lease() {
    let (_folder, _store, leases) = leases(8);
    let contenders: Vec<_> = leases.iter().map(|lease| Box::pin(lease.acquire())).collect();
    let (mut held, _, others) = select_all(contenders).await;
    tokio::select! {
        _ = held.ended() => panic!("a live holder does not lose its lease"),
        _ = select_all(others) => panic!("two contenders hold the lease"),
        () = sleep(20 * LEASE_DURATION) => {}
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
    assert!(timeout(5 * LEASE_DURATION, held.ended()).await.is_err(), "a live holder does not lose its lease");
    assert!(!other.is_finished());
    let epoch = held.epoch();
    drop(held);
    let died = Instant::now(); // on tokio's paused clock
    let held = other.await.expect("no panic");
    assert_eq!(held.epoch(), epoch + 1);
    assert!(died.elapsed() <= LEASE_DURATION * 4 / 3, "{:?}", died.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_without_waiting_for_its_expiry() {
    let (_folder, _store, leases) = leases(2);
    let held = leases[0].acquire().await;
    let other = tokio::spawn({
        let lease = leases[1].clone();
        async move { lease.acquire().await }
    });
    sleep(LEASE_DURATION / 2).await;
    let epoch = held.epoch();
    held.release().await;
    let released = Instant::now();
    assert_eq!(other.await.expect("no panic").epoch(), epoch + 1);
    assert!(released.elapsed() <= LEASE_DURATION / 3, "{:?}", released.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_holder_stops_when_the_lease_object_is_overwritten() {
    let (_folder, store, leases) = leases(1);
    let mut held = leases[0].acquire().await;
    store.put("state", "controller", "not a lease".into(), Precondition::Always).await.expect("written");
    timeout(LEASE_DURATION / 2, held.ended()).await.expect("the holder notices at its next renewal");
}

/// How calls to the store behave.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Behaviour {
    Succeed,
    /// They return an error at once.
    Fail,
    /// They never return.
    Hang,
    /// They are carried out, but return an error.
    LoseResponses,
    /// An earlier write of the holder is applied after the next read.
    ApplyLate,
}

/// The store as one process reaches it, with faults.
struct FaultyStore {
    store: Arc<LocalObjects>,
    behaviour: Mutex<Behaviour>,
    /// When the last write that succeeded began.
    written: Mutex<Instant>,
    /// The tags of all versions that were written.
    versions: Mutex<HashSet<String>>,
}

impl FaultyStore {
    fn new(store: Arc<LocalObjects>) -> Arc<Self> {
        Arc::new(Self {
            store,
            behaviour: Mutex::new(Behaviour::Succeed),
            written: Mutex::new(Instant::now()),
            versions: Mutex::default(),
        })
    }

    fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().expect("no panic") = behaviour;
    }

    /// Renews the lease as its holder does, by a call whose result the holder does not see.
    async fn apply_earlier_write(&self, bucket: &str, key: &str) {
        let object = self.store.get(bucket, key).await.expect("the lease");
        let mut lease: serde_json::Value = serde_json::from_slice(&object.bytes).expect("JSON");
        lease["renewal"] = (lease["renewal"].as_u64().expect("a number") + 1).into();
        let bytes = serde_json::to_vec(&lease).expect("JSON");
        self.store.put(bucket, key, bytes.into(), Precondition::Match(object.etag)).await.expect("written");
    }

    async fn before_call(&self) -> CloudResult<()> {
        let behaviour = *self.behaviour.lock().expect("no panic");
        match behaviour {
            Behaviour::Succeed | Behaviour::LoseResponses | Behaviour::ApplyLate => Ok(()),
            Behaviour::Fail => Err(CloudError::Unavailable("no network".into())),
            Behaviour::Hang => pending().await,
        }
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put(&self, bucket: &str, key: &str, bytes: Bytes, when: Precondition) -> CloudResult<ETag> {
        self.before_call().await?;
        let began = Instant::now();
        let etag = self.store.put(bucket, key, bytes, when).await?;
        assert!(self.versions.lock().expect("no panic").insert(etag.0.clone()), "a standby would see no change");
        *self.written.lock().expect("no panic") = began;
        match *self.behaviour.lock().expect("no panic") {
            Behaviour::LoseResponses => Err(CloudError::Unavailable("the response was lost".into())),
            _ => Ok(etag),
        }
    }

    async fn get(&self, bucket: &str, key: &str) -> CloudResult<Object> {
        self.before_call().await?;
        let found = self.store.get(bucket, key).await;
        if *self.behaviour.lock().expect("no panic") == Behaviour::ApplyLate {
            self.set(Behaviour::Succeed);
            self.apply_earlier_write(bucket, key).await;
        }
        found
    }

    async fn get_if_changed(&self, bucket: &str, key: &str, etag: &ETag) -> CloudResult<Option<Object>> {
        self.before_call().await?;
        self.store.get_if_changed(bucket, key, etag).await
    }

    async fn list(&self, bucket: &str, prefix: &str) -> CloudResult<Vec<ObjectInfo>> {
        self.before_call().await?;
        self.store.list(bucket, prefix).await
    }

    async fn delete(&self, bucket: &str, key: &str) -> CloudResult<()> {
        self.before_call().await?;
        self.store.delete(bucket, key).await
    }

    async fn check(&self, bucket: &str) -> CloudResult<()> {
        self.before_call().await?;
        self.store.check(bucket).await
    }
}

#[tokio::test]
async fn a_lease_is_renewed_although_earlier_writes_of_its_holder_are_applied_late() {
    let (_folder, store, _) = leases(0);
    let faulty = FaultyStore::new(store);
    let mut held = Lease::new(faulty.clone(), "state", "controller", "slow", LEASE_DURATION).acquire().await;
    faulty.apply_earlier_write("state", "controller").await;
    faulty.set(Behaviour::ApplyLate);
    held.regain().await.expect("nobody else has it");
    held.regain().await.expect("nor now");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_reach_the_store_gives_up_before_another_may_act() {
    for behaviour in [Behaviour::Fail, Behaviour::Hang] {
        let (_folder, store, leases) = leases(1);
        let faulty = FaultyStore::new(store);
        let mut held = Lease::new(faulty.clone(), "state", "controller", "cut off", LEASE_DURATION).acquire().await;
        let epoch = held.epoch();
        let other = tokio::spawn({
            let lease = leases[0].clone();
            async move { (lease.acquire().await.epoch(), Instant::now()) }
        });
        assert!(timeout(2 * LEASE_DURATION, held.ended()).await.is_err(), "{behaviour:?}: it renews while it can");
        faulty.set(behaviour);
        timeout(2 * LEASE_DURATION, held.ended())
            .await
            .unwrap_or_else(|_| panic!("{behaviour:?}: the holder never gives up"));

        let gave_up = Instant::now();
        let renewed = *faulty.written.lock().expect("no panic");
        assert!(gave_up < renewed + LEASE_DURATION, "{behaviour:?}: {:?} after its last renewal", gave_up - renewed);
        assert!(!other.is_finished(), "{behaviour:?}: the other must wait");
        let (next_epoch, taken) = timeout(2 * LEASE_DURATION, other).await.expect("it takes over").expect("no panic");
        assert!(taken >= renewed + LEASE_DURATION, "{behaviour:?}: {:?} after the last renewal", taken - renewed);
        assert_eq!(next_epoch, epoch + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_is_regained_unless_another_has_taken_it() {
    let (_folder, store, leases) = leases(1);
    let faulty = FaultyStore::new(store);
    let mut held = Lease::new(faulty.clone(), "state", "controller", "cut off", LEASE_DURATION).acquire().await;
    let epoch = held.epoch();
    for lost in [Behaviour::Fail, Behaviour::LoseResponses] {
        faulty.set(lost);
        timeout(2 * LEASE_DURATION, held.ended()).await.expect("it is lost");
        sleep(5 * LEASE_DURATION).await;
        assert!(matches!(held.regain().await, Err(CloudError::Unavailable(_))));
        faulty.set(Behaviour::Succeed);
        assert_eq!(held.regain().await, Ok(()));
        assert!(timeout(5 * LEASE_DURATION, held.ended()).await.is_err(), "it is renewed again");
        assert_eq!(held.epoch(), epoch);
    }
    faulty.set(Behaviour::Fail);
    timeout(2 * LEASE_DURATION, held.ended()).await.expect("it is lost");
    let mut other = leases[0].acquire().await;
    faulty.set(Behaviour::Succeed);
    assert!(matches!(held.regain().await, Err(CloudError::Conflict(_))));
    assert!(timeout(5 * LEASE_DURATION, other.ended()).await.is_err(), "the other one keeps it");
}

#[tokio::test(start_paused = true)]
async fn a_holder_keeps_the_lease_through_a_short_outage() {
    let (_folder, store, leases) = leases(1);
    let faulty = FaultyStore::new(store);
    let mut held = Lease::new(faulty.clone(), "state", "controller", "node", LEASE_DURATION).acquire().await;
    let other = tokio::spawn({
        let lease = leases[0].clone();
        async move { lease.acquire().await }
    });
    for _ in 0..5 {
        faulty.set(Behaviour::Fail);
        assert!(timeout(LEASE_DURATION / 3, held.ended()).await.is_err(), "the holder retries");
        faulty.set(Behaviour::Succeed);
        assert!(timeout(LEASE_DURATION, held.ended()).await.is_err(), "it has renewed in time");
    }
    assert!(!other.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_was_cancelled_or_lost_its_response_is_recognised() {
    let (_folder, store, leases) = leases(1);
    let faulty = FaultyStore::new(store);
    let mut held = Lease::new(faulty.clone(), "state", "controller", "node", LEASE_DURATION).acquire().await;
    let epoch = held.epoch();
    let other = tokio::spawn({
        let lease = leases[0].clone();
        async move { lease.acquire().await.epoch() }
    });
    for _ in 0..5 {
        faulty.set(Behaviour::LoseResponses);
        assert!(timeout(LEASE_DURATION / 3, held.ended()).await.is_err(), "the versions that it finds are its own");
        faulty.set(Behaviour::Succeed);
        assert!(timeout(LEASE_DURATION, held.ended()).await.is_err(), "the holder continues");
    }
    faulty.set(Behaviour::LoseResponses);
    assert!(timeout(LEASE_DURATION * 2 / 5, held.ended()).await.is_err(), "one more renewal without a response");
    faulty.set(Behaviour::Succeed);
    assert!(!other.is_finished());
    held.release().await;
    let next = timeout(LEASE_DURATION / 3, other).await.expect("the release goes through").expect("no panic");
    assert_eq!(next, epoch + 1);
}

#[tokio::test(start_paused = true)]
async fn epochs_only_rise() {
    let (_folder, store, leases) = leases(3);
    let mut last = 0;
    for (n, lease) in leases.iter().cycle().take(9).enumerate() {
        if n == 5 {
            store.delete("state", "controller").await.expect("deleted");
            while rollcall::clock::now_ms() <= last {} // a new object's first epoch is the clock's time
        }
        let held = lease.acquire().await;
        assert!(held.epoch() > last, "epochs increase, even after the object is deleted");
        last = held.epoch();
        held.release().await;
    }
    let racers = join_all(leases.iter().map(|lease| timeout(LEASE_DURATION / 10, lease.acquire()))).await;
    assert_eq!(racers.into_iter().flatten().count(), 1);
}
