//! The controller's API calls: half of the latency, then the cloud's part, then the other half.

use std::time::Duration;

use super::{
    event::SimEvent,
    instances::InstanceIndex,
    lifecycle::{boot, shut_down},
    rate_limits::CallKind,
    state::{AfterDrain, CloudState, DEFAULT_SIGMA},
    workers::drain,
};
use rollcall_fleet::{Action, CloudError, CloudResult, Event, InstanceId, InstanceState};

fn lost() -> CloudError {
    CloudError::Unavailable("the answer was lost".into())
}

fn no_capacity() -> CloudError {
    CloudError::NoCapacity("no instance of this type now".into())
}

/// Sends a call: it arrives after half of its latency.
pub fn send(cloud: &mut CloudState, action: Action) {
    let latency = match action {
        Action::ReadDepth => cloud.model.queue_latency,
        Action::Describe { .. } | Action::Launch { .. } | Action::Start { .. } | Action::Terminate { .. } => {
            cloud.model.call_latency
        }
    };
    let delay = one_way(cloud, latency);
    cloud.events.schedule_after(delay, SimEvent::CallArrives(Box::new(action)));
}

fn one_way(cloud: &mut CloudState, round_trip: Duration) -> Duration {
    cloud.random.calls.log_normal(round_trip, DEFAULT_SIGMA) / 2
}

/// Carries out a call that has arrived, and sends its answer.
pub fn arrives(cloud: &mut CloudState, action: Action) {
    let now = cloud.now();
    let (answer, latency) = match action {
        Action::ReadDepth => {
            cloud.usage.calls.depth += 1;
            let lag = cloud.random.lags.up_to(cloud.model.count_lag);
            (Event::Depth(Ok(cloud.queue.depth_at(now.saturating_sub(lag)))), cloud.model.queue_latency)
        }
        Action::Describe { generation } => {
            cloud.usage.calls.describe += 1;
            let result = admit(cloud, CallKind::Describe, 0).map(|()| {
                let lag = cloud.random.lags.up_to(cloud.model.describe_lag);
                cloud.instances.describe(now.saturating_sub(lag))
            });
            (Event::Described { generation, result }, cloud.model.call_latency)
        }
        Action::Launch { token, count } => {
            cloud.usage.calls.launch += 1;
            let created = launch(cloud, &token, count);
            let result = if created.is_ok() && answer_is_lost(cloud) { Err(lost()) } else { created };
            (Event::Launched { token, result }, cloud.model.call_latency)
        }
        Action::Start { ids } => {
            cloud.usage.calls.start += 1;
            let results = change_each(cloud, ids, CallKind::Start, start);
            (Event::Started { results }, cloud.model.call_latency)
        }
        Action::Terminate { ids, .. } => {
            cloud.usage.calls.terminate += 1;
            let results = change_each(cloud, ids, CallKind::Terminate, terminate);
            (Event::Terminated { results }, cloud.model.call_latency)
        }
    };
    let delay = one_way(cloud, latency);
    cloud.events.schedule_after(delay, SimEvent::AnswerArrives(Box::new(answer)));
}

fn answer_is_lost(cloud: &mut CloudState) -> bool {
    cloud.random.faults.chance(cloud.model.faults.lost_answers)
}

fn admit(cloud: &mut CloudState, kind: CallKind, instances: usize) -> CloudResult<()> {
    if cloud.rate_limits.take(kind, instances, cloud.now()) {
        return Ok(());
    }
    cloud.usage.throttles += 1;
    Err(CloudError::Throttled)
}

fn launch(cloud: &mut CloudState, token: &str, count: usize) -> CloudResult<Vec<InstanceId>> {
    admit(cloud, CallKind::Launch, count)?;
    if let Some(ids) = cloud.instances.by_token(token) {
        return Ok(ids);
    }
    let short = cloud.random.faults.chance(cloud.model.faults.capacity);
    let granted = if short { cloud.random.faults.below(count) } else { count };
    if short {
        cloud.usage.capacity_errors += 1;
    }
    if granted == 0 {
        return Err(no_capacity());
    }
    let now = cloud.now();
    let created: Vec<InstanceIndex> = (0..granted).map(|_| cloud.instances.create(token, now)).collect();
    cloud.usage.launches += granted as u64;
    for instance in &created {
        boot(cloud, *instance, cloud.model.boot.cold);
    }
    Ok(created.into_iter().map(|instance| cloud.instances.get(instance).id.clone()).collect())
}

/// Applies a change to each instance of one call. The call is refused as a whole, or each instance has its own result.
fn change_each(
    cloud: &mut CloudState,
    ids: Vec<InstanceId>,
    kind: CallKind,
    change: fn(&mut CloudState, InstanceIndex) -> CloudResult<()>,
) -> Vec<(InstanceId, CloudResult<()>)> {
    let mut admitted = admit(cloud, kind, ids.len());
    if kind == CallKind::Start && admitted.is_ok() && cloud.random.faults.chance(cloud.model.faults.capacity) {
        cloud.usage.capacity_errors += 1;
        admitted = Err(no_capacity());
    }
    let answer_lost = admitted.is_ok() && answer_is_lost(cloud);
    let mut one = |id: InstanceId| {
        let result = admitted.clone().and_then(|()| match cloud.instances.find(&id) {
            Some(instance) => change(cloud, instance),
            None => Err(CloudError::NotFound(id.to_string())),
        });
        (id, if answer_lost { Err(lost()) } else { result })
    };
    ids.into_iter().map(&mut one).collect()
}

fn start(cloud: &mut CloudState, instance: InstanceIndex) -> CloudResult<()> {
    match cloud.instances.get(instance).state() {
        InstanceState::Stopped => {
            cloud.usage.starts += 1;
            boot(cloud, instance, cloud.model.boot.warm);
            Ok(())
        }
        InstanceState::Pending | InstanceState::Running => Ok(()),
        InstanceState::Stopping | InstanceState::ShuttingDown | InstanceState::Terminated => {
            Err(CloudError::Conflict(format!("{} cannot be started now", cloud.instances.get(instance).id)))
        }
    }
}

fn terminate(cloud: &mut CloudState, instance: InstanceIndex) -> CloudResult<()> {
    match cloud.instances.get(instance).state() {
        // The operating system first asks a running worker to end, and the worker finishes its jobs.
        InstanceState::Running if cloud.workers.contains_key(&instance) => {
            drain(cloud, instance, AfterDrain::Terminate);
        }
        InstanceState::Pending | InstanceState::Running | InstanceState::Stopping | InstanceState::Stopped => {
            shut_down(cloud, instance);
        }
        InstanceState::ShuttingDown | InstanceState::Terminated => {}
    }
    Ok(())
}
