//! What has been learned: for display, and to be kept.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::thresholds::Point;

/// The thresholds in force, and what they make of the present. Times are in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LearnedThresholds {
    /// What a second of one job's waiting is worth when instances are started, in seconds of a running instance. Zero if there
    /// is a target.
    pub wait_value: f64,
    /// How many standard deviations the rate of arrivals must be above chance to be expected to go on. Zero if there is a
    /// target.
    pub caution: f64,
    /// Within which time jobs are planned to begin, if there is a target.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub within_s: Option<f64>,
    /// How long instances stay after they were last needed.
    pub stay_s: f64,
    /// How many instances stay longer.
    pub base: usize,
    /// How long those stay.
    pub base_stay_s: f64,
    /// How long the disk of an instance is kept after it was last needed.
    pub keep_s: f64,
    /// How many instances stay now, whether they have a job or not.
    pub staying: usize,
    /// How many stopped instances are kept now.
    pub kept: usize,
    /// Arrivals remembered.
    pub arrivals: u64,
    /// Comparisons of thresholds completed.
    pub comparisons: u64,
    /// The share of jobs that waited for longer than `fleet.target_wait`, if that is set.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub late_share: Option<f64>,
}

impl LearnedThresholds {
    /// Returns the most important numbers as text.
    pub(crate) fn summary(&self) -> String {
        let time = |seconds: f64| match seconds {
            s if s >= 1e8 => "ever".to_owned(),
            s => format!("{s:.0} s"),
        };
        let aim = match self.within_s {
            Some(within) => format!("jobs are planned to begin within {within:.1} s"),
            None => format!("a second of waiting is worth {:.2} instance-seconds", self.wait_value),
        };
        format!(
            "{aim}; {} stay ({} for {}, others for {}), {} stopped kept (for {}); learned from {} arrivals",
            self.staying,
            self.base,
            time(self.base_stay_s.max(self.stay_s)),
            time(self.stay_s),
            self.kept,
            time(self.keep_s),
            self.arrivals,
        )
    }
}

/// The version of the format.
const VERSION: u32 = 1;

/// What is kept between two controllers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    version: u32,
    /// The point at which learning began: another one means other prices.
    pub prior: Point,
    pub point: Point,
    cold: Vec<f64>,
    warm: Vec<f64>,
    /// Boots in relation to their median.
    #[serde(default)]
    pub ratios: Vec<f32>,
    /// What [`Waits`](super::waits::Waits) has learned.
    #[serde(default)]
    pub waits: Option<[f64; 3]>,
    /// When the first arrivals came, in milliseconds since the Unix epoch.
    first_ms: u64,
    /// Milliseconds since the batch before, jobs, and instances that ran.
    batches: Vec<(u64, u32, u32)>,
}

impl Kept {
    /// Creates it from two points, two kinds of boots, and batches: when, jobs, and instances that ran.
    pub fn new(
        [prior, point]: [Point; 2],
        [cold, warm]: [&VecDeque<f64>; 2],
        batches: impl Iterator<Item = (f64, u32, u32)>,
    ) -> Self {
        let (mut first_ms, mut last) = (0, None);
        let batches = batches.map(|(at, jobs, running)| {
            let at = (at * 1000.0).round() as u64;
            if last.is_none() {
                first_ms = at;
            }
            (at.saturating_sub(last.replace(at).unwrap_or(at)), jobs, running)
        });
        let batches = batches.collect();
        let [cold, warm] = [cold, warm].map(|all| all.iter().copied().collect());
        Self { version: VERSION, prior, point, cold, warm, ratios: Vec::new(), waits: None, first_ms, batches }
    }

    pub fn encode(&self) -> String {
        // Numbers and lists: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_str::<Self>(text).ok().filter(|kept| kept.version == VERSION && kept.point.is_valid())
    }

    /// Returns at most `count` boots of each kind.
    pub fn boots(&self, count: usize) -> [VecDeque<f64>; 2] {
        let sound = |took: &f64| took.is_finite() && *took >= 0.0;
        [&self.cold, &self.warm].map(|all| all.iter().copied().filter(sound).take(count).collect())
    }

    /// Iterates over the batches: when, jobs, and instances that ran.
    pub fn batches(&self) -> impl Iterator<Item = (f64, u32, u32)> {
        let mut at_ms = self.first_ms;
        self.batches.iter().map(move |(since, jobs, running)| {
            at_ms = at_ms.saturating_add(*since);
            (at_ms as f64 / 1000.0, *jobs, *running)
        })
    }
}

/// Returns whether a controller of this version can take over that state ([`Event::Restored`](crate::Event::Restored)).
pub fn is_learned_state(text: &str) -> bool {
    Kept::decode(text).is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Depth, Event, FleetCore, FleetRules, Policy, Timestamp};

    fn rules(target_wait: Option<Duration>) -> FleetRules {
        let s = Duration::from_secs;
        FleetRules {
            policy: Policy::Adaptive,
            max_instances: 19,
            launch_cooldown: s(0),
            sweep_every: s(180),
            keep_stopped: 5,
            sweep_cooldown: s(0),
            boot_timeout: s(300),
            poll_every: s(5),
            describe_every: s(15),
            describe_lag: s(15),
            silent_timeout: Some(s(300)),
            jobs_per_instance: 10,
            up_delay: s(0),
            down_delay: s(60),
            target_latency: s(5),
            boot_cold: s(25),
            boot_warm: s(15),
            service_time: s(1),
            billing_minimum: s(60),
            schedule: Vec::new(),
            threads: 1,
            idle_stop: s(90),
            wait_price: 0.1,
            target_wait,
            instance_hour: 0.01,
            disk_hour: 0.001,
            started_at: s(1_000_000),
        }
    }

    #[test]
    fn what_was_learned_survives_a_restart() {
        for target_wait in [None, Some(Duration::from_secs(30))] {
            survives_a_restart(&rules(target_wait));
        }
    }

    fn survives_a_restart(rules: &FleetRules) {
        let at = |seconds| Timestamp::new(Duration::from_secs(seconds));
        let mut core = FleetCore::new(rules.clone(), 1);
        for n in 0..2000 {
            core.step(Event::Depth(Ok(Depth { visible: n % 2 * 30, in_flight: 0, delayed: 0 })), at(300 * n));
        }
        let (_, state) = core.learned_state().expect("the policy learns");
        assert!(state.len() < 100_000, "{} bytes", state.len());
        let started_at = Duration::from_secs(1_000_000 + 600_000);
        let mut next = FleetCore::new(FleetRules { started_at, ..rules.clone() }, 2);
        let fresh = next.learned_state().expect("the policy learns").1;
        assert_ne!(fresh, state);
        next.step(Event::Restored { state: "{}".to_owned() }, at(0));
        assert_eq!(next.learned_state().expect("the policy learns").1, fresh, "what cannot be read is ignored");
        next.step(Event::Restored { state: state.clone() }, at(0));
        assert_eq!(next.learned_state().expect("the policy learns").1, state);
    }
}
