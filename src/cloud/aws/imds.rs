//! What an EC2 instance knows about itself, from the instance metadata service, version 2 (IMDSv2).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use aws_config::imds::client::{Client as Imds, error::ImdsError};
use aws_sdk_ec2::primitives::{DateTime, DateTimeFormat};
use aws_sdk_ec2::{Client as Ec2, types::Tag};
use backon::Retryable as _;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{
    errors::classify,
    heartbeats::Heartbeat,
    ready::{Tagged, backoff, is_transient, tag_later, tag_or_announce},
    tags::{HEARTBEAT_TAG, READY_TAG},
};
use crate::cloud::aws::call_sites::CallSite as _;
use crate::{
    clock::now_ms,
    cloud::{CloudError, CloudResult, InstanceId, Interruption, Metadata, Queue},
};

/// Time between two probes of whether the cloud can be reached.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// Consecutive failed probes after which the cloud counts as lost.
const MAX_FAILED_PROBES: u32 = 15;
/// Tags an instance as ready since `at`, in seconds since the Unix epoch.
async fn tag_ready(ec2: &Ec2, id: &str, at: i64, every: Option<Duration>) -> CloudResult<()> {
    let tag = |key, value: String| Tag::builder().key(key).value(value).build();
    // The second also if it sends none: the tag of an earlier boot would promise them.
    let every = every.unwrap_or_default().as_millis().to_string();
    let tags = vec![tag(READY_TAG, at.to_string()), tag(HEARTBEAT_TAG, every)];
    let tagged = ec2.create_tags().resources(id).set_tags(Some(tags)).recorded().send().await;
    tagged.map(drop).map_err(|e| classify(id, e))
}

/// Reads the value of `spot/instance-action`.
fn interruption(notice: &str) -> Interruption {
    let parsed: Value = serde_json::from_str(notice).unwrap_or_default();
    let at = parsed["time"].as_str().and_then(|time| DateTime::from_str(time, DateTimeFormat::DateTime).ok());
    let at_ms = at.and_then(|at| u64::try_from(at.to_millis().ok()?).ok());
    Interruption { reason: format!("spot: {notice}"), at_ms }
}

/// Metadata of the EC2 instance that this process runs on.
pub struct Ec2Metadata {
    imds: Imds,
    ec2: Ec2,
    probe: Arc<dyn Queue>,
    heartbeat: Option<Heartbeat>,
    /// Sends heartbeats once the worker is ready.
    sending: Mutex<JoinSet<()>>,
    /// Whether a rebalance recommendation has been reported.
    rebalance_reported: AtomicBool,
}

impl Ec2Metadata {
    /// Creates the adapter. `probe` is any queue; [`Metadata::lost`] reads its depth to check that the cloud can be
    /// reached.
    pub fn new(imds: Imds, ec2: Ec2, probe: Arc<dyn Queue>) -> Self {
        let (sending, rebalance_reported) = (Mutex::default(), AtomicBool::new(false));
        Self { imds, ec2, probe, heartbeat: None, sending, rebalance_reported }
    }

    /// Sends heartbeats from [`Metadata::ready`] on.
    pub(super) fn with_heartbeat(self, heartbeat: Heartbeat) -> Self {
        Self { heartbeat: Some(heartbeat), ..self }
    }

    /// Sends the first heartbeat, and then one after another. Returns the time between them; `None` if the first could not be
    /// sent.
    async fn begin_heartbeats(&self, id: &str) -> Option<Duration> {
        let heartbeat = self.heartbeat.as_ref()?;
        if let Err(error) = heartbeat.beat(id).await {
            tracing::warn!(%error, "no heartbeat can be sent: if this worker hangs, nobody notices");
            return None;
        }
        let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if sending.is_empty() {
            sending.spawn(heartbeat.clone().run(id.to_owned()));
        }
        Some(heartbeat.every)
    }

    /// Returns the recommendation to replace this spot instance because it is likely to be interrupted, if there is one.
    ///
    /// # Errors
    /// The metadata service does not respond.
    pub async fn rebalance_recommendation(&self) -> CloudResult<Option<String>> {
        self.get("events/recommendations/rebalance").await
    }

    /// Reads the value at a path; `None` if there is none.
    async fn get(&self, path: &str) -> CloudResult<Option<String>> {
        match self.imds.get(format!("/latest/meta-data/{path}")).await {
            Ok(value) => Ok(Some(value.into())),
            Err(ImdsError::ErrorResponse(e)) if e.response().status().as_u16() == 404 => Ok(None),
            Err(error) => Err(CloudError::Unavailable(format!(
                "instance metadata ({path}): {}",
                aws_sdk_ec2::error::DisplayErrorContext(error)
            ))),
        }
    }
}

#[async_trait]
impl Metadata for Ec2Metadata {
    async fn instance_id(&self) -> CloudResult<InstanceId> {
        let id = self.get("instance-id").await?;
        id.map(InstanceId).ok_or_else(|| CloudError::NotFound("the id of this instance".into()))
    }

    /// Also reports a rebalance recommendation, once. It does not end the worker: many such instances are never interrupted.
    async fn interruption(&self) -> CloudResult<Option<Interruption>> {
        if let Some(notice) = self.get("spot/instance-action").await? {
            return Ok(Some(interruption(&notice)));
        }
        if !self.rebalance_reported.load(Ordering::Relaxed)
            && let Some(recommendation) = self.rebalance_recommendation().await?
        {
            self.rebalance_reported.store(true, Ordering::Relaxed);
            tracing::warn!(recommendation, "EC2 is likely to interrupt this spot instance");
        }
        Ok(None)
    }

    /// Tags the instance with the time, and with that between heartbeats. Until then the controller sees it as pending, so
    /// that a failed boot times out. If EC2 refuses the call because too many instances make it, the worker says over the
    /// status queue that it is ready, and is tagged later.
    async fn ready(&self) -> CloudResult<()> {
        let (id, at) = (self.instance_id().await?.0, (now_ms() / 1000) as i64);
        let every = self.begin_heartbeats(&id).await;
        let tag = {
            let (ec2, id) = (self.ec2.clone(), id.clone());
            move || {
                let (ec2, id) = (ec2.clone(), id.clone());
                async move { tag_ready(&ec2, &id, at, every).await }
            }
        };
        let announce = self.heartbeat.clone().filter(|_| every.is_some()).map(|heartbeat| {
            move || {
                let (heartbeat, id) = (heartbeat.clone(), id.clone());
                async move { heartbeat.announce(&id, at).await }
            }
        });
        if tag_or_announce(&tag, announce.as_ref()).await? == Tagged::NotYet
            && let Some(announce) = announce
        {
            self.sending.lock().unwrap_or_else(PoisonError::into_inner).spawn(tag_later(tag, announce));
        }
        Ok(())
    }

    async fn stop_self(&self) -> CloudResult<()> {
        let id = self.instance_id().await?.0;
        let stop = || async {
            let stopped = self.ec2.stop_instances().instance_ids(&id).recorded().send().await;
            match stopped.map_err(|e| classify(&id, e)) {
                Ok(_) => Ok(()),
                // A one-time spot instance cannot be stopped.
                Err(CloudError::Conflict(why)) if why.contains("UnsupportedOperation") => {
                    let ended = self.ec2.terminate_instances().instance_ids(&id).recorded().send().await;
                    ended.map(drop).map_err(|e| classify(&id, e))
                }
                Err(error) => Err(error),
            }
        };
        // Many workers may end together. One whose call is refused ends all the same, and its machine is powered off.
        stop.retry(backoff()).when(|error| is_transient(error) && *error != CloudError::Throttled).await
    }

    async fn lost(&self) {
        let mut failures = 0;
        while failures < MAX_FAILED_PROBES {
            tokio::time::sleep(PROBE_EVERY).await;
            match self.probe.depth().await {
                Ok(_) | Err(CloudError::Throttled) => failures = 0,
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "the cloud cannot be reached");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::cloud::{Delivery, Depth, Message, Receipt};

    /// A queue that cannot be reached, except for every `n`th call if `answer` is `(n, result of that call)`.
    struct Probe {
        answer: Option<(u64, CloudResult<Depth>)>,
        calls: std::sync::atomic::AtomicU64,
    }

    #[async_trait]
    impl Queue for Probe {
        async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
            vec![Ok(()); batch.len()]
        }
        async fn receive(&self, _: usize, _: Duration) -> CloudResult<Vec<Delivery>> {
            Ok(vec![])
        }
        async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
            vec![Ok(()); batch.len()]
        }
        async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
            vec![Ok(()); batch.len()]
        }
        async fn depth(&self) -> CloudResult<Depth> {
            let call = self.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            match &self.answer {
                Some((n, answer)) if call.is_multiple_of(*n) => answer.clone(),
                _ => Err(CloudError::Unavailable("no route".into())),
            }
        }
    }

    fn metadata(answer: Option<(u64, CloudResult<Depth>)>) -> Ec2Metadata {
        let ec2 = aws_sdk_ec2::Config::builder().behavior_version(aws_config::BehaviorVersion::latest()).build();
        let probe = Arc::new(Probe { answer, calls: Default::default() });
        Ec2Metadata::new(Imds::builder().build(), Ec2::from_conf(ec2), probe)
    }

    #[tokio::test(start_paused = true)]
    async fn the_cloud_is_lost_after_failed_probes_in_a_row() {
        let began = Instant::now(); // of the paused clock
        metadata(None).lost().await;
        assert_eq!(began.elapsed().as_secs() / 60, u64::from(MAX_FAILED_PROBES));
        let day = Duration::from_secs(24 * 3600);
        for answer in [Ok(Depth::default()), Err(CloudError::Throttled)] {
            let reachable = metadata(Some((u64::from(MAX_FAILED_PROBES), answer)));
            assert!(timeout(day, reachable.lost()).await.is_err());
        }
    }

    #[test]
    fn a_notice_is_read_with_its_time_if_it_has_one() {
        let notice = r#"{"action": "terminate", "time": "2027-03-01T08:22:00Z"}"#;
        assert_eq!(
            interruption(notice),
            Interruption { reason: format!("spot: {notice}"), at_ms: Some(1_803_889_320_000) }
        );
        for other in ["", "terminate", r#"{"action": "stop"}"#, r#"{"time": 7}"#, r#"{"time": "soon"}"#] {
            assert_eq!(interruption(other), Interruption { reason: format!("spot: {other}"), at_ms: None });
        }
        assert_eq!(interruption(r#"{"time": "1900-01-01T00:00:00Z"}"#).at_ms, None);
    }
}
