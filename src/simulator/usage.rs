//! What a run used, and what that costs.

use serde::{Deserialize, Serialize};

use super::Time;
use crate::settings::Prices;

/// Every start of an instance is billed this long at least (EC2, Linux).
pub const LEAST_BILLED: Time = Time::from_secs(60);
const MONTH_S: f64 = 30.0 * 24.0 * 3600.0;

/// Calls by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiCalls {
    pub launch: u64,
    pub start: u64,
    pub stop: u64,
    pub terminate: u64,
    pub describe: u64,
    /// Message counts read.
    pub depth: u64,
    pub send: u64,
    pub receive: u64,
    pub delete: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Running, at least [`LEAST_BILLED`] a start.
    pub billed: Time,
    pub stopped: Time,
    /// From launch to termination, of all instances.
    pub existed: Time,
    /// Instances launched, started, terminated.
    pub launches: u64,
    pub starts: u64,
    pub terminations: u64,
    pub calls: ApiCalls,
    /// Calls refused because there were too many, and for want of capacity.
    pub throttles: u64,
    pub capacity_errors: u64,
}

/// In the currency of the prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    pub instances: f64,
    pub disks: f64,
    pub queues: f64,
}

impl Cost {
    pub fn total(&self) -> f64 {
        self.instances + self.disks + self.queues
    }
}

impl Usage {
    pub fn cost(&self, prices: &Prices) -> Cost {
        let ApiCalls { depth, send, receive, delete, .. } = self.calls;
        Cost {
            instances: self.billed.as_secs_f64() / 3600.0 * prices.instance_hour,
            disks: self.existed.as_secs_f64() / MONTH_S * prices.disk_gb * prices.disk_gb_month,
            queues: (depth + send + receive + delete) as f64 / 1e6 * prices.queue_million_calls,
        }
    }
}
