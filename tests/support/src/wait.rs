//! Waits for a condition, for all tests.

#![expect(clippy::disallowed_methods, reason = "waits in real time")]

use std::time::{Duration, Instant};

/// Polls a condition until it holds; fails after `timeout`.
pub async fn wait_until(what: &str, timeout: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < timeout, "not within {timeout:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
