//! The simulator agrees with the measurements of the Python design on AWS, and Rollcall's controller is close to the
//! best possible makespan under the same boot model.

use crate::simulation::{report, settings};
use rollcall::{settings::Settings, simulator::ControllerKind};

/// Simultaneous uploads from zero, and the measured seconds until the last answer.
const MEASURED: [(usize, f64); 3] = [(10, 102.64), (30, 126.84), (100, 140.81)];
const SEEDS: std::ops::RangeInclusive<u64> = 1..=30;

fn makespans(settings: &Settings, uploads: usize) -> Vec<f64> {
    SEEDS.map(|seed| report(settings, ControllerKind::Fleet, &format!("report-{uploads}"), seed).makespan_s).collect()
}

/// One model for all three sizes. The trace begins at a random point of cron's minute, so single runs differ.
#[test]
fn the_python_design_takes_as_long_as_measured() {
    let settings = settings(Some("config/report.toml"), &[]);
    for (uploads, measured) in MEASURED {
        let off = |makespan: f64| (makespan / measured - 1.0).abs();
        let all = makespans(&settings, uploads);
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        assert!(off(mean) < 0.15, "{uploads} uploads: {mean:.1} s on average, measured {measured} s");
        assert!(off(all[0]) < 0.2, "{uploads} uploads: {:.1} s with the default seed, measured {measured} s", all[0]);
        let near = all.iter().filter(|m| off(**m) < 0.2).count();
        assert!(near * 10 >= all.len() * 9, "{uploads} uploads: only {near} of {} within 20 %: {all:?}", all.len());
    }
}

/// Boots of 25 s cold and 15 s warm, sigma 0.15, jobs of 1 s: the best possible is about 32 s and 22 s.
#[test]
fn a_hundred_uploads_from_zero_take_little_more_than_boot_and_work() {
    for (warm, most) in [("0", 35.0), ("19", 24.0)] {
        let keys = [
            ("simulate.warm", warm),
            ("simulate.boot_cold", "25s"),
            ("simulate.boot_warm", "15s"),
            ("simulate.boot_sigma", "0.15"),
            ("simulate.boot_slow_share", "0"),
            ("simulate.service", "1s"),
        ];
        let all = makespans(&settings(None, &keys), 100);
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        assert!(mean <= most - 0.5, "{warm} warm: {mean:.1} s on average");
        assert!(all[0] <= most, "{warm} warm: {:.1} s with the default seed", all[0]);
        let near = all.iter().filter(|m| **m <= most).count();
        assert!(near * 10 >= all.len() * 9, "{warm} warm: only {near} of {} within {most} s: {all:?}", all.len());
    }
}
