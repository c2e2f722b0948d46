//! What an EC2 instance can ask about itself: the instance metadata service, version 2.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_config::imds::client::{Client as Imds, error::ImdsError};
use aws_sdk_ec2::Client as Ec2;

use super::errors::classify;
use crate::cloud::{CloudError, CloudResult, InstanceId, Interruption, Metadata, Queue};

/// Pause between two looks whether the cloud can be reached.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Looks without an answer after which the cloud is given up.
const LOOKS: u32 = 15;

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

    /// Nothing to say: EC2 itself calls the instance running.
    async fn ready(&self) -> CloudResult<()> {
        Ok(())
    }

    async fn stop_self(&self) -> CloudResult<()> {
        let id = self.instance_id().await?.0;
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
