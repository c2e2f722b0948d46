//! EC2's request rate limits: one token bucket per kind of call.

use super::Time;

/// Kinds of calls, each with its own bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    Launch,
    Start,
    Terminate,
    Describe,
    Other,
}

struct TokenBucket {
    capacity: f64,
    per_second: f64,
    tokens: f64,
    refilled_at: Time,
}

impl TokenBucket {
    fn new(capacity: f64, per_second: f64) -> Self {
        Self { capacity, per_second, tokens: capacity, refilled_at: Time::ZERO }
    }

    fn take(&mut self, now: Time) -> bool {
        let refill = now.saturating_sub(self.refilled_at).as_secs_f64() * self.per_second;
        (self.tokens, self.refilled_at) = ((self.tokens + refill).min(self.capacity), now);
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

/// The token buckets of an account.
pub struct RateLimits([TokenBucket; 5]);

impl RateLimits {
    /// Returns EC2's documented limits, as burst + rate: RunInstances and StartInstances 5 + 2/s, TerminateInstances
    /// 100 + 5/s, describing 100 + 20/s, other changes 50 + 5/s.
    pub fn of_ec2() -> Self {
        let limits = [(5.0, 2.0), (5.0, 2.0), (100.0, 5.0), (100.0, 20.0), (50.0, 5.0)];
        Self(limits.map(|(capacity, per_second)| TokenBucket::new(capacity, per_second)))
    }

    /// Takes a token. Returns `false` if the call is throttled.
    pub fn take(&mut self, kind: CallKind, now: Time) -> bool {
        self.0[kind as usize].take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_grants_its_burst_then_its_rate() {
        let mut limits = RateLimits::of_ec2();
        let s = Time::from_secs;
        for (kind, burst, rate) in [
            (CallKind::Launch, 5, 2),
            (CallKind::Start, 5, 2),
            (CallKind::Terminate, 100, 5),
            (CallKind::Describe, 100, 20),
            (CallKind::Other, 50, 5),
        ] {
            let mut granted = |at| (0..200).filter(|_| limits.take(kind, at)).count();
            assert_eq!([100, 101, 103, 999].map(|at| granted(s(at))), [burst, rate, 2 * rate, burst], "{kind:?}");
        }
    }
}
