//! What `Compute` promises, as cases that hold for every adapter. The test file of an adapter makes a [`World`] and
//! instantiates them with `compute_contract!`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use rollcall::cloud::{CloudError, Compute, Instance, InstanceId, InstanceState};
use ulid::Ulid;

use rollcall_testing::wait_until;

/// How long to wait for an expected change.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Stops an instance the way its cloud does.
pub type Stop = Box<dyn Fn(&InstanceId) -> BoxFuture<'static, ()> + Send + Sync>;

/// An adapter, and what the cases need to know about it.
pub struct World {
    /// The adapter under test, with no instances yet.
    pub compute: Arc<dyn Compute>,
    /// The same cloud for another cluster.
    pub other: Arc<dyn Compute>,
    /// Does what a booted instance does to become running, if the cloud does not do so itself.
    pub boot: Box<dyn Fn(&InstanceId) + Send + Sync>,
    /// Does what a running instance does to stop itself.
    pub stop: Stop,
    /// What the names of its instances begin with.
    pub name_prefix: String,
}

impl World {
    async fn launch(&self, count: usize) -> Vec<InstanceId> {
        let ids = self.compute.launch(&token(), count).await.expect("launched");
        assert_eq!(ids.len(), count);
        ids
    }

    /// Launches an instance and brings it into `state`.
    async fn instance(&self, state: InstanceState) -> InstanceId {
        let id = self.launch(1).await.remove(0);
        self.becomes(&id, InstanceState::Running).await;
        match state {
            InstanceState::Stopped => (self.stop)(&id).await,
            InstanceState::Terminated => all_ok(self.compute.terminate(std::slice::from_ref(&id)).await),
            _ => {}
        }
        self.becomes(&id, state).await;
        id
    }

    async fn find(&self, id: &InstanceId) -> Option<Instance> {
        self.compute.describe().await.expect("described").into_iter().find(|i| i.id == *id)
    }

    /// Waits until the instance is seen in `state`.
    async fn becomes(&self, id: &InstanceId, state: InstanceState) -> Instance {
        let what = format!("{id} becomes {state:?}");
        wait_until(&what, TIMEOUT, async || {
            if state == InstanceState::Running {
                (self.boot)(id);
            }
            self.find(id).await.is_some_and(|i| i.state == state)
        })
        .await;
        self.find(id).await.expect("it was seen just now")
    }
}

fn token() -> String {
    format!("contract-{}", Ulid::generate())
}

fn all_ok(results: Vec<Result<(), CloudError>>) {
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

fn is_conflict(results: &[Result<(), CloudError>]) -> bool {
    matches!(results, [Err(CloudError::Conflict(_))])
}

pub async fn launched_instances_become_running(world: &World) {
    let token = token();
    let ids = world.compute.launch(&token, 2).await.expect("launched");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 2, "{ids:?}");
    for id in &ids {
        let instance = world.becomes(id, InstanceState::Running).await;
        assert_eq!(instance.token, token);
        assert!(instance.name.starts_with(&world.name_prefix), "{}", instance.name);
    }
    let names: BTreeSet<String> =
        world.compute.describe().await.expect("described").into_iter().map(|i| i.name).collect();
    assert_eq!(names.len(), 2, "each has its own name: {names:?}");
}

pub async fn a_launch_with_the_same_token_is_idempotent(world: &World) {
    let token = token();
    let sorted = |ids: Vec<InstanceId>| ids.into_iter().collect::<BTreeSet<_>>();
    let launch = async || sorted(world.compute.launch(&token, 2).await.expect("launched"));
    let (first, second) = tokio::join!(launch(), launch());
    assert_eq!(first, second);
    for id in &first {
        world.becomes(id, InstanceState::Running).await;
    }
    assert_eq!(launch().await, first, "also while they are running");
    assert_eq!(world.compute.describe().await.expect("described").len(), 2);
}

pub async fn a_stopped_instance_keeps_its_identity_when_started(world: &World) {
    let id = world.instance(InstanceState::Stopped).await;
    let before = world.find(&id).await.expect("there");
    all_ok(world.compute.start(std::slice::from_ref(&id)).await);
    let after = world.becomes(&id, InstanceState::Running).await;
    assert_eq!((after.id, after.name, after.token), (before.id, before.name, before.token));
    assert_eq!(world.compute.describe().await.expect("described").len(), 1);
}

pub async fn starting_and_terminating_are_idempotent(world: &World) {
    let running = world.instance(InstanceState::Running).await;
    all_ok(world.compute.start(std::slice::from_ref(&running)).await);
    assert_eq!(world.find(&running).await.expect("there").state, InstanceState::Running);
    all_ok(world.compute.terminate(std::slice::from_ref(&running)).await);
    all_ok(world.compute.terminate(std::slice::from_ref(&running)).await);
    world.becomes(&running, InstanceState::Terminated).await;
    all_ok(world.compute.terminate(std::slice::from_ref(&running)).await);
}

pub async fn an_instance_can_be_terminated_in_any_state(world: &World) {
    let pending = world.launch(1).await.remove(0);
    let stopped = world.instance(InstanceState::Stopped).await;
    let running = world.instance(InstanceState::Running).await;
    let ids = [pending, stopped, running];
    all_ok(world.compute.terminate(&ids).await);
    for id in &ids {
        world.becomes(id, InstanceState::Terminated).await;
    }
}

pub async fn a_terminated_instance_does_not_start(world: &World) {
    let id = world.instance(InstanceState::Terminated).await;
    let started = world.compute.start(std::slice::from_ref(&id)).await;
    assert!(is_conflict(&started), "{started:?}");
}

pub async fn each_id_has_its_own_result(world: &World) {
    let unknown = InstanceId("i-0123456789abcdef0".into());
    let ids = [world.instance(InstanceState::Stopped).await, unknown, world.instance(InstanceState::Terminated).await];
    let check = |results: &[Result<(), CloudError>]| {
        assert!(matches!(results, [Ok(()), Err(CloudError::NotFound(_)), _]), "{results:?}");
    };
    let started = world.compute.start(&[ids[0].clone(), ids[2].clone()]).await;
    assert!(started[0].is_ok() && is_conflict(&started[1..]), "{started:?}");
    let started = world.compute.start(&ids).await;
    check(&started);
    assert!(is_conflict(&started[2..]), "{started:?}");
    world.becomes(&ids[0], InstanceState::Running).await;
    let terminated = world.compute.terminate(&ids).await;
    check(&terminated);
    assert_eq!(terminated[2], Ok(()));
    world.becomes(&ids[0], InstanceState::Terminated).await;
}

pub async fn calls_on_no_instances_do_nothing(world: &World) {
    assert_eq!(world.compute.start(&[]).await, []);
    assert_eq!(world.compute.terminate(&[]).await, []);
    assert_eq!(world.compute.describe().await.expect("described"), []);
}

pub async fn another_clusters_instances_are_not_seen(world: &World) {
    let theirs = world.other.launch(&token(), 1).await.expect("launched").remove(0);
    let ours = world.instance(InstanceState::Running).await;
    let seen: Vec<InstanceId> = world.compute.describe().await.expect("described").into_iter().map(|i| i.id).collect();
    assert_eq!(seen, [ours]);
    let seen: Vec<InstanceId> = world.other.describe().await.expect("described").into_iter().map(|i| i.id).collect();
    assert_eq!(seen, [theirs]);
}

/// Defines tests of all cases on the adapter that `$world` (an async fn) makes; see [`contract_tests`].
#[macro_export]
macro_rules! compute_contract {
    ($how:ident, $adapter:ident, $world:path) => {
        $crate::contract_tests! { $how, compute, $adapter, $world,
            launched_instances_become_running
            a_launch_with_the_same_token_is_idempotent
            a_stopped_instance_keeps_its_identity_when_started
            starting_and_terminating_are_idempotent
            an_instance_can_be_terminated_in_any_state
            a_terminated_instance_does_not_start
            each_id_has_its_own_result
            calls_on_no_instances_do_nothing
            another_clusters_instances_are_not_seen
        }
    };
}
