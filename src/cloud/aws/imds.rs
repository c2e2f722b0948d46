//! What an EC2 instance can ask about itself: the instance metadata service, version 2.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_config::imds::client::{Client as Imds, error::ImdsError};
use aws_sdk_ec2::{Client as Ec2, types::Tag};
use backon::{ExponentialBuilder, Retryable as _};

use super::{READY_TAG, errors::classify};
use crate::{
    clock::now_ms,
    cloud::{CloudError, CloudResult, InstanceId, Interruption, Metadata, Queue},
};

/// Pause between two looks whether the cloud can be reached.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Looks without an answer after which the cloud is given up.
const LOOKS: u32 = 15;
/// Times that a call of an instance about itself is repeated, in about two minutes. EC2's client repeats none.
const RETRIES: usize = 7;

fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default().with_jitter().with_max_times(RETRIES)
}

/// An instance that has just come may not be known everywhere.
fn passes(error: &CloudError) -> bool {
    error.retryable() || matches!(error, CloudError::NotFound(_))
}

/// See the module.
pub struct Ec2Metadata {
    imds: Imds,
    ec2: Ec2,
    /// Any queue: whether the cloud can be reached is asked of it.
    probe: Arc<dyn Queue>,
}

impl Ec2Metadata {
    pub fn new(imds: Imds, ec2: Ec2, probe: Arc<dyn Queue>) -> Self {
        Self { imds, ec2, probe }
    }

    /// `None` where the service has nothing under that path.
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
        id.map(InstanceId).ok_or_else(|| CloudError::NotFound("own instance id".into()))
    }

    async fn interruption(&self) -> CloudResult<Option<Interruption>> {
        Ok(self.get("spot/instance-action").await?.map(|notice| Interruption { reason: format!("spot: {notice}") }))
    }

    /// Tags the instance with the time: until then it counts as pending, so that a boot that comes to nothing is found.
    async fn ready(&self) -> CloudResult<()> {
        let id = self.instance_id().await?.0;
        let tag = || async {
            let tag = Tag::builder().key(READY_TAG).value((now_ms() / 1000).to_string()).build();
            let tagged = self.ec2.create_tags().resources(&id).tags(tag).send().await;
            tagged.map(drop).map_err(|e| classify(&id, e))
        };
        tag.retry(pauses()).when(passes).await
    }

    async fn stop_self(&self) -> CloudResult<()> {
        let id = self.instance_id().await?.0;
        let stop = || async {
            let stopped = self.ec2.stop_instances().instance_ids(&id).send().await;
            match stopped.map_err(|e| classify(&id, e)) {
                Ok(_) => Ok(()),
                // A spot instance of one request cannot be stopped.
                Err(CloudError::Conflict(why)) if why.contains("UnsupportedOperation") => {
                    let ended = self.ec2.terminate_instances().instance_ids(&id).send().await;
                    ended.map(drop).map_err(|e| classify(&id, e))
                }
                Err(error) => Err(error),
            }
        };
        stop.retry(pauses()).when(passes).await
    }

    async fn lost(&self) {
        let mut failures = 0;
        while failures < LOOKS {
            tokio::time::sleep(LOOK_EVERY).await;
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

    /// A queue that cannot be reached, or that can be for once each `works_every` looks.
    struct Probe {
        works_every: Option<u64>,
        looks: std::sync::atomic::AtomicU64,
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
            let look = self.looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            match self.works_every {
                Some(n) if look.is_multiple_of(n) => Ok(Depth::default()),
                _ => Err(CloudError::Unavailable("no way there".into())),
            }
        }
    }

    fn metadata(works_every: Option<u64>) -> Ec2Metadata {
        let ec2 = aws_sdk_ec2::Config::builder().behavior_version(aws_config::BehaviorVersion::latest()).build();
        let probe = Arc::new(Probe { works_every, looks: Default::default() });
        Ec2Metadata::new(Imds::builder().build(), Ec2::from_conf(ec2), probe)
    }

    #[tokio::test(start_paused = true)]
    async fn a_cloud_that_is_away_for_long_is_lost_and_one_that_comes_back_is_not() {
        let began = Instant::now(); // of the paused clock
        metadata(None).lost().await;
        assert_eq!(began.elapsed().as_secs() / 60, u64::from(LOOKS));
        let day = Duration::from_secs(24 * 3600);
        assert!(timeout(day, metadata(Some(u64::from(LOOKS))).lost()).await.is_err());
    }
}
