//! Tells CloudFormation that a node of the stack is ready: the stack's creation policy waits for this, so that an update
//! ends the node before only when its successor serves.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_cloudformation::{Client, types::ResourceSignalStatus};
use backon::{ExponentialBuilder, Retryable as _};

use super::{call_sites::CallSite as _, errors::classify};
use crate::cloud::{CloudError, CloudResult};

/// Sends a signal for one resource of a stack.
pub(super) struct StackSignal {
    client: Client,
    stack: String,
    resource: String,
}

impl StackSignal {
    /// Creates a sender for the logical id `resource` of a stack.
    pub(super) fn new(sdk: &SdkConfig, stack: &str, resource: &str) -> Self {
        Self { client: Client::new(sdk), stack: stack.to_owned(), resource: resource.to_owned() }
    }

    /// Signals success on behalf of an instance. Does nothing if nobody waits: the node has been restarted.
    ///
    /// # Errors
    /// The call fails again and again, or the role does not permit it.
    pub(super) async fn success(&self, instance: &str) -> CloudResult<()> {
        let send = || async {
            let call = self.client.signal_resource().stack_name(&self.stack).logical_resource_id(&self.resource);
            let call = call.unique_id(instance).status(ResourceSignalStatus::Success);
            let sent = call.recorded().send().await;
            sent.map(drop).map_err(|e| classify(&format!("signal for {} of stack {}", self.resource, self.stack), e))
        };
        match send.retry(backoff()).when(CloudError::retryable).await {
            // The stack or the resource is complete (`ValidationError`).
            Err(CloudError::Invalid(why)) => {
                tracing::debug!(why, "CloudFormation does not wait for this node");
                Ok(())
            }
            sent => sent,
        }
    }
}

/// Retries for about five minutes: without the signal, the update is rolled back.
fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(30))
        .with_max_times(15)
        .with_jitter()
}
