//! `rollcall worker`: the actors of one instance, for jobs of any kind.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::time::Instant;

use super::{ports::WorkerPorts, queues::poller_options, shutdown::wait_for_signal, system::run};
use crate::{
    actors::{
        actor_ref::Sender,
        guardian::Guardian,
        idle_timer::IdleTimer,
        instance_supervisor::{End, EndReason, InstanceSupervisor, Limits, Peers},
        queue_poller::{Owner, QueuePoller},
    },
    cloud::{
        InstanceId, Metadata, ObjectStore, Polling, Queue,
        local::{self, LocalObjects, SECRET_VARIABLE, SocketCloud},
        polling::PollerOptions,
    },
    fleet::IdleStop,
    results::ResultStore,
    settings::{CloudKind, Settings},
    telemetry::Collector,
    worker::{
        JobHandler,
        job_runner::{self, JobRunner},
        prefetch::Prefetch,
        reply_sender::ReplySender,
    },
};

/// Lead time of a prefetch: a worker requests the next job this long before a thread is expected to become free. About
/// the duration of a receive from a local queue.
const LEAD: Duration = Duration::from_millis(5);

/// Time between two reports of what a worker has measured, while it has jobs.
fn report_every(kind: CloudKind) -> Duration {
    match kind {
        CloudKind::Local => Duration::from_secs(1),
        // Each is a message of its own, which is billed.
        CloudKind::Aws => Duration::from_secs(15),
    }
}

/// The command line of a worker. The embedded cloud passes both options; on AWS neither is needed.
#[derive(clap::Args)]
pub struct WorkerArgs {
    /// Socket of the `rollcall up` that this instance belongs to; not used on AWS
    #[arg(long, requires = "instance")]
    socket: Option<PathBuf>,
    /// This instance's id; on AWS, the metadata service provides it
    #[arg(long, requires = "socket")]
    instance: Option<String>,
}

/// Runs one worker until it is idle, receives a signal, or loses the connection to its parent. `make_handler`
/// creates its job handler. Returns the process's exit code.
///
/// # Errors
/// The worker cannot start.
pub fn worker<H: JobHandler>(
    settings: Settings,
    args: WorkerArgs,
    make_handler: impl AsyncFnOnce(&Settings, Arc<dyn ObjectStore>) -> anyhow::Result<H>,
) -> anyhow::Result<ExitCode> {
    let code = match (settings.cloud.kind, args.socket, args.instance) {
        (CloudKind::Local, Some(socket), Some(instance)) => {
            local::die_with_parent()?;
            run(async {
                let ports = connect_to_parent(&settings, socket, InstanceId(instance)).await?;
                let handler = make_handler(&settings, ports.objects.clone()).await?;
                serve(settings, ports, Arc::new(handler)).await
            })?
        }
        (CloudKind::Local, ..) => anyhow::bail!("local workers are started by `rollcall up`"),
        #[cfg(feature = "aws")]
        (CloudKind::Aws, ..) => run(async {
            let ports = super::aws::worker_ports(&settings).await?;
            let handler = make_handler(&settings, ports.objects.clone()).await?;
            serve(settings, ports, Arc::new(handler)).await
        })?,
        #[cfg(not(feature = "aws"))]
        (CloudKind::Aws, ..) => return Err(super::queues::aws_not_built_in()),
    };
    Ok(ExitCode::from(code as u8))
}

/// Connects to the parent's socket, and ends this process when the parent is gone.
async fn connect_to_parent(settings: &Settings, socket: PathBuf, instance: InstanceId) -> anyhow::Result<WorkerPorts> {
    let secret = std::env::var(SECRET_VARIABLE);
    let secret = secret.with_context(|| format!("{SECRET_VARIABLE}: workers are started by `rollcall up`"))?;
    let SocketCloud { queues, metadata } = SocketCloud::connect(&socket, instance, secret).await?;
    tokio::spawn({
        let metadata = metadata.clone();
        async move {
            metadata.lost().await;
            tracing::warn!("the parent is gone: exiting");
            // Nothing can be acknowledged any longer; messages in flight will be redelivered.
            std::process::exit(0);
        }
    });
    let objects = Arc::new(LocalObjects::open(&settings.local.data_dir)?);
    Ok(WorkerPorts { queues, objects, metadata })
}

/// Warms up the handler, reports that the instance is ready, and starts the actors.
async fn serve(settings: Settings, ports: WorkerPorts, handler: Arc<dyn JobHandler>) -> anyhow::Result<()> {
    let born = Instant::now();
    let WorkerPorts { queues, objects, metadata } = ports.metered();
    let collector = Collector::install().context("metrics")?;
    let instance = metadata.instance_id().await.context("own instance id")?.0;
    let threads = settings.worker.threads;
    let polling = queues.polling();
    let requests = queues.open(&settings.queue.listener).await.context("request queue")?;
    let runner = JobRunner::start(job_runner::Options {
        handler,
        threads,
        results: ResultStore::new(objects, settings.store.clone()),
        replies: ReplySender::new(queues, settings.queue.speaker.clone()),
        instance: instance.clone(),
        collector,
    });
    let runner = Arc::new(runner.await?);
    metadata.ready().await.context("report ready")?;
    tracing::info!(%instance, threads, "ready");

    actix::spawn({
        let (runner, every) = (runner.clone(), report_every(settings.cloud.kind));
        async move {
            loop {
                tokio::time::sleep(every).await;
                runner.report().await;
            }
        }
    });
    let end = start_actors(&settings, born, (requests, polling), runner, metadata)?;
    actix::spawn(async move {
        wait_for_signal().await;
        end.tell(End(EndReason::Signal));
    });
    Ok(())
}

/// Starts the three actors of a worker under a guardian, and returns a sender of `End`, which shuts them down.
fn start_actors(
    settings: &Settings,
    born: Instant,
    (requests, polling): (Arc<dyn Queue>, Polling),
    runner: Arc<JobRunner>,
    metadata: Arc<dyn Metadata>,
) -> anyhow::Result<Sender<End>> {
    let mut guardian = Guardian::builder();
    let supervisor = guardian.actor_ref::<InstanceSupervisor>("instance supervisor");
    let poller = guardian.actor_ref::<QueuePoller>("queue poller");
    let timer = guardian.actor_ref::<IdleTimer>("idle timer");

    let rule = idle_stop(settings);
    let (expired, limits) = (supervisor.sender(), metadata.idle_limit());
    guardian
        .supervise(&timer, move |notice| IdleTimer::new(rule, born, expired.clone(), notice).following(limits.clone()));

    let limits = Limits {
        threads: settings.worker.threads,
        prefetch: Prefetch { lead: LEAD, max_prefetch_delay: LEAD.max(polling.max_prefetch_delay) },
        drain_timeout: settings.worker.drain_timeout,
    };
    let peers = Peers::new(&poller, &timer);
    // If the supervisor were rebuilt, the poller would still hold the messages of jobs that died with it.
    guardian.fail_fast(&supervisor, move |notice| InstanceSupervisor::new(runner, limits, metadata, peers, notice));

    let options = PollerOptions {
        // A drain that waits for a poll must still end within its timeout.
        wait: settings.worker.idle_stop.min(settings.worker.drain_timeout / 2),
        poll_linger: Duration::ZERO, // prefetching batches receives instead
        ..poller_options(settings, polling)
    };
    let owner = Owner::of_draining(&supervisor);
    guardian
        .supervise(&poller, move |notice| QueuePoller::new(requests.clone(), options.clone(), owner.clone(), notice));

    guardian.start()?;
    Ok(supervisor.sender())
}

/// Returns the rule by which the worker stops itself.
fn idle_stop(settings: &Settings) -> IdleStop {
    IdleStop { idle: settings.worker.idle_stop, billing_minimum: settings.fleet.billing_minimum }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{
        actors::guardian::EXIT_SOFTWARE,
        cloud::{CloudResult, Interruption, Queues as _},
        job::Output,
        testing::{Handler, World},
    };

    /// A metadata service whose `interruption` panics, in the supervisor.
    struct PanickingMetadata;

    #[async_trait]
    impl Metadata for PanickingMetadata {
        async fn instance_id(&self) -> CloudResult<InstanceId> {
            Ok(InstanceId("i-1".into()))
        }
        async fn interruption(&self) -> CloudResult<Option<Interruption>> {
            panic!("as asked")
        }
        async fn ready(&self) -> CloudResult<()> {
            Ok(())
        }
        async fn stop_self(&self) -> CloudResult<()> {
            Ok(())
        }
        async fn lost(&self) {
            std::future::pending().await
        }
    }

    #[test]
    fn a_worker_whose_supervisor_dies_exits() {
        let system = actix::System::new();
        let _world = system.block_on(async {
            let world = World::new().await;
            let runner = JobRunner::start(job_runner::Options {
                handler: Arc::new(Handler(|text: &str| Output::json(&text, text))),
                threads: 1,
                results: world.results.clone(),
                replies: ReplySender::new(world.queues.clone(), world.settings.queue.speaker.clone()),
                instance: "i-1".into(),
                collector: Collector::default(),
            });
            let requests = (world.requests.clone(), world.queues.polling());
            let runner = Arc::new(runner.await.expect("started"));
            start_actors(&world.settings, Instant::now(), requests, runner, Arc::new(PanickingMetadata))
                .expect("started");
            tokio::time::pause(); // the next check for an interruption is due immediately
            world
        });
        assert_eq!(system.run_with_code().expect("the system ran"), EXIT_SOFTWARE);
    }

    #[test]
    fn idle_stop_uses_the_configured_limit_and_billing_minimum() {
        let mut settings = crate::testing::settings();
        settings.worker.idle_stop = Duration::from_secs(7);
        settings.fleet.billing_minimum = Duration::from_secs(60);
        let rule = idle_stop(&settings);
        assert_eq!((rule.idle, rule.billing_minimum), (Duration::from_secs(7), Duration::from_secs(60)));
    }
}
