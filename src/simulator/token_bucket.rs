//! A token bucket on virtual time.

use super::Time;

/// Holds tokens up to its capacity, and is refilled at a rate.
pub struct TokenBucket {
    capacity: f64,
    per_second: f64,
    tokens: f64,
    refilled_at: Time,
}

impl TokenBucket {
    /// Creates a full bucket.
    pub fn new(capacity: f64, per_second: f64) -> Self {
        Self { capacity, per_second, tokens: capacity, refilled_at: Time::ZERO }
    }

    /// Takes this many tokens, or none if there are fewer.
    pub fn take(&mut self, count: usize, now: Time) -> bool {
        let refill = now.saturating_sub(self.refilled_at).as_secs_f64() * self.per_second;
        (self.tokens, self.refilled_at) = ((self.tokens + refill).min(self.capacity), now);
        let granted = self.tokens >= count as f64;
        if granted {
            self.tokens -= count as f64;
        }
        granted
    }
}
