//! The view of the fleet on nodes that do not run the active controller: what the active controller last wrote to the
//! state bucket.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};

use crate::{
    cloud::{CloudError, ETag, ObjectStore, Precondition, aws::AwsCloud},
    fleet::{explain::Decision, view::FleetView},
    settings::Settings,
};

/// Reads and writes the view of the fleet in the state bucket.
pub(super) struct Views {
    objects: Arc<dyn ObjectStore>,
    bucket: String,
    every: Duration,
    view: Arc<watch::Sender<Arc<FleetView>>>,
    fleet: watch::Receiver<Arc<FleetView>>,
}

impl Views {
    pub fn new(
        cloud: &AwsCloud,
        settings: &Settings,
        view: Arc<watch::Sender<Arc<FleetView>>>,
        fleet: watch::Receiver<Arc<FleetView>>,
    ) -> Self {
        let (bucket, every) = (settings.store.state.clone(), settings.fleet.describe_every);
        Self { objects: cloud.objects.clone(), bucket, every, view, fleet }
    }

    /// Writes the view of this node's controller for as long as this future is polled.
    pub async fn publish(&self) {
        publish(&*self.objects, &self.bucket, self.fleet.clone(), self.every).await;
    }

    /// Shows the view written by another node's controller for as long as this future is polled.
    pub async fn follow(&self) {
        follow(&*self.objects, &self.bucket, &self.view, self.every).await;
    }
}

/// Key of the view in the state bucket.
const KEY: &str = "controller-fleet";

/// The content of the object, serialised as JSON.
#[derive(Serialize, Deserialize)]
struct Written {
    view: FleetView,
    decisions: Vec<Decision>,
}

/// Returns the view that a controller last wrote; `None` if there is none, or if it cannot be read.
pub(crate) async fn written(store: &dyn ObjectStore, bucket: &str) -> Option<FleetView> {
    let object = store.get(bucket, KEY).await.ok()?;
    serde_json::from_slice::<Written>(&object.bytes).ok().map(|written| written.view)
}

/// Returns whether nothing is running and nothing is requested.
fn at_rest(view: &FleetView) -> bool {
    let c = &view.counts;
    c.pending + c.running + c.stopping + c.shutting_down + view.intents == 0 && view.demand == 0
}

/// Returns the view without its times, which differ from one view to the next even if nothing has changed.
fn timeless(view: &FleetView) -> FleetView {
    let mut view = FleetView { at_ms: 0, ..view.clone() };
    view.instances.iter_mut().for_each(|instance| instance.since_ms = 0);
    view.events.iter_mut().for_each(|event| event.at_ms = 0);
    if let Some(degraded) = &mut view.degraded {
        (degraded.since_ms, degraded.next_attempt_ms) = (0, degraded.next_attempt_ms.map(|_| 0));
    }
    view
}

/// Writes the view for as long as this future is polled. While a fleet at rest does not change, its view is not written
/// again.
async fn publish(store: &dyn ObjectStore, bucket: &str, shown: watch::Receiver<Arc<FleetView>>, every: Duration) {
    let mut last = None;
    loop {
        sleep(every).await;
        let view = shown.borrow().clone();
        let content = at_rest(&view).then(|| timeless(&view));
        if content.is_some() && content == last {
            continue;
        }
        let decisions = view.decisions.iter().map(|decision| Decision::clone(decision)).collect();
        let written = Written { view: FleetView::clone(&view), decisions };
        // A view consists of numbers and strings, so it can always be serialised.
        let bytes = Bytes::from(serde_json::to_vec(&written).expect("a view is JSON"));
        match store.put(bucket, KEY, bytes, Precondition::Always).await {
            Ok(_) => last = content,
            Err(error) => tracing::warn!(%error, "the view of the fleet was not written"),
        }
    }
}

/// Shows the written view for as long as this future is polled.
async fn follow(store: &dyn ObjectStore, bucket: &str, shown: &watch::Sender<Arc<FleetView>>, every: Duration) {
    let mut seen: Option<ETag> = None;
    loop {
        let read = match &seen {
            None => store.get(bucket, KEY).await.map(Some),
            Some(etag) => store.get_if_changed(bucket, KEY, etag).await,
        };
        match read {
            Ok(None) | Err(CloudError::NotFound(_)) => {}
            Ok(Some(object)) => {
                match serde_json::from_slice::<Written>(&object.bytes) {
                    Ok(Written { mut view, decisions }) => {
                        view.decisions = Arc::new(decisions.into_iter().map(Arc::new).collect());
                        shown.send_replace(Arc::new(view));
                    }
                    // Written by another version of this program.
                    Err(error) => tracing::warn!(%error, key = KEY, "the view of the fleet cannot be decoded"),
                }
                seen = Some(object.etag);
            }
            Err(error) => tracing::warn!(%error, "the view of the fleet was not read"),
        }
        sleep(every).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::{
        cloud::local::LocalObjects,
        fleet::{Counts, view::LoggedEvent},
    };

    const EVERY: Duration = Duration::from_secs(15);

    fn view(running: usize, at_ms: u64) -> Arc<FleetView> {
        let events = vec![LoggedEvent { at_ms, kind: "state".into(), text: "it runs".into() }];
        Arc::new(FleetView { at_ms, events, counts: Counts { running, ..Counts::default() }, ..FleetView::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn views_are_shared_between_nodes_and_written_only_on_change() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = LocalObjects::open(folder.path()).expect("a store");
        let (acts, acting) = watch::channel(view(1, 1));
        let (shows, shown) = watch::channel(Arc::new(FleetView::default()));
        let later = async |what: Arc<FleetView>| {
            acts.send_replace(what);
            sleep(3 * EVERY).await;
            shown.borrow().clone()
        };
        let scenario = async {
            assert_eq!(*later(view(1, 2)).await, *view(1, 2));
            assert_eq!(*later(view(0, 3)).await, *view(0, 3));
            assert_eq!(later(view(0, 4)).await.at_ms, 3, "nothing has changed but the time");
            let mut swept = FleetView::clone(&view(0, 5));
            swept.events.push(LoggedEvent { at_ms: 5, kind: "terminate".into(), text: "swept".into() });
            assert_eq!(later(Arc::new(swept.clone())).await.events, swept.events, "the sweep of a fleet at rest");
            let mut asked = FleetView::clone(&view(0, 5));
            asked.demand = 1;
            asked.decisions = Arc::new(VecDeque::new());
            assert_eq!(later(Arc::new(asked)).await.demand, 1);
        };
        tokio::select! {
            () = publish(&store, "state", acting, EVERY) => unreachable!("it never returns"),
            () = follow(&store, "state", &shows, EVERY) => unreachable!("it never returns"),
            () = scenario => {}
        }
    }
}
