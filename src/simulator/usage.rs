//! The usage of a run, and its cost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::parameters::Prices;

/// EC2 bills each start of a Linux instance for at least this long.
pub const MIN_BILLED: Duration = Duration::from_secs(60);
/// Seconds of the month by which disks are billed.
pub const MONTH_S: f64 = 30.0 * 24.0 * 3600.0;

/// Number of API calls by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiCalls {
    /// Launches.
    pub launch: u64,
    /// Starts.
    pub start: u64,
    /// Stops.
    pub stop: u64,
    /// Terminations.
    pub terminate: u64,
    /// Descriptions.
    pub describe: u64,
    /// Reads of the message counts.
    pub depth: u64,
    /// Messages sent.
    pub send: u64,
    /// Receives.
    pub receive: u64,
    /// Deletes.
    pub delete: u64,
}

/// The most in any one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeakCalls {
    /// Calls that send to the request queue.
    pub send: u64,
    /// Calls that receive from it.
    pub receive: u64,
    /// Calls that delete from it.
    pub delete: u64,
    /// Replies to all web nodes.
    pub replies: u64,
}

/// Everything that is counted or billed.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Time in state running, at least [`MIN_BILLED`] per start, summed over instances.
    pub billed: Duration,
    /// Time in state stopped, summed over instances.
    pub stopped: Duration,
    /// Time from launch to termination, summed over instances: how long their disks existed.
    pub disk_time: Duration,
    /// Instances launched.
    pub launches: u64,
    /// Instances started from stopped.
    pub starts: u64,
    /// Instances terminated.
    pub terminations: u64,
    pub calls: ApiCalls,
    /// The most in any one second.
    pub peak_per_second: PeakCalls,
    /// Calls to EC2 refused by a rate limit.
    pub throttles: u64,
    /// Calls to the request queue refused by its quota.
    pub queue_throttles: u64,
    /// Calls that found no capacity, or too little.
    pub capacity_errors: u64,
}

/// Cost by kind, in the currency of the prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Running instances.
    pub instances: f64,
    /// Disks of all instances.
    pub disks: f64,
    /// Calls to the queues.
    pub queues: f64,
}

impl Cost {
    /// Returns the sum of the parts.
    pub fn total(&self) -> f64 {
        self.instances + self.disks + self.queues
    }
}

impl Usage {
    /// Returns the cost of this usage.
    pub fn cost(&self, prices: &Prices) -> Cost {
        let ApiCalls { depth, send, receive, delete, .. } = self.calls;
        Cost {
            instances: self.billed.as_secs_f64() / 3600.0 * prices.instance_hour,
            disks: self.disk_time.as_secs_f64() / MONTH_S * prices.disk_gb * prices.disk_gb_month,
            queues: (depth + send + receive + delete) as f64 / 1e6 * prices.queue_million_calls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_time_disks_and_calls_to_the_queues_are_billed() {
        let prices = Prices { instance_hour: 3.0, disk_gb_month: 0.5, disk_gb: 8.0, queue_million_calls: 0.7 };
        let calls = ApiCalls { launch: 1, start: 1, stop: 1, terminate: 1, describe: 1, ..ApiCalls::default() };
        let calls = ApiCalls { depth: 1_000_000, send: 2_000_000, receive: 3_000_000, delete: 4_000_000, ..calls };
        let hours = |n: u64| Duration::from_secs(n * 3600);
        let usage = Usage { billed: hours(2), stopped: hours(50), disk_time: hours(720), calls, ..Usage::default() };
        let cost = usage.cost(&prices);
        assert!((cost.instances - 6.0).abs() < 1e-9 && (cost.disks - 4.0).abs() < 1e-9, "{cost:?}");
        assert!((cost.queues - 7.0).abs() < 1e-9, "EC2 calls cost nothing: {cost:?}");
        assert!((cost.total() - 17.0).abs() < 1e-9);
    }
}
