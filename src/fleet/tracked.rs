//! The state of one instance: what was last observed, and what is intended.

use std::time::Duration;

use super::{
    calls::{CALL_TIMEOUT, backoff},
    instance::{Instance, InstanceState},
    timestamp::Timestamp,
};

/// Consecutive descriptions without an instance after which it no longer counts as serving; it may still exist.
const MISSED: u32 = 3;
/// Number of descriptions that must still show an instance as stopped before its start counts as failed.
const STILL_STOPPED: u32 = 3;

/// The kind of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BootKind {
    /// Of a new instance.
    Cold,
    /// Of a stopped instance.
    Warm,
}

/// A boot under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boot {
    pub kind: BootKind,
    /// When it was requested.
    pub requested: Timestamp,
}

/// A start of a stopped instance that was requested and has not been observed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub requested: Timestamp,
    /// When the call under way was made.
    pub called: Option<Timestamp>,
    /// When to call again, because the last answer was lost or the call was throttled.
    pub retry_at: Option<Timestamp>,
    /// When the cloud accepted it.
    pub accepted: Option<Timestamp>,
    /// Consecutive failed calls.
    pub failures: u32,
    /// Number of descriptions, requested after the acceptance, that still showed the instance as stopped.
    still_stopped: u32,
}

impl Start {
    /// Creates a start whose first call is made now.
    pub fn new(now: Timestamp) -> Self {
        Self { requested: now, called: Some(now), retry_at: None, accepted: None, failures: 0, still_stopped: 0 }
    }

    /// Returns when to call again.
    pub fn due(&self) -> Option<Timestamp> {
        self.retry_at.or(self.called.map(|called| called + CALL_TIMEOUT))
    }

    /// Records that a description requested at `as_of` still shows the instance as stopped. Returns whether this proves
    /// that the start has failed: the cloud has had enough time to show it.
    fn still_stopped(&mut self, as_of: Timestamp, describe_lag: Duration) -> bool {
        let Some(accepted) = self.accepted else { return false };
        if self.called.is_none() && accepted < as_of {
            self.still_stopped += 1;
        }
        self.still_stopped >= STILL_STOPPED && accepted + describe_lag <= as_of
    }
}

/// A boot whose outcome is not known yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited {
    /// When it was requested or, if someone else requested it, first seen.
    since: Timestamp,
    /// Whether what is shown is sure to be no older than the boot: an old description may show the end of the one before.
    visible: bool,
    /// Whether it counts as failed already. Its worker may become ready nevertheless.
    overdue: bool,
}

impl Awaited {
    fn new(since: Timestamp, visible: bool) -> Self {
        Self { since, visible, overdue: false }
    }
}

/// The state of an instance's boots and starts. Owned by the starts phase.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Startup {
    /// The boot under way, if this controller requested it.
    pub boot: Option<Boot>,
    /// The boot whose outcome is not known yet, whoever requested it.
    pub awaited: Option<Awaited>,
    /// When the description was requested that showed the outcome of the boot before.
    decided_as_of: Timestamp,
    pub start: Option<Start>,
    /// Consecutive failed starts.
    pub failures: u32,
    /// No start before this time.
    pub not_before: Timestamp,
    /// When a start was given up. It may still be carried out until the cloud has since shown the instance as stopped
    /// for long enough.
    pub uncertain_since: Timestamp,
}

impl Startup {
    /// Requests a start.
    pub fn begin(&mut self, now: Timestamp) {
        self.start = Some(Start::new(now));
        self.boot = Some(Boot { kind: BootKind::Warm, requested: now });
        self.awaited = Some(Awaited::new(now, false));
    }

    /// Gives up the start. A later start may succeed, and a new instance may be launched in the meantime.
    pub fn fail(&mut self, now: Timestamp) {
        (self.start, self.boot, self.awaited) = (None, None, None);
        self.uncertain_since = now;
        self.count_failure(now);
    }

    /// Records that the boot has taken too long. Returns whether that is new.
    pub fn mark_overdue(&mut self) -> bool {
        self.awaited.as_mut().is_some_and(|awaited| !std::mem::replace(&mut awaited.overdue, true))
    }

    fn count_failure(&mut self, now: Timestamp) {
        self.failures += 1;
        self.not_before = now + backoff(self.failures);
    }
}

/// A termination that was requested and has not been observed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Termination {
    /// When to call again, unless it is observed earlier.
    pub due: Timestamp,
    /// Number of lost answers; if there is one, the termination may have been carried out.
    pub lost_answers: u32,
    /// Whether it stays requested although the instance is running.
    pub though_running: bool,
}

/// How decisions treat an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Pending.
    Booting,
    Running,
    /// Running, but its worker does not respond: it holds capacity and does nothing.
    Unresponsive,
    /// Stopped, with a start requested.
    Starting,
    /// Stopped.
    Startable,
    /// Stopped, and never started again.
    Outdated,
    Stopping,
    /// With a termination requested: it holds capacity and does nothing.
    Terminating,
    /// No longer shown: it holds capacity and does nothing.
    Missing,
    /// Shutting down or terminated.
    Gone,
}

impl Role {
    /// Number of roles.
    pub const COUNT: usize = 10;
}

/// What the phases learn from an observation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    /// The state before, if it has changed.
    pub before: Option<InstanceState>,
    /// Whether the controller had requested its termination.
    pub terminating: bool,
    /// Duration of a stop that has ended.
    pub stop_took: Option<Duration>,
    /// Duration of a boot that has ended.
    pub boot_took: Option<(BootKind, Duration)>,
    /// Whether a boot has made its worker ready, if that became known.
    pub came_up: Option<bool>,
}

/// One instance.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub instance: Instance,
    /// When it was first seen in this state.
    pub since: Timestamp,
    /// Number of the last description that showed it.
    pub shown: u64,
    /// Number of consecutive descriptions that did not show it, and when the first of them was requested.
    missed: Option<(u32, Timestamp)>,
    /// When its worker last finished a job.
    pub last_served: Timestamp,
    pub startup: Startup,
    /// The latest boot, if this controller requested it, until its worker has finished a job.
    pub unproven: Option<Boot>,
    /// Whether that boot has taken so long that its worker is assumed to be ready.
    pub assumed_ready: bool,
    pub termination: Option<Termination>,
}

impl Tracked {
    /// Creates an instance that description `number` shows for the first time. `launched` is when it was requested, if
    /// this controller launched it.
    pub fn new(now: Timestamp, number: u64, instance: Instance, launched: Option<Timestamp>) -> Self {
        let boot = launched.map(|requested| Boot { kind: BootKind::Cold, requested });
        let seen = (instance.state == InstanceState::Pending).then_some(now);
        let awaited = launched.or(seen).map(|since| Awaited::new(since, launched.is_some()));
        Self {
            instance,
            since: now,
            shown: number,
            missed: None,
            last_served: Timestamp::START,
            startup: Startup { boot, awaited, ..Startup::default() },
            unproven: boot,
            assumed_ready: false,
            termination: None,
        }
    }

    pub fn role(&self) -> Role {
        match self.instance.state {
            InstanceState::ShuttingDown | InstanceState::Terminated => Role::Gone,
            _ if self.termination.is_some() => Role::Terminating,
            _ if self.missed.is_some_and(|(n, _)| n >= MISSED) => Role::Missing,
            InstanceState::Pending => Role::Booting,
            InstanceState::Running if self.instance.unresponsive => Role::Unresponsive,
            InstanceState::Running => Role::Running,
            InstanceState::Stopping => Role::Stopping,
            InstanceState::Stopped if self.startup.start.is_some() => Role::Starting,
            InstanceState::Stopped if self.instance.outdated => Role::Outdated,
            InstanceState::Stopped => Role::Startable,
        }
    }

    /// Returns the time by which the instances of a role are ordered: when the instance took on the role, or, if its
    /// termination is requested, when the next call is due.
    pub fn order(&self) -> Timestamp {
        match self.role() {
            Role::Booting | Role::Running | Role::Unresponsive => self.since.max(self.last_served),
            Role::Missing => self.missed.map_or(self.since, |(_, at)| at),
            Role::Starting => self.startup.start.map_or(self.since, |start| start.requested),
            Role::Terminating => self.termination.map_or(self.since, |termination| termination.due),
            Role::Startable => self.since.max(self.startup.uncertain_since),
            Role::Outdated | Role::Stopping | Role::Gone => self.since,
        }
    }

    /// Returns whether it is at work although it was launched from an earlier version.
    pub fn is_outdated_running(&self) -> bool {
        self.role() == Role::Running && self.instance.outdated
    }

    /// Returns whether a description that shows `instance` contains nothing new.
    pub fn is_as(&self, instance: &Instance) -> bool {
        self.instance.state == instance.state
            && self.instance.reason == instance.reason
            && self.instance.pid == instance.pid
            && self.instance.unresponsive == instance.unresponsive
            && self.instance.outdated == instance.outdated
            && self.instance.came_up == instance.came_up
            && self.missed.is_none()
            && self.startup.start.is_none()
            && (self.startup.awaited.is_none() || instance.state == InstanceState::Pending)
    }

    /// Records description `number`, requested at `as_of`, which shows the instance as `instance`.
    pub fn observe(
        &mut self,
        now: Timestamp,
        as_of: Timestamp,
        number: u64,
        instance: Instance,
        describe_lag: Duration,
    ) -> Observed {
        let (state, before) = (instance.state, self.instance.state);
        let mut observed = Observed { terminating: self.termination.is_some(), ..Observed::default() };
        if state != before {
            observed.before = Some(before);
            if (before, state) == (InstanceState::Stopping, InstanceState::Stopped) {
                observed.stop_took = Some(now.saturating_since(self.since));
            }
            self.since = now;
        }
        self.missed = None;
        self.shown = number;
        self.instance = instance;
        if state != InstanceState::Stopped {
            self.startup.start = None; // its effect is visible
        } else if let Some(start) = &mut self.startup.start
            && start.still_stopped(as_of, describe_lag)
        {
            // It may have booted and stopped again, without success.
            observed.came_up = self.instance.came_up.filter(|came_up| !came_up);
            self.startup.fail(now);
        }
        observed.came_up = observed.came_up.or(self.end_awaited(now, as_of, describe_lag));
        // The instance was started although it was to be terminated, so it may be at work.
        if state == InstanceState::Running && self.termination.is_some_and(|t| !t.though_running) {
            self.termination = None;
        }
        observed.boot_took = self.end_boot(now);
        observed
    }

    /// Returns whether the awaited boot has made the worker ready, once a description requested at `as_of` shows that.
    pub fn end_awaited(&mut self, now: Timestamp, as_of: Timestamp, describe_lag: Duration) -> Option<bool> {
        let startup = &mut self.startup;
        let state = self.instance.state;
        let Some(awaited) = &mut startup.awaited else {
            if state == InstanceState::Pending && startup.decided_as_of + describe_lag <= as_of {
                startup.awaited = Some(Awaited::new(now, false));
            }
            return None;
        };
        awaited.visible |= awaited.since + describe_lag <= as_of;
        if state == InstanceState::Pending || startup.start.is_some() || !awaited.visible {
            return None;
        }
        let came_up = if state == InstanceState::Running { Some(true) } else { self.instance.came_up };
        let came_up = came_up.filter(|came_up| *came_up || !awaited.overdue);
        (startup.awaited, startup.decided_as_of) = (None, as_of);
        match came_up {
            Some(true) => startup.failures = 0,
            Some(false) => startup.count_failure(now),
            None => {}
        }
        came_up
    }

    /// Returns whether the instance is pending, although its boot has taken too long.
    pub fn is_overdue(&self) -> bool {
        self.instance.state == InstanceState::Pending && self.startup.awaited.is_some_and(|awaited| awaited.overdue)
    }

    /// Ends the boot under way once its outcome is visible. Returns its duration if the instance is running.
    pub fn end_boot(&mut self, now: Timestamp) -> Option<(BootKind, Duration)> {
        match self.instance.state {
            InstanceState::Pending | InstanceState::Stopped => None,
            InstanceState::Running => {
                let boot = self.startup.boot.take()?;
                self.startup.failures = 0;
                Some((boot.kind, now.saturating_since(boot.requested)))
            }
            InstanceState::Stopping | InstanceState::ShuttingDown | InstanceState::Terminated => {
                self.startup.boot = None;
                None
            }
        }
    }

    /// Records that a description requested at `as_of` did not show the instance. Returns whether the instance is gone,
    /// because the cloud has had enough time to show it.
    pub fn miss(&mut self, as_of: Timestamp, describe_lag: Duration) -> bool {
        let (times, first) = self.missed.map_or((1, as_of), |(times, first)| (times + 1, first));
        self.missed = Some((times, first));
        times >= MISSED && first + describe_lag <= as_of
    }
}

#[cfg(test)]
mod tests {
    use super::{super::instance::InstanceId, *};

    #[test]
    fn a_description_is_new_if_it_differs_or_ends_an_absence_or_a_start() {
        let instance = Instance {
            id: InstanceId("i-1".into()),
            name: "app-tier-instance-1".into(),
            state: InstanceState::Running,
            token: "t".into(),
            pid: Some(1),
            reason: None,
            unresponsive: false,
            outdated: false,
            came_up: None,
        };
        let tracked = Tracked::new(Timestamp::START, 1, instance.clone(), None);
        assert!(tracked.is_as(&instance));
        assert!(!tracked.is_as(&Instance { state: InstanceState::Stopped, ..instance.clone() }));
        assert!(!tracked.is_as(&Instance { pid: Some(2), ..instance.clone() }));
        assert!(!tracked.is_as(&Instance { unresponsive: true, ..instance.clone() }));
        assert!(!tracked.is_as(&Instance { outdated: true, ..instance.clone() }));
        assert!(!tracked.is_as(&Instance { came_up: Some(true), ..instance.clone() }));
        assert!(!tracked.is_as(&Instance { reason: Some("exit code 1".into()), ..instance.clone() }));
        let missed = Tracked { missed: Some((1, Timestamp::START)), ..tracked.clone() };
        assert!(!missed.is_as(&instance), "it is there again");
        let mut starting = tracked;
        starting.startup.begin(Timestamp::START);
        assert!(!starting.is_as(&instance), "its start is over");
    }
}
