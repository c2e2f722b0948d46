//! The fleet and the health of this node: `/v1/fleet`, `/v1/events`, `/healthz`, `/readyz`, `/metrics`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use actix_web::{HttpResponse, http::header, web::Data};
use bytes::Bytes;
use futures_util::stream;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::error::ApiError;
use crate::actors::{fleet::view::FleetView, web_tier::WebTier};

/// Shortest time between two events of one stream.
const EVENT_GAP: Duration = Duration::from_millis(200);
/// A stream on which nothing happens says so, or proxies close it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Latest lines of the fleet's story in an event.
const STORY_LINES: usize = 40;
/// Open streams of events.
pub const MAX_STREAMS: usize = 200;

/// `GET /v1/fleet`.
pub async fn show(web: Data<WebTier>) -> HttpResponse {
    let view = web.fleet().borrow().clone();
    HttpResponse::Ok().json(&*view)
}

/// Places for open streams, and whether the server is ending.
pub struct Streams {
    pub places: Arc<Semaphore>,
    pub ending: watch::Receiver<bool>,
}

struct Stream {
    fleet: watch::Receiver<Arc<FleetView>>,
    ending: watch::Receiver<bool>,
    first: bool,
    _place: OwnedSemaphorePermit,
}

/// `GET /v1/events`: server-sent events `fleet`, one at each change, at most five a second.
pub async fn events(web: Data<WebTier>, streams: Data<Streams>) -> Result<HttpResponse, ApiError> {
    let place = streams.places.clone().try_acquire_owned();
    let busy = |_| ApiError::new(actix_web::http::StatusCode::SERVICE_UNAVAILABLE, "too many event streams are open");
    let stream = Stream {
        fleet: web.fleet(),
        ending: streams.ending.clone(),
        first: true,
        _place: place.map_err(busy)?,
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(stream::unfold(stream, next)))
}

async fn next(mut stream: Stream) -> Option<(Result<Bytes, Infallible>, Stream)> {
    let changed = tokio::select! {
        changed = wait_for_change(&mut stream.fleet, stream.first) => changed?,
        _ = stream.ending.wait_for(|ending| *ending) => return None,
    };
    if !changed {
        return Some((Ok(Bytes::from_static(b": still here\n\n")), stream));
    }
    stream.first = false;
    let mut view = FleetView::clone(&stream.fleet.borrow_and_update());
    view.story.drain(..view.story.len().saturating_sub(STORY_LINES));
    let json = serde_json::to_string(&view).unwrap_or_default(); // plain data always serialises
    Some((Ok(Bytes::from(format!("event: fleet\ndata: {json}\n\n"))), stream))
}

/// Whether there is a new view (the first is new) or only time has passed; `None` when there will be no more.
async fn wait_for_change(fleet: &mut watch::Receiver<Arc<FleetView>>, first: bool) -> Option<bool> {
    if first {
        return Some(true);
    }
    match tokio::time::timeout(KEEP_ALIVE, fleet.changed()).await {
        Ok(Ok(())) => {
            tokio::time::sleep(EVENT_GAP).await;
            Some(true)
        }
        Ok(Err(_)) => None,
        Err(_) => Some(false),
    }
}

/// `GET /healthz`: the process answers.
pub async fn healthy() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: queue and store answer, so uploads will be taken.
pub async fn ready(web: Data<WebTier>) -> Result<&'static str, ApiError> {
    web.ready().await?;
    Ok("ready\n")
}

/// `GET /metrics`: Prometheus' text format.
pub async fn metrics(web: Data<WebTier>, prometheus: Data<PrometheusHandle>) -> HttpResponse {
    let view = web.fleet().borrow().clone();
    metrics::gauge!("rollcall_uploads_waiting").set(web.waiting() as f64);
    for (state, n) in [("visible", view.depth.visible), ("in_flight", view.depth.in_flight), ("delayed", view.depth.delayed)] {
        metrics::gauge!("rollcall_queue_jobs", "state" => state).set(n as f64);
    }
    let c = view.counts;
    for (state, n) in [
        ("pending", c.pending),
        ("running", c.running),
        ("stopping", c.stopping),
        ("stopped", c.stopped),
        ("shutting_down", c.shutting_down),
        ("terminated", c.terminated),
    ] {
        metrics::gauge!("rollcall_instances", "state" => state).set(n as f64);
    }
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(prometheus.render())
}
