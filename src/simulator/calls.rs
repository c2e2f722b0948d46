//! The controller's calls: half of the latency on the way there, then the cloud does its part, then the other half.

use super::{
    throttle::Kind,
    workers::{Ending, SPREAD},
    world::{What, World},
};
use crate::{
    error::{CloudError, CloudResult},
    fleet::{Action, Event, InstanceId, InstanceState},
};

fn lost() -> CloudError {
    CloudError::Unavailable("the answer was lost".into())
}

impl World<'_> {
    fn half_way(&mut self, median: super::Time) -> super::Time {
        self.calls.log_normal(median, SPREAD) / 2
    }

    pub fn begin_call(&mut self, action: Action) {
        let latency = match action {
            Action::ReadDepth => self.model.queue_latency,
            Action::Describe { .. } | Action::Launch { .. } | Action::Start { .. } | Action::Terminate { .. } => {
                self.model.call_latency
            }
        };
        let wait = self.half_way(latency);
        self.agenda.after(wait, What::Call(action));
    }

    /// The call arrives.
    pub fn call(&mut self, action: Action) {
        let now = self.agenda.now();
        let (answer, latency) = match action {
            Action::ReadDepth => {
                self.usage.calls.depth += 1;
                let lag = self.lags.up_to(self.model.count_lag);
                (Event::Depth(Ok(self.queue.depth_at(now.saturating_sub(lag)))), self.model.queue_latency)
            }
            Action::Describe { generation } => {
                self.usage.calls.describe += 1;
                let result = self.admit(Kind::Describe).map(|()| {
                    let lag = self.lags.up_to(self.model.describe_lag);
                    self.machines.describe(now.saturating_sub(lag))
                });
                (Event::Described { generation, result }, self.model.call_latency)
            }
            Action::Launch { token, count } => {
                self.usage.calls.launch += 1;
                let made = self.launch(&token, count);
                let result = if made.is_ok() && self.answer_is_lost() { Err(lost()) } else { made };
                (Event::Launched { token, result }, self.model.call_latency)
            }
            Action::Start { ids } => {
                self.usage.calls.start += 1;
                let results = self.each(ids, Kind::Start, Self::start);
                (Event::Started { results }, self.model.call_latency)
            }
            Action::Terminate { ids, .. } => {
                self.usage.calls.terminate += 1;
                let results = self.each(ids, Kind::Terminate, Self::terminate);
                (Event::Terminated { results }, self.model.call_latency)
            }
        };
        let wait = self.half_way(latency);
        self.agenda.after(wait, What::Answer(answer));
    }

    fn answer_is_lost(&mut self) -> bool {
        self.faults.chance(self.model.faults.lost_answers)
    }

    fn admit(&mut self, kind: Kind) -> CloudResult<()> {
        if self.throttle.take(kind, self.agenda.now()) {
            return Ok(());
        }
        self.usage.throttles += 1;
        Err(CloudError::Throttled)
    }

    fn launch(&mut self, token: &str, count: usize) -> CloudResult<Vec<InstanceId>> {
        self.admit(Kind::Launch)?;
        if let Some(ids) = self.machines.of_token(token) {
            return Ok(ids);
        }
        let short = self.faults.chance(self.model.faults.capacity);
        let granted = if short { self.faults.below(count) } else { count };
        if short {
            self.usage.capacity_errors += 1;
        }
        if granted == 0 {
            return Err(CloudError::NoCapacity("no instance of this type now".into()));
        }
        let now = self.agenda.now();
        let made: Vec<usize> = (0..granted).map(|_| self.machines.create(token, now)).collect();
        self.usage.launches += granted as u64;
        for machine in &made {
            self.boot(*machine, self.model.boot.cold);
        }
        Ok(made.into_iter().map(|machine| self.machines.get(machine).id.clone()).collect())
    }

    /// One call for many instances: refused as a whole, or done for each.
    fn each(
        &mut self,
        ids: Vec<InstanceId>,
        kind: Kind,
        mut change: impl FnMut(&mut Self, usize) -> CloudResult<()>,
    ) -> Vec<(InstanceId, CloudResult<()>)> {
        let mut admitted = self.admit(kind);
        if kind == Kind::Start && admitted.is_ok() && self.faults.chance(self.model.faults.capacity) {
            self.usage.capacity_errors += 1;
            admitted = Err(CloudError::NoCapacity("no instance of this type now".into()));
        }
        let answer_lost = admitted.is_ok() && self.answer_is_lost();
        let mut one = |id: InstanceId| {
            let result = admitted.clone().and_then(|()| match self.machines.find(&id) {
                Some(machine) => change(self, machine),
                None => Err(CloudError::NotFound(id.to_string())),
            });
            (id, if answer_lost { Err(lost()) } else { result })
        };
        ids.into_iter().map(&mut one).collect()
    }

    fn start(&mut self, machine: usize) -> CloudResult<()> {
        match self.machines.get(machine).state() {
            InstanceState::Stopped => {
                self.usage.starts += 1;
                self.boot(machine, self.model.boot.warm);
                Ok(())
            }
            InstanceState::Pending | InstanceState::Running => Ok(()),
            InstanceState::Stopping | InstanceState::ShuttingDown | InstanceState::Terminated => {
                Err(CloudError::Conflict(format!("{} cannot be started now", self.machines.get(machine).id)))
            }
        }
    }

    fn terminate(&mut self, machine: usize) -> CloudResult<()> {
        match self.machines.get(machine).state() {
            // A worker that is up finishes what it has: the system tells it first.
            InstanceState::Running if self.workers.contains_key(&machine) => self.drain(machine, Ending::Terminate),
            InstanceState::Pending | InstanceState::Running | InstanceState::Stopping | InstanceState::Stopped => {
                self.shut_down(machine);
            }
            InstanceState::ShuttingDown | InstanceState::Terminated => {}
        }
        Ok(())
    }
}
