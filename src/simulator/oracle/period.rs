//! What an on-period costs at least: from the boot of an instance until it stops.

use super::super::{
    parameters::{CloudModel, Prices},
    state::DEFAULT_SIGMA,
    usage::{MIN_BILLED, MONTH_S},
};

/// No boot is shorter than its median by more standard deviations than these: a normal variable is with a probability of
/// 1e-9.
const SIGMAS: f64 = 6.0;

/// The parts of an on-period's least cost. Times are in seconds, prices per second.
#[derive(Clone, Copy, Debug)]
pub struct PeriodCost {
    /// Price of a running instance.
    pub instance: f64,
    /// Price of its disk.
    pub disk: f64,
    /// Time that is billed at least (`m`).
    pub minimum: f64,
    /// Part of the boot that is billed (`b`).
    pub billed_boot: f64,
    /// The whole boot (`B`), during which the disk exists.
    pub boot: f64,
}

/// A linear function below the cost of an on-period: `start` plus `rate` per second in which its worker is ready.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    pub start: f64,
    pub rate: f64,
}

impl PeriodCost {
    /// Returns the least cost in a cloud.
    pub fn of(model: &CloudModel, prices: &Prices) -> Self {
        let fastest = model.boot.cold.min(model.boot.warm).as_secs_f64() * (-SIGMAS * model.boot.sigma).exp();
        let worker = model.worker_start.as_secs_f64() * (-SIGMAS * DEFAULT_SIGMA).exp();
        let billed_boot = (1.0 - model.boot.pending_share) * fastest + worker;
        Self {
            instance: prices.instance_hour / 3600.0,
            disk: prices.disk_gb_month * prices.disk_gb / MONTH_S,
            minimum: MIN_BILLED.as_secs_f64().max(billed_boot),
            billed_boot,
            boot: fastest + worker,
        }
    }

    /// Returns the cost of an on-period whose worker is ready for `ready` seconds.
    #[cfg(test)]
    pub fn cost(&self, ready: f64) -> f64 {
        self.instance * self.minimum.max(self.billed_boot + ready) + self.disk * (self.boot + ready)
    }

    /// Returns the linear function that counts the billed minimum with the weight `theta`, and the time on with the rest.
    pub fn linear(&self, theta: f64) -> Linear {
        Linear {
            start: self.instance * (theta * self.minimum + (1.0 - theta) * self.billed_boot) + self.disk * self.boot,
            rate: self.instance * (1.0 - theta) + self.disk,
        }
    }

    /// Returns the gap without any job from which on an instance costs no less if it stays on than if it starts again.
    pub fn decisive_gap(&self) -> f64 {
        2.0 * self.minimum + self.boot
    }
}
