//! The workers: they start, take jobs, wait for more, and stop their instances.

use std::time::Duration;

use super::{
    Time,
    event::SimEvent,
    instances::{BootId, InstanceIndex},
    lifecycle::{is_running, shut_down},
    requests,
    state::{AfterDrain, CloudState, DEFAULT_SIGMA, Worker},
    traces::JobIndex,
};
use rollcall_fleet::IdleStop;

/// How often an idle worker asks for its limit, if the controller decides on it.
const ASKS_EVERY: Duration = Duration::from_secs(20);

/// Starts the worker of an instance whose operating system is up: immediately, or at the next run of cron.
pub fn booted(cloud: &mut CloudState, boot: BootId) {
    if !is_running(cloud, boot) {
        return;
    }
    let now = cloud.now();
    let started = match cloud.model.cron {
        Duration::ZERO => now,
        cron => cron.mul_f64((now.as_secs_f64() / cron.as_secs_f64()).ceil()),
    };
    let takes = cloud.random.boots.log_normal(cloud.model.worker_start, DEFAULT_SIGMA);
    cloud.events.schedule_at(started + takes, SimEvent::Ready(boot));
}

/// Adds a worker that is ready to take jobs.
pub fn ready(cloud: &mut CloudState, boot: BootId) {
    if !is_running(cloud, boot) {
        return;
    }
    let instance = boot.instance;
    cloud.workers.insert(instance, Worker::new(cloud.now()));
    cloud.free.insert(instance);
    schedule_idle_check(cloud, instance);
    dispatch(cloud);
}

/// Assigns waiting jobs to workers with a free thread, each receive to a random one.
pub fn dispatch(cloud: &mut CloudState) {
    while !cloud.free.is_empty() && !cloud.queue.is_empty() {
        let pick = cloud.random.dispatch.below(cloud.free.len());
        let Some(instance) = cloud.free.iter().nth(pick).copied() else { return };
        for job in requests::receive(cloud, instance) {
            let threads = cloud.model.threads;
            let Some(worker) = cloud.workers.get_mut(&instance) else { return };
            if worker.jobs.len() < threads {
                let delay = cloud.random.dispatch.up_to(cloud.model.poll_delay);
                begin(cloud, instance, job, delay);
            } else {
                worker.waiting.push_back(job);
            }
        }
    }
}

/// Begins a received job on a free thread after a delay.
fn begin(cloud: &mut CloudState, instance: InstanceIndex, job: JobIndex, delay: Duration) {
    let Some(worker) = cloud.workers.get_mut(&instance) else { return };
    worker.jobs.push(job);
    if worker.jobs.len() == cloud.model.threads {
        cloud.free.remove(&instance);
    }
    let begins = cloud.now() + delay;
    let started_at = cloud.since_origin(begins);
    cloud.history.job(job).started_at = Some(started_at);
    let boot = cloud.instances.current_boot(instance);
    let service = cloud.service_time(job);
    if cloud.random.faults.chance(cloud.model.faults.crash) {
        let crashes = begins + service.mul_f64(cloud.random.faults.fraction());
        cloud.events.schedule_at(crashes, SimEvent::Crashed(boot));
    } else {
        cloud.events.schedule_at(begins + service, SimEvent::Finished { boot, job });
    }
}

/// Lets a worker receive again.
pub fn pause_over(cloud: &mut CloudState, boot: BootId) {
    let threads = cloud.model.threads;
    let worker = cloud.workers.get(&boot.instance).filter(|_| cloud.instances.is_current(boot));
    if worker.is_some_and(|w| w.draining.is_none() && w.jobs.len() < threads) {
        cloud.free.insert(boot.instance);
        dispatch(cloud);
    }
}

/// Sends the reply of a finished job and deletes its message. Its thread begins the next one, or is free.
pub fn finished(cloud: &mut CloudState, boot: BootId, job: JobIndex) {
    let (now, instance) = (cloud.now(), boot.instance);
    if !cloud.instances.is_current(boot) {
        return;
    }
    let Some(worker) = cloud.workers.get_mut(&instance).filter(|w| w.jobs.contains(&job)) else { return };
    worker.jobs.retain(|j| *j != job);
    worker.idle_since = now;
    let next = worker.waiting.pop_front();
    // The reply is sent by the worker, then received and deleted by the web tier.
    cloud.usage.calls.send += 1;
    cloud.usage.calls.receive += 1;
    cloud.usage.calls.delete += 1;
    cloud.events.schedule_after(cloud.model.queue_latency, SimEvent::Answered { boot, job });
    requests::delete(cloud, instance);
    if let Some(next) = next {
        return begin(cloud, instance, next, Duration::ZERO);
    }
    let Some(worker) = cloud.workers.get(&instance) else { return };
    match worker.draining {
        Some(then) if worker.jobs.is_empty() => end(cloud, instance, then),
        Some(_) => {}
        None => {
            cloud.free.insert(instance);
            schedule_idle_check(cloud, instance);
            dispatch(cloud);
        }
    }
}

/// Takes down an instance that crashes. Its jobs become visible again after the visibility timeout.
pub fn crashed(cloud: &mut CloudState, boot: BootId) {
    if !cloud.instances.is_current(boot) {
        return;
    }
    let Some(worker) = cloud.workers.remove(&boot.instance) else { return };
    cloud.free.remove(&boot.instance);
    requests::delete_rest(cloud, &worker);
    for job in worker.jobs.into_iter().chain(worker.waiting) {
        cloud.events.schedule_after(cloud.model.visibility, SimEvent::VisibilityExpired(job));
    }
    shut_down(cloud, boot.instance);
}

fn schedule_idle_check(cloud: &mut CloudState, instance: InstanceIndex) {
    let Some(worker) = cloud.workers.get(&instance).filter(|w| w.jobs.is_empty()) else { return };
    let (boot, idle_since) = (cloud.instances.current_boot(instance), worker.idle_since);
    if let Some(wait) = idle_wait(cloud, instance, idle_since, None) {
        cloud.events.schedule_after(wait, SimEvent::IdleCheck { boot, idle_since });
    }
}

/// Returns how much longer an idle worker waits for work before it stops or asks for its limit; `None`: forever. `limit`
/// is the limit that the controller gave it, if it did.
fn idle_wait(
    cloud: &CloudState,
    instance: InstanceIndex,
    idle_since: Time,
    limit: Option<Duration>,
) -> Option<Duration> {
    let (now, up_since) = (cloud.now(), cloud.instances.get(instance).since());
    let rule = cloud.idle_stop?;
    let rule = IdleStop { idle: limit.unwrap_or(rule.idle), ..rule };
    Some(rule.wait(now.saturating_sub(idle_since), now.saturating_sub(up_since)))
}

/// Stops the instance of a worker that has been idle for long enough, unless it has worked since.
pub fn idle_check(cloud: &mut CloudState, boot: BootId, idle_since: Time, limit: Option<Duration>) {
    let worker = cloud.workers.get(&boot.instance).filter(|_| cloud.instances.is_current(boot));
    if worker.is_none_or(|w| !w.jobs.is_empty() || w.idle_since != idle_since) {
        return;
    }
    match idle_wait(cloud, boot.instance, idle_since, limit) {
        Some(Duration::ZERO) => drain(cloud, boot.instance, AfterDrain::Stop),
        Some(wait) => {
            let wait = if limit.is_some() { wait.min(ASKS_EVERY) } else { wait };
            cloud.events.schedule_after(wait, SimEvent::IdleCheck { boot, idle_since });
        }
        None => {}
    }
}

/// Drains a worker: it takes no more jobs, and ends when its current jobs are finished.
pub fn drain(cloud: &mut CloudState, instance: InstanceIndex, then: AfterDrain) {
    let Some(worker) = cloud.workers.get_mut(&instance) else { return };
    if worker.draining.is_none() {
        worker.draining = Some(then);
        cloud.free.remove(&instance);
        if worker.jobs.is_empty() {
            end(cloud, instance, then);
        }
    }
}

fn end(cloud: &mut CloudState, instance: InstanceIndex, then: AfterDrain) {
    if let Some(worker) = cloud.workers.remove(&instance) {
        cloud.usage.calls.receive += worker.empty_receives(cloud.now());
        requests::delete_rest(cloud, &worker);
    }
    match then {
        AfterDrain::Terminate => shut_down(cloud, instance),
        AfterDrain::Stop => {
            let boot = cloud.instances.current_boot(instance);
            cloud.events.schedule_after(cloud.model.call_latency / 2, SimEvent::StopRequest(boot));
        }
    }
}
