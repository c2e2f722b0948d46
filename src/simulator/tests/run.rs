//! The course of a run: hints, wake-ups, its beginning and its end.

use super::{super::simulation::origin, *};
use rollcall_fleet::{Cause, InstanceId};

#[test]
fn the_controller_receives_hints_of_waiting_uploads_if_the_model_says_so() {
    let arrivals = [s(10), s(10), s(90)];
    let hints = |hints| {
        let outcome = run(&CloudModel { hints, ..model() }, &trace(100, &arrivals), vec![(s(0), launch(1))], 1);
        let hints = outcome.received.iter().filter_map(|(at, event)| match event {
            Event::Hint { waiting } => Some((at.as_secs(), *waiting)),
            _ => None,
        });
        hints.collect::<Vec<_>>()
    };
    assert_eq!(hints(true), [(10, 1), (10, 2), (26, 1), (27, 0), (90, 1), (91, 0)]);
    assert_eq!(hints(false), []);
}

#[test]
fn the_last_requested_wake_up_replaces_earlier_ones() {
    /// Requests a wake-up ten seconds later at each step.
    struct Ticker(Rc<RefCell<Vec<Time>>>);
    impl Controller for Ticker {
        fn step(&mut self, event: Event, now: Time) -> Decision {
            if event == Event::Tick {
                self.0.borrow_mut().push(now);
            }
            Decision { actions: Vec::new(), wake_at: Some(now + s(10)) }
        }
    }
    let ticks = Rc::default();
    let (model, trace) = (CloudModel { hints: true, ..model() }, trace(60, &[s(14), s(38)]));
    let cloud = CloudState::new(&model, None, &trace, Time::ZERO, 1);
    let (history, _) = Simulation::new(cloud, Box::new(Ticker(Rc::clone(&ticks)))).run();
    let ticks = ticks.take();
    assert_eq!(ticks[..6], [0, 10, 24, 34, 48, 58].map(s), "an upload replaces the wake-up requested before it");
    assert_eq!(history.end, s(60 + 6 * 3600 + 8), "a run without answers is cut off six hours after its trace");
}

#[test]
fn a_run_ends_once_trace_and_jobs_are_done_and_instances_at_rest() {
    let idle_stop = Some(IdleStop { idle: s(1), billing_minimum: s(0) });
    let ticks: Vec<_> = (1..100).map(|n| (s(10 * n), Action::ReadDepth)).collect();
    let end = |length, arrivals: &[Time], first: Action| {
        let script = [(s(0), first)].into_iter().chain(ticks.clone()).collect();
        run_with_idle_stop(&model(), idle_stop, &trace(length, arrivals), script, 1).history.end.as_secs()
    };
    assert_eq!(end(300, &[s(0)], launch(1)), 300, "the trace");
    assert!((26 + 10..26 + 45).contains(&end(5, &[s(0)], launch(1))), "the instance, which stops after 26 s");
    let terminate = Action::Terminate { ids: vec![InstanceId(format!("i-{:017x}", 0))], cause: Cause::Sweep };
    let script = vec![(s(1), terminate), (s(10), Action::ReadDepth)];
    let outcome = run(&CloudModel { warm: 1, ..model() }, &trace(5, &[]), script, 1);
    assert_eq!(outcome.usage.terminations, 1, "the shutdown of an instance");
    assert_eq!(end(5, &[s(0)], Action::ReadDepth), 990, "a job without a worker: until nothing more happens");
    assert!(end(0, &[], Action::ReadDepth) < 1, "nothing to do");
}

#[test]
fn the_controller_has_been_up_for_30_to_60_s_when_the_trace_begins() {
    let origins: Vec<f64> = (1..=100).map(|seed| origin(seed).as_secs_f64()).collect();
    assert!(origins.iter().all(|origin| (30.0..60.0).contains(origin)), "{origins:?}");
    let (early, late) = (origins.iter().filter(|o| **o < 35.0).count(), origins.iter().filter(|o| **o > 55.0).count());
    assert!(early > 5 && late > 5, "{origins:?}");
}

#[test]
fn times_of_the_history_count_from_the_start_of_the_trace() {
    let (model, trace) = (model(), trace(10, &[s(3)]));
    let cloud = CloudState::new(&model, None, &trace, s(40), 1);
    let script = Script { actions: [(s(0), launch(1))].into(), received: Rc::default() };
    let (history, usage) = Simulation::new(cloud, Box::new(script)).run();
    assert_eq!(history.jobs[0].arrived, s(3));
    assert_eq!(
        history.jobs[0].started_at.map(|at| at.as_millis()),
        Some(3002),
        "the worker was ready before the trace"
    );
    assert_eq!(history.end, history.jobs[0].answered.expect("answered"));
    assert!(usage.billed > s(30), "what ran before the trace is billed as well: {:?}", usage.billed);
}
