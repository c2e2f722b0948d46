//! How often the load balancers in front of the server have found it ready.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

/// Counts the health checks that have succeeded, for each address that they come from.
///
/// A load balancer has a node in each of its zones, and each node checks each server at the same interval. A second success
/// of one of them therefore tells that every one has had its first, which is what it needs to send requests.
#[derive(Clone)]
pub struct HealthChecks {
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    /// The largest of the counts.
    most: Arc<watch::Sender<usize>>,
}

impl Default for HealthChecks {
    fn default() -> Self {
        Self { by_address: Arc::default(), most: Arc::new(watch::Sender::new(0)) }
    }
}

impl HealthChecks {
    /// Counts a success. `address` is that of a proxy, so there are only as many as there are load balancers.
    pub(super) fn succeeded(&self, address: IpAddr) {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_default();
        *count = count.saturating_add(1);
        let count = *count;
        self.most.send_if_modified(|most| {
            let more = count > *most;
            *most = count.max(*most);
            more
        });
    }

    #[cfg_attr(not(any(test, feature = "aws")), expect(dead_code, reason = "only a stack waits for health checks"))]
    /// Waits until that many health checks from one address have succeeded.
    pub async fn reached(&self, count: usize) {
        // The sender lives as long as `self`, so an error is impossible.
        let _ = self.most.subscribe().wait_for(|most| *most >= count).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn only_checks_from_the_same_address_add_up() {
        let checks = HealthChecks::default();
        let is_reached = |count| checks.reached(count).now_or_never().is_some();
        assert!(is_reached(0) && !is_reached(1));
        let [a, b] = ["10.0.0.1", "10.0.1.1"].map(|text| text.parse().expect("an address"));
        checks.succeeded(a);
        checks.succeeded(b);
        assert!(is_reached(1) && !is_reached(2));
        checks.succeeded(b);
        assert!(is_reached(2) && !is_reached(3));
    }
}
