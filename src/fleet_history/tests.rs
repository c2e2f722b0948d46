use std::{collections::VecDeque, time::Duration};

use proptest::prelude::*;

use super::{bucket::Point, count::COUNTS, gauges::COST, history::Kept, latency::Latencies, *};
use crate::fleet::{
    Counts, Depth, LearnedTimes, Policy,
    explain::{Decision, Inputs, Kind},
};

/// A whole number of the longest buckets, in milliseconds.
const START: u64 = 1_800_000_000_000;
const COUNTED: [Count; COUNTS] = [Count::Upload, Count::Answer, Count::Failure, Count::Refusal, Count::DeadLetter];

#[derive(Clone, Debug)]
enum Step {
    Observe(u64),
    Count(usize),
    Answer(u64),
    Clock(i64),
}

fn steps(clock: std::ops::Range<i64>) -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        4 => (0..20u64).prop_map(Step::Observe),
        2 => (0..COUNTS).prop_map(Step::Count),
        2 => (0..100_000u64).prop_map(Step::Answer),
        1 => clock.prop_map(Step::Clock),
    ];
    // Mostly fractions of a second, now and then a suspended process.
    let pause = prop_oneof![9 => 0..3_000u64, 1 => 0..60_000u64];
    prop::collection::vec((pause, step), 0..60)
}

fn gauges(running: u64) -> Gauges {
    let mut gauges = Gauges { peaks: [running as f64, 1.0], ..Gauges::default() };
    (gauges.means[1], gauges.means[COST]) = (running as f64, running as f64 / 3600.0);
    gauges
}

fn latency(ms: u64) -> Latency {
    Latency::new(Duration::from_millis(ms), Duration::ZERO, 0.0, b"")
}

fn apply(history: &mut History, now_ms: u64, step: &Step) {
    match *step {
        Step::Observe(running) => history.observe(now_ms, gauges(running)),
        Step::Count(index) => history.count(now_ms, COUNTED[index]),
        Step::Answer(ms) => history.answered_in(now_ms, latency(ms)),
        Step::Clock(_) => history.advance(now_ms),
    }
}

fn after(now_ms: u64, pause: u64, step: &Step) -> u64 {
    let clock = if let Step::Clock(by) = step { *by } else { 0 };
    now_ms.saturating_add(pause).saturating_add_signed(clock)
}

fn sum(points: &[Point], of: impl Fn(&Point) -> f64) -> f64 {
    points.iter().map(of).sum()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-3 + 1e-4 * a.abs().max(b.abs())
}

proptest! {
    /// However the clock is set, the buckets are in order, none is in the future, and there are not more than fit.
    #[test]
    fn the_rings_stay_in_order_and_bounded(steps in steps(-2_000_000_000..2_000_000_000)) {
        let (mut history, mut now_ms) = (History::default(), START);
        for (pause, step) in steps {
            now_ms = after(now_ms, pause, &step);
            apply(&mut history, now_ms, &step);
            prop_assert!(history.now_ms() <= now_ms + 60_000, "a clock that was set back is followed");
            for range in Range::ALL {
                let (step_s, capacity) = range.shape();
                let points = history.points(range, 0);
                prop_assert!(points.len() <= capacity);
                prop_assert!(points.windows(2).all(|pair| pair[0].at_s < pair[1].at_s), "{range:?}");
                let newest = points.last().map_or(0, |point| point.at_s);
                prop_assert!(newest <= history.now_ms() / 1000, "{range:?}");
                let fits = |point: &Point| point.at_s.is_multiple_of(step_s) && newest - point.at_s < step_s * capacity as u64;
                prop_assert!(points.iter().all(fits), "{range:?}");
            }
        }
    }

    /// Every resolution tells the same: how often something happened, how long it was seen, and what it cost.
    #[test]
    fn every_resolution_has_the_same_sums_as_a_plain_account(steps in steps(0..1)) {
        let (mut history, mut now_ms) = (History::default(), START);
        let (mut counts, mut timed, mut seen_s, mut running_s) = ([0u32; COUNTS], 0, 0.0, 0.0);
        let mut last: Option<(u64, u64)> = None;
        for (pause, step) in &steps {
            now_ms += pause;
            apply(&mut history, now_ms, step);
            match step {
                Step::Count(index) => counts[*index] += 1,
                Step::Answer(_) => timed += 1,
                Step::Observe(running) => {
                    if let Some((at, running)) = last.replace((now_ms, *running)) {
                        let held = (now_ms - at).min(30_000) as f64 / 1000.0;
                        seen_s += held;
                        running_s += held * running as f64;
                    }
                }
                Step::Clock(_) => {}
            }
        }
        if let Some((at, running)) = last {
            let held = (now_ms - at).min(30_000) as f64 / 1000.0;
            seen_s += held;
            running_s += held * running as f64;
        }
        prop_assert!(close(history.cost().1, running_s / 3600.0), "{} {running_s}", history.cost().1);
        // A step takes less than a minute, so that some histories outlast the shortest range.
        for range in Range::ALL.into_iter().filter(|range| *range != Range::Minutes || now_ms - START < 890_000) {
            let points = history.points(range, 0);
            for (index, count) in COUNTED.into_iter().enumerate() {
                prop_assert_eq!(points.iter().map(|p| p.count(count)).sum::<u32>(), counts[index]);
            }
            prop_assert_eq!(points.iter().map(|point| point.timed).sum::<u32>(), timed);
            prop_assert!(close(sum(&points, |point| point.seen_s.into()), seen_s), "{range:?} {seen_s}");
            prop_assert!(close(sum(&points, |p| p.integrals[1].into()), running_s), "{range:?} {running_s}");
            prop_assert!(close(sum(&points, |p| p.integrals[COST].into()), running_s / 3600.0));
        }
    }

    /// A restart at any time loses no count, no second that was seen and no decision.
    #[test]
    fn a_restart_at_any_time_loses_nothing(steps in steps(0..1), cut in 0..60usize) {
        let (mut whole, mut cut_off, mut now_ms) = (History::default(), History::default(), START);
        whole.note_decisions(&decisions(&[(1, START, 2)]));
        cut_off.note_decisions(&decisions(&[(1, START, 2)]));
        for (index, (pause, step)) in steps.iter().enumerate() {
            now_ms += pause;
            apply(&mut whole, now_ms, step);
            apply(&mut cut_off, now_ms, step);
            if index == cut {
                let bytes = file::encode(&cut_off.to_keep()).expect("encoded");
                cut_off = History::restore(file::decode(&bytes).expect("decoded"));
                // What was seen last is not kept, so that both look again.
                whole.observe(now_ms, gauges(3));
                cut_off.observe(now_ms, gauges(3));
            }
        }
        prop_assert!(close(whole.cost().1, cut_off.cost().1));
        prop_assert_eq!(whole.cost().0, cut_off.cost().0);
        prop_assert_eq!(whole.decisions(0).count(), cut_off.decisions(0).count());
        for range in Range::ALL {
            let (all, rest) = (whole.points(range, 0), cut_off.points(range, 0));
            prop_assert_eq!(all.len(), rest.len());
            for (all, rest) in all.iter().zip(&rest) {
                prop_assert_eq!((all.at_s, all.counts, all.timed), (rest.at_s, rest.counts, rest.timed));
                prop_assert_eq!(all.quantiles.is_some(), rest.quantiles.is_some());
                prop_assert!(close(all.seen_s.into(), rest.seen_s.into()) && all.peaks == rest.peaks);
            }
        }
    }

    /// The stages of an answer add up to its time, whatever a worker says of them.
    #[test]
    fn the_stages_add_up(total in 0..u64::MAX, stored in 0..u64::MAX, ms in prop::array::uniform4(any::<f32>())) {
        let [worker, decode, detect, embed] = ms;
        let result = serde_json::json!({ "faces": [], "timings": {
            "decode_ms": decode, "detect_ms": detect, "embed_ms": embed } }).to_string();
        let (total, stored) = (Duration::from_micros(total), Duration::from_micros(stored));
        let stages = Latency::new(total, stored, worker, result.as_bytes()).stages();
        prop_assert_eq!(stages[0], stages[1..].iter().sum::<u64>());
    }

    /// Percentiles are those of the sorted times, within the precision of one in a hundred.
    #[test]
    fn percentiles_are_those_of_the_sorted_times(mut ms in prop::collection::vec(1..1_000_000u64, 1..300)) {
        let mut latencies = Latencies::new();
        ms.iter().for_each(|ms| latencies.add(&latency(*ms)));
        ms.sort_unstable();
        for (quantile, found) in latency::QUANTILES.into_iter().zip(latencies.quantiles()[0]) {
            let rank = (quantile * ms.len() as f64).ceil() as usize;
            let exact = ms[rank.max(1) - 1] as f32;
            prop_assert!((found - exact).abs() <= 0.01 * exact, "{quantile}: {found} for {exact}");
        }
    }

    /// A file of which any byte is changed, or any part is missing, is not taken for a history.
    #[test]
    fn a_damaged_file_is_recognised(at in any::<prop::sample::Index>(), bit in 0..8u8, cut in any::<bool>()) {
        let mut bytes = file::encode(&sample().to_keep()).expect("encoded");
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        prop_assert!(file::decode(&bytes).is_err());
    }
}

fn sample() -> History {
    let mut history = History::default();
    for second in 0..30 {
        history.observe(START + 1000 * second, gauges(second));
        history.answered_in(START + 1000 * second, latency(10 * second));
    }
    history
}

fn decisions(of: &[(u64, u64, usize)]) -> Decisions {
    let inputs = Inputs {
        policy: Policy::Deadline,
        depth: Depth::default(),
        hint: 0,
        demand: 7,
        cap: 4,
        target: 2,
        scheduled: 0,
        counts: Counts::default(),
        launching: 0,
        starting: 0,
        learned: LearnedTimes::default(),
        adaptive: None,
    };
    let decision = |&(number, at_ms, instances): &(u64, u64, usize)| {
        Arc::new(Decision {
            number,
            at_ms,
            kind: Kind::Launch,
            instances: (0..instances).map(|n| format!("i-{n:017}")).collect(),
            count: instances,
            reason: "launching 2: seven jobs wait".into(),
            inputs: inputs.clone(),
            token: Some("1-2".into()),
        })
    };
    Arc::new(of.iter().map(decision).collect::<VecDeque<_>>())
}

#[test]
fn decisions_are_noted_once_and_get_their_instances_later() {
    let mut history = History::default();
    history.note_decisions(&decisions(&[(0, START, 0), (1, START, 1)]));
    history.note_decisions(&decisions(&[(0, START, 2), (1, START, 1), (2, START + 5, 100)]));
    // A new controller counts from the beginning.
    history.note_decisions(&decisions(&[(0, START + 9, 1)]));
    let kept: Vec<_> = history.decisions(0).map(|d| (d.at_ms - START, d.number, d.instances.len(), d.count)).collect();
    assert_eq!(kept, [(0, 0, 2, 2), (0, 1, 1, 1), (5, 2, 20, 100), (9, 0, 1, 1)]);
    let later: Vec<_> = history.decisions(START + 5).map(|decision| decision.at_ms - START).collect();
    assert_eq!(later, [5, 9]);
    let many: Vec<_> = (0..1000).map(|n| (n, START + 100 + n, 1)).collect();
    history.note_decisions(&decisions(&many));
    assert_eq!((history.decisions(0).count(), history.decisions(0).last().map(|d| d.number)), (500, Some(999)));
}

#[test]
fn a_full_history_takes_little_more_than_a_mebibyte_in_its_file() {
    let mut history = History::default();
    history.note_decisions(&decisions(&(0..600).map(|n| (n, START + n, 100)).collect::<Vec<_>>()));
    let mut kept = history.to_keep();
    let point = sample().points(Range::Minutes, 0).pop().expect("a point");
    for (range, points) in Range::ALL.into_iter().zip(&mut kept.points) {
        let (step_s, capacity) = range.shape();
        let end = START / 1000 / step_s;
        *points = (0..capacity as u64).map(|n| Point { at_s: (end + n) * step_s, ..point.clone() }).collect();
    }
    let bytes = file::encode(&kept).expect("encoded");
    assert!((1_000_000..1_200_000).contains(&bytes.len()), "{}", bytes.len());
    let restored = History::restore(file::decode(&bytes).expect("decoded")).to_keep();
    assert!(restored == kept, "everything fits into the rings");
}

#[test]
fn what_cannot_have_been_kept_is_left_out() {
    let mut kept = sample().to_keep();
    let sound = History::restore(kept.clone()).points(Range::Minutes, 0).len();
    let last = kept.points[0].last().expect("a point").clone();
    let bad = [
        Point { integrals: [f32::NAN; gauges::MEANS], at_s: last.at_s + 1, ..last.clone() },
        Point { seen_s: -1.0, at_s: last.at_s + 2, ..last.clone() },
        Point { quantiles: Some([[f32::INFINITY; 3]; STAGES.len()]), at_s: last.at_s + 3, ..last.clone() },
        Point { at_s: last.at_s - 1, ..last.clone() },
        last,
    ];
    kept.points[0].extend(bad.clone());
    kept.points[1].extend(bad);
    (kept.cost, kept.decisions) = (f64::NAN, vec!["{}".into()]);
    let history = History::restore(kept);
    assert_eq!(history.points(Range::Minutes, 0).len(), sound);
    assert_eq!((history.cost().1, history.decisions(0).count()), (0.0, 0));
    assert_eq!(History::restore(Kept::default()).points(Range::Days, 0), []);
}

#[test]
fn a_page_has_a_value_in_each_column_for_each_bucket() {
    let history = FleetHistory::default();
    history.with(|shared| *shared = sample());
    let page = serde_json::to_value(history.page(START + 29_500, Range::Minutes, START / 1000 + 10)).expect("JSON");
    assert_eq!((&page["range"], &page["step_s"], &page["range_s"]), (&"15m".into(), &1.into(), &900.into()));
    let columns = page["points"].as_object().expect("columns");
    let stages = columns["latency"].as_array().expect("stages");
    assert_eq!(stages.iter().map(|stage| &stage["stage"]).collect::<Vec<_>>(), STAGES);
    let of_stages = stages.iter().flat_map(|stage| ["p50", "p90", "p99"].map(|quantile| &stage[quantile]));
    for column in columns.iter().filter(|(name, _)| *name != "latency").map(|(_, column)| column).chain(of_stages) {
        assert_eq!(column.as_array().map(Vec::len), Some(20), "{column}");
    }
    assert_eq!(columns["at_s"][0], START / 1000 + 10);
    assert_eq!((&columns["running"][4], &columns["waiting"][4]), (&14.0.into(), &14.0.into()));
    assert!((columns["seen_s"][19].as_f64().expect("a number") - 0.5).abs() < 1e-3, "the open bucket as it is");
    assert!((stages[0]["p99"][5].as_f64().expect("a number") - 150.0).abs() < 2.0, "{}", stages[0]["p99"]);
}
