//! The traces that have a name. Their parameters are documented in `docs/simulator.md`.

use super::super::{Time, random::Random};

/// Names besides `report-N`.
pub const NAMES: [&str; 4] = ["poisson", "on-off", "diurnal", "bursty"];

const fn minutes(n: u64) -> Time {
    Time::from_secs(60 * n)
}
const fn hours(n: u64) -> Time {
    minutes(60 * n)
}
const DAY: Time = hours(24);

/// `poisson`: a thousand a day, independent of each other.
const POISSON_MEAN_GAP: Time = Time::from_millis(86_400);

/// `on-off`: six hours of exponential phases; one job a second on average while on, none while off.
mod on_off {
    use super::{Time, hours, minutes};
    pub const LENGTH: Time = hours(6);
    pub const ON: Time = minutes(2);
    pub const OFF: Time = minutes(20);
    pub const MEAN_GAP: Time = Time::from_secs(1);
}

/// `diurnal`: two days. The rate swings as a cosine from a lowest at 02:00 to a highest at 14:00; at 20:00 of the second
/// day a crowd comes for ten minutes.
mod diurnal {
    use super::{DAY, Time, hours, minutes};
    pub const LENGTH: Time = hours(48);
    /// Jobs a second.
    pub const LOWEST: f64 = 0.002;
    pub const HIGHEST: f64 = 0.1;
    pub const PEAK: Time = hours(14);
    pub const CROWD: (Time, Time) = (hours(44), minutes(10));
    pub const CROWD_RATE: f64 = 4.0;

    pub fn rate(at: Time) -> f64 {
        let turn = (at.as_secs_f64() - PEAK.as_secs_f64()) / DAY.as_secs_f64() * std::f64::consts::TAU;
        let base = LOWEST + (HIGHEST - LOWEST) * (1.0 + turn.cos()) / 2.0;
        let (from, long) = CROWD;
        if (from..from + long).contains(&at) { CROWD_RATE } else { base }
    }
}

/// `bursty`: four days. Between bursts nothing, for five minutes and an exponential time more; a burst has a log-normal
/// number of jobs, a few in each second.
mod bursty {
    use super::{Time, hours, minutes};
    pub const LENGTH: Time = hours(96);
    pub const LEAST_GAP: Time = minutes(5);
    pub const MEAN_MORE: Time = minutes(40);
    pub const MEDIAN_JOBS: f64 = 30.0;
    pub const SIGMA: f64 = 1.0;
    pub const MOST_JOBS: f64 = 250.0;
    pub const MEAN_GAP: Time = Time::from_millis(50);
}

/// Length and arrivals of a named trace; `None` for another name.
pub fn times(name: &str, random: &mut Random) -> Option<(Time, Vec<Time>)> {
    Some(match name {
        "poisson" => (DAY, renewals(Time::ZERO, DAY, POISSON_MEAN_GAP, random)),
        "on-off" => (on_off::LENGTH, on_off_times(random)),
        "diurnal" => (diurnal::LENGTH, diurnal_times(random)),
        "bursty" => (bursty::LENGTH, bursty_times(random)),
        _ => (Time::ZERO, vec![Time::ZERO; parallel(name)?]),
    })
}

/// `report-N`: N uploads at once.
fn parallel(name: &str) -> Option<usize> {
    name.strip_prefix("report-")?.parse().ok().filter(|n| (1..=super::file::MOST).contains(n))
}

/// A Poisson process between two times.
fn renewals(from: Time, to: Time, mean_gap: Time, random: &mut Random) -> Vec<Time> {
    let first = from + random.exponential(mean_gap);
    std::iter::successors(Some(first), |at| Some(*at + random.exponential(mean_gap)))
        .take_while(|at| *at < to)
        .collect()
}

fn on_off_times(random: &mut Random) -> Vec<Time> {
    let (mut at, mut times) = (Time::ZERO, Vec::new());
    while at < on_off::LENGTH {
        let off = at + random.exponential(on_off::ON);
        times.extend(renewals(at, off.min(on_off::LENGTH), on_off::MEAN_GAP, random));
        at = off + random.exponential(on_off::OFF);
    }
    times
}

/// Thinning (Lewis and Shedler 1979): a process of the highest rate, of which each arrival is kept with the share that
/// the rate has then.
fn diurnal_times(random: &mut Random) -> Vec<Time> {
    let highest = diurnal::CROWD_RATE.max(diurnal::HIGHEST);
    let mut times = renewals(Time::ZERO, diurnal::LENGTH, Time::from_secs_f64(1.0 / highest), random);
    times.retain(|at| random.chance(diurnal::rate(*at) / highest));
    times
}

fn bursty_times(random: &mut Random) -> Vec<Time> {
    let (mut at, mut times) = (Time::ZERO, Vec::new());
    loop {
        at += bursty::LEAST_GAP + random.exponential(bursty::MEAN_MORE);
        let jobs = (bursty::MEDIAN_JOBS * random.log_normal_factor(bursty::SIGMA)).clamp(1.0, bursty::MOST_JOBS);
        for _ in 0..jobs as usize {
            at += random.exponential(bursty::MEAN_GAP);
            times.push(at);
        }
        if at >= bursty::LENGTH {
            times.retain(|at| *at < bursty::LENGTH);
            return times;
        }
    }
}
