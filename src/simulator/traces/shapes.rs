//! The named traces. `docs/simulator.md` describes their parameters.

use super::{
    super::{Time, random::Random},
    MAX_ARRIVALS,
};
use processes::{DAY, hours, minutes, poisson_process};

mod gamma;
mod periodic;
mod processes;
mod self_similar;
mod shift;
#[cfg(test)]
mod statistics;
mod weekly;

/// The names, in addition to `report-N` and `steady-R-S`.
pub const NAMES: [&str; 10] = [
    "poisson",
    "on-off",
    "diurnal",
    "bursty",
    "gamma-sparse",
    "gamma-dense",
    "periodic",
    "weekly",
    "self-similar",
    "shift",
];

/// `poisson`: a Poisson process of a thousand jobs per day.
const POISSON_MEAN_GAP: Time = Time::from_millis(86_400);

/// `on-off`: six hours of alternating exponential phases; on average one job per second while on, none while off.
mod on_off {
    use super::{Time, hours, minutes};
    pub const LENGTH: Time = hours(6);
    pub const MEAN_ON: Time = minutes(2);
    pub const MEAN_OFF: Time = minutes(20);
    pub const MEAN_GAP: Time = Time::from_secs(1);
}

/// `diurnal`: two days. The rate follows a cosine from its minimum at 02:00 to its maximum at 14:00; at 20:00 of the
/// second day there is a flash crowd of ten minutes.
mod diurnal {
    use super::{DAY, Time, hours, minutes};
    pub const LENGTH: Time = hours(48);
    /// Jobs per second.
    pub const MIN_RATE: f64 = 0.002;
    pub const MAX_RATE: f64 = 0.1;
    pub const PEAK: Time = hours(14);
    /// Start and length.
    pub const FLASH_CROWD: (Time, Time) = (hours(44), minutes(10));
    pub const FLASH_CROWD_RATE: f64 = 4.0;

    pub fn rate(at: Time) -> f64 {
        let phase = (at.as_secs_f64() - PEAK.as_secs_f64()) / DAY.as_secs_f64() * std::f64::consts::TAU;
        let base = MIN_RATE + (MAX_RATE - MIN_RATE) * (1.0 + phase.cos()) / 2.0;
        let (start, length) = FLASH_CROWD;
        if (start..start + length).contains(&at) { FLASH_CROWD_RATE } else { base }
    }
}

/// `bursty`: four days. The gap before each burst is five minutes plus an exponential time; a burst has a log-normal
/// number of jobs in quick succession.
mod bursty {
    use super::{Time, hours, minutes};
    pub const LENGTH: Time = hours(96);
    pub const MIN_GAP: Time = minutes(5);
    pub const MEAN_EXTRA_GAP: Time = minutes(40);
    pub const MEDIAN_JOBS: f64 = 30.0;
    pub const SIGMA: f64 = 1.0;
    pub const MAX_JOBS: f64 = 250.0;
    pub const MEAN_GAP_WITHIN: Time = Time::from_millis(50);
}

/// Returns the length and the arrivals of a named trace; `None` for any other name.
pub fn times(name: &str, random: &mut Random) -> Option<(Time, Vec<Time>)> {
    Some(match name {
        "poisson" => (DAY, poisson_process(Time::ZERO, DAY, POISSON_MEAN_GAP, random)),
        "on-off" => (on_off::LENGTH, on_off_times(random)),
        "diurnal" => (diurnal::LENGTH, diurnal_times(random)),
        "bursty" => (bursty::LENGTH, bursty_times(random)),
        "gamma-sparse" => gamma::times(&gamma::SPARSE, random),
        "gamma-dense" => gamma::times(&gamma::DENSE, random),
        "periodic" => periodic::times(random),
        "weekly" => weekly::times(random),
        "self-similar" => self_similar::times(random),
        "shift" => shift::times(random),
        _ if name.starts_with("steady-") => steady(name)?,
        _ => (Time::ZERO, vec![Time::ZERO; simultaneous(name)?]),
    })
}

/// Returns the N of `report-N`: N uploads at the same time.
fn simultaneous(name: &str) -> Option<usize> {
    name.strip_prefix("report-")?.parse().ok().filter(|n| (1..=MAX_ARRIVALS).contains(n))
}

/// Returns the length and the arrivals of `steady-R-S`: R uploads per second, evenly spaced, for S seconds.
fn steady(name: &str) -> Option<(Time, Vec<Time>)> {
    let (rate, seconds) = name.strip_prefix("steady-")?.split_once('-')?;
    let (rate, seconds): (usize, usize) = (rate.parse().ok()?, seconds.parse().ok()?);
    let count = rate.checked_mul(seconds).filter(|count| (1..=MAX_ARRIVALS).contains(count))?;
    let at = |n: usize| Time::from_secs_f64(n as f64 / rate as f64);
    Some((Time::from_secs(seconds as u64), (0..count).map(at).collect()))
}

fn on_off_times(random: &mut Random) -> Vec<Time> {
    let (mut at, mut times) = (Time::ZERO, Vec::new());
    while at < on_off::LENGTH {
        let off = at + random.exponential(on_off::MEAN_ON);
        times.extend(poisson_process(at, off.min(on_off::LENGTH), on_off::MEAN_GAP, random));
        at = off + random.exponential(on_off::MEAN_OFF);
    }
    times
}

/// Draws an inhomogeneous Poisson process by thinning (Lewis and Shedler, 1979): of a process of the maximum rate, each
/// arrival is kept with a probability proportional to the rate at its time.
fn diurnal_times(random: &mut Random) -> Vec<Time> {
    let max_rate = diurnal::FLASH_CROWD_RATE.max(diurnal::MAX_RATE);
    let mut times = poisson_process(Time::ZERO, diurnal::LENGTH, Time::from_secs_f64(1.0 / max_rate), random);
    times.retain(|at| random.chance(diurnal::rate(*at) / max_rate));
    times
}

fn bursty_times(random: &mut Random) -> Vec<Time> {
    let (mut at, mut times) = (Time::ZERO, Vec::new());
    loop {
        at += bursty::MIN_GAP + random.exponential(bursty::MEAN_EXTRA_GAP);
        let jobs = (bursty::MEDIAN_JOBS * random.log_normal_factor(bursty::SIGMA)).clamp(1.0, bursty::MAX_JOBS);
        for _ in 0..jobs as usize {
            at += random.exponential(bursty::MEAN_GAP_WITHIN);
            times.push(at);
        }
        if at >= bursty::LENGTH {
            times.retain(|at| *at < bursty::LENGTH);
            return times;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::random::Purpose,
        statistics::{draw, mean, within},
        *,
    };

    /// Returns the gaps longer than `min`.
    fn gaps(times: &[f64], min: f64) -> Vec<f64> {
        statistics::gaps(times).into_iter().filter(|gap| *gap > min).collect()
    }

    #[test]
    fn every_trace_is_in_order_within_its_length_and_depends_on_the_seed_alone() {
        for name in NAMES {
            let (length, times) = draw(name, 7);
            assert!(times.is_sorted() && times.iter().all(|at| (0.0..length).contains(at)), "{name}");
            assert!((500..60_000).contains(&times.len()), "{name}: {} arrivals", times.len());
            assert!(times == draw(name, 7).1 && times != draw(name, 8).1, "{name}");
        }
    }

    #[test]
    fn steady_is_a_number_of_jobs_per_second_for_some_seconds() {
        let (length, times) = draw("steady-4-10", 1);
        assert_eq!((length, times.len(), &times[..3]), (10.0, 40, &[0.0, 0.25, 0.5][..]));
        let times_of = |name| super::times(name, &mut Random::new(1, Purpose::Arrivals));
        assert!(times_of("steady-10000-100").is_some());
        for name in ["steady-10000-101", "steady-0-1", "steady-1", "steady-x-1", "steady-"] {
            assert!(times_of(name).is_none(), "{name}");
        }
    }

    #[test]
    fn poisson_is_a_thousand_jobs_a_day() {
        let (length, times) = draw("poisson", 1);
        assert_eq!(length, 86_400.0);
        assert!((900..1100).contains(&times.len()), "{}", times.len());
        let gaps = gaps(&times, 0.0);
        let spread = mean(&gaps.iter().map(|gap| (gap - 86.4).powi(2)).collect::<Vec<_>>()).sqrt();
        assert!((75.0..100.0).contains(&spread), "exponential gaps deviate by their mean: {spread}");
    }

    #[test]
    fn on_off_has_a_job_a_second_for_two_minutes_of_every_twenty_two() {
        let all: Vec<_> = (1..=20).map(|seed| draw("on-off", seed)).collect();
        assert!(all.iter().all(|(length, times)| *length == 21_600.0 && times.iter().all(|at| at < length)));
        let jobs: usize = all.iter().map(|(_, times)| times.len()).sum();
        assert!((1_960.0 * 0.8..1_960.0 * 1.4).contains(&(jobs as f64 / 20.0)), "{jobs}");
        let off: Vec<f64> = all.iter().flat_map(|(_, times)| gaps(times, 30.0)).collect();
        assert!((1000.0..1500.0).contains(&mean(&off)), "off for 20 minutes on average: {}", mean(&off));
        let on: Vec<f64> = all.iter().flat_map(|(_, times)| gaps(times, 0.0)).filter(|gap| *gap < 30.0).collect();
        assert!((0.95..1.05).contains(&mean(&on)), "{}", mean(&on));
    }

    #[test]
    fn diurnal_peaks_at_two_in_the_afternoon_and_has_a_flash_crowd() {
        let (length, times) = draw("diurnal", 1);
        assert_eq!(length, 2.0 * 86_400.0);
        let rate = |from_hour: f64, hours: f64| {
            within(&times, from_hour * 3600.0, (from_hour + hours) * 3600.0) / hours / 3600.0
        };
        for day in [0.0, 24.0] {
            assert!((0.085..0.115).contains(&rate(day + 13.0, 2.0)), "{}", rate(day + 13.0, 2.0));
            assert!(rate(day + 1.0, 2.0) < 0.007, "{}", rate(day + 1.0, 2.0));
        }
        assert!((3.7..4.3).contains(&rate(44.0, 1.0 / 6.0)), "{}", rate(44.0, 1.0 / 6.0));
        assert!(rate(44.0 + 1.0 / 6.0, 1.0) < 0.2 && rate(43.0, 1.0) < 0.2 && rate(20.0, 1.0) < 0.2);
    }

    #[test]
    fn bursty_has_bursts_of_up_to_250_jobs_at_least_five_minutes_apart() {
        let all: Vec<_> = (1..=10).map(|seed| draw("bursty", seed)).collect();
        let (mut sizes, mut pauses) = (Vec::new(), Vec::new());
        for (length, times) in &all {
            assert!(*length == 4.0 * 86_400.0 && times.iter().all(|at| at < length));
            pauses.extend(gaps(times, 10.0));
            sizes.extend(times.chunk_by(|a, b| b - a < 10.0).map(<[f64]>::len));
            assert!(
                (0.045..0.055)
                    .contains(&mean(&times.windows(2).map(|p| p[1] - p[0]).filter(|g| *g < 10.0).collect::<Vec<_>>()))
            );
        }
        sizes.sort_unstable();
        assert!(pauses.iter().all(|pause| *pause > 300.0));
        assert!((2400.0..3000.0).contains(&mean(&pauses)), "45 minutes on average: {}", mean(&pauses));
        let median = sizes[sizes.len() / 2];
        assert!((26..=34).contains(&median) && sizes.last() == Some(&250), "median {median}, max {:?}", sizes.last());
    }

    #[test]
    fn report_n_is_n_jobs_at_time_zero() {
        assert_eq!(draw("report-3", 1), (0.0, vec![0.0; 3]));
        for name in ["report-0", "report-1000001", "report-", "report--1", "reports-3", "uniform"] {
            assert!(times(name, &mut Random::new(1, Purpose::Arrivals)).is_none(), "{name}");
        }
    }
}
