//! EC2's token buckets: so many calls at once, so many a second after that.

use super::Time;

/// Calls are limited apart by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Launch,
    Start,
    Terminate,
    Describe,
    Other,
}

struct Bucket {
    size: f64,
    per_second: f64,
    tokens: f64,
    filled: Time,
}

impl Bucket {
    fn new(size: f64, per_second: f64) -> Self {
        Self { size, per_second, tokens: size, filled: Time::ZERO }
    }

    fn take(&mut self, now: Time) -> bool {
        let more = now.saturating_sub(self.filled).as_secs_f64() * self.per_second;
        (self.tokens, self.filled) = ((self.tokens + more).min(self.size), now);
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

/// The account's buckets.
pub struct Throttle([Bucket; 5]);

impl Throttle {
    /// EC2's documented request rates: RunInstances and StartInstances 5 + 2/s, TerminateInstances 100 + 5/s, describing
    /// 100 + 20/s, other changes 50 + 5/s.
    pub fn of_ec2() -> Self {
        Self([(5.0, 2.0), (5.0, 2.0), (100.0, 5.0), (100.0, 20.0), (50.0, 5.0)].map(|(b, r)| Bucket::new(b, r)))
    }

    /// Whether a call may be made now.
    pub fn take(&mut self, kind: Kind, now: Time) -> bool {
        self.0[kind as usize].take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_granted_then_the_rate() {
        let mut throttle = Throttle::of_ec2();
        let at = Time::from_secs(100);
        assert_eq!((0..8).filter(|_| throttle.take(Kind::Launch, at)).count(), 5);
        assert!(throttle.take(Kind::Start, at), "each kind has a bucket of its own");
        let second = at + Time::from_secs(1);
        assert_eq!((0..8).filter(|_| throttle.take(Kind::Launch, second)).count(), 2);
    }
}
