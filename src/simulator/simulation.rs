//! The event loop of a run.

use std::time::Duration;

use super::{
    Time, calls,
    controller::Controller,
    controller_kind::ControllerKind,
    event::SimEvent,
    history::History,
    lifecycle,
    parameters::Parameters,
    random::{Purpose, Random},
    report::Report,
    requests,
    state::CloudState,
    traces::Trace,
    usage::Usage,
    workers,
};
use rollcall_fleet::{Event, fall_is_hinted};

/// When the trace begins, the controller has been up for this time plus a random time of up to as much again, so that
/// the trace begins at a random point of the poll, sweep and cron intervals.
const WARM_UP: Duration = Duration::from_secs(30);
/// Time from the Unix epoch to the beginning of each trace: a Monday at 00:00 UTC. `fleet.schedule` follows this clock.
const MONDAY: Duration = Duration::from_secs(4 * 86_400);
/// A run that does not end by itself is cut off this long after its trace.
const CUT_OFF: Duration = Duration::from_secs(6 * 3600);

/// The result of a run.
pub struct Run {
    /// The figures of the run.
    pub report: Report,
    /// The history of the run.
    pub history: History,
}

/// Simulates a fleet under the arrivals of `trace`. The same arguments give the same run.
pub fn simulate(parameters: &Parameters, kind: ControllerKind, trace: &Trace, seed: u64) -> Run {
    let origin = origin(seed);
    let controller = kind.controller(parameters, MONDAY - origin);
    let cloud = CloudState::new(&parameters.cloud, kind.idle_stop(parameters), trace, origin, seed);
    let (history, usage) = Simulation::new(cloud, controller).run();
    let report = Report {
        policy: kind.name(parameters).to_owned(),
        trace: trace.name.clone(),
        seed,
        queue_quota: parameters.cloud.queue_quota.unwrap_or_default(),
        ..Report::new(&history, &usage, &parameters.prices)
    };
    Run { report, history }
}

/// Returns the virtual time at which the trace begins.
pub(super) fn origin(seed: u64) -> Time {
    WARM_UP + Random::new(seed, Purpose::Clock).up_to(WARM_UP)
}

/// A run under way.
pub(super) struct Simulation<'a> {
    cloud: CloudState<'a>,
    controller: Box<dyn Controller + 'a>,
    /// When the controller asked, in its last step, to be woken.
    wake_at: Option<Time>,
    /// Jobs uploaded and not yet answered.
    waiting: u64,
    /// `waiting` in the last hint to the controller.
    hinted: u64,
    /// Jobs not yet answered, whether uploaded or not.
    unanswered: usize,
}

impl<'a> Simulation<'a> {
    pub(super) fn new(cloud: CloudState<'a>, controller: Box<dyn Controller + 'a>) -> Self {
        let unanswered = cloud.history.jobs.len();
        Self { cloud, controller, wake_at: None, waiting: 0, hinted: 0, unanswered }
    }

    /// Runs until every job is answered, the trace is over and all instances are at rest, or until the run is cut off.
    pub(super) fn run(mut self) -> (History, Usage) {
        let trace_end = self.cloud.trace_end();
        self.step_controller(Event::Tick);
        while let Some(event) = self.cloud.events.pop() {
            self.handle(event);
            self.cloud.sample();
            let now = self.cloud.now();
            let over = now >= trace_end && self.unanswered == 0 && self.cloud.instances.at_rest();
            if over || now >= trace_end + CUT_OFF {
                break;
            }
        }
        let (end, cloud) = (self.cloud.now(), &mut self.cloud);
        cloud.instances.bill_remaining(end, &mut cloud.usage);
        for worker in cloud.workers.values() {
            cloud.usage.calls.receive += worker.empty_receives(end);
        }
        cloud.history.end = cloud.since_origin(end);
        cloud.usage.peak_per_second = cloud.queue_calls.peaks();
        (self.cloud.history, self.cloud.usage)
    }

    fn handle(&mut self, event: SimEvent) {
        let cloud = &mut self.cloud;
        let now = cloud.now();
        match event {
            SimEvent::Arrival(job) => {
                cloud.history.job(job).arrived = cloud.since_origin(now);
                requests::send(cloud, job);
                self.waiting += 1;
                self.hint(|_, _| true);
            }
            SimEvent::Resend(first) => requests::resend(cloud, first),
            SimEvent::PauseOver(boot) => workers::pause_over(cloud, boot),
            SimEvent::DeleteDue(boot) => requests::delete_due(cloud, boot),
            SimEvent::Visible(job) => {
                cloud.queue.push(job, now);
                workers::dispatch(cloud);
            }
            SimEvent::Answered { boot, job } => {
                cloud.history.job(job).answered = Some(cloud.since_origin(now));
                cloud.queue_calls.reply(now);
                let worker = cloud.instances.get(boot.instance).id.clone();
                let busy = cloud.service_time(job);
                self.waiting -= 1;
                self.unanswered -= 1;
                self.step_controller(Event::Served { worker, jobs: 1, busy });
                self.hint(fall_is_hinted);
            }
            SimEvent::VisibilityExpired(job) => {
                cloud.queue.return_to_queue(job, now);
                workers::dispatch(cloud);
            }
            SimEvent::Finished { boot, job } => workers::finished(cloud, boot, job),
            SimEvent::Crashed(boot) => workers::crashed(cloud, boot),
            SimEvent::IdleCheck { boot, idle_since } => {
                let limit = self.controller.idle_limit(&cloud.instances.get(boot.instance).id);
                workers::idle_check(cloud, boot, idle_since, limit);
            }
            SimEvent::StateChange { boot, to } => lifecycle::state_change(cloud, boot, to),
            SimEvent::Booted(boot) => workers::booted(cloud, boot),
            SimEvent::Ready(boot) => workers::ready(cloud, boot),
            SimEvent::StopRequest(boot) => lifecycle::stop_request(cloud, boot),
            SimEvent::CallArrives(action) => calls::arrives(cloud, *action),
            SimEvent::AnswerArrives(answer) => self.step_controller(*answer),
            SimEvent::WakeUp => {
                if self.wake_at.is_some_and(|at| at <= now) {
                    self.step_controller(Event::Tick);
                }
            }
        }
    }

    /// Tells the controller how many uploads wait, if that is `due` after the number that it was told last.
    fn hint(&mut self, due: fn(hinted: u64, waiting: u64) -> bool) {
        if self.cloud.model.hints && due(self.hinted, self.waiting) {
            self.hinted = self.waiting;
            self.step_controller(Event::Hint { waiting: self.waiting });
        }
    }

    /// Passes an event to the controller, sends the calls that it decides on, and schedules its wake-up.
    fn step_controller(&mut self, event: Event) {
        let decision = self.controller.step(event, self.cloud.now());
        for action in decision.actions {
            calls::send(&mut self.cloud, action);
        }
        if let Some(at) = decision.wake_at.filter(|_| decision.wake_at != self.wake_at) {
            self.cloud.events.schedule_at(at, SimEvent::WakeUp);
        }
        self.wake_at = decision.wake_at;
    }
}
