//! Which uploads may be received at the same time, and how fast each must arrive, so that slow clients cannot take the
//! places of others. Pure: addresses, bytes and times are passed in.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Time before an upload must have the minimum rate: connections begin slowly.
const GRACE: Duration = Duration::from_secs(5);

/// When an upload must have arrived, which moves with its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiveDeadline {
    /// Bytes per second after [`GRACE`]; zero for any.
    pub min_rate: usize,
    /// Longest time for the whole upload.
    pub timeout: Duration,
}

impl ReceiveDeadline {
    /// Returns how long after its begin an upload of which `bytes` have arrived may go on without another byte.
    pub(super) fn allowed(self, bytes: usize) -> Duration {
        if self.min_rate == 0 {
            return self.timeout;
        }
        let earned = Duration::from_secs_f64(bytes as f64 / self.min_rate as f64);
        self.timeout.min(GRACE.saturating_add(earned))
    }
}

/// Counts the uploads that are being received, by the address of the client. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Receivers(Arc<Mutex<HashMap<Option<IpAddr>, usize>>>);

/// An upload that is being received, until it is dropped.
pub(super) struct Receiving {
    receivers: Receivers,
    network: Option<IpAddr>,
}

impl Receivers {
    /// Adds an upload; `None` if `max` from the same network are being received. A network is an address of IPv4, or the
    /// first half of an address of IPv6, because a client usually has all addresses with the same first half.
    pub(super) fn add(&self, address: Option<IpAddr>, max: usize) -> Option<Receiving> {
        let network = address.map(network);
        let mut counts = self.counts();
        let count = counts.entry(network).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Receiving { receivers: self.clone(), network })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Option<IpAddr>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let mut counts = self.receivers.counts();
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

/// Returns the network of an address, as one client has it.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_may_take_longer_the_more_of_it_has_arrived() {
        let seconds = |deadline: ReceiveDeadline, bytes| deadline.allowed(bytes).as_secs_f64();
        let deadline = ReceiveDeadline { min_rate: 1024, timeout: Duration::from_secs(60) };
        assert_eq!([0, 2, 1024, 20 * 1024].map(|bytes| seconds(deadline, bytes).round()), [5.0, 5.0, 6.0, 25.0]);
        assert_eq!([60 * 1024, usize::MAX].map(|bytes| seconds(deadline, bytes)), [60.0, 60.0]);
        assert_eq!(seconds(ReceiveDeadline { min_rate: 0, ..deadline }, 0), 60.0);
        assert_eq!(
            seconds(ReceiveDeadline { timeout: Duration::from_secs(2), ..deadline }, 0),
            2.0,
            "the shorter of both"
        );
    }

    #[test]
    fn each_network_has_its_own_share() {
        let receivers = Receivers::default();
        let add = |address: &str| receivers.add(Some(address.parse().expect("an address")), 2);
        let (first, second) = (add("10.0.0.1"), add("::ffff:10.0.0.1"));
        assert!(first.is_some() && second.is_some());
        assert!(add("10.0.0.1").is_none(), "the same address in either notation");
        assert!(add("10.0.0.2").is_some(), "another one");
        let six = (add("2001:db8::1"), add("2001:db8::ffff:2"));
        assert!(six.0.is_some() && six.1.is_some() && add("2001:db8:0:0:9::").is_none(), "the same first half");
        assert!(add("2001:db8:0:1::1").is_some(), "another one");
        drop(first);
        assert!(add("10.0.0.1").is_some(), "a place is free again");
        drop((second, six));
        assert!(receivers.counts().is_empty());
    }
}
