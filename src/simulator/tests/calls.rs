//! API calls: latency, rate limits, lags, and the faults of a call.

use super::*;
use rollcall_fleet::{Cause, CloudError, InstanceId, InstanceState};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=40;

fn id(n: usize) -> InstanceId {
    InstanceId(format!("i-{n:017x}"))
}

fn terminate(n: usize) -> Action {
    Action::Terminate { ids: vec![id(n)], cause: Cause::Sweep }
}

#[test]
fn half_of_a_calls_latency_is_spent_in_each_direction() {
    let slow = CloudModel { call_latency: s(10), queue_latency: s(4), ..model() };
    let median = |mut times: Vec<Time>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    };
    let runs: Vec<_> = (1..=200)
        .map(|seed| run(&slow, &trace(60, &[]), vec![(s(0), launch(1)), (s(0), Action::ReadDepth)], seed))
        .collect();
    let arrived = median(runs.iter().map(|run| run.first(|sample| sample.pending > 0)).collect());
    let answered = |of: fn(&Event) -> bool| {
        median(runs.iter().map(|run| run.received.iter().find(|(_, e)| of(e)).expect("an answer").0).collect())
    };
    assert!((4.7..5.3).contains(&arrived), "{arrived}");
    let launched = answered(|event| matches!(event, Event::Launched { .. }));
    assert!((9.5..10.5).contains(&launched), "{launched}");
    let depth = answered(|event| matches!(event, Event::Depth(_)));
    assert!((3.8..4.2).contains(&depth), "a call to a queue has a latency of its own: {depth}");
}

#[test]
fn launches_beyond_the_rate_limit_are_throttled() {
    let launches = (0..8).map(|n| (s(1), Action::Launch { token: format!("t{n}"), count: 1 })).collect();
    let outcome = run(&model(), &trace(60, &[]), launches, 1);
    let throttled =
        |(_, event): &&(Time, Event)| matches!(event, Event::Launched { result: Err(CloudError::Throttled), .. });
    assert_eq!(outcome.received.iter().filter(throttled).count(), 3);
    let usage = &outcome.usage;
    assert_eq!((usage.throttles, usage.launches, usage.calls.launch), (3, 5, 8));
}

#[test]
fn a_launch_repeated_with_its_token_creates_nothing() {
    let outcome = run(&model(), &trace(60, &[]), vec![(s(1), launch(3)), (s(2), launch(3))], 1);
    let launched = outcome.received.iter().filter_map(|(_, event)| match event {
        Event::Launched { result, .. } => Some(result.clone().expect("launched")),
        _ => None,
    });
    assert_eq!(launched.collect::<Vec<_>>(), vec![vec![id(0), id(1), id(2)]; 2]);
    assert_eq!(outcome.usage.launches, 3);
}

#[test]
fn descriptions_and_counts_are_stale_by_up_to_their_lag() {
    let lagging = CloudModel { describe_lag: s(10), count_lag: s(10), ..model() };
    let reads = |at| [(s(at), Action::Describe { generation: at }), (s(at), Action::ReadDepth)];
    let script: Vec<_> = [(s(100), launch(1))].into_iter().chain([99, 105, 111].into_iter().flat_map(reads)).collect();
    let mut script = script;
    script.sort_by_key(|(at, _)| *at);
    let (mut instances, mut jobs) = ([0; 3], [0; 3]);
    for seed in SEEDS {
        let outcome = run(&lagging, &trace(200, &[s(100)]), script.clone(), seed);
        for (n, described) in outcome.described().iter().enumerate() {
            instances[n] += described.len();
        }
        let depths = outcome.received.iter().filter_map(|(_, event)| match event {
            Event::Depth(depth) => Some(depth.clone().expect("counts").visible),
            _ => None,
        });
        for (n, visible) in depths.enumerate() {
            jobs[n] += visible as usize;
        }
    }
    for [before, during, after] in [instances, jobs] {
        assert_eq!((before, after), (0, 40));
        assert!((10..=30).contains(&during), "{during} of 40: half of the answers are older than the change");
    }
    let fresh = run(&model(), &trace(200, &[s(100)]), script, 1);
    assert_eq!(fresh.described().iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 1]);
}

#[test]
fn a_description_has_the_name_the_token_and_the_state() {
    let described =
        run(&model(), &trace(60, &[]), vec![(s(1), launch(2)), (s(5), Action::Describe { generation: 1 })], 1)
            .described();
    let [instances] = &described[..] else { panic!("{described:?}") };
    let seen: Vec<_> = instances.iter().map(|i| (&i.id, &*i.name, &*i.token, i.state)).collect();
    let pending = InstanceState::Pending;
    assert_eq!(seen, [(&id(0), "x-1", "token", pending), (&id(1), "x-2", "token", pending)]);
}

#[test]
fn a_call_whose_answer_is_lost_has_taken_effect() {
    let faults = Faults { lost_answers: 1.0, ..model().faults };
    let lossy = CloudModel { warm: 2, faults, ..model() };
    let start = Action::Start { ids: vec![id(0)] };
    let script = vec![(s(1), launch(3)), (s(2), start), (s(3), terminate(1))];
    let outcome = run(&lossy, &trace(60, &[]), script, 1);
    let lost = |result: &Result<(), CloudError>| matches!(result, Err(CloudError::Unavailable(_)));
    let mut answers = 0;
    for (_, event) in &outcome.received {
        match event {
            Event::Launched { result, .. } => assert!(lost(&result.clone().map(|_| ())), "{event:?}"),
            Event::Started { results } | Event::Terminated { results } => assert!(lost(&results[0].1), "{event:?}"),
            _ => continue,
        }
        answers += 1;
    }
    assert_eq!(answers, 3);
    assert_eq!((outcome.usage.launches, outcome.usage.starts, outcome.at(s(4)).pending), (3, 1, 4));
    assert_eq!((outcome.at(s(4)).stopped, outcome.usage.terminations), (0, 1));
}

#[test]
fn without_capacity_launches_are_refused_or_partial_and_starts_refused() {
    let faults = Faults { capacity: 1.0, ..model().faults };
    let scarce = CloudModel { warm: 1, faults, ..model() };
    let script = vec![(s(1), launch(3)), (s(2), Action::Start { ids: vec![id(0)] }), (s(3), terminate(0))];
    let mut granted = [0; 3];
    for seed in SEEDS {
        let outcome = run(&scarce, &trace(60, &[]), script.clone(), seed);
        for (_, event) in &outcome.received {
            match event {
                Event::Launched { result: Ok(ids), .. } => granted[ids.len()] += 1,
                Event::Launched { result, .. } => {
                    assert!(matches!(result, Err(CloudError::NoCapacity(_))), "{result:?}");
                    granted[0] += 1;
                }
                Event::Started { results } => assert!(matches!(results[0].1, Err(CloudError::NoCapacity(_)))),
                Event::Terminated { results } => assert_eq!(results[0].1, Ok(())),
                _ => {}
            }
        }
        assert_eq!((outcome.usage.capacity_errors, outcome.usage.starts), (2, 0));
    }
    assert!(granted.iter().all(|n| *n > 5), "none, one and two of three: {granted:?}");
}

#[test]
fn throttling_is_reported_even_if_answers_are_lost() {
    let faults = Faults { lost_answers: 1.0, ..model().faults };
    let script = vec![(s(1), Action::Start { ids: vec![id(0)] }); 8];
    let outcome = run(&CloudModel { warm: 1, faults, ..model() }, &trace(60, &[]), script, 1);
    let answered = |wanted: fn(&CloudError) -> bool| {
        let of = |(_, event): &&(Time, Event)| matches!(event, Event::Started { results } if results[0].1.as_ref().is_err_and(wanted));
        outcome.received.iter().filter(of).count()
    };
    assert_eq!(answered(|error| *error == CloudError::Throttled), 3);
    assert_eq!(answered(|error| matches!(error, CloudError::Unavailable(_))), 5);
}

#[test]
fn a_start_needs_a_stopped_instance() {
    let warm = CloudModel { warm: 2, ..model() };
    let start = |n| Action::Start { ids: vec![id(n)] };
    let script = vec![
        (s(1), start(0)),
        (s(2), start(0)), // pending
        (s(3), terminate(1)),
        (s(4), start(1)), // shutting down
        (s(5), start(7)), // unknown
    ];
    let outcome = run(&warm, &trace(60, &[]), script, 1);
    let results = outcome.received.iter().filter_map(|(_, event)| match event {
        Event::Started { results } => Some(results[0].1.clone()),
        _ => None,
    });
    let results: Vec<_> = results.collect();
    assert!(
        matches!(results[..], [Ok(()), Ok(()), Err(CloudError::Conflict(_)), Err(CloudError::NotFound(_))]),
        "{results:?}"
    );
    assert_eq!((outcome.usage.starts, outcome.usage.calls.start, outcome.usage.calls.terminate), (1, 4, 1));
}

#[test]
fn a_termination_lets_a_running_worker_finish_its_job_and_no_other() {
    let slow = Trace { arrivals: vec![Arrival { at: s(0), service: s(60) }; 2], ..trace(10, &[]) };
    let outcome = run(&model(), &slow, vec![(s(0), launch(1)), (s(40), terminate(0))], 1);
    let [first, second] = &outcome.history.jobs[..] else { panic!("two jobs") };
    let answered = first.answered.expect("the job in flight is finished").as_secs_f64();
    assert!((85.0..85.1).contains(&answered), "{answered}");
    assert_eq!((second.started_at, outcome.usage.terminations), (None, 1));
    let up = outcome.history.samples.iter().rfind(|sample| sample.running > 0).expect("an instance was running");
    assert_eq!(up.in_flight, 1, "it runs until its job is finished: {up:?}");

    let early = run(&model(), &slow, vec![(s(0), launch(1)), (s(5), terminate(0))], 1);
    assert_eq!((early.usage.billed, early.usage.terminations), (Duration::ZERO, 1), "a pending one ends at once");
}
