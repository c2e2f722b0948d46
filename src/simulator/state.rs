//! The state of the simulated cloud, which the event handlers share.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    Time,
    event::SimEvent,
    event_queue::EventQueue,
    history::History,
    instances::{InstanceIndex, Instances},
    parameters::CloudModel,
    queue::SimQueue,
    queue_calls::{Batching, QueueCalls},
    random::{Purpose, Random},
    rate_limits::RateLimits,
    traces::{JobIndex, Trace},
    usage::Usage,
};
use rollcall_fleet::{IdleStop, InstanceState};

/// SQS's longest long poll: an idle worker makes one call per this time.
const LONG_POLL: Duration = Duration::from_secs(20);
/// Sigma of the log-normal times for which the parameters give only a median.
pub const DEFAULT_SIGMA: f64 = 0.2;

/// What happens to an instance when its worker has drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterDrain {
    Stop,
    Terminate,
}

/// A worker that is up.
pub struct Worker {
    /// The jobs on its threads, at most one per thread.
    pub jobs: Vec<JobIndex>,
    /// The jobs that it has received and not begun.
    pub waiting: VecDeque<JobIndex>,
    /// Finished jobs whose messages have not been deleted.
    pub undeleted: usize,
    /// Whether an event will delete them.
    pub delete_due: bool,
    pub batching: Batching,
    pub idle_since: Time,
    /// Set once it drains: it takes no more jobs.
    pub draining: Option<AfterDrain>,
}

impl Worker {
    /// Creates an idle worker.
    pub fn new(now: Time) -> Self {
        Self {
            jobs: Vec::new(),
            waiting: VecDeque::new(),
            undeleted: 0,
            delete_due: false,
            batching: Batching::default(),
            idle_since: now,
            draining: None,
        }
    }

    /// Returns the number of long polls that returned empty since the worker became idle.
    pub fn empty_receives(&self, now: Time) -> u64 {
        if !self.jobs.is_empty() {
            return 0;
        }
        now.saturating_sub(self.idle_since).as_secs() / LONG_POLL.as_secs()
    }
}

/// One stream of random numbers per purpose.
pub struct Streams {
    pub boots: Random,
    pub calls: Random,
    pub lags: Random,
    pub dispatch: Random,
    pub faults: Random,
}

/// Everything that the event handlers read and change.
pub struct CloudState<'a> {
    pub model: &'a CloudModel,
    /// `None`: idle workers wait forever.
    pub idle_stop: Option<IdleStop>,
    trace: &'a Trace,
    /// When the trace begins.
    origin: Time,
    pub events: EventQueue<SimEvent>,
    pub queue: SimQueue,
    pub queue_calls: QueueCalls,
    pub instances: Instances,
    pub rate_limits: RateLimits,
    pub workers: BTreeMap<InstanceIndex, Worker>,
    /// Workers that have a free thread and are not draining.
    pub free: BTreeSet<InstanceIndex>,
    pub usage: Usage,
    pub history: History,
    pub random: Streams,
}

impl<'a> CloudState<'a> {
    /// Creates the state at virtual time zero, with the stopped instances of the model and all arrivals scheduled.
    pub fn new(model: &'a CloudModel, idle_stop: Option<IdleStop>, trace: &'a Trace, origin: Time, seed: u64) -> Self {
        let arrivals =
            trace.arrivals.iter().enumerate().map(|(job, arrival)| (origin + arrival.at, SimEvent::Arrival(job)));
        let mut state = Self {
            model,
            idle_stop,
            trace,
            origin,
            events: EventQueue::new(arrivals),
            queue: SimQueue::new(model.count_lag),
            queue_calls: QueueCalls::new(model.queue_quota, model.web_nodes, model.linger),
            instances: Instances::new(&model.name_prefix),
            rate_limits: RateLimits::of_ec2(),
            workers: BTreeMap::new(),
            free: BTreeSet::new(),
            usage: Usage::default(),
            history: History::new(trace.arrivals.len()),
            random: Streams {
                boots: Random::new(seed, Purpose::Boots),
                calls: Random::new(seed, Purpose::Calls),
                lags: Random::new(seed, Purpose::Lags),
                dispatch: Random::new(seed, Purpose::Dispatch),
                faults: Random::new(seed, Purpose::Faults),
            },
        };
        for _ in 0..model.warm {
            let instance = state.instances.create("warm", Time::ZERO);
            state.set_instance_state(instance, InstanceState::Stopped);
        }
        state
    }

    pub fn now(&self) -> Time {
        self.events.now()
    }

    /// Returns `at` as time since the start of the trace; zero if it is before.
    pub fn since_origin(&self, at: Time) -> Time {
        at.saturating_sub(self.origin)
    }

    /// Returns when no more arrivals can come.
    pub fn trace_end(&self) -> Time {
        self.origin + self.trace.length
    }

    /// Returns the time that a job takes on a thread.
    pub fn service_time(&self, job: JobIndex) -> Duration {
        self.trace.arrivals[job].service
    }

    /// Changes an instance's state now.
    pub fn set_instance_state(&mut self, instance: InstanceIndex, to: InstanceState) {
        self.instances.set_state(instance, to, self.events.now(), &mut self.usage);
    }

    /// Adds the current counts to the history.
    pub fn sample(&mut self) {
        let at = self.since_origin(self.now());
        let states = [InstanceState::Pending, InstanceState::Running, InstanceState::Stopping, InstanceState::Stopped];
        let counts = states.map(|state| self.instances.count(state));
        self.history.sample(at, self.queue.depth(), counts);
    }
}
