//! Drift: instances that were launched from an earlier version of their image or their settings than a launch would use now.
//!
//! A stopped one is never started again, and is terminated. For running ones, one instance more than wanted is launched. When
//! it runs, they are terminated a few at a time, which their workers take as a request to finish their jobs, and replaced. So
//! a version that does not come up replaces nothing. If the cap leaves no room, one is terminated first, to try.

use super::{
    action::Cause,
    instances::{Instances, Key},
    removal::Removal,
    situation::Situation,
    timestamp::Timestamp,
    tracked::Role,
};

/// At most one in so many running instances is replaced at the same time.
const SHARE: usize = 4;
/// If the cap leaves no room and no instance of the current version has come up, the next one is terminated after this many
/// boot timeouts.
const PATIENCE: u32 = 10;

/// Chooses the instances of earlier versions to terminate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drift {
    /// When running instances were last chosen.
    last: Option<Timestamp>,
}

impl Drift {
    /// Returns the instances to terminate. `launching` is the number of launched instances not observed yet.
    pub fn removal(&self, situation: &Situation, instances: &Instances, launching: usize) -> Option<Removal> {
        if !situation.shows_earlier_epochs {
            return None;
        }
        // As in the sweep: an old description may show an instance as stopped that has been started since.
        let lag = situation.rules.describe_lag;
        let sure = |(since, _): &(Timestamp, Key)| *since + lag <= situation.described_as_of;
        let mut keys = self.running(situation, instances, launching);
        keys.extend(instances.of(Role::Outdated).take_while(sure).map(|(_, key)| key));
        Removal::of(keys, Cause::Outdated, || "launched from an earlier version".to_owned())
    }

    /// Notes that the instances of a removal are being terminated.
    pub fn began(&mut self, now: Timestamp) {
        self.last = Some(now);
    }

    /// Returns how many instances more than wanted are launched, so that capacity never falls short.
    pub fn surge(situation: &Situation, instances: &Instances) -> usize {
        usize::from(instances.outdated_running() > 0 && (1..situation.cap).contains(&situation.target))
    }

    fn running(&self, situation: &Situation, instances: &Instances, launching: usize) -> Vec<Key> {
        let (outdated, running) = (instances.outdated_running(), instances.count(Role::Running));
        let is_changing = launching > 0
            || [Role::Booting, Role::Starting, Role::Terminating].iter().any(|role| instances.count(*role) > 0);
        if outdated == 0 || is_changing {
            return Vec::new();
        }
        let surplus = running.saturating_sub(situation.target);
        let count = if surplus > 0 {
            surplus.min((running / SHARE).max(1))
        } else if running == situation.target && Self::surge(situation, instances) == 0 {
            if outdated == running && self.last.is_some_and(|last| situation.now < Self::patience(situation, last)) {
                return Vec::new();
            }
            1
        } else {
            return Vec::new(); // until there is one more, or enough
        };
        // Those that have finished no job for longest first.
        let all = instances.of(Role::Running).map(|(_, key)| key);
        all.filter(|key| instances.get(*key).instance.outdated).take(count).collect()
    }

    fn patience(situation: &Situation, last: Timestamp) -> Timestamp {
        last + situation.rules.boot_timeout * PATIENCE
    }

    /// Returns when there may be something to do, if nothing is observed before.
    pub fn due(&self, situation: &Situation, instances: &Instances) -> Option<Timestamp> {
        let last = self.last.filter(|_| instances.outdated_running() > 0)?;
        Some(Self::patience(situation, last)).filter(|at| *at > situation.now)
    }
}
