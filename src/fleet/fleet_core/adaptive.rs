//! The part of the core that the policy `adaptive` needs.

use std::time::Duration;

use super::FleetCore;
use crate::{
    adaptive::{LearnedThresholds, SURPLUS_IDLE, Supply, Times},
    instance::InstanceId,
    policy::PolicyInput,
    rules::Policy,
    timestamp::Timestamp,
    tracked::{Boot, BootKind, Role},
};

/// While nothing happens and this process is told about every upload, the queue is read so many times more rarely.
const RARE_READS: u32 = 6;

impl FleetCore {
    pub(super) fn is_adaptive(&self) -> bool {
        self.rules.policy == Policy::Adaptive
    }

    /// Returns the time since the Unix epoch, in seconds.
    fn seconds(&self) -> f64 {
        self.clock().as_secs_f64()
    }

    /// Takes over what an earlier controller has learned.
    pub(super) fn restore(&mut self, state: &str) {
        if self.is_adaptive() {
            self.adaptive.adopt(self.seconds(), state);
        }
    }

    pub(super) fn learn_hint(&mut self, waiting: u64) {
        if self.is_adaptive() {
            self.adaptive.hinted(self.seconds(), waiting);
        }
    }

    pub(super) fn learn_depth(&mut self) {
        if self.is_adaptive() {
            self.adaptive.counted(self.seconds(), self.demand.jobs());
        }
    }

    /// Learns from finished jobs. `boot` is the worker's boot, if they are the first ones after it.
    pub(super) fn learn_served(&mut self, jobs: u64, busy: Duration, boot: Option<Boot>) {
        if !self.is_adaptive() {
            return;
        }
        let each = busy.as_secs_f64() / jobs.max(1) as f64;
        // If jobs were waiting, the worker began the first one as soon as it was ready.
        if let Some(boot) = boot.filter(|_| self.demand.jobs() > self.instances.count(Role::Running) as u64) {
            let took = self.now.saturating_since(boot.requested).as_secs_f64() - each;
            self.adaptive.came_up(boot.kind, took.max(0.0));
        }
        self.adaptive.served(self.seconds(), jobs, each);
    }

    /// Returns the number of instances that the learned thresholds want.
    pub(super) fn adaptive_target(&mut self, input: &PolicyInput) -> usize {
        if !self.is_adaptive() {
            return 0;
        }
        let times = self.times();
        let supply = self.supply(&times, input);
        let jobs = self.adaptive.jobs(self.seconds(), input.demand);
        self.adaptive.decide(self.clock().as_secs_f64(), jobs, supply, &times, &self.rules)
    }

    /// Returns the instances to plan with. A running instance whose worker has not finished a job since its boot is booting,
    /// until it has taken as long as boots do.
    fn supply(&mut self, times: &Times, input: &PolicyInput) -> Supply {
        let now = self.now;
        let left = |kind, requested: Timestamp| {
            let boot = if kind == BootKind::Cold { times.cold } else { times.warm };
            boot - now.saturating_since(requested).as_secs_f64()
        };
        let pending = self.instances.of(Role::Booting).map(|(since, key)| {
            let boot = self.instances.get(key).startup.boot.unwrap_or(Boot { kind: BootKind::Cold, requested: since });
            (left(boot.kind, boot.requested).abs(), 1)
        });
        let starting = self.instances.of(Role::Starting).map(|(at, _)| (left(BootKind::Warm, at).abs(), 1));
        let launching = self.launches.iter().map(|(at, count)| (left(BootKind::Cold, at).abs(), count));
        let (mut booting, mut sum, mut unready) = (0, 0.0, 0);
        for (left, count) in pending.chain(starting).chain(launching) {
            booting += count;
            sum += left * count as f64;
        }
        let mut ready = Vec::new();
        for (boot, key) in self.instances.unproven() {
            let left = left(boot.kind, boot.requested);
            if left > 0.0 {
                unready += 1;
                sum += left;
            } else {
                ready.push(key);
            }
        }
        for key in ready {
            self.instances.assume_ready(key);
        }
        booting += unready;
        Supply {
            running: input.running - unready,
            booting,
            boots_in: if booting > 0 { sum / booting as f64 } else { 0.0 },
            startable: input.startable,
            cap: input.cap,
        }
    }

    /// Returns the times to plan with.
    fn times(&self) -> Times {
        let (learned, rules) = (self.estimators.learned(), &self.rules);
        // An instance may be seen running before its worker is ready. A process that sees all replies learns when it is.
        let assumed = |learned: Duration, prior: Duration| {
            if rules.silent_timeout.is_some() { learned.max(prior) } else { learned }.as_secs_f64()
        };
        let boot = |kind, learned, prior| self.adaptive.boot(kind).unwrap_or_else(|| assumed(learned, prior));
        Times {
            cold: boot(BootKind::Cold, learned.boot_cold, rules.boot_cold),
            warm: boot(BootKind::Warm, learned.boot_warm, rules.boot_warm),
            unbilled: learned.boot_warm.as_secs_f64(),
            stop: self.estimators.stop().as_secs_f64(),
            service: learned.service.as_secs_f64().max(1e-3),
            threads: rules.threads.max(1) as f64,
            minimum: rules.billing_minimum.as_secs_f64(),
        }
    }

    /// Returns the longest time that an idle worker waits for a job before it stops.
    pub(super) fn longest_idle(&self) -> Duration {
        if self.is_adaptive() { self.adaptive.longest_idle() } else { self.rules.idle_stop }
    }

    /// Returns how many stopped instances a sweep keeps.
    pub(super) fn keep_stopped(&self) -> usize {
        if self.is_adaptive() {
            self.adaptive.keep_stopped(self.seconds(), self.serving(), self.cap())
        } else {
            self.rules.keep_stopped
        }
    }

    /// Returns the time between two readings of the queue when nothing happens.
    pub(super) fn poll_every(&self) -> Duration {
        let is_at_rest = self.demand.jobs() == 0 && self.demand.empty_since().is_some();
        let sees_everything = self.rules.silent_timeout.is_some() && self.adaptive.is_told();
        let rarely = self.is_adaptive() && is_at_rest && sees_everything;
        if rarely { self.rules.poll_every * RARE_READS } else { self.rules.poll_every }
    }

    /// Returns how long an idle worker waits for a job before it stops, if that is learned. Those that have been running for
    /// longest stay.
    pub fn idle_limit(&self, worker: &InstanceId) -> Option<Duration> {
        let key = self.instances.key(worker).filter(|_| self.is_adaptive())?;
        let stays = self.instances.running_before(key) < self.adaptive.staying(self.seconds());
        Some(if stays { Duration::MAX } else { SURPLUS_IDLE })
    }

    /// Returns the [idle limit](Self::idle_limit) of every instance that runs, if it is learned.
    pub fn idle_limits(&self) -> Option<Vec<(InstanceId, Duration)>> {
        self.is_adaptive().then(|| {
            let staying = self.adaptive.staying(self.seconds());
            let running = self.instances.of(Role::Running).map(|(_, key)| (self.instances.get(key).since, key));
            let mut running: Vec<_> = running.collect();
            running.sort_unstable();
            let limit = |number| if number < staying { Duration::MAX } else { SURPLUS_IDLE };
            let ids = running.into_iter().map(|(_, key)| self.instances.get(key).instance.id.clone());
            ids.enumerate().map(|(number, id)| (id, limit(number))).collect()
        })
    }

    /// Returns the learned thresholds, if the policy learns them.
    pub fn learned_thresholds(&self) -> Option<LearnedThresholds> {
        self.is_adaptive().then(|| self.adaptive.learned(self.seconds(), self.serving(), self.cap()))
    }

    /// Returns what has been learned, to be kept for the next controller ([`Event::Restored`](crate::Event::Restored)), and a
    /// number that changes whenever there is something new to keep.
    pub fn learned_state(&self) -> Option<(u64, String)> {
        self.is_adaptive().then(|| (self.adaptive.revision(), self.adaptive.kept()))
    }
}
