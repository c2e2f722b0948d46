//! `rollcall worker`: what an instance runs.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context as _;

use crate::{
    app::{self, WorkerPorts},
    cloud::{
        InstanceId, Metadata,
        local::{self, LocalObjects, SECRET_VARIABLE, SocketCloud},
    },
    settings::Settings,
};

#[derive(clap::Args)]
pub struct Args {
    /// Socket of the `rollcall up` that this instance belongs to
    #[arg(long)]
    socket: PathBuf,
    /// This instance's id
    #[arg(long)]
    instance: String,
}

/// Serves until idle, asked, or without a parent.
pub fn run(settings: Settings, args: Args) -> anyhow::Result<ExitCode> {
    local::die_with_parent()?;
    let secret = std::env::var(SECRET_VARIABLE);
    let secret = secret.with_context(|| format!("{SECRET_VARIABLE}: workers are started by `rollcall up`"))?;
    let code = app::run(async {
        let cloud = SocketCloud::connect(&args.socket, InstanceId(args.instance), secret).await?;
        let metadata: Arc<dyn Metadata> = cloud.metadata.clone();
        tokio::spawn({
            let metadata = metadata.clone();
            async move {
                metadata.lost().await;
                tracing::warn!("the parent is gone: ending");
                // Nothing can be acknowledged any more; whatever is in hand will be delivered again.
                std::process::exit(0);
            }
        });
        let objects = Arc::new(LocalObjects::open(&settings.local.data_dir)?);
        app::worker(settings, WorkerPorts { queues: cloud.queues.clone(), objects, metadata }).await
    })?;
    Ok(ExitCode::from(code as u8))
}
