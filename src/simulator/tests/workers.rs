//! Workers: when they start, what they take, how they stop, and crashes.

use super::*;

const IDLE_STOP: IdleStop = IdleStop { idle: s(50), billing_minimum: s(60) };

#[test]
fn a_worker_has_one_job_per_thread_and_takes_the_oldest_first() {
    let arrivals = [ms(0), ms(100), ms(200), ms(300), ms(400)];
    for (threads, rounds) in [(1, [0, 1, 2, 3, 4]), (2, [0, 0, 1, 1, 2]), (8, [0, 0, 0, 0, 0])] {
        let outcome = run(&CloudModel { threads, ..model() }, &trace(10, &arrivals), vec![(s(0), launch(1))], 1);
        let starts = outcome.starts();
        let round: Vec<u64> = starts.iter().map(|at| (*at - starts[0]).as_secs()).collect();
        assert_eq!(round, rounds, "{threads} threads: {starts:?}");
        assert_eq!(outcome.history.samples.iter().map(|sample| sample.in_flight).max(), Some(threads.min(5) as u64));
    }
}

#[test]
fn a_free_worker_takes_a_job_within_the_poll_delay() {
    let late = CloudModel { poll_delay: s(10), ..model() };
    let arrivals: Vec<Time> = (1..=50).map(|n| s(100 * n)).collect();
    let outcome = run(&late, &trace(10, &arrivals), vec![(s(0), launch(1))], 1);
    let waits: Vec<f64> =
        outcome.starts().iter().zip(&arrivals).map(|(at, from)| (*at - *from).as_secs_f64()).collect();
    assert!(waits.iter().all(|wait| *wait < 10.01), "{waits:?}");
    let mean = waits.iter().sum::<f64>() / waits.len() as f64;
    assert!((4.0..6.0).contains(&mean), "{mean}");
}

#[test]
fn jobs_are_spread_over_the_free_workers() {
    let arrivals: Vec<Time> = (0..60).map(|n| s(100 + 2 * n)).collect();
    let outcome = run(&model(), &trace(10, &arrivals), vec![(s(0), launch(3))], 1);
    let mut served = std::collections::BTreeMap::<_, u32>::new();
    for (_, event) in &outcome.received {
        if let Event::Served { worker, jobs, busy } = event {
            assert_eq!((*jobs, *busy), (1, s(1)));
            *served.entry(worker.clone()).or_default() += 1;
        }
    }
    assert!(served.len() == 3 && served.values().all(|jobs| *jobs > 10), "{served:?}");
}

#[test]
fn cron_starts_workers_at_the_next_multiple_of_its_period() {
    let cron = CloudModel { cron: s(60), ..model() };
    for (launched, starts) in [(0, 60), (34, 60), (36, 120)] {
        let outcome = run(&cron, &trace(10, &[s(0)]), vec![(s(launched), launch(1))], 1);
        assert_eq!(outcome.starts(), [s(starts)], "launched at {launched} s, booted 25 s later");
    }
    let slow = CloudModel { worker_start: s(28), ..cron };
    let mut starts: Vec<f64> = (1..=100)
        .map(|seed| run(&slow, &trace(10, &[s(0)]), vec![(s(0), launch(1))], seed).starts()[0].as_secs_f64())
        .collect();
    starts.sort_by(f64::total_cmp);
    assert!(starts[0] > 70.0 && (86.0..90.0).contains(&starts[50]), "{} s, {} s", starts[0], starts[50]);
}

#[test]
fn an_idle_worker_polls_until_the_idle_stop_rule_applies() {
    // Running at 10 s, ready at 25 s: the idle limit of 50 s ends at 75 s, the billed minute at 70 s.
    let stop = |idle_stop| run_with_idle_stop(&model(), Some(idle_stop), &trace(10, &[]), vec![(s(0), launch(1))], 1);
    for (idle, stops, polls) in [(50, 75, 2), (20, 70, 2), (70, 95, 3)] {
        let outcome = stop(IdleStop { idle: s(idle), ..IDLE_STOP });
        let stopping = outcome.first(|sample| sample.stopping == 1).as_secs_f64();
        assert!((stops as f64..stops as f64 + 0.01).contains(&stopping), "idle limit {idle} s: {stopping}");
        let calls = outcome.usage.calls;
        assert_eq!((calls.receive, calls.stop, calls.send), (polls, 1, 0), "a long poll takes 20 s");
        let last = outcome.history.samples.last().expect("samples");
        assert_eq!((last.stopped, last.running, last.stopping), (1, 0, 0));
        assert_eq!(outcome.history.end, last.at, "the run ends when all instances are at rest");
    }
}

#[test]
fn a_job_restarts_the_idle_time() {
    let arrivals = [s(0), s(60), s(100)];
    let outcome = run_with_idle_stop(&model(), Some(IDLE_STOP), &trace(100, &arrivals), vec![(s(0), launch(1))], 1);
    let stopping = outcome.first(|sample| sample.stopping == 1).as_secs_f64();
    assert!((151.0..151.1).contains(&stopping), "50 s after the last job: {stopping}");
    let calls = outcome.usage.calls;
    // Receives: three jobs, three replies, and long polls of 20 s in 34 s, 39 s and 50 s without work.
    assert_eq!((calls.send, calls.receive, calls.delete), (6, 3 + 3 + 1 + 1 + 2, 6));
}

#[test]
fn a_job_that_arrives_while_the_worker_stops_waits_for_another_worker() {
    let script = vec![(s(0), launch(1)), (s(90), Action::Launch { token: "second".to_owned(), count: 1 })];
    let outcome = run_with_idle_stop(&model(), Some(IDLE_STOP), &trace(100, &[s(80)]), script, 1);
    let start = outcome.starts()[0].as_secs_f64();
    assert!((115.0..115.1).contains(&start), "{start}");
}

#[test]
fn the_job_of_a_crashed_instance_is_visible_again_after_the_visibility_timeout() {
    let faults = Faults { crash: 0.5, ..model().faults };
    let fragile = CloudModel { faults, visibility: s(45), ..model() };
    let launches: Vec<_> = (0..20).map(|n| (s(200 * n), Action::Launch { token: format!("t{n}"), count: 1 })).collect();
    let mut worked = Vec::new();
    for seed in 1..=30 {
        let outcome = run_with_idle_stop(&fragile, Some(IDLE_STOP), &trace(10, &[s(0)]), launches.clone(), seed);
        assert!(outcome.history.jobs[0].answered.is_some(), "seed {seed}");
        let samples = &outcome.history.samples;
        let crashes =
            (1..samples.len()).filter(|n| samples[n - 1].running > samples[*n].running && samples[*n].in_flight > 0);
        for crash in crashes {
            let begun =
                samples[..crash].iter().rposition(|sample| sample.in_flight == 0).expect("the job waited at first") + 1;
            worked.push((samples[crash].at - samples[begun].at).as_secs_f64());
            let back = samples[crash..].iter().find(|sample| sample.waiting == 1).expect("the job is visible again");
            assert_eq!(back.at - samples[crash].at, s(45), "seed {seed}");
        }
    }
    let in_third = |n: f64| worked.iter().filter(|share| (n / 3.0..(n + 1.0) / 3.0).contains(*share)).count();
    let thirds = [0.0, 1.0, 2.0].map(in_third);
    assert!(thirds.iter().all(|n| *n > 2) && thirds.iter().sum::<usize>() == worked.len(), "at any point: {worked:?}");
}

#[test]
fn a_crashed_worker_receives_no_jobs() {
    let faults = Faults { crash: 0.3, ..model().faults };
    let fragile = CloudModel { faults, threads: 2, ..model() };
    let arrivals: Vec<Time> = (1..=30).map(|n| s(100 * n)).collect();
    let outcome = run(&fragile, &trace(10, &arrivals), vec![(s(0), launch(40))], 1);
    assert!(outcome.usage.terminations > 5, "crashes");
    assert!(outcome.history.samples.iter().all(|sample| sample.waiting == 0), "a free worker takes each job at once");
}

#[test]
fn a_worker_polls_while_it_is_idle_and_not_while_it_works() {
    let two = CloudModel { threads: 2, ..model() };
    let script = vec![(s(0), launch(1)), (s(200), Action::ReadDepth)];
    let outcome = run(&two, &trace(10, &[s(100), ms(100_500)]), script, 1);
    // Receives: two jobs, two replies, and long polls of 20 s in 75 s before the jobs and in 98 s after them.
    assert_eq!(outcome.usage.calls.receive, 2 + 2 + 3 + 4);
}

#[test]
fn stops_beyond_the_rate_limit_power_the_machine_off() {
    let outcome = run_with_idle_stop(&model(), Some(IDLE_STOP), &trace(10, &[]), vec![(s(0), launch(80))], 1);
    let stopping = |at: Time| {
        let sample = outcome.at(at);
        sample.stopping + sample.stopped
    };
    assert_eq!([74_900, 75_100].map(|at| stopping(ms(at))), [0, 80]);
    assert_eq!((outcome.usage.calls.stop, outcome.usage.throttles), (80, 30));
}

/// Ten workers with two threads, which do 20 jobs per second, and a backlog of jobs for half a minute, all of which are in the
/// queue when the workers are ready. Returns the seconds from then until the last answer, and the usage.
fn backlog(queue_quota: Option<f64>) -> (u64, Usage) {
    let arrivals = vec![s(100); 600];
    let model = CloudModel { threads: 2, queue_quota, ..model() };
    let outcome = run(&model, &trace(200, &arrivals), vec![(s(100), launch(10)), (s(300), Action::ReadDepth)], 1);
    let last = outcome.history.jobs.iter().map(|job| job.answered.expect("answered")).max().expect("jobs");
    (last.as_secs() - 125, outcome.usage)
}

#[test]
fn a_quota_makes_jobs_share_calls_and_no_job_is_lost() {
    let (free, usage) = backlog(None);
    assert_eq!((free, usage.queue_throttles), (30, 0));
    assert_eq!((usage.peak_per_second.send, usage.peak_per_second.replies), (600, 20));
    // As for 10,000 jobs per second and 2,400 calls.
    let (limited, usage) = backlog(Some(4.8));
    assert!(usage.queue_throttles > 0 && limited <= 45, "{limited} s, {usage:?}");
    // Without the calls of replies and those that send jobs, ten in each. The long polls of idle workers are included here.
    let all = usage.calls.send + usage.calls.receive + usage.calls.delete;
    let granted = all - usage.queue_throttles - 3 * 600 - 600 / 10;
    assert!(granted < 2 * 600 / 2, "more than two jobs share a receive and a deletion: {granted}");
}

#[test]
fn every_message_is_in_a_call_that_the_quota_allows() {
    // Four calls are allowed at once, and then four per second.
    let (quota, jobs, began) = (4, 600, 100);
    let model = CloudModel { queue_quota: Some(quota as f64), web_nodes: 2, ..model() };
    let seconds = [1, 5, 10, 20, 60];
    let reads = seconds.iter().map(|after| (s(began + after), Action::ReadDepth));
    // No worker receives them.
    let outcome = run(&model, &trace(200, &vec![s(began); jobs]), reads.collect(), 1);
    let depths: Vec<u64> = outcome.depths().iter().map(|depth| depth.visible).collect();
    assert_eq!(depths.len(), seconds.len());
    for (after, visible) in seconds.iter().zip(&depths) {
        let most = 10 * quota * (1 + after);
        assert!(*visible <= most, "{visible} messages after {after} s, in calls that carry {most}");
    }
    assert_eq!(depths.last(), Some(&(jobs as u64)), "all are sent in the end");
    let (calls, refused) = (outcome.usage.calls.send, outcome.usage.queue_throttles);
    assert!(refused > 0 && calls - refused == jobs as u64 / 10, "{calls} calls, {refused} of them refused");
}
