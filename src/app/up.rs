//! `rollcall up`: web tier, controller and the embedded cloud in one process; workers are its children.

use std::{net::TcpListener, path::PathBuf};

use actix::System;
use anyhow::Context as _;

use super::{
    cluster::LocalCluster,
    shutdown::{finish_uploads, wait_to_end},
};
use crate::{
    http::{self, WebTier},
    inference::gallery_store::GalleryStore,
    settings::Settings,
};

/// Runs until a signal. Workers receive the same configuration file.
///
/// # Errors
/// The address is taken, or the data folder cannot be used.
pub(crate) async fn up(settings: Settings, config: Option<PathBuf>) -> anyhow::Result<()> {
    let listener = listen(&settings)?;
    let metrics = http::metrics::install().context("metrics")?;
    let cluster = LocalCluster::start(&settings, config).await?;

    let gallery = GalleryStore::new(cluster.objects(), settings.store.state.clone(), settings.gallery.clone());
    let web = WebTier::new(settings.clone(), cluster.client.clone(), gallery, cluster.fleet.clone());
    let http::Serving { server, ending } = http::serve(web, listener, metrics)?;
    let handle = server.handle();
    actix::spawn(server);
    println!("rollcall is serving on http://{}/ (Ctrl-C ends it)", settings.http.listen);

    actix::spawn(async move {
        wait_to_end().await;
        tracing::info!("ending: finishing uploads, then the workers");
        finish_uploads(handle, ending).await;
        cluster.stop().await;
        System::current().stop_with_code(0);
    });
    Ok(())
}

/// Takes the address to serve on before anything else is begun.
pub(super) fn listen(settings: &Settings) -> anyhow::Result<TcpListener> {
    let address = settings.http.listen;
    TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address}: is something else running there? Set http.listen"))
}
