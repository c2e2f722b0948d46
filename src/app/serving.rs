//! The HTTP server of a node with the web tier: started before the first upload, stopped after the last.

use std::{net::TcpListener, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::sync::watch;

use crate::{
    client::JobClient,
    cloud::ObjectStore,
    fleet::view::FleetView,
    http::{self, WebTier},
    inference::gallery_store::GalleryStore,
    settings::Settings,
};

/// How long waiting uploads may continue after the process was asked to end.
const GRACE: Duration = Duration::from_secs(5);

/// Binds the address to serve on, before anything else is started.
pub(super) fn listen(settings: &Settings) -> anyhow::Result<TcpListener> {
    let address = settings.http.listen;
    TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address}: if another program uses it, set http.listen"))
}

/// A running server.
pub(super) struct Serving {
    handle: actix_web::dev::ServerHandle,
    ending: watch::Sender<bool>,
}

/// Serves on `listener`.
pub(super) fn serve(
    listener: TcpListener,
    settings: &Settings,
    client: JobClient,
    objects: Arc<dyn ObjectStore>,
    fleet: watch::Receiver<Arc<FleetView>>,
) -> anyhow::Result<Serving> {
    let metrics = http::metrics::install().context("metrics")?;
    let gallery = GalleryStore::new(objects, settings.store.state.clone(), settings.gallery.clone());
    let web = WebTier::new(settings.clone(), client, gallery, fleet);
    let http::Serving { server, ending } = http::serve(web, listener, metrics)?;
    let handle = server.handle();
    actix::spawn(server);
    println!("rollcall is serving on http://{}/ (press Ctrl-C to stop)", settings.http.listen);
    Ok(Serving { handle, ending })
}

impl Serving {
    /// Stops, after waiting some seconds for uploads to be answered.
    pub async fn stop(self) {
        self.ending.send_replace(true);
        if tokio::time::timeout(GRACE, self.handle.stop(true)).await.is_err() {
            tracing::warn!("uploads were still waiting; their jobs are kept");
        }
    }
}
