//! `rollcall up`: web tier, controller and the embedded cloud in one process; workers are its children.

use std::path::PathBuf;

use actix::System;

use super::{
    cluster::LocalCluster,
    serving::{listen, serve},
    shutdown::wait_to_end,
};
use crate::settings::Settings;

/// Runs until a signal ends it. Workers receive the same configuration file.
///
/// # Errors
/// The address is taken, or the data folder cannot be used.
pub(crate) async fn up(settings: Settings, config: Option<PathBuf>) -> anyhow::Result<()> {
    let listener = listen(&settings)?;
    let cluster = LocalCluster::start(&settings, config).await?;
    let (client, objects, fleet) = (cluster.client.clone(), cluster.objects(), cluster.fleet.clone());
    let serving = serve(listener, &settings, client, objects, fleet)?;
    actix::spawn(async move {
        wait_to_end().await;
        tracing::info!("shutting down: first uploads, then workers");
        serving.stop().await;
        cluster.stop().await;
        System::current().stop_with_code(0);
    });
    Ok(())
}
