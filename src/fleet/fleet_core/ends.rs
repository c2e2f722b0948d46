//! Why instances end that the controller did not end.

use super::FleetCore;
use crate::{
    explain::Kind,
    instance::{Instance, InstanceState},
};

impl FleetCore {
    /// Returns the reason of an instance's end, in words.
    pub(super) fn end_reason(&self, kind: Kind, before: InstanceState, instance: &Instance) -> String {
        let name = &instance.name;
        let cloud = instance.reason.as_ref().map_or_else(String::new, |r| format!(" ({r})"));
        if before == InstanceState::Pending {
            format!("{name} ended before its worker was ready{cloud}")
        } else if kind == Kind::Stop {
            let idle = humantime::format_duration(self.rules.idle_stop);
            let learned =
                if self.is_adaptive() { ", or when it need not stay, if it follows what was learned" } else { "" };
            format!(
                "{name} stopped{cloud}: a worker stops itself after {idle} without a job (worker.idle_stop){learned}"
            )
        } else {
            format!("{name} ended unexpectedly{cloud}")
        }
    }

    /// Returns the kind of an instance's end that the controller did not request; `None` if it has not ended.
    pub(super) fn unrequested_end(before: InstanceState, now: InstanceState) -> Option<Kind> {
        use InstanceState::{Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};
        match (before, now) {
            (Pending | Running, Stopping | Stopped) => Some(Kind::Stop),
            (Pending | Running | Stopping | Stopped, ShuttingDown | Terminated) => Some(Kind::Lost),
            _ => None,
        }
    }
}
