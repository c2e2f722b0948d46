//! `/v1/fleet`, `/v1/fleet/decisions` and `/v1/events`: the fleet, its decisions, and its changes as they happen.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{error::Problem, openapi::Problems, state::State};
use crate::fleet::{explain::Decision, view::FleetView};

/// Shortest time between two events of a stream. A busy fleet changes more often than a page can show.
const MIN_INTERVAL: Duration = Duration::from_millis(200);
/// Interval between comments on an idle stream, which keep proxies from closing it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Number of activities in an event: the newest ones. `/v1/fleet` has all of them.
const LOG_ENTRIES: usize = 40;
/// `Retry-After` of a stream that is rejected.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// `GET /v1/fleet`: returns the view of the fleet, with all activities.
#[utoipa::path(
    get, path = "/v1/fleet", operation_id = "fleet_show", tag = "Fleet", summary = "Show the fleet",
    responses((status = 200, description = "The fleet", body = FleetView), Problems)
)]
pub(super) async fn show(state: web::Data<State>) -> HttpResponse {
    let view = state.web.fleet().borrow().clone();
    HttpResponse::Ok().json(&*view)
}

/// `GET /v1/fleet/decisions`: returns the latest decisions with their inputs, oldest first.
#[utoipa::path(
    get, path = "/v1/fleet/decisions", operation_id = "fleet_decisions", tag = "Fleet", summary = "List the latest decisions with their reasons",
    responses((status = 200, description = "The decisions, oldest first", body = Vec<Decision>), Problems)
)]
pub(super) async fn decisions(state: web::Data<State>) -> HttpResponse {
    let decisions = state.web.fleet().borrow().decisions.clone();
    let decisions: Vec<&Decision> = decisions.iter().map(|decision| &**decision).collect();
    HttpResponse::Ok().json(decisions)
}

/// `GET /v1/events`: streams server-sent events. The event `fleet` carries the view of the fleet, and is sent
/// immediately and after each change.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "fleet_events", tag = "Fleet", summary = "Follow the fleet as server-sent events",
    responses((status = 200, description = "Events with the fleet", body = String, content_type = "text/event-stream"), Problems)
)]
pub(super) async fn events(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let place =
        state.streams.clone().try_acquire_owned().map_err(|_| {
            Problem::unavailable("too many event streams are open; poll /v1/fleet instead", RETRY_AFTER)
        })?;
    let feed = Feed { fleet: state.web.fleet(), end_streams: state.end_streams.clone(), sent: None, _place: place };
    let events = futures_util::stream::unfold(feed, |mut feed| async {
        let event = feed.next().await?;
        Some((Ok::<_, actix_web::Error>(event), feed))
    });
    Ok(HttpResponse::Ok().content_type("text/event-stream").streaming(events))
}

/// One event stream.
struct Feed {
    fleet: watch::Receiver<Arc<FleetView>>,
    end_streams: watch::Receiver<bool>,
    /// When the view was last sent.
    sent: Option<Instant>,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    /// Returns the next event; `None` when the server stops or the fleet is gone.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(sent) = self.sent {
            let changed = async {
                sleep_until(sent + MIN_INTERVAL).await;
                self.fleet.changed().await
            };
            tokio::select! {
                _ = self.end_streams.wait_for(|end| *end) => return None,
                changed = changed => changed.ok()?,
                () = sleep(KEEP_ALIVE) => return Some(Bytes::from_static(b": keep-alive\n\n")),
            }
        }
        self.sent = Some(Instant::now());
        let mut view = FleetView::clone(&self.fleet.borrow_and_update());
        view.events.drain(..view.events.len().saturating_sub(LOG_ENTRIES));
        // A view consists of numbers and strings, so it can be serialized. Compact JSON has no line breaks.
        let json = serde_json::to_string(&view).expect("a view can be serialized");
        Some(format!("event: fleet\ndata: {json}\n\n").into())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::fleet::view::LoggedEvent;

    fn feed() -> (watch::Sender<Arc<FleetView>>, watch::Sender<bool>, Feed) {
        let (sender, fleet) = watch::channel(Arc::new(FleetView::default()));
        let (end, end_streams) = watch::channel(false);
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place");
        let feed = Feed { fleet, end_streams, sent: None, _place: place };
        (sender, end, feed)
    }

    fn text(event: Option<Bytes>) -> String {
        String::from_utf8(event.expect("an event").into()).expect("UTF-8")
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_changes_is_one_event_with_the_newest_view() {
        let (sender, _end, mut feed) = feed();
        assert!(text(feed.next().await).starts_with("event: fleet\ndata: {"), "the view comes at once");
        let first = Instant::now();
        for demand in 1..=100 {
            sender.send_modify(|view| Arc::make_mut(view).demand = demand);
        }
        assert!(text(feed.next().await).contains("\"demand\":100"));
        assert_eq!(first.elapsed(), MIN_INTERVAL);
    }

    #[tokio::test]
    async fn an_event_has_the_newest_entries_of_the_event_log() {
        let (sender, _end, mut feed) = feed();
        let entry = |n: usize| LoggedEvent { at_ms: n as u64, kind: "launch".into(), text: format!("entry {n}") };
        sender.send_modify(|view| Arc::make_mut(view).events = (1..=50).map(entry).collect());
        let event = text(feed.next().await);
        let json = event.strip_prefix("event: fleet\ndata: ").expect("an event");
        let view: FleetView = serde_json::from_str(json.trim_end()).expect("a view");
        assert_eq!((view.events.len(), view.events[0].at_ms, view.events[39].at_ms), (40, 11, 50));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_stream_is_kept_alive_and_ends_with_the_server() {
        let (_sender, end, mut feed) = feed();
        feed.next().await;
        assert_eq!(text(feed.next().await), ": keep-alive\n\n");
        end.send_replace(true);
        assert_eq!(feed.next().await, None);
    }
}
