//! The lifecycle of an instance: boot, stop, shutdown.

use std::time::Duration;

use super::{
    event::SimEvent,
    instances::{BootId, InstanceIndex},
    rate_limits::CallKind,
    state::{CloudState, DEFAULT_SIGMA},
};
use rollcall_fleet::InstanceState;

/// Boots an instance: it is pending, then running, then its operating system is up. A failed boot stays pending.
pub fn boot(cloud: &mut CloudState, instance: InstanceIndex, median: Duration) {
    let boot = cloud.instances.next_boot(instance);
    cloud.set_instance_state(instance, InstanceState::Pending);
    let model = &cloud.model.boot;
    let factor = if cloud.random.boots.chance(model.slow_share) { model.slow_factor } else { 1.0 };
    let takes = cloud.random.boots.log_normal(median, model.sigma).mul_f64(factor);
    if cloud.random.faults.chance(cloud.model.faults.boot) {
        return;
    }
    let running = SimEvent::StateChange { boot, to: InstanceState::Running };
    cloud.events.schedule_after(takes.mul_f64(model.pending_share), running);
    cloud.events.schedule_after(takes, SimEvent::Booted(boot));
}

/// Applies a planned change of state.
pub fn state_change(cloud: &mut CloudState, boot: BootId, to: InstanceState) {
    if cloud.instances.is_current(boot) {
        cloud.set_instance_state(boot.instance, to);
    }
}

/// Returns whether the instance still runs with this boot.
pub fn is_running(cloud: &CloudState, boot: BootId) -> bool {
    cloud.instances.is_current(boot) && cloud.instances.get(boot.instance).state() == InstanceState::Running
}

/// Handles a worker's call to stop its own instance. If it is refused, the operating system powers the machine off.
pub fn stop_request(cloud: &mut CloudState, boot: BootId) {
    if !is_running(cloud, boot) {
        return;
    }
    cloud.usage.calls.stop += 1;
    if !cloud.rate_limits.take(CallKind::Stop, 1, cloud.now()) {
        cloud.usage.throttles += 1;
    }
    cloud.set_instance_state(boot.instance, InstanceState::Stopping);
    let takes = cloud.random.calls.log_normal(cloud.model.stopping, DEFAULT_SIGMA);
    cloud.events.schedule_after(takes, SimEvent::StateChange { boot, to: InstanceState::Stopped });
}

/// Shuts an instance down, whatever it was doing.
pub fn shut_down(cloud: &mut CloudState, instance: InstanceIndex) {
    let boot = cloud.instances.next_boot(instance);
    cloud.set_instance_state(instance, InstanceState::ShuttingDown);
    let takes = cloud.random.calls.log_normal(cloud.model.shutting_down, DEFAULT_SIGMA);
    cloud.events.schedule_after(takes, SimEvent::StateChange { boot, to: InstanceState::Terminated });
}
