//! What every handler shares.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Semaphore, watch};

use super::web_tier::WebTier;

/// What every handler shares.
pub(super) struct State {
    /// The way to the workers, the gallery and the fleet.
    pub web: WebTier,
    /// What has been counted.
    pub metrics: PrometheusHandle,
    /// `true` when the server is ending.
    pub ending: watch::Receiver<bool>,
    /// Places for event streams.
    pub streams: Arc<Semaphore>,
}
