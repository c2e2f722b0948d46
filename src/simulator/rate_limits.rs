//! The rate limits of an account: token buckets for requests to EC2 and for the resources that they change.

use super::{Time, token_bucket::TokenBucket};

/// Kinds of calls, each with its own buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    Launch,
    Start,
    Terminate,
    Describe,
    Stop,
}

/// The buckets of a kind of call.
struct Limit {
    requests: TokenBucket,
    /// Instances; `None` for calls that change none.
    resources: Option<TokenBucket>,
}

/// The token buckets of an account.
pub struct RateLimits([Limit; 5]);

impl RateLimits {
    /// Returns EC2's documented limits as burst + rate. Requests: RunInstances and StartInstances 5 + 2/s,
    /// TerminateInstances 100 + 5/s, describing 100 + 20/s, other changes 50 + 5/s. Instances: RunInstances and
    /// StartInstances 1,000 + 2/s, TerminateInstances and StopInstances 1,000 + 20/s.
    pub fn of_ec2() -> Self {
        let limit = |requests: (f64, f64), resources: Option<(f64, f64)>| Limit {
            requests: TokenBucket::new(requests.0, requests.1),
            resources: resources.map(|(burst, rate)| TokenBucket::new(burst, rate)),
        };
        let (slow, fast) = (Some((1_000.0, 2.0)), Some((1_000.0, 20.0)));
        Self([
            limit((5.0, 2.0), slow),
            limit((5.0, 2.0), slow),
            limit((100.0, 5.0), fast),
            limit((100.0, 20.0), None),
            limit((50.0, 5.0), fast),
        ])
    }

    /// Takes a token for the request, and one for each of `instances`. Returns `false` if the call is throttled.
    pub fn take(&mut self, kind: CallKind, instances: usize, now: Time) -> bool {
        let Limit { requests, resources } = &mut self.0[kind as usize];
        // A refused request counts as one all the same.
        requests.take(1, now) && resources.as_mut().is_none_or(|bucket| bucket.take(instances, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [(CallKind, usize, usize); 5] = [
        (CallKind::Launch, 5, 2),
        (CallKind::Start, 5, 2),
        (CallKind::Terminate, 100, 5),
        (CallKind::Describe, 100, 20),
        (CallKind::Stop, 50, 5),
    ];

    #[test]
    fn each_kind_grants_its_burst_then_its_rate() {
        let mut limits = RateLimits::of_ec2();
        let s = Time::from_secs;
        for (kind, burst, rate) in KINDS {
            let mut granted = |at| (0..200).filter(|_| limits.take(kind, 1, at)).count();
            assert_eq!([100, 101, 103, 999].map(|at| granted(s(at))), [burst, rate, 2 * rate, burst], "{kind:?}");
        }
    }

    #[test]
    fn a_thousand_instances_are_changed_at_once_and_then_as_many_as_the_rate_allows() {
        let s = Time::from_secs;
        for (kind, rate) in
            [(CallKind::Launch, 2), (CallKind::Start, 2), (CallKind::Terminate, 20), (CallKind::Stop, 20)]
        {
            let mut limits = RateLimits::of_ec2();
            assert!(!limits.take(kind, 1_001, s(10)), "{kind:?}: more than the bucket holds");
            assert!(limits.take(kind, 1_000, s(10)) && !limits.take(kind, 1, s(10)), "{kind:?}");
            assert!(!limits.take(kind, 10 * rate + 1, s(20)) && limits.take(kind, 10 * rate, s(20)), "{kind:?}");
        }
    }
}
