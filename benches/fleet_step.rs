//! Measures a decision with 1,000 and with 10,000 instances, for each kind of event. Run with `cargo bench --bench
//! fleet_step`.

use std::time::Duration;

use divan::Bencher;
use rollcall::{
    cloud::{Depth, Instance, InstanceId, InstanceState},
    fleet::{Action, Event, FleetCore, Timestamp},
    settings::{Layers, Machine, Policy, Settings},
};

const SIZES: [usize; 2] = [1_000, 10_000];
const POLICIES: [Policy; 4] = [Policy::OnePerJob, Policy::Backlog, Policy::Deadline, Policy::Adaptive];

fn main() {
    divan::main();
}

/// Returns instances in several states: most are running, some are changing their state, some are stopped.
fn instances(n: usize, tick: usize) -> Vec<Instance> {
    let state = |i: usize| match i % 10 {
        0 | 1 => InstanceState::Pending,
        2 => InstanceState::Stopped,
        3 => InstanceState::Stopping,
        _ => InstanceState::Running,
    };
    let instance = |i: usize| Instance {
        id: InstanceId(format!("i-{i:017x}")),
        name: format!("app-tier-instance-{i}"),
        // One in a hundred changes from one description to the next.
        state: if tick % 2 == 1 && i % 100 == 4 { InstanceState::Stopping } else { state(i) },
        token: format!("18c2d-{:x}", i / 10),
        pid: None,
        reason: None,
        unresponsive: false,
        outdated: false,
        came_up: None,
    };
    (0..n).map(instance).collect()
}

struct Fleet {
    core: FleetCore,
    now: Timestamp,
    generation: u64,
}

impl Fleet {
    fn new(n: usize, policy: Policy) -> Self {
        let layers = Layers::load(None, Default::default()).expect("defaults");
        let settings = Settings::from_layers(&layers, Machine::with_cores(4)).expect("valid");
        let mut rules = settings.fleet_rules(Duration::ZERO);
        (rules.policy, rules.max_instances, rules.keep_stopped) = (policy, n, n);
        (rules.boot_timeout, rules.silent_timeout) = (Duration::from_secs(1 << 30), None);
        let mut fleet = Self { core: FleetCore::new(rules, 1), now: Timestamp::START, generation: 0 };
        fleet.step(Event::Tick);
        fleet.describe(instances(n, 0));
        fleet.step(Event::Depth(Ok(depth(n))));
        fleet
    }

    fn step(&mut self, event: Event) {
        self.now = self.now + Duration::from_millis(100);
        let step = self.core.step(event, self.now);
        divan::black_box(step.wake_at);
        for action in step.actions {
            if let Action::Describe { generation } = action {
                self.generation = generation;
            }
        }
    }

    fn describe(&mut self, instances: Vec<Instance>) {
        self.step(Event::Described { generation: self.generation, result: Ok(instances) });
        // Requests the next description.
        self.now = self.now + Duration::from_secs(60);
        self.step(Event::Changed);
    }
}

/// Returns a depth of as many jobs as instances.
fn depth(n: usize) -> Depth {
    Depth { visible: n as u64 / 2, in_flight: n as u64 / 2, delayed: 0 }
}

#[divan::bench(args = SIZES, consts = [0, 1, 2])]
fn depth_read<const P: usize>(bencher: Bencher, n: usize) {
    let mut fleet = Fleet::new(n, POLICIES[P]);
    bencher.bench_local(|| fleet.step(Event::Depth(Ok(depth(n)))));
}

#[divan::bench(args = SIZES)]
fn served(bencher: Bencher, n: usize) {
    let mut fleet = Fleet::new(n, Policy::OnePerJob);
    let worker = InstanceId(format!("i-{:017x}", n / 2 + 5));
    bencher.bench_local(|| {
        let (worker, busy) = (worker.clone(), Duration::from_millis(20));
        fleet.step(Event::Served { worker, jobs: 1, busy });
    });
}

/// Measures an upload and its end, two events, without and with what the policy learns from them.
#[divan::bench(args = SIZES, consts = [0, 3])]
fn job<const P: usize>(bencher: Bencher, n: usize) {
    let mut fleet = Fleet::new(n, POLICIES[P]);
    let worker = InstanceId(format!("i-{:017x}", n / 2 + 5));
    fleet.step(Event::Depth(Ok(Depth::default())));
    let job = |fleet: &mut Fleet| {
        fleet.step(Event::Hint { waiting: 1 });
        let (worker, busy) = (worker.clone(), Duration::from_millis(20));
        fleet.step(Event::Served { worker, jobs: 1, busy });
    };
    // As much as is remembered.
    (0..5_000).for_each(|_| job(&mut fleet));
    bencher.bench_local(|| job(&mut fleet));
}

/// Measures a description that equals the last one, including the time to drop it.
#[divan::bench(args = SIZES)]
fn described_alike(bencher: Bencher, n: usize) {
    let mut fleet = Fleet::new(n, Policy::OnePerJob);
    bencher.with_inputs(|| instances(n, 0)).bench_local_values(|instances| fleet.describe(instances));
}

/// Measures a description in which one instance in a hundred has changed.
#[divan::bench(args = SIZES)]
fn described_with_changes(bencher: Bencher, n: usize) {
    let mut fleet = Fleet::new(n, Policy::OnePerJob);
    let mut tick = 0;
    let make = || {
        tick += 1;
        instances(n, tick)
    };
    bencher.with_inputs(make).bench_local_values(|instances| fleet.describe(instances));
}

/// Measures the arrival of jobs for the whole fleet while all instances are stopped: all must be started.
#[divan::bench(args = SIZES)]
fn start_all(bencher: Bencher, n: usize) {
    let make = || {
        let mut fleet = Fleet::new(n, Policy::OnePerJob);
        let stopped = instances(n, 0).into_iter().map(|i| Instance { state: InstanceState::Stopped, ..i }).collect();
        fleet.step(Event::Depth(Ok(Depth::default())));
        fleet.describe(stopped);
        fleet
    };
    bencher.with_inputs(make).bench_local_refs(|fleet| fleet.step(Event::Depth(Ok(depth(n)))));
}
