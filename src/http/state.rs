//! The state that every handler shares.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Semaphore, watch};

use super::{access::AccessControl, gallery_sizes::GallerySizes, health_checks::HealthChecks, web_tier::WebTier};
use crate::{audit::AuditLog, backup::Backups};

/// The state that every handler shares.
pub(super) struct State {
    /// Access to the workers, the gallery and the fleet.
    pub web: WebTier,
    /// Decides who may do what.
    pub access: AccessControl,
    /// Writes who has changed or looked at what.
    pub audit: AuditLog,
    /// Makes backups, on the embedded cloud.
    pub backups: Option<Backups>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// `true` ends the event streams.
    pub end_streams: watch::Receiver<bool>,
    /// Places for event streams.
    pub streams: Arc<Semaphore>,
    /// Counts the health checks of load balancers.
    pub health_checks: HealthChecks,
    /// Reads the sizes of the galleries for the metrics.
    pub gallery_sizes: GallerySizes,
}
