//! A termination whose answer was lost may still be carried out: its instance is not started in between, and is asked for
//! again until it is gone.

use std::time::Duration;

use rollcall::{
    cloud::{CloudError, Instance, InstanceId, InstanceState},
    fleet::{Action, Cause, Event, FleetCore, Timestamp},
    settings::{Layers, Policy, Settings},
};

const SECOND: Duration = Duration::from_secs(1);

/// A core of a cluster with one stopped instance, which it has just asked to be terminated.
fn swept() -> (FleetCore, InstanceId, Duration) {
    let layers = Layers::load(None, Default::default()).expect("defaults");
    let mut rules = Settings::from_layers(&layers, 4).expect("valid").fleet_rules(Duration::ZERO);
    (rules.policy, rules.keep_stopped, rules.sweep_every) = (Policy::OnePerJob, 0, 10 * SECOND);
    let (mut core, id, mut now) = (FleetCore::new(rules, 1), InstanceId("i-1".into()), Duration::ZERO);
    let mut event = Event::Tick;
    for _ in 0..1000 {
        let mut answer = None;
        let step = core.step(event, Timestamp::new(now));
        for action in step.actions {
            match action {
                Action::Describe { generation } => answer = Some(described(generation, &id, InstanceState::Stopped)),
                Action::Terminate { ids, cause } => {
                    assert_eq!((ids, cause), (vec![id.clone()], Cause::Sweep));
                    return (core, id, now);
                }
                _ => {}
            }
        }
        event = answer.unwrap_or_else(|| {
            now = step.wake_at.expect("a sweep is to come").since_start().max(now + SECOND / 100);
            Event::Tick
        });
    }
    panic!("it was never swept");
}

fn described(generation: u64, id: &InstanceId, state: InstanceState) -> Event {
    let (id, name) = (id.clone(), id.0.clone());
    let instance = Instance { id, name, state, token: "t".into(), pid: None, reason: None };
    Event::Described { generation, result: Ok(vec![instance]) }
}

/// What is started, launched, and terminated in the `seconds` after a job came, the cloud showing the instance stopped.
fn then_a_job_comes(core: &mut FleetCore, id: &InstanceId, from: Duration, seconds: u32) -> (bool, bool, bool) {
    let (mut now, until) = (from, from + seconds * SECOND);
    let (mut started, mut launched, mut terminated) = (false, false, false);
    let mut event = Event::Hint { waiting: 1 };
    while now < until {
        let mut answer = None;
        let step = core.step(event, Timestamp::new(now));
        for action in step.actions {
            match action {
                Action::Describe { generation } => answer = Some(described(generation, id, InstanceState::Stopped)),
                Action::Start { ids } => started |= ids.contains(id),
                Action::Launch { .. } => launched = true,
                Action::Terminate { ids, .. } => terminated |= ids.contains(id),
                Action::ReadDepth => {}
            }
        }
        event = answer.unwrap_or_else(|| {
            now = step.wake_at.map_or(until, |at| at.since_start().max(now + SECOND / 100));
            Event::Tick
        });
    }
    (started, launched, terminated)
}

#[test]
fn what_may_be_terminated_any_moment_is_not_started() {
    let (mut core, id, now) = swept();
    let lost = Err(CloudError::Unavailable("no answer".into()));
    core.step(Event::Terminated { results: vec![(id.clone(), lost)] }, Timestamp::new(now + SECOND / 10));
    let (started, launched, terminated) = then_a_job_comes(&mut core, &id, now + SECOND / 5, 120);
    assert!(!started, "it may be terminated at work");
    assert!(launched, "another serves the job");
    assert!(terminated, "the termination is asked for again");
}

#[test]
fn what_was_surely_not_terminated_is_started() {
    let (mut core, id, now) = swept();
    core.step(
        Event::Terminated { results: vec![(id.clone(), Err(CloudError::Throttled))] },
        Timestamp::new(now + SECOND / 10),
    );
    let (started, launched, _) = then_a_job_comes(&mut core, &id, now + SECOND / 5, 5);
    assert!(started && !launched);
}
