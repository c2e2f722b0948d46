//! What AWS would bill for an emulated cluster: the time of its instances, their addresses and disks, and the calls to SQS
//! and S3. Calls to EC2 are free. Web nodes, which run all the time, and the bytes stored in S3 are not included.

mod ledger;
mod prices;
mod requests;
#[cfg(test)]
mod tests;

use std::{fmt, ops::Sub};

pub use ledger::Ledger;
use prices::{HOUR, MILLION, MONTH, P_DISK, P_GET, P_IP, P_PUT, P_SQS, P_SQS_STANDARD, P_WORKER};
pub use requests::Requests;

/// A bill by item.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bill {
    /// How often an instance began to run: each is billed for at least a minute.
    pub starts: usize,
    /// Billed seconds of instances, of on-demand and spot ones.
    pub instance_seconds: f64,
    /// Billed seconds of public addresses.
    pub address_seconds: f64,
    /// Disks, in GB times seconds.
    pub disk_gb_seconds: f64,
    /// Calls to SQS and S3.
    pub requests: Requests,
}

impl Bill {
    /// Computes the bill of what an account has used so far.
    pub fn of(ledger: &Ledger, requests: Requests) -> Self {
        let seconds = |per: fn(&ledger::Entry, f64) -> f64| ledger.instances.iter().map(|i| per(i, ledger.now)).sum();
        Self {
            starts: ledger.instances.iter().map(|i| i.runs(ledger.now).count()).sum(),
            instance_seconds: seconds(ledger::Entry::billed),
            address_seconds: seconds(ledger::Entry::address),
            disk_gb_seconds: seconds(ledger::Entry::disk),
            requests,
        }
    }

    /// Returns each item with its quantity and its price in dollars.
    pub fn items(&self) -> [(String, f64); 4] {
        let Requests { fifo, standard, put, get } = self.requests;
        [
            (
                format!("{} starts, {:.0} instance s", self.starts, self.instance_seconds),
                self.instance_seconds * P_WORKER / HOUR,
            ),
            (format!("{:.0} address s", self.address_seconds), self.address_seconds * P_IP / HOUR),
            (format!("{:.0} GB s of disk", self.disk_gb_seconds), self.disk_gb_seconds * P_DISK / MONTH),
            (
                format!("{fifo} + {standard} requests to SQS, {put} PUT, {get} GET"),
                (fifo as f64 * P_SQS + standard as f64 * P_SQS_STANDARD + put as f64 * P_PUT + get as f64 * P_GET)
                    / MILLION,
            ),
        ]
    }

    /// Returns the total in dollars.
    pub fn total(&self) -> f64 {
        self.items().iter().map(|(_, dollars)| dollars).sum()
    }
}

/// What was billed after `earlier`.
impl Sub for Bill {
    type Output = Self;
    fn sub(self, earlier: Self) -> Self {
        Self {
            starts: self.starts - earlier.starts,
            instance_seconds: self.instance_seconds - earlier.instance_seconds,
            address_seconds: self.address_seconds - earlier.address_seconds,
            disk_gb_seconds: self.disk_gb_seconds - earlier.disk_gb_seconds,
            requests: self.requests - earlier.requests,
        }
    }
}

/// One line, as `docs/reliability.md` has it.
impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, dollars) in self.items() {
            write!(f, "{what}: {dollars:.5} $; ")?;
        }
        write!(f, "total {:.5} $", self.total())
    }
}
