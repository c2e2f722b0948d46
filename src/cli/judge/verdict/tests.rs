//! The comparison of policies.

use super::*;

/// A run with a cost, hours of waiting and a p99. Every request was answered.
fn report(cost: f64, waiting_hours: f64, p99: f64) -> Report {
    let text = serde_json::json!({
        "label": "", "policy": "", "trace": "", "seed": 1, "queue_quota": 0.0, "requests": 5, "completed": 5,
        "makespan_s": 0.0, "wait_s": {"p50": 0.0, "p90": 0.0, "p99": p99, "max": p99}, "waiting_hours": waiting_hours,
        "end_to_end_s": {"p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0}, "billed_instance_s": 0.0,
        "stopped_hours": 0.0, "cost": cost, "cost_parts": {"instances": 0.0, "disks": 0.0, "queues": 0.0},
        "least_cost": cost / 4.0, "launches": 0, "starts": 0, "terminations": 0, "peak_instances": 0,
        "api_calls": {"launch": 0, "start": 0, "stop": 0, "terminate": 0, "describe": 0, "depth": 0, "send": 0,
            "receive": 0, "delete": 0},
        "peak_per_second": {"send": 0, "receive": 0, "delete": 0, "replies": 0},
        "throttles": 0, "queue_throttles": 0, "capacity_errors": 0, "simulated_s": 0.0,
    });
    serde_json::from_value(text).expect("a report")
}

fn outcomes(judged: Report) -> Outcomes {
    let baselines =
        vec![report(4.0, 0.0, 9.0), report(2.0, 10.0, 60.0), report(3.0, 2.0, 20.0), report(2.5, 4.0, 31.0)];
    Outcomes {
        baselines,
        priced: vec![(0.1, Some(judged.clone())), (1.0, Some(judged.clone()))],
        targets: vec![(30.0, Some(judged.clone())), (5.0, Some(judged))],
    }
}

#[test]
fn waiting_has_its_price() {
    // At 0.1 per hour the baselines cost 4, 3, 3.2 and 2.9, at 1 per hour 4, 12, 5 and 6.5.
    let verdict = judge("t", &[outcomes(report(3.0, 0.4, 1.0)), outcomes(report(3.1, 0.0, 1.0))], Some("x"));
    let [cheap, dear] = &verdict.priced[..] else { panic!("{verdict:?}") };
    let medians = |priced: &Priced| priced.baselines.iter().map(|b| b.median).collect::<Vec<_>>();
    assert_eq!(medians(cheap), [4.0, 3.0, 3.2, 2.9]);
    assert_eq!(medians(dear), [4.0, 12.0, 5.0, 6.5]);
    let judged = cheap.judged.as_ref().expect("judged");
    assert_eq!((judged.seeds, judged.as_good), (2, 1), "3.04 is within 5 % of 2.9, 3.1 is not");
    assert_eq!((judged.ratio_median, judged.ratio_worst), (Some(3.1 / 2.9), Some(3.1 / 2.9)));
    assert_eq!((dear.judged.as_ref().expect("judged").as_good, judged.distance), (2, Some(4.0)));
}

#[test]
fn a_target_is_to_be_held_at_the_cost_of_the_cheapest_that_holds_it() {
    let runs = [report(3.1, 0.0, 30.0), report(3.2, 0.0, 3.0), report(1.0, 0.0, 30.1)].map(outcomes);
    let verdict = judge("t", &runs, Some("x"));
    let [long, short] = &verdict.targets[..] else { panic!("{verdict:?}") };
    // Only the first and the third baseline hold 30 s, at a cost of 3 and more; none holds 5 s.
    assert_eq!(long.baselines.iter().map(|b| b.held).collect::<Vec<_>>(), [3, 0, 3, 0]);
    let judged = long.judged.as_ref().expect("judged");
    assert_eq!((judged.held, judged.as_good), (2, 1), "3.1 is within 5 % of 3, 3.2 is not, and 30.1 s are too long");
    let judged = short.judged.as_ref().expect("judged");
    assert_eq!((judged.held, judged.as_good, judged.ratio_median), (1, 1, None));
}

#[test]
fn an_unanswered_request_is_never_good_enough() {
    let mut late = report(0.1, 0.0, 1.0);
    late.completed = 4;
    let verdict = judge("t", &[outcomes(late)], Some("x"));
    assert!(verdict.priced.iter().all(|priced| priced.judged.as_ref().is_some_and(|judged| judged.as_good == 0)));
    assert!(verdict.targets.iter().all(|target| target.judged.as_ref().is_some_and(|judged| judged.held == 0)));
}
