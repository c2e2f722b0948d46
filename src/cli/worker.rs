//! `rollcall worker`: what an instance runs.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context as _;

use crate::{
    app,
    cloud::{
        InstanceId, Metadata,
        local::{self, LocalObjects, SECRET_VARIABLE, SocketCloud},
    },
    settings::{CloudKind, Settings},
};

#[derive(clap::Args)]
pub struct Args {
    /// Socket of the `rollcall up` that this instance belongs to; not on AWS
    #[arg(long, requires = "instance")]
    socket: Option<PathBuf>,
    /// This instance's id; on AWS the metadata service says it
    #[arg(long, requires = "socket")]
    instance: Option<String>,
}

/// Serves until idle, asked, or without a cloud.
pub fn run(settings: Settings, args: Args) -> anyhow::Result<ExitCode> {
    let code = match (settings.cloud.kind, args.socket, args.instance) {
        (CloudKind::Local, Some(socket), Some(instance)) => run_local(settings, socket, InstanceId(instance))?,
        (CloudKind::Local, ..) => anyhow::bail!("local workers are started by `rollcall up`"),
        #[cfg(feature = "aws")]
        (CloudKind::Aws, ..) => app::run(app::aws::worker(settings))?,
        #[cfg(not(feature = "aws"))]
        (CloudKind::Aws, ..) => return Err(super::without_aws()),
    };
    Ok(ExitCode::from(code as u8))
}

fn run_local(settings: Settings, socket: PathBuf, instance: InstanceId) -> anyhow::Result<i32> {
    local::die_with_parent()?;
    let secret = std::env::var(SECRET_VARIABLE);
    let secret = secret.with_context(|| format!("{SECRET_VARIABLE}: workers are started by `rollcall up`"))?;
    app::run(async {
        let cloud = SocketCloud::connect(&socket, instance, secret).await?;
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
        app::worker::run(settings, app::worker::Ports { queues: cloud.queues.clone(), objects, metadata }).await
    })
}
