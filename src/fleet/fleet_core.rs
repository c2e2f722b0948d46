//! The core: passes events to the phases and lets them decide, one after the other.

mod adaptive;
mod boots;
mod ends;

use std::time::Duration;

use super::{
    action::{Action, Cause},
    adaptive::Adaptive,
    boot_outcome::BootOutcome,
    cloud_error::CloudError,
    decision_log::{Change, DecisionLog},
    demand::Demand,
    descriptions::Descriptions,
    drift::Drift,
    estimators::TimeEstimators,
    event::Event,
    explain::{Decisions, Inputs, Kind},
    failed_boots::{EndedBoots, FailedBoots},
    forecast,
    instance::Instance,
    instances::{Instances, Key},
    launches::{Launches, Shortage},
    policy::{self, PolicyInput},
    refusals::{Need, Refusals, Refused},
    rules::{FleetRules, Policy},
    schedule::{next_change, scheduled},
    situation::Situation,
    starts::Starts,
    step::Step,
    terminations::Terminations,
    timestamp::Timestamp,
    tracked::{Role, Tracked},
};

/// The controller's state. See the [module](super).
#[derive(Clone, Debug)]
pub struct FleetCore {
    rules: FleetRules,
    now: Timestamp,
    /// Instances wanted, as of the last step.
    target: usize,
    instances: Instances,
    demand: Demand,
    descriptions: Descriptions,
    starts: Starts,
    launches: Launches,
    terminations: Terminations,
    failed_boots: FailedBoots,
    refusals: Refusals,
    estimators: TimeEstimators,
    /// How boots ended in the latest step.
    boot_outcomes: Vec<BootOutcome>,
    adaptive: Adaptive,
    decision_log: DecisionLog,
}

impl FleetCore {
    /// Creates a controller without any observations. `epoch` makes its launch tokens differ from those of other
    /// controllers.
    pub fn new(rules: FleetRules, epoch: u64) -> Self {
        Self {
            now: Timestamp::START,
            target: 0,
            instances: Instances::default(),
            demand: Demand::new(rules.up_delay, rules.down_delay),
            descriptions: Descriptions::default(),
            starts: Starts::default(),
            launches: Launches::new(epoch),
            terminations: Terminations::new(&rules),
            failed_boots: FailedBoots::default(),
            refusals: Refusals::default(),
            estimators: TimeEstimators::new(rules.boot_cold, rules.boot_warm, rules.service_time),
            boot_outcomes: Vec::new(),
            adaptive: Adaptive::new(&rules),
            decision_log: DecisionLog::new(rules.started_at),
            rules,
        }
    }

    /// Returns the controller's epoch.
    pub fn epoch(&self) -> u64 {
        self.launches.epoch()
    }

    /// Returns the rules.
    pub fn rules(&self) -> &FleetRules {
        &self.rules
    }

    /// Keeps all decisions instead of only the latest thousand.
    pub fn keep_all_decisions(&mut self) {
        self.decision_log.keep_all();
    }

    /// Returns the latest decisions.
    pub fn decisions(&self) -> &Decisions {
        self.decision_log.decisions()
    }

    /// Returns the number of jobs known to exist.
    pub fn demand(&self) -> u64 {
        self.demand.jobs()
    }

    /// Returns the maximum number of instances: the configured cap, or a lower one learned from a refused launch.
    pub fn cap(&self) -> usize {
        self.launches.cap(self.rules.max_instances, self.now)
    }

    /// Returns the number of instances wanted, as of the last step.
    pub fn target(&self) -> usize {
        self.target
    }

    /// Returns the number of instances that are serving or soon will be.
    pub fn serving(&self) -> usize {
        self.instances.serving() + self.launches.outstanding()
    }

    /// Returns why there is no instance, if so many launches and starts in a row were refused that the fleet is degraded.
    pub fn refused(&self) -> Option<Refused> {
        self.refusals.refused(|| {
            let starts = self.instances.of(Role::Startable).map(|(_, key)| self.instances.get(key).startup.not_before);
            starts.chain([self.launches.not_before()]).filter(|at| *at > self.now).min()
        })
    }

    /// Returns the number of instances that count against the cap, including those that may exist.
    pub fn live(&self) -> usize {
        live_besides_launches(&self.instances, &self.terminations) + self.launches.outstanding()
    }

    pub(super) fn instances(&self) -> &Instances {
        &self.instances
    }

    pub(super) fn decision_log(&self) -> &DecisionLog {
        &self.decision_log
    }

    /// Returns the inputs of a decision made now.
    pub(super) fn inputs(&self) -> Inputs {
        Inputs {
            policy: self.rules.policy,
            depth: self.demand.depth(),
            hint: self.demand.hint(),
            demand: self.demand.jobs(),
            cap: self.cap(),
            target: self.target,
            scheduled: scheduled(&self.rules.schedule, self.clock()),
            counts: self.instances.counts(),
            launching: self.launches.outstanding(),
            starting: self.instances.count(Role::Starting),
            learned: self.estimators.learned(),
            adaptive: self.learned_thresholds(),
        }
    }

    /// Returns the time since the Unix epoch.
    fn clock(&self) -> Duration {
        self.rules.started_at + self.now.since_start()
    }

    /// Processes an event and decides. `now` must not decrease.
    pub fn step(&mut self, event: Event, now: Timestamp) -> Step {
        self.now = now.max(self.now);
        self.boot_outcomes.clear();
        self.take_in(event);
        self.decide()
    }

    fn take_in(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Tick => {}
            Event::Hint { waiting } => {
                self.demand.hinted(now, waiting);
                self.learn_hint(waiting);
            }
            Event::Served { worker, jobs, busy } => {
                self.estimators.served(jobs, busy);
                let boot = self.instances.served(&worker, now);
                self.learn_served(jobs, busy, boot);
            }
            Event::Changed => self.descriptions.hurry(now),
            Event::Restored { state } => self.restore(&state),
            Event::BootsRestored { boots } => self.restore_boots(boots),
            Event::Depth(result) => {
                self.demand.answered(now, result, &mut self.decision_log);
                self.learn_depth();
            }
            Event::Described { generation, result } => {
                if let Some(as_of) = self.descriptions.answered(generation) {
                    match result {
                        Ok(instances) => self.observe(as_of, instances),
                        Err(error) => self.decision_log.error(now, format!("instances not described: {error}")),
                    }
                }
            }
            Event::Launched { token, result } => {
                let live = live_besides_launches(&self.instances, &self.terminations);
                let (before, refusal) = (self.launches.outstanding(), result.as_ref().err().cloned());
                self.launches.answered(now, &token, result, live, &mut self.decision_log);
                self.requests_answered(before.saturating_sub(self.launches.outstanding()), refusal);
                self.descriptions.hurry(now);
            }
            Event::Started { results } => {
                let before = self.instances.count(Role::Starting);
                let refusal =
                    results.iter().map(|(_, result)| result.as_ref().err().cloned()).min_by_key(Option::is_some);
                self.starts.answered(now, results, &mut self.instances, &mut self.decision_log);
                self.requests_answered(before.saturating_sub(self.instances.count(Role::Starting)), refusal.flatten());
                self.descriptions.hurry(now);
            }
            Event::Terminated { results } => {
                self.terminations.answered(now, results, &mut self.instances, &mut self.decision_log);
                self.descriptions.hurry(now);
            }
        }
    }

    /// Processes the answer to a launch or start, which released `released` instances. `refusal` is the error, unless the
    /// cloud has accepted at least one instance.
    fn requests_answered(&mut self, released: usize, refusal: Option<CloudError>) {
        if let Some(error) = refusal {
            if released > 0 {
                self.failed_boots.refused();
                self.refusals.add(&error, released);
            }
        } else if self.refusals.any() {
            let inputs = self.inputs();
            self.refusals.accepted(self.now, &inputs, &mut self.decision_log);
        }
    }

    fn decide(&mut self) -> Step {
        let mut step = self.demand.decide(self.now, &self.rules, self.poll_every());
        let input = self.policy_input();
        let adaptive = self.adaptive_target(&input);
        self.target = policy::target(&PolicyInput { adaptive, ..input }, &self.rules);
        if let Some(left) = next_change(&self.rules.schedule, self.clock()) {
            step.wake(self.now, self.now + left);
        }
        if let Some(described_as_of) = self.descriptions.as_of() {
            step.merge(self.decide_changes(described_as_of));
        }
        step.merge(self.descriptions.decide(self.now, &self.rules));
        step
    }

    /// Lets the phases that change instances decide.
    fn decide_changes(&mut self, described_as_of: Timestamp) -> Step {
        let situation = Situation {
            now: self.now,
            rules: &self.rules,
            described_as_of,
            shows_earlier_epochs: self.descriptions.show_earlier_epochs(self.rules.describe_lag),
            target: self.target,
            idle_stop: self.longest_idle(),
            keep_stopped: self.keep_stopped(),
            cap: self.cap(),
        };
        let orphaned = self.launches.give_up(described_as_of, self.rules.boot_timeout);
        let mut ended = EndedBoots::default();
        ended.failed(orphaned.iter().map(|id| format!("{id} never appeared")));
        self.terminations.orphan(self.now, orphaned);
        self.starts.give_up(&situation, &mut self.instances);

        let launching = self.launches.outstanding();
        let mut inputs = self.inputs();
        let (instances, decision_log) = (&mut self.instances, &mut self.decision_log);
        let mut step = self.terminations.decide(&situation, &self.demand, launching, instances, &inputs, decision_log);
        ended.failed(overdue_boots(&step.actions, instances));
        self.boot_outcomes.extend(ended.failures());
        self.failed_boots.ended(self.now, ended, &inputs, decision_log);

        let wanted = self.target + Drift::surge(&situation, instances);
        let missing = wanted.saturating_sub(instances.serving() + launching);
        let more = missing.min(self.failed_boots.allowed(self.now, || booting(instances, &self.launches)));
        if let Some(at) = self.failed_boots.due().filter(|_| missing > more) {
            step.wake(self.now, at);
        }
        let requested = (self.launches.outstanding(), instances.count(Role::Starting));
        let (starts, mut missing) = self.starts.decide(&situation, more, instances, &inputs, decision_log);
        step.merge(starts);

        if missing > 0 {
            let (restartable, changes_at) = forecast::soon_restartable(self.now, instances, &self.estimators);
            missing = missing.saturating_sub(restartable);
            if let Some(at) = changes_at {
                step.wake(self.now, at);
            }
        }
        let shortage = Shortage {
            wanted,
            missing,
            serving: instances.serving(),
            live: live_besides_launches(instances, &self.terminations),
            not_before: self.terminations.launches_not_before(),
        };
        inputs.starting = instances.count(Role::Starting);
        step.merge(self.launches.decide(&situation, shortage, inputs, decision_log));
        if requested != (self.launches.outstanding(), instances.count(Role::Starting)) {
            self.failed_boots.tried(self.now);
        }
        let up = instances.pending() + instances.count(Role::Running);
        let need = Need { up, missing: wanted.saturating_sub(up) };
        if self.refusals.is_changed_by(need) {
            let inputs = self.inputs();
            self.refusals.judge(self.now, need, &inputs, &mut self.decision_log);
        }
        step
    }

    /// Returns the input of the policy.
    fn policy_input(&self) -> PolicyInput {
        let (low_demand, high_demand) = self.demand.extremes();
        let booting = match self.rules.policy {
            Policy::Deadline => forecast::booting(self.now, &self.instances, &self.launches, &self.estimators),
            Policy::OnePerJob | Policy::Backlog | Policy::Adaptive => Vec::new(),
        };
        PolicyInput {
            demand: self.demand.jobs(),
            low_demand,
            high_demand,
            previous: self.target,
            cap: self.cap(),
            running: self.instances.count(Role::Running),
            booting,
            startable: self.instances.count(Role::Startable),
            adaptive: 0,
            learned: self.estimators.learned(),
            clock: self.clock(),
        }
    }

    /// Processes a description that was requested at `as_of`.
    fn observe(&mut self, as_of: Timestamp, described: Vec<Instance>) {
        let (number, shown, known) = (self.descriptions.generation(), described.len(), self.instances.len());
        let mut new = 0;
        let mut ended = EndedBoots::default();
        for (key, instance) in self.instances.compare(number, described) {
            match key {
                Some(key) => self.observe_known(key, as_of, instance, &mut ended),
                None => {
                    new += 1;
                    self.observe_new(as_of, instance, &mut ended);
                }
            }
        }
        if shown - new < known {
            for key in self.instances.not_shown(number) {
                self.observe_missing(key, as_of);
            }
        }
        self.launches.observed(as_of, self.rules.describe_lag);
        self.descriptions.observed(as_of);
        self.boot_outcomes.extend(ended.failures());
        if !ended.is_empty() {
            let inputs = self.inputs();
            self.failed_boots.ended(self.now, ended, &inputs, &mut self.decision_log);
        }
    }

    fn observe_new(&mut self, as_of: Timestamp, instance: Instance, ended: &mut EndedBoots) {
        self.decision_log.state_change(self.now, None, &instance);
        // An instance without a known launch comes from an earlier controller epoch, and belongs to the cluster as
        // well.
        let launched = self.launches.observe(&instance.token, &instance.id);
        self.terminations.observe(&instance.id);
        let mut tracked = Tracked::new(self.now, self.descriptions.generation(), instance, launched);
        if let Some((kind, took)) = tracked.end_boot(self.now) {
            self.booted(kind, took);
        }
        let came_up = tracked.end_awaited(self.now, as_of, self.rules.describe_lag);
        ended.add(came_up, &tracked.instance);
        self.instances.insert(tracked);
    }

    fn observe_known(&mut self, key: Key, as_of: Timestamp, instance: Instance, ended: &mut EndedBoots) {
        let (now, number, lag) = (self.now, self.descriptions.generation(), self.rules.describe_lag);
        let observed = self.instances.observe(key, now, as_of, number, instance, lag);
        if let Some(took) = observed.stop_took {
            self.estimators.stopped(took);
        }
        if let Some((kind, took)) = observed.boot_took {
            self.booted(kind, took);
        }
        let instance = &self.instances.get(key).instance;
        ended.add(observed.came_up, instance);
        let Some(before) = observed.before else { return };
        self.decision_log.state_change(now, Some(before), instance);
        if let Some(kind) = Self::unrequested_end(before, instance.state).filter(|_| !observed.terminating) {
            let reason = self.end_reason(kind, before, instance);
            let change = Change { kind, instances: vec![instance.id.clone()], count: 1, reason, token: None };
            self.decision_log.explain(now, change, self.inputs());
        }
    }

    /// Processes a description that does not show the instance. Descriptions may lag, so the instance holds capacity
    /// for a while.
    fn observe_missing(&mut self, key: Key, as_of: Timestamp) {
        if !self.instances.miss(key, as_of, self.rules.describe_lag) {
            return;
        }
        let instance = self.instances.remove(key);
        if instance.state.counts() {
            let reason = format!("{} is no longer listed by the cloud", instance.name);
            let change = Change { kind: Kind::Lost, instances: vec![instance.id], count: 1, reason, token: None };
            self.decision_log.explain(self.now, change, self.inputs());
        }
    }
}

/// Returns the number of instances that count against the cap, except launches that have not been observed.
fn live_besides_launches(instances: &Instances, terminations: &Terminations) -> usize {
    instances.live() + terminations.orphaned()
}

/// Returns the number of instances that are booting or may be, without those whose boot has failed because it takes too
/// long: one of them that cannot be terminated must not prevent every further attempt.
fn booting(instances: &Instances, launches: &Launches) -> usize {
    let overdue = if instances.pending() == 0 { 0 } else { instances.iter().filter(|i| i.is_overdue()).count() };
    instances.pending() - overdue + instances.count(Role::Starting) + launches.outstanding()
}

/// Returns how the boots have failed whose instances are terminated because they take too long.
fn overdue_boots(actions: &[Action], instances: &mut Instances) -> Vec<String> {
    let overdue = actions.iter().filter_map(|action| match action {
        Action::Terminate { ids, cause: Cause::BootTimeout } => Some(ids),
        _ => None,
    });
    let mut failed = Vec::new();
    for key in overdue.flatten().filter_map(|id| instances.key(id)).collect::<Vec<_>>() {
        let mut is_new = false;
        instances.update_startup(key, |startup| is_new = startup.mark_overdue());
        if is_new {
            failed.push(format!("{} was not ready within fleet.boot_timeout", instances.get(key).instance.name));
        }
    }
    failed
}
