//! Workers: they take jobs, work, wait, and stop their instances.

use super::{
    JobIndex, Time,
    world::{What, World},
};
use crate::fleet::InstanceState;

/// Longest long poll (SQS's limit): a worker without work makes a call each.
const LONG_POLL: Time = Time::from_secs(20);
/// Spread of times that have a median in the settings and no spread of their own.
pub(super) const SPREAD: f64 = 0.2;
/// A worker whose call was refused tries again after this.
const RETRY: Time = Time::from_secs(1);

/// What becomes of an instance when its worker has finished what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Stop,
    Terminate,
}

/// A worker that takes jobs.
pub struct Worker {
    jobs: Vec<JobIndex>,
    idle_since: Time,
    /// It takes no more jobs.
    ending: Option<Ending>,
}

impl Worker {
    /// Receives that came back empty until now.
    pub fn idle_polls(&self, now: Time) -> u64 {
        if !self.jobs.is_empty() {
            return 0;
        }
        now.saturating_sub(self.idle_since).as_secs() / LONG_POLL.as_secs()
    }
}

impl World<'_> {
    fn is_of(&self, machine: usize, boot: u32) -> bool {
        self.machines.get(machine).boots == boot
    }

    pub fn booted(&mut self, machine: usize, boot: u32) {
        if !self.is_of(machine, boot) || self.machines.get(machine).state() != InstanceState::Running {
            return; // terminated meanwhile
        }
        let now = self.agenda.now();
        let started = match self.model.cron {
            Time::ZERO => now,
            cron => cron.mul_f64((now.as_secs_f64() / cron.as_secs_f64()).ceil()),
        };
        let takes = self.boots.log_normal(self.model.worker_start, SPREAD);
        self.agenda.at(started + takes, What::Ready { machine, boot });
    }

    pub fn ready(&mut self, machine: usize, boot: u32) {
        if !self.is_of(machine, boot) || self.machines.get(machine).state() != InstanceState::Running {
            return;
        }
        self.workers.insert(machine, Worker { jobs: Vec::new(), idle_since: self.agenda.now(), ending: None });
        self.free.insert(machine);
        self.watch_idle(machine);
        self.hand_out();
    }

    /// Waiting jobs go to workers that have a thread free, to whichever happens to ask first.
    pub fn hand_out(&mut self) {
        let now = self.agenda.now();
        while !self.free.is_empty() && !self.queue.is_empty() {
            let pick = self.dispatch_rng.below(self.free.len());
            let Some(machine) = self.free.iter().nth(pick).copied() else { return };
            let Some(worker) = self.workers.get_mut(&machine) else { return };
            let Some(job) = self.queue.take(now) else { return };
            self.usage.calls.receive += 1 + worker.idle_polls(now);
            worker.jobs.push(job);
            if worker.jobs.len() == self.threads {
                self.free.remove(&machine);
            }
            let begins = now + self.dispatch_rng.up_to(self.model.poll_delay);
            self.began(job, begins);
            let boot = self.machines.get(machine).boots;
            let service = self.service(job);
            if self.faults.chance(self.model.faults.crash) {
                self.agenda.at(begins + service.mul_f64(self.faults.share()), What::Crashed { machine, boot });
            } else {
                self.agenda.at(begins + service, What::Finished { machine, boot, job });
            }
        }
    }

    pub fn finished(&mut self, machine: usize, boot: u32, job: JobIndex) {
        let now = self.agenda.now();
        let Some(worker) = self.workers.get_mut(&machine).filter(|w| w.jobs.contains(&job)) else { return };
        if self.machines.get(machine).boots != boot {
            return;
        }
        worker.jobs.retain(|j| *j != job);
        self.queue.delete(now);
        self.usage.calls.send += 1; // the reply, which the web tier receives and deletes
        self.usage.calls.receive += 1;
        self.usage.calls.delete += 2;
        self.agenda.after(self.model.queue_latency, What::Answered { machine, job });
        worker.idle_since = now;
        match worker.ending {
            Some(ending) if worker.jobs.is_empty() => self.end(machine, ending),
            Some(_) => {}
            None => {
                self.free.insert(machine);
                self.watch_idle(machine);
                self.hand_out();
            }
        }
    }

    pub fn crashed(&mut self, machine: usize, boot: u32) {
        if !self.is_of(machine, boot) {
            return;
        }
        let Some(worker) = self.workers.remove(&machine) else { return };
        self.free.remove(&machine);
        for job in worker.jobs {
            self.agenda.after(self.visibility, What::GivenBack(job));
        }
        self.shut_down(machine);
    }

    fn watch_idle(&mut self, machine: usize) {
        let Some(worker) = self.workers.get(&machine).filter(|w| w.jobs.is_empty()) else { return };
        let (boot, since) = (self.machines.get(machine).boots, worker.idle_since);
        if let Some(wait) = self.idle_wait(machine, since) {
            self.agenda.after(wait, What::IdleFor { machine, boot, since });
        }
    }

    /// How long an idle worker waits for more work before it stops, as the product's worker decides it; `None`: for ever.
    fn idle_wait(&self, machine: usize, idle_since: Time) -> Option<Time> {
        let (now, up_since) = (self.agenda.now(), self.machines.get(machine).since());
        Some(self.idle_limits?.wait(now.saturating_sub(idle_since), now.saturating_sub(up_since)))
    }

    pub fn idle_for(&mut self, machine: usize, boot: u32, since: Time) {
        let worker = self.workers.get(&machine).filter(|_| self.machines.get(machine).boots == boot);
        if worker.is_none_or(|w| !w.jobs.is_empty() || w.idle_since != since) {
            return; // it has worked meanwhile
        }
        match self.idle_wait(machine, since) {
            Some(Time::ZERO) => self.drain(machine, Ending::Stop),
            Some(wait) => self.agenda.after(wait, What::IdleFor { machine, boot, since }),
            None => {}
        }
    }

    /// No more jobs; the end comes when those in hand are done.
    pub fn drain(&mut self, machine: usize, ending: Ending) {
        let Some(worker) = self.workers.get_mut(&machine) else { return };
        if worker.ending.is_none() {
            worker.ending = Some(ending);
            self.free.remove(&machine);
            if worker.jobs.is_empty() {
                self.end(machine, ending);
            }
        }
    }

    fn end(&mut self, machine: usize, ending: Ending) {
        if let Some(worker) = self.workers.remove(&machine) {
            self.usage.calls.receive += worker.idle_polls(self.agenda.now());
        }
        match ending {
            Ending::Terminate => self.shut_down(machine),
            Ending::Stop => {
                let boot = self.machines.get(machine).boots;
                self.agenda.after(self.model.call_latency / 2, What::StopSelf { machine, boot });
            }
        }
    }

    pub fn stop_self(&mut self, machine: usize, boot: u32) {
        if !self.is_of(machine, boot) || self.machines.get(machine).state() != InstanceState::Running {
            return;
        }
        self.usage.calls.stop += 1;
        if !self.throttle.take(super::throttle::Kind::Other, self.agenda.now()) {
            self.usage.throttles += 1;
            self.agenda.after(RETRY, What::StopSelf { machine, boot });
            return;
        }
        self.turn(machine, InstanceState::Stopping);
        let takes = self.calls.log_normal(self.model.stopping, SPREAD);
        self.agenda.after(takes, What::Turn { machine, boot, to: InstanceState::Stopped });
    }

    /// On the way to terminated, whatever it was doing.
    pub fn shut_down(&mut self, machine: usize) {
        let boot = self.machines.boot(machine); // voids what was planned
        self.turn(machine, InstanceState::ShuttingDown);
        let takes = self.calls.log_normal(self.model.shutting_down, SPREAD);
        self.agenda.after(takes, What::Turn { machine, boot, to: InstanceState::Terminated });
    }
}
