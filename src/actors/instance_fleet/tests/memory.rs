//! What is learned, from one controller to the next.

use std::path::PathBuf;

use super::*;
use crate::{
    cloud::{ObjectStore as _, Precondition, local::LocalObjects},
    fleet::Policy,
    fleet_memory::{BootMemory, EVERY, KEY},
};

const BUCKET: &str = "state";

struct Store {
    objects: Arc<LocalObjects>,
    folder: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { objects: Arc::new(LocalObjects::open(folder.path()).expect("a store")), folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("objects").join(BUCKET).join(KEY)
    }

    async fn put(&self, bytes: &'static [u8]) {
        self.objects.put(BUCKET, KEY, bytes.into(), Precondition::Always).await.expect("written");
    }

    async fn read(&self) -> Option<String> {
        let object = self.objects.get(BUCKET, KEY).await.ok()?;
        Some(String::from_utf8(object.bytes.to_vec()).expect("text"))
    }

    /// Starts a controller of a fleet that learns, `hours` after the first one.
    async fn fleet(&self, policy: Policy, hours: u64) -> World {
        let mut rules = settings().fleet_rules(Duration::from_secs(1_000_000 + 3600 * hours));
        rules.policy = policy;
        world_with(rules, Some(Memory::new(self.objects.clone(), BUCKET)), None).await
    }

    /// Starts a controller that launches this image, `hours` after the first one, and needs five instances.
    async fn fleet_of(&self, image: &str, hours: u64) -> World {
        let mut rules = settings().fleet_rules(Duration::from_secs(1_000_000 + 3600 * hours));
        (rules.policy, rules.max_instances) = (Policy::OnePerJob, 5);
        let boots = BootMemory::new(self.objects.clone(), BUCKET, image.to_owned());
        let world = world_with(rules, None, Some(boots)).await;
        assert!(world.fleet.sender().tell(DemandHint { waiting: 5 }));
        tokio::time::sleep(Duration::from_secs(1)).await;
        world
    }
}

impl World {
    /// Uploads a job, which is done at once, every few minutes.
    async fn serve(&self, jobs: u64) {
        for _ in 0..jobs {
            assert!(self.fleet.sender().tell(DemandHint { waiting: 1 }));
            assert!(self.fleet.sender().tell(DemandHint { waiting: 0 }));
            tokio::time::sleep(Duration::from_secs(100)).await;
        }
    }

    /// Returns the number of arrivals remembered.
    fn arrivals(&self) -> Option<u64> {
        self.shown.borrow().adaptive.map(|learned| learned.arrivals)
    }

    async fn retire(&self, leads: bool) {
        self.guardian.do_send(StandDown); // otherwise it is started again
        self.fleet.sender().ask(Retire { leads }).await.expect("the fleet is alive");
    }
}

#[actix::test]
async fn what_was_learned_survives_a_restart_and_a_crash() {
    tokio::time::pause();
    let store = Store::new();
    let first = store.fleet(Policy::Adaptive, 0).await;
    assert_eq!(first.arrivals(), Some(0));
    first.serve(2).await;
    first.retire(true).await;
    let kept = store.read().await.expect("kept at an orderly end");

    let second = store.fleet(Policy::Adaptive, 1).await;
    assert_eq!(second.arrivals(), Some(2));
    tokio::time::sleep(2 * EVERY).await;
    assert_eq!(store.read().await.as_ref(), Some(&kept), "nothing was added");
    second.serve(10).await;
    let latest = store.read().await.expect("kept from time to time");
    assert_ne!(latest, kept);

    let third = store.fleet(Policy::Adaptive, 2).await;
    let arrivals = third.arrivals().expect("it learns");
    assert!((5..=12).contains(&arrivals), "all but those of the last five minutes: {arrivals}");
}

#[actix::test]
async fn a_damaged_object_is_ignored_and_replaced() {
    tokio::time::pause();
    for damaged in [&b"{\"version\":1"[..], b"{\"version\":99}", b"\xFF\xFE", b""] {
        let store = Store::new();
        store.put(damaged).await;
        let world = store.fleet(Policy::Adaptive, 0).await;
        assert_eq!(world.arrivals(), Some(0));
        world.serve(1).await;
        assert!(world.cloud.launched() > 0, "it works without");
        world.retire(true).await;
        assert_eq!(store.fleet(Policy::Adaptive, 1).await.arrivals(), Some(1));
    }
}

#[actix::test]
async fn what_cannot_be_read_or_belongs_to_another_controller_is_not_overwritten() {
    tokio::time::pause();
    let store = Store::new();
    std::fs::create_dir_all(store.path()).expect("a folder in its place");
    let world = store.fleet(Policy::Adaptive, 0).await;
    std::fs::remove_dir(store.path()).expect("removed");
    world.serve(1).await;
    assert!(world.cloud.launched() > 0, "it works without");
    world.retire(true).await;
    assert_eq!(store.read().await, None, "the store could not be read");

    let world = store.fleet(Policy::Adaptive, 0).await;
    world.serve(1).await;
    world.retire(false).await;
    assert_eq!(store.read().await, None, "another controller leads");
}

#[actix::test]
async fn other_policies_keep_nothing() {
    tokio::time::pause();
    let store = Store::new();
    let world = store.fleet(Policy::Backlog, 0).await;
    world.serve(10).await;
    world.retire(true).await;
    assert_eq!((world.arrivals(), store.read().await), (None, None));
}

#[actix::test]
async fn failed_boots_are_counted_on_by_the_next_controller_of_the_same_image() {
    tokio::time::pause();
    let store = Store::new();
    let first = store.fleet_of("ami-1", 0).await;
    assert_eq!(first.cloud.launched(), 5, "all at once");
    let failed = |world: &World| world.shown.borrow().degraded.as_ref().map(|degraded| degraded.failed_boots);
    first.shown.clone().wait_for(|view| view.degraded.is_some()).await.expect("no instance ever appears");
    let counted = failed(&first).expect("degraded");
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.retire(false).await;

    let second = store.fleet_of("ami-1", 0).await;
    assert_eq!((failed(&second), second.cloud.launched()), (Some(counted), 0), "another one leads: the pause goes on");
    second.retire(true).await;
    let third = store.fleet_of("ami-1", 1).await;
    assert_eq!((failed(&third), third.cloud.launched()), (Some(counted), 1), "an orderly end: one is tried at once");
    third.retire(true).await;
    let other = store.fleet_of("ami-2", 1).await;
    assert_eq!((failed(&other), other.cloud.launched()), (None, 5), "nothing is known of it");
}

#[actix::test]
async fn boots_that_cannot_be_read_are_counted_from_zero() {
    tokio::time::pause();
    for damaged in [&b"{\"version\":1"[..], b"{\"version\":99,\"launches\":\"ami-1\",\"boots\":null}", b"\xFF", b""] {
        let store = Store::new();
        let put = store.objects.put(BUCKET, "controller-failed-boots", damaged.into(), Precondition::Always);
        put.await.expect("written");
        assert_eq!(store.fleet_of("ami-1", 0).await.cloud.launched(), 5);
    }
}
