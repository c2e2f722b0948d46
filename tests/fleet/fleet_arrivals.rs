//! The arrivals that are read from an event log.

use std::time::Duration;

use crate::simulation::settings;
use rollcall::{
    cloud::{Depth, InstanceId},
    fleet::{
        Event, Timestamp,
        arrivals::{Arrivals, arrivals},
        event_log::EventEncoder,
    },
};

/// An event log of one epoch.
fn log(events: &[(u64, Event)]) -> Vec<String> {
    let rules = settings(None, &[]).fleet_rules(Duration::from_secs(1_000));
    let mut encoder = EventEncoder::default();
    let mut lines = vec![EventEncoder::epoch(1, &rules)];
    lines.extend(events.iter().map(|(at, event)| encoder.event(Timestamp::new(ms(*at)), event)));
    lines
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn served(jobs: u64, busy: u64) -> Event {
    Event::Served { worker: InstanceId("i-1".into()), jobs, busy: ms(busy) }
}

fn depth(visible: u64, in_flight: u64) -> Event {
    Event::Depth(Ok(Depth { visible, in_flight, delayed: 0 }))
}

fn read(lines: &[String]) -> Arrivals {
    arrivals(lines.iter().map(String::as_str)).expect("an event log")
}

#[test]
fn every_upload_that_is_waited_for_has_its_time() {
    let hint = |waiting| Event::Hint { waiting };
    let events = [(500, Event::Tick), (1_000, hint(1)), (1_300, hint(2)), (2_000, served(1, 700)), (2_000, hint(1))];
    let more = [(2_500, hint(2)), (3_000, served(2, 1_000)), (3_000, hint(0)), (9_000, hint(1)), (9_500, Event::Tick)];
    let all = read(&log(&[&events[..], &more[..]].concat()));
    assert_eq!(all.length, ms(9_000));
    let services = [Some(ms(700)), Some(ms(500)), Some(ms(500)), None];
    let expected: Vec<_> = [500, 800, 2_000, 8_500].map(ms).into_iter().zip(services).collect();
    assert_eq!(all.jobs, expected);
}

#[test]
fn without_hints_jobs_appear_with_the_depth_and_are_not_counted_twice_while_it_lags() {
    let events = [(0, Event::Tick), (5_000, depth(3, 0)), (8_000, served(2, 2_000)), (9_000, depth(1, 2))];
    let more = [(9_500, served(1, 900)), (15_000, depth(0, 0)), (20_000, depth(2, 0)), (26_000, served(3, 600))];
    let all = read(&log(&[&events[..], &more[..]].concat()));
    let times: Vec<_> = all.jobs.iter().map(|(at, _)| *at).collect();
    // The depth at 9 s still has two jobs that were finished at 8 s; the last one was never seen in the queue.
    assert_eq!(times, [5_000, 5_000, 5_000, 20_000, 20_000, 25_800].map(ms));
}

#[test]
fn a_later_epoch_goes_on_and_a_cut_off_line_is_skipped() {
    let mut lines = log(&[(0, Event::Hint { waiting: 1 }), (1_000, served(1, 1_000))]);
    lines.push("{\"event\":{\"at\"".to_owned());
    let second = log(&[(4_000, Event::Hint { waiting: 1 })]);
    let all = read(&[&lines[..], &second[..]].concat());
    assert_eq!(all.jobs, [(ms(0), Some(ms(1_000))), (ms(4_000), None)]);
    lines.push(second[1].clone());
    let error = arrivals(lines.iter().map(String::as_str)).expect_err("a broken line").to_string();
    assert!(error.starts_with("line 4"), "{error}");
    let error = arrivals([second[1].as_str()]).expect_err("no epoch").to_string();
    assert!(error.contains("before the beginning"), "{error}");
}
