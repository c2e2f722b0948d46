//! Starts the HTTP server of a node with the web tier, and stops it gracefully.

use std::{net::TcpListener, sync::Arc, time::Duration};

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use crate::{
    access::{TokenStore, Tokens},
    audit::{self, AuditLog},
    backup::Backups,
    client::JobClient,
    cloud::ObjectStore,
    erasure::Erasures,
    fleet::view::FleetView,
    fleet_history::recorder::Recorder,
    http::{self, AccessControl, WebTier},
    inference::gallery::{GalleryStores, OrphanSweep},
    pseudonyms::Pseudonyms,
    settings::{Anonymous, Settings},
};

/// How often parts and photos of galleries are looked for that killed processes have left.
const ORPHAN_SWEEP: Duration = Duration::from_secs(600);
/// The same, after this has failed for the first time. The pause doubles with each further failure.
const ORPHAN_SWEEP_RETRY: Duration = Duration::from_secs(5);
/// How long waiting uploads may continue after the process was asked to end.
const GRACE: Duration = Duration::from_secs(5);

/// Binds `http.listen`. To be called before anything else is started, so that a port that is taken leaves nothing to clean
/// up.
pub(super) fn listen(settings: &Settings) -> anyhow::Result<TcpListener> {
    let address = settings.http.listen;
    // Also on loopback: a proxy on this machine may let others reach it.
    if settings.http.anonymous == Anonymous::Upload {
        tracing::warn!(%address, "everyone who can reach this address may upload photos (http.anonymous = \"upload\")");
    }
    TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address}: if another program uses it, set http.listen"))
}

/// A running server.
pub(super) struct RunningServer {
    handle: actix_web::dev::ServerHandle,
    end_streams: watch::Sender<bool>,
    audit: AuditLog,
    recorder: Recorder,
    /// What load balancers have found out about it.
    #[cfg_attr(not(feature = "aws"), expect(dead_code, reason = "only a stack waits for health checks"))]
    pub health_checks: http::HealthChecks,
}

/// Starts to serve on `listener`, with backups if there are any, and the metrics of this process.
pub(super) async fn serve(
    listener: TcpListener,
    settings: &Settings,
    client: JobClient,
    objects: Arc<dyn ObjectStore>,
    fleet: watch::Receiver<Arc<FleetView>>,
    (backups, metrics): (Option<Backups>, PrometheusHandle),
) -> anyhow::Result<RunningServer> {
    let tokens = Tokens::open(TokenStore::new(objects.clone(), settings.store.state.clone()));
    let tokens = tokens.await.context("the tokens cannot be read")?;
    let open = settings.http.is_local() && !tokens.any().await;
    let access = AccessControl::new(tokens, &settings.http);
    let pseudonyms = Pseudonyms::open(&*objects, &settings.store.state).await.context("the key of pseudonyms")?;
    let audit = AuditLog::start(audit::lines(settings, objects.clone()), pseudonyms, settings.audit.retention);
    let erasures = Erasures::new(objects.clone(), settings);
    let galleries = GalleryStores::new(objects, settings);
    actix::spawn(delete_orphans(galleries.clone()));
    actix::spawn(erasures.clone().run());
    let (history, path) = (client.history().clone(), settings.fleet.history.clone());
    let recorder = Recorder::start(history, path, settings.prices.clone(), fleet.clone()).await;
    let web = WebTier::new(settings.clone(), client, galleries, erasures, fleet);
    let http::Serving { server, end_streams, health_checks } =
        http::serve(web, access, audit.clone(), backups, listener, metrics)?;
    let handle = server.handle();
    actix::spawn(server);
    println!("rollcall is serving on {}/ (press Ctrl-C to stop)", settings.http.url());
    if !settings.http.is_local() && settings.http.tls.is_none() && settings.http.proxies.is_empty() {
        tracing::warn!(
            "tokens and photos travel without encryption: set http.tls_certificate and http.tls_key, or name the proxy that \
             speaks HTTPS (http.proxies)"
        );
    }
    if open {
        println!("everyone on this machine may use it until a token is created (rollcall token create)");
    }
    Ok(RunningServer { handle, end_streams, audit, recorder, health_checks })
}

/// Deletes what killed processes have left of galleries, at once and again and again.
async fn delete_orphans(galleries: GalleryStores) {
    let mut sweep = OrphanSweep::new(galleries);
    let mut retry = ORPHAN_SWEEP_RETRY;
    loop {
        let pause = match sweep.run().await {
            Ok(()) => {
                retry = ORPHAN_SWEEP_RETRY;
                ORPHAN_SWEEP
            }
            Err(error) => {
                tracing::warn!(%error, "failed to look for what killed processes have left of galleries");
                let pause = retry;
                retry = (retry * 2).min(ORPHAN_SWEEP);
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

impl RunningServer {
    /// Stops accepting connections, ends the event streams, and waits up to [`GRACE`] for the requests in progress.
    pub async fn stop(self) {
        self.end_streams.send_replace(true);
        if tokio::time::timeout(GRACE, self.handle.stop(true)).await.is_err() {
            tracing::warn!("requests were still in progress; jobs that were submitted continue");
        }
        self.audit.flush().await;
        self.recorder.stop().await;
    }
}
