//! The actor on a cloud that accepts every launch and shows none.

mod memory;

use std::sync::Mutex;

use actix::Addr;
use async_trait::async_trait;

use super::*;
use crate::{
    actors::{
        actor_ref::ActorRef,
        guardian::{Guardian, StandDown},
    },
    cloud::{CloudResult, Delivery, Depth, Instance, Message as QueueMessage, Receipt},
    fleet::FleetRules,
    testing::settings,
};

/// The cloud's API and the request queue.
#[derive(Default)]
struct Cloud {
    /// Number of instances of each launch.
    launches: Mutex<Vec<usize>>,
    descriptions: Mutex<usize>,
    changes: watch::Sender<u64>,
}

impl Cloud {
    fn launched(&self) -> usize {
        self.launches.lock().expect("no panic").iter().sum()
    }
}

#[async_trait]
impl Compute for Cloud {
    async fn launch(&self, token: &str, count: usize) -> CloudResult<Vec<InstanceId>> {
        self.launches.lock().expect("no panic").push(count);
        Ok((0..count).map(|n| InstanceId(format!("{token}-{n}"))).collect())
    }
    async fn start(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>> {
        ids.iter().map(|_| Ok(())).collect()
    }
    async fn terminate(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>> {
        ids.iter().map(|_| Ok(())).collect()
    }
    async fn describe(&self) -> CloudResult<Vec<Instance>> {
        *self.descriptions.lock().expect("no panic") += 1;
        Ok(Vec::new())
    }
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.changes.subscribe())
    }
}

#[async_trait]
impl Queue for Cloud {
    async fn send(&self, batch: Vec<QueueMessage>) -> Vec<CloudResult<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }
    async fn receive(&self, _: usize, _: Duration) -> CloudResult<Vec<Delivery>> {
        Ok(Vec::new())
    }
    async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }
    async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }
    async fn depth(&self) -> CloudResult<Depth> {
        Ok(Depth::default())
    }
}

struct World {
    cloud: Arc<Cloud>,
    fleet: ActorRef<InstanceFleet>,
    shown: watch::Receiver<Arc<FleetView>>,
    guardian: Addr<Guardian>,
}

/// Starts a fleet on the paused clock.
async fn world() -> World {
    tokio::time::pause();
    world_with(settings().fleet_rules(Duration::ZERO), None, None).await
}

/// Starts a fleet with these rules. The clock is paused.
async fn world_with(rules: FleetRules, memory: Option<Memory>, boots: Option<BootMemory>) -> World {
    let cloud = Arc::new(Cloud::default());
    let (show, shown) = watch::channel(Arc::new(FleetView::default()));
    let mut guardian = Guardian::builder();
    let fleet = guardian.actor_ref::<InstanceFleet>("fleet");
    let (compute, show) = (cloud.clone(), Arc::new(show));
    guardian.supervise(&fleet, move |notice| {
        let core = FleetCore::new(rules.clone(), 1);
        let fleet = InstanceFleet::new(core, None, compute.clone(), compute.clone(), show.clone(), notice);
        let fleet = fleet.with_boot_memory(boots.clone());
        match memory.clone() {
            Some(memory) => fleet.with_memory(memory),
            None => fleet,
        }
    });
    let guardian = guardian.start().expect("every actor was added");
    tokio::time::sleep(Duration::from_secs(10)).await;
    World { cloud, fleet, shown, guardian }
}

#[actix::test]
async fn the_latest_view_is_published_even_if_no_event_follows() {
    let mut world = world().await;
    for waiting in [3, 4, 5] {
        assert!(world.fleet.sender().tell(DemandHint { waiting }));
    }
    let began = Instant::now();
    world.shown.wait_for(|view| view.demand == 5).await.expect("the fleet is alive");
    assert!(began.elapsed() <= 2 * MIN_PUBLISH_INTERVAL, "{:?}", began.elapsed());
}

#[actix::test]
async fn a_change_reported_by_the_cloud_triggers_a_description_at_once() {
    let world = world().await;
    let descriptions = || *world.cloud.descriptions.lock().expect("no panic");
    tokio::time::sleep(Duration::from_millis(100)).await; // the next periodic one is due in almost a second
    let at_rest = descriptions();
    for change in 1..=2 {
        world.cloud.changes.send_modify(|version| *version += 1);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(descriptions(), at_rest + change);
    }
}

#[actix::test]
async fn a_fleet_that_is_retired_launches_nothing_more() {
    let world = world().await;
    assert_eq!(world.cloud.launched(), 0);
    assert!(world.fleet.sender().tell(DemandHint { waiting: 1 }));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let launched = world.cloud.launched();
    assert!(launched > 0);
    assert!(world.fleet.sender().tell(Retire { leads: true }));
    world.fleet.sender().tell(DemandHint { waiting: 100 });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.cloud.launched(), launched);
}

#[actix::test]
async fn decisions_and_what_the_cloud_answers_are_counted() {
    let recorder = crate::telemetry::recorder().expect("a recorder").build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let world = world().await;
    assert!(world.fleet.sender().tell(DemandHint { waiting: 3 }));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (launched, calls) = (world.cloud.launched(), world.cloud.launches.lock().expect("no panic").len());
    assert!(launched > 0);
    let decisions = world.shown.borrow().decisions.len();
    assert_eq!(decisions, calls);
    let rendered = || recorder.handle().render();
    for line in [
        format!("rollcall_instance_requests_total{{call=\"launch\",outcome=\"ok\"}} {launched}"),
        format!("rollcall_fleet_decisions_total{{kind=\"launch\"}} {decisions}"),
    ] {
        assert!(rendered().lines().any(|found| found == line), "{line} in {}", rendered());
    }
    // None of the launched instances ever appears, so the boots count as failed, and their terminations are requested.
    tokio::time::sleep(Duration::from_secs(600)).await;
    for name in [
        "rollcall_instance_boot_failures_total ",
        r#"rollcall_instance_terminations_total{cause="again"} "#,
        r#"rollcall_instance_requests_total{call="terminate",outcome="ok"} "#,
    ] {
        let line = rendered().lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        let count: Option<usize> = line.and_then(|count| count.parse().ok());
        assert!(count >= Some(launched), "{name} in {}", rendered());
    }
}
