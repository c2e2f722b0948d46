//! `[prices]`: the prices from which costs are computed.

use crate::fleet::Counts;

use super::{layers::SettingsError, reader::Reader};

/// `[prices]`, all in the same currency.
#[derive(Clone, Debug)]
pub struct Prices {
    /// One instance for one hour.
    pub instance_hour: f64,
    /// One GB of disk for one month of 30 days.
    pub disk_gb_month: f64,
    /// Disk of one instance in GB, billed from its launch to its termination.
    pub disk_gb: f64,
    /// One million calls to a queue.
    pub queue_million_calls: f64,
}

/// Hours of a month of 30 days.
const HOURS_PER_MONTH: f64 = 720.0;

impl Prices {
    /// Returns what the disk of one instance costs in an hour.
    pub(super) fn disk_hour(&self) -> f64 {
        self.disk_gb * self.disk_gb_month / HOURS_PER_MONTH
    }

    /// Returns what workers in these states cost in an hour: instances that run, and the disks of all that exist.
    pub fn workers_per_hour(&self, counts: &Counts) -> f64 {
        let disks = counts.pending + counts.running + counts.stopping + counts.stopped;
        counts.running as f64 * self.instance_hour + disks as f64 * self.disk_hour()
    }

    pub(super) fn read(r: &Reader<'_>) -> Result<Self, SettingsError> {
        let amount = |key| r.number(key, 0.0..=1e6);
        Ok(Self {
            instance_hour: amount("prices.instance_hour")?,
            disk_gb_month: amount("prices.disk_gb_month")?,
            disk_gb: amount("prices.disk_gb")?,
            queue_million_calls: amount("prices.queue_million_calls")?,
        })
    }
}
