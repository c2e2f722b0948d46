//! The calls to the request queue.

use std::time::Duration;

use super::{
    event::SimEvent,
    instances::{BootId, InstanceIndex},
    queue_calls::{MAX_BATCH, QueueCall, Sent},
    state::{CloudState, Worker},
    traces::JobIndex,
};

/// How long a web node waits before it repeats a refused call.
const SEND_RETRY: Duration = Duration::from_millis(100);
/// Most jobs per thread that a worker holds while its calls are refused: `src/worker/prefetch.rs`.
const PER_THREAD: usize = 5;

/// Sends the message of a job, with others of its web node.
pub fn send(cloud: &mut CloudState, job: JobIndex) {
    let now = cloud.now();
    let sent = cloud.queue_calls.send(job, now);
    cloud.usage.calls.send += u64::from(matches!(sent, Sent::Called | Sent::Refused));
    match sent {
        Sent::Joined | Sent::Called => cloud.events.schedule_after(cloud.model.queue_latency, SimEvent::Visible(job)),
        Sent::Refused => refused(cloud, job),
        Sent::Waits => {}
    }
}

/// Repeats a refused call with all of its messages, of which `first` is the first.
pub fn resend(cloud: &mut CloudState, first: JobIndex) {
    let now = cloud.now();
    cloud.usage.calls.send += 1;
    let Some(messages) = cloud.queue_calls.resend(first, now) else { return refused(cloud, first) };
    for job in messages {
        cloud.events.schedule_after(cloud.model.queue_latency, SimEvent::Visible(job));
    }
}

fn refused(cloud: &mut CloudState, first: JobIndex) {
    cloud.usage.queue_throttles += 1;
    cloud.events.schedule_after(SEND_RETRY, SimEvent::Resend(first));
}

/// Receives jobs for a worker with a free thread. Returns none if the call is refused; the worker then pauses.
pub fn receive(cloud: &mut CloudState, instance: InstanceIndex) -> Vec<JobIndex> {
    let now = cloud.now();
    let boot = cloud.instances.current_boot(instance);
    let Some(worker) = cloud.workers.get_mut(&instance) else { return Vec::new() };
    cloud.usage.calls.receive += 1 + worker.empty_receives(now);
    if !cloud.queue_calls.take(QueueCall::Receive, now) {
        cloud.usage.queue_throttles += 1;
        let pause = worker.batching.receive_refused(now);
        cloud.free.remove(&instance);
        cloud.events.schedule_after(pause, SimEvent::PauseOver(boot));
        return Vec::new();
    }
    worker.batching.received();
    let max = match cloud.model.queue_quota {
        None => 1,
        Some(_) => batch(worker, cloud.model.threads, cloud.model.service.median, worker.batching.window(now)),
    };
    std::iter::from_fn(|| cloud.queue.receive(now)).take(max).collect()
}

/// Returns how many jobs a worker receives at once: one for each free thread and, while its calls are refused, those that
/// its threads will begin within the window.
fn batch(worker: &Worker, threads: usize, service: Duration, window: Duration) -> usize {
    let free = threads.saturating_sub(worker.jobs.len()).max(1);
    let prefetched = threads * (window.as_nanos() / service.as_nanos().max(1)) as usize;
    (free + prefetched).min(MAX_BATCH).min(PER_THREAD * threads)
}

/// Deletes the message of a finished job, at once or with others.
pub fn delete(cloud: &mut CloudState, instance: InstanceIndex) {
    let now = cloud.now();
    let boot = cloud.instances.current_boot(instance);
    let Some(worker) = cloud.workers.get_mut(&instance) else { return };
    worker.undeleted += 1;
    let window = worker.batching.window(now);
    if window.is_zero() || worker.undeleted >= MAX_BATCH {
        call_delete(cloud, boot);
    } else if !std::mem::replace(&mut worker.delete_due, true) {
        cloud.events.schedule_after(window, SimEvent::DeleteDue(boot));
    }
}

/// Deletes the messages that have waited for others.
pub fn delete_due(cloud: &mut CloudState, boot: BootId) {
    if let Some(worker) = cloud.workers.get_mut(&boot.instance).filter(|_| cloud.instances.is_current(boot)) {
        worker.delete_due = false;
        call_delete(cloud, boot);
    }
}

fn call_delete(cloud: &mut CloudState, boot: BootId) {
    let now = cloud.now();
    let Some(worker) = cloud.workers.get_mut(&boot.instance) else { return };
    while worker.undeleted > 0 {
        cloud.usage.calls.delete += 1;
        if !cloud.queue_calls.take(QueueCall::Delete, now) {
            cloud.usage.queue_throttles += 1;
            worker.batching.refused(now);
            if !std::mem::replace(&mut worker.delete_due, true) {
                cloud.events.schedule_after(worker.batching.window(now), SimEvent::DeleteDue(boot));
            }
            return;
        }
        let count = worker.undeleted.min(MAX_BATCH);
        worker.undeleted -= count;
        (0..count).for_each(|_| cloud.queue.delete(now));
    }
}

/// Deletes what a worker that ends has not deleted yet.
pub fn delete_rest(cloud: &mut CloudState, worker: &Worker) {
    let now = cloud.now();
    cloud.usage.calls.delete += worker.undeleted.div_ceil(MAX_BATCH) as u64;
    (0..worker.undeleted).for_each(|_| cloud.queue.delete(now));
}
