//! What is known of one instance: what was last observed of it, and what is intended for it.

use std::time::Duration;

use super::{
    calls::{CALL_TIMEOUT, backoff},
    instance::{Instance, InstanceState},
    timestamp::Timestamp,
};

/// An instance that this many descriptions in a row did not show no longer serves; it may still exist.
const MISSED: u32 = 3;
/// Descriptions that must still show an instance stopped before its start counts as failed.
const STILL_STOPPED: u32 = 3;

/// How an instance comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BootKind {
    /// New.
    Cold,
    /// Stopped before.
    Warm,
}

/// A boot under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boot {
    pub kind: BootKind,
    /// When it was requested.
    pub requested: Timestamp,
}

/// A start of a stopped instance, requested and not observed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub requested: Timestamp,
    /// When the call under way was made.
    pub called: Option<Timestamp>,
    /// When to call again, because the last answer was lost or the call was throttled.
    pub retry_at: Option<Timestamp>,
    /// When the cloud accepted it.
    pub accepted: Option<Timestamp>,
    /// Calls in a row that failed.
    pub failures: u32,
    /// Descriptions, called for after the acceptance, that still showed the instance stopped.
    still_stopped: u32,
}

impl Start {
    /// Returns a start whose first call is made now.
    pub fn new(now: Timestamp) -> Self {
        Self { requested: now, called: Some(now), retry_at: None, accepted: None, failures: 0, still_stopped: 0 }
    }

    /// Returns when to call again.
    pub fn due(&self) -> Option<Timestamp> {
        self.retry_at.or(self.called.map(|called| called + CALL_TIMEOUT))
    }

    /// Takes in that a description called for at `as_of` shows the instance still stopped. Returns whether that proves that
    /// the start has failed: the cloud has had the time to show it.
    fn still_stopped(&mut self, as_of: Timestamp, describe_lag: Duration) -> bool {
        let Some(accepted) = self.accepted else { return false };
        if self.called.is_none() && accepted < as_of {
            self.still_stopped += 1;
        }
        self.still_stopped >= STILL_STOPPED && accepted + describe_lag <= as_of
    }
}

/// What is known of an instance's way up. Owned by the phase of starts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Startup {
    /// The boot under way, if it was requested from here.
    pub boot: Option<Boot>,
    pub start: Option<Start>,
    /// Starts in a row that failed.
    pub failures: u32,
    /// No start before.
    pub not_before: Timestamp,
    /// When a start was given up: until the cloud has shown the instance stopped for long enough since, it may yet have
    /// been carried out.
    pub uncertain_since: Timestamp,
}

impl Startup {
    /// Requests a start.
    pub fn begin(&mut self, now: Timestamp) {
        self.start = Some(Start::new(now));
        self.boot = Some(Boot { kind: BootKind::Warm, requested: now });
    }

    /// Gives the start up. A later one may succeed, and a new instance may be launched meanwhile.
    pub fn fail(&mut self, now: Timestamp) {
        (self.start, self.boot) = (None, None);
        self.failures += 1;
        self.not_before = now + backoff(self.failures);
        self.uncertain_since = now;
    }
}

/// A termination, requested and not observed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Termination {
    /// When to call again, if it is not observed before.
    pub due: Timestamp,
    /// Answers that were lost: it may have been carried out.
    pub lost_answers: u32,
    /// It is wanted although the instance runs.
    pub though_running: bool,
}

/// What an instance is to the decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Pending.
    Booting,
    Running,
    /// Stopped, with a start requested.
    Starting,
    /// Stopped.
    Startable,
    Stopping,
    /// With a termination requested: it holds capacity and does nothing.
    Terminating,
    /// Not shown any more: it holds capacity and does nothing.
    Missing,
    /// Shutting down or terminated.
    Gone,
}

impl Role {
    /// Number of roles.
    pub const COUNT: usize = 8;
}

/// What an observation means to the phases that learn from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    /// The state before, if it has changed.
    pub before: Option<InstanceState>,
    /// Whether the controller had requested its termination.
    pub terminating: bool,
    /// How long the stop took that has ended.
    pub stop_took: Option<Duration>,
    /// How long the boot took that has ended.
    pub boot_took: Option<(BootKind, Duration)>,
}

/// One instance.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub instance: Instance,
    /// When it was first seen in this state.
    pub since: Timestamp,
    /// Number of the last description that showed it.
    pub shown: u64,
    /// Descriptions in a row that did not show it, and when the first of them was called for.
    missed: Option<(u32, Timestamp)>,
    /// When its worker last finished a job.
    pub last_served: Timestamp,
    pub startup: Startup,
    pub termination: Option<Termination>,
}

impl Tracked {
    /// Returns an instance that description `number` shows for the first time. `launched` is when it was requested, if it
    /// was launched by this controller.
    pub fn new(now: Timestamp, number: u64, instance: Instance, launched: Option<Timestamp>) -> Self {
        let boot = launched.map(|requested| Boot { kind: BootKind::Cold, requested });
        Self {
            instance,
            since: now,
            shown: number,
            missed: None,
            last_served: Timestamp::START,
            startup: Startup { boot, ..Startup::default() },
            termination: None,
        }
    }

    pub fn role(&self) -> Role {
        match self.instance.state {
            InstanceState::ShuttingDown | InstanceState::Terminated => Role::Gone,
            _ if self.termination.is_some() => Role::Terminating,
            _ if self.missed.is_some_and(|(n, _)| n >= MISSED) => Role::Missing,
            InstanceState::Pending => Role::Booting,
            InstanceState::Running => Role::Running,
            InstanceState::Stopping => Role::Stopping,
            InstanceState::Stopped if self.startup.start.is_some() => Role::Starting,
            InstanceState::Stopped => Role::Startable,
        }
    }

    /// Returns the time by which instances of its role are ordered: since when it has the role; with a termination
    /// requested, when that is due again.
    pub fn order(&self) -> Timestamp {
        match self.role() {
            Role::Booting | Role::Running => self.since.max(self.last_served),
            Role::Missing => self.missed.map_or(self.since, |(_, at)| at),
            Role::Starting => self.startup.start.map_or(self.since, |start| start.requested),
            Role::Terminating => self.termination.map_or(self.since, |termination| termination.due),
            Role::Startable => self.since.max(self.startup.uncertain_since),
            Role::Stopping | Role::Gone => self.since,
        }
    }

    /// Returns whether a description that shows `instance` says nothing new.
    pub fn is_as(&self, instance: &Instance) -> bool {
        self.instance.state == instance.state
            && self.instance.reason == instance.reason
            && self.instance.pid == instance.pid
            && self.missed.is_none()
            && self.startup.start.is_none()
    }

    /// Takes in description `number`, called for at `as_of`, which shows the instance as `instance`.
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
            self.startup.start = None; // it shows
        } else if let Some(start) = &mut self.startup.start
            && start.still_stopped(as_of, describe_lag)
        {
            self.startup.fail(now);
        }
        // Somebody has started an instance that was to be terminated: it may be at work.
        if state == InstanceState::Running && self.termination.is_some_and(|t| !t.though_running) {
            self.termination = None;
        }
        observed.boot_took = self.end_boot(now);
        observed
    }

    /// Ends the boot under way once its outcome shows. Returns how long it took if the instance runs.
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

    /// Takes in that a description called for at `as_of` did not show the instance. Returns whether the cloud has had the
    /// time to show it, so that it is gone.
    pub fn miss(&mut self, as_of: Timestamp, describe_lag: Duration) -> bool {
        let (times, first) = self.missed.map_or((1, as_of), |(times, first)| (times + 1, first));
        self.missed = Some((times, first));
        times >= MISSED && first + describe_lag <= as_of
    }
}
