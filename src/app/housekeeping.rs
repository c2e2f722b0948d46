//! Deletes, on one machine, what is no longer kept: what killed processes have left, and results that have expired.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    clock::now_ms,
    cloud::{
        CloudResult,
        local::{Broker, LocalCloud, LocalObjects},
    },
    job::JobId,
    results::{
        ResultStore,
        expiry_clock::{ExpiryClock, Reading},
        suspects::Suspects,
    },
    settings::Settings,
};

/// Pause between two rounds. Far longer than an upload takes from storing its payload to sending its job.
const EVERY: Duration = Duration::from_secs(3600);

/// Deletes what an earlier process left when it was killed, before anything else uses the store.
pub(super) async fn sweep_at_start(settings: &Settings, cloud: &LocalCloud) {
    let Some(queued) = queued(&cloud.broker(), settings) else { return };
    match ResultStore::new(cloud.objects.clone(), settings.store.clone()).sweep_orphans(&queued).await {
        Ok(deleted) => report_swept(deleted),
        Err(error) => tracing::warn!(%error, "failed to look for objects of jobs that were lost in a crash"),
    }
}

/// Deletes what killed workers leave, and results once they are older than `store.retention_days`, from now on until the
/// process or the cloud ends.
pub(super) fn start(settings: &Settings, cloud: &LocalCloud) {
    let (started, mut housekeeping) = (Instant::now(), Housekeeping::new(settings, cloud));
    actix::spawn(async move {
        while housekeeping.broker.strong_count() > 0 {
            housekeeping.round(Reading { now_ms: now_ms(), uptime: started.elapsed() }).await;
            tokio::time::sleep(EVERY).await;
        }
    });
}

struct Housekeeping {
    settings: Settings,
    results: ResultStore,
    files: LocalObjects,
    /// Does not keep the queues' file open.
    broker: Weak<Broker>,
    clock: ExpiryClock,
    suspects: Suspects,
}

impl Housekeeping {
    fn new(settings: &Settings, cloud: &LocalCloud) -> Self {
        Self {
            settings: settings.clone(),
            results: ResultStore::new(cloud.objects.clone(), settings.store.clone()),
            files: cloud.files(),
            broker: Arc::downgrade(&cloud.broker()),
            clock: ExpiryClock::default(),
            suspects: Suspects::default(),
        }
    }

    async fn round(&mut self, reading: Reading) {
        if let Some(retention) = self.settings.store.retention {
            match self.expire(retention, reading).await {
                Ok(0) => {}
                Ok(expired) => tracing::info!(expired, "deleted results older than store.retention_days"),
                Err(error) => tracing::warn!(%error, "failed to delete expired results; trying again in an hour"),
            }
        }
        match self.sweep().await {
            Ok(deleted) => report_swept(deleted),
            Err(error) => tracing::warn!(%error, "failed to look for what killed processes have left"),
        }
    }

    /// Deletes what has expired at the time of a reading of the system clock, if that counts. Returns how many results.
    async fn expire(&mut self, retention: Duration, reading: Reading) -> CloudResult<usize> {
        if !self.clock.counts(reading, self.results.newest_ms().await?) {
            tracing::warn!("the system clock has jumped, or nothing was stored for a day: nothing expires for an hour");
            return Ok(0);
        }
        let before_ms = reading.now_ms.saturating_sub(retention.as_millis() as u64);
        self.results.expire(before_ms, reading.now_ms).await
    }

    /// Deletes the orphans that have been some for several rounds. Returns how many objects.
    async fn sweep(&mut self) -> CloudResult<usize> {
        let Some(jobs) = self.queued() else { return Ok(0) };
        let orphans = self.suspects.confirm(self.results.orphans(&jobs).await?);
        if orphans.is_empty() {
            return Ok(0);
        }
        // A client may have repeated an upload since, under the same id.
        let Some(jobs) = self.queued() else { return Ok(0) };
        let mut deleted = 0;
        for orphan in orphans.iter().filter(|orphan| !jobs.contains(&orphan.id)) {
            deleted += usize::from(self.files.delete_unmodified(&orphan.bucket, &orphan.object).await?);
        }
        Ok(deleted)
    }

    /// Returns the jobs in the queues, if that is known and there still are queues.
    fn queued(&self) -> Option<HashSet<JobId>> {
        queued(&*self.broker.upgrade()?, &self.settings)
    }
}

/// Returns the jobs in the queues, each of which is a group of its own; `None` if a queue does not exist, or a
/// message does not tell its job.
fn queued(broker: &Broker, settings: &Settings) -> Option<HashSet<JobId>> {
    let mut jobs = HashSet::new();
    // In the order in which a job moves.
    for queue in [&settings.queue.listener, &settings.queue.dead_letter] {
        for group in broker.groups(queue).ok()? {
            let Ok(job) = group.parse() else {
                tracing::info!(
                    "earlier dead letters do not tell their jobs, so images without a result are kept for now"
                );
                return None;
            };
            jobs.insert(job);
        }
    }
    Some(jobs)
}

fn report_swept(deleted: usize) {
    if deleted > 0 {
        tracing::info!(deleted, "deleted objects of jobs that were lost in a crash before a result was promised");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        app::queues,
        cloud::{Message, Queue, local::LocalCloud},
        job::Retention,
        results::keys,
    };

    struct Machine {
        settings: Settings,
        cloud: LocalCloud,
        queues: queues::ClusterQueues,
        results: ResultStore,
        _folder: tempfile::TempDir,
    }

    impl Machine {
        /// One with a result, so that results are where the settings say.
        async fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut settings = crate::testing::settings();
            settings.local.data_dir = folder.path().to_owned();
            let cloud = LocalCloud::open(&settings, None).await.expect("opened");
            let queues = queues::create(&settings, &*cloud.queues).await.expect("created");
            let results = ResultStore::new(cloud.objects.clone(), settings.store.clone());
            results.store_pending(JobId(1), "a.txt".into()).await.expect("stored");
            Self { settings, cloud, queues, results, _folder: folder }
        }

        async fn store(&self, id: u128, retention: Retention) {
            let payload = Bytes::from_static(b"large");
            self.results.store_payload(JobId(id), retention, "a.txt", payload).await.expect("stored");
        }

        /// Returns the jobs of the payloads in the input bucket and of the claims.
        async fn payloads(&self) -> (Vec<String>, Vec<String>) {
            let keys = async |bucket: &str, prefix: &str| -> Vec<String> {
                let listed = self.cloud.objects.list(bucket, prefix).await.expect("listed");
                listed.into_iter().map(|object| object.key).collect()
            };
            let store = &self.settings.store;
            (keys(&store.input, "").await, keys(&store.state, keys::CLAIMS).await)
        }
    }

    async fn send(queue: &Arc<dyn Queue>, id: u128) {
        let id = Some(JobId(id).to_string());
        let message = Message { body: Bytes::from_static(b"x"), group: id.clone(), dedup: id, ..Message::default() };
        queue.send_one(message).await.expect("sent");
    }

    fn images(ids: &[u128]) -> Vec<String> {
        ids.iter().map(|id| format!("{}/a.txt", JobId(*id))).collect()
    }

    #[actix::test]
    async fn the_payload_of_a_queued_job_is_no_orphan() {
        let machine = Machine::new().await;
        for id in [2, 3, 4] {
            machine.store(id, Retention::Keep).await;
        }
        send(&machine.queues.requests, 2).await;
        send(&machine.queues.dead_letters, 3).await;
        sweep_at_start(&machine.settings, &machine.cloud).await;
        assert_eq!(machine.payloads().await.0, images(&[2, 3]));
    }

    #[actix::test]
    async fn what_killed_processes_leave_goes_by_the_third_round_even_if_results_are_kept_for_ever() {
        let mut machine = Machine::new().await;
        machine.settings.store.retention = None;
        for id in [1, 2, 3, 4] {
            machine.store(id, Retention::Keep).await;
        }
        for id in [5, 6] {
            machine.store(id, Retention::Discard).await;
        }
        send(&machine.queues.requests, 2).await;
        send(&machine.queues.requests, 5).await;
        let before = machine.payloads().await;
        let mut housekeeping = Housekeeping::new(&machine.settings, &machine.cloud);
        let reading = Reading { now_ms: now_ms(), uptime: Duration::ZERO };
        for _ in 0..2 {
            housekeeping.round(reading).await;
            assert_eq!(machine.payloads().await, before, "they may be uploads that are under way");
        }
        // A client repeats an upload that was lost.
        send(&machine.queues.requests, 4).await;
        housekeeping.round(reading).await;
        assert_eq!(machine.payloads().await, (images(&[1, 2, 4]), vec![keys::claim_key(JobId(5))]));
    }
}
