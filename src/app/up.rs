//! `rollcall up`: web tier, controller and the embedded cloud in one process; workers are its children.

use std::{path::PathBuf, sync::Arc};

use actix::System;
use anyhow::Context as _;

use super::{
    cluster::LocalCluster,
    serving::{listen, serve},
    shutdown::wait_to_end,
    watchdog,
};
use crate::{
    access::TokenStore,
    cloud::local::LocalObjects,
    settings::{Anonymous, Settings},
    telemetry,
};

/// Runs until a signal ends it. Workers receive the same configuration file.
///
/// # Errors
/// The address is taken, or the data folder cannot be used.
pub(crate) async fn up(settings: Settings, config: Option<PathBuf>) -> anyhow::Result<()> {
    let listener = listen(&settings)?;
    check_access(&settings).await?;
    let metrics = telemetry::install().context("metrics")?;
    let cluster = LocalCluster::start(&settings, config).await?;
    let (client, objects, fleet) = (cluster.client.clone(), cluster.objects(), cluster.fleet.clone());
    let backups = Some(cluster.backups(&settings));
    let serving = serve(listener, &settings, client, objects, fleet, (backups, metrics)).await?;
    watchdog::ready();
    actix::spawn(async move {
        wait_to_end().await;
        tracing::info!("shutting down: first uploads, then workers");
        serving.stop().await;
        cluster.stop().await;
        System::current().stop_with_code(0);
    });
    Ok(())
}

/// Refuses to serve an address that others can reach if nobody could use it: without tokens, and without permission for
/// uploads without one.
async fn check_access(settings: &Settings) -> anyhow::Result<()> {
    let address = settings.http.listen;
    if settings.http.is_local() || settings.http.anonymous == Anonymous::Upload {
        return Ok(());
    }
    let store = TokenStore::new(Arc::new(LocalObjects::open(&settings.local.data_dir)?), settings.store.state.clone());
    if !store.any().await? {
        anyhow::bail!(
            "others can reach {address} (http.listen, http.hosts, http.proxies), and there is no token yet: create one with `rollcall token create \
             --role admin`, or let everyone upload with http.anonymous = \"upload\", or listen on 127.0.0.1"
        );
    }
    Ok(())
}
