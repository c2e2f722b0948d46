//! An instance as the cloud describes it.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An instance's id (`i-…`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceId(pub String);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// EC2's six states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// On its way up.
    Pending,
    /// Up.
    Running,
    /// On its way to stopped.
    Stopping,
    /// Stopped; it can be started again.
    Stopped,
    /// On its way to terminated.
    ShuttingDown,
    /// Terminated; the cloud still lists it for some time.
    Terminated,
}

impl InstanceState {
    /// All states, in the order of the instance lifecycle.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Running, Self::Stopping, Self::Stopped, Self::ShuttingDown, Self::Terminated];

    /// Returns whether an instance in this state counts against the cap.
    pub fn counts(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Stopping | Self::Stopped => true,
            Self::ShuttingDown | Self::Terminated => false,
        }
    }
}

/// An instance as described by the cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The instance's id.
    pub id: InstanceId,
    /// Display name, such as `app-tier-instance-3`.
    pub name: String,
    /// Its state.
    pub state: InstanceState,
    /// The token of the launch that requested it.
    pub token: String,
    /// The worker's process id, if instances are processes of this machine.
    pub pid: Option<u32>,
    /// Why it is in this state, if the cloud reports a reason.
    pub reason: Option<String>,
    /// Whether its worker is hung, as far as the cloud can tell.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unresponsive: bool,
    /// Whether it was launched from an earlier version of its image or its settings than a launch would use now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outdated: bool,
    /// Whether its worker became ready in its latest boot. `None` while that is under way, if the cloud itself ended it (an
    /// interruption, no capacity), or if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub came_up: Option<bool>,
}
