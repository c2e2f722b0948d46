//! Liveness, readiness and metrics.

use std::time::Duration;

use ::metrics::gauge;
use actix_web::{HttpRequest, HttpResponse, web};

use super::{
    client_address::proxy_address,
    error::{ErrorFormat, Problem},
    openapi::ErrorLine,
    state::State,
};
use crate::cloud::headroom::DiskUsage;

/// The routes by which others watch a node. They need no role and no host name, and are not limited.
pub(super) const ROUTES: [&str; 2] = ["/healthz", "/readyz"];
/// `Retry-After` of a node that is not ready.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// `GET /healthz`: reports that the process responds.
#[utoipa::path(
    get, path = "/healthz", operation_id = "health_alive", tag = "Server", summary = "Whether the process responds",
    responses((status = 200, description = "Whether the process responds", body = String, content_type = "text/plain"), ErrorLine)
)]
pub(super) async fn alive() -> HttpResponse {
    text("ok\n")
}

/// `GET /readyz`: reports whether uploads are accepted, and queue and store can be reached. A node whose fleet is degraded
/// is ready: another node would have the same fleet.
#[utoipa::path(
    get, path = "/readyz", operation_id = "health_ready", tag = "Server", summary = "Whether uploads are accepted",
    responses((status = 200, description = "Whether uploads are accepted", body = String, content_type = "text/plain"), ErrorLine)
)]
pub(super) async fn ready(req: HttpRequest, state: web::Data<State>) -> HttpResponse {
    if let Err(shortage) = state.web.headroom().check() {
        return Problem::unavailable(format!("not ready: {shortage}"), RETRY_AFTER).respond(ErrorFormat::Line);
    }
    match state.web.ready().await {
        // Uploads are accepted, and wait until an instance boots.
        Ok(()) => {
            if let Some(proxy) = proxy_address(&req, &state.web.settings().http) {
                state.health_checks.succeeded(proxy);
            }
            match &state.web.fleet().borrow().degraded {
                None => text("ready\n"),
                Some(degraded) => text(format!("ready; degraded: {}\n", degraded.summary())),
            }
        }
        Err(_) => {
            let detail = "not ready: the queue or the store cannot be reached; the log says why";
            Problem::unavailable(detail, RETRY_AFTER).respond(ErrorFormat::Line)
        }
    }
}

/// `GET /metrics`: returns metrics in the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", operation_id = "health_metrics", tag = "Server", summary = "Metrics in the text format of Prometheus",
    responses((status = 200, description = "Metrics in the text format of Prometheus", body = String, content_type = "text/plain"), ErrorLine)
)]
pub(super) async fn metrics(state: web::Data<State>) -> HttpResponse {
    let view = state.web.fleet().borrow().clone();
    state.gallery_sizes.update(&state.web).await;
    if let Some(age) = state.web.oldest_job() {
        gauge!("rollcall_oldest_job_age_seconds").set(age.as_secs_f64());
    }
    gauge!("rollcall_uploads_waiting").set(state.web.waiting() as f64);
    gauge!("rollcall_demand_jobs").set(view.demand as f64);
    gauge!("rollcall_target_instances").set(view.target as f64);
    gauge!("rollcall_fleet_degraded").set(f64::from(u8::from(view.degraded.is_some())));
    gauge!("rollcall_failed_boots").set(view.degraded.as_ref().map_or(0, |degraded| degraded.failed_boots) as f64);
    gauge!("rollcall_refused_requests").set(view.degraded.as_ref().map_or(0, |degraded| degraded.refused) as f64);
    let (d, c) = (view.depth, view.counts);
    for (kind, jobs) in [("visible", d.visible), ("in-flight", d.in_flight), ("delayed", d.delayed)] {
        gauge!("rollcall_queue_jobs", "state" => kind).set(jobs as f64);
    }
    for (kind, instances) in [
        ("pending", c.pending),
        ("running", c.running),
        ("stopping", c.stopping),
        ("stopped", c.stopped),
        ("shutting-down", c.shutting_down),
        ("terminated", c.terminated),
    ] {
        gauge!("rollcall_instances", "state" => kind).set(instances as f64);
    }
    let reading = state.web.headroom().reading();
    for (kind, bytes) in reading.disk.iter().flat_map(DiskUsage::kinds) {
        gauge!("rollcall_disk_bytes", "kind" => kind).set(bytes as f64);
    }
    if let Some(free) = reading.free {
        gauge!("rollcall_disk_free_bytes").set(free as f64);
    }
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(state.metrics.render())
}

fn text(body: impl Into<String>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(body.into())
}
