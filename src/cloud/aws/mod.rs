//! The ports on AWS: SQS, S3, EC2 and the instance metadata service.
//!
//! Region, credentials and endpoints come from AWS's own environment variables and files (`AWS_REGION`, `AWS_PROFILE`,
//! `AWS_ENDPOINT_URL_SQS` …) or from the instance's role.

mod call_sites;
mod clients;
pub(crate) mod deploy;
mod ec2;
mod errors;
mod heartbeats;
mod imds;
mod instance_types;
pub(crate) mod logs;
mod ready;
mod s3;
mod sqs;
mod stack_signal;
mod tags;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use aws_config::SdkConfig;
use aws_sdk_sqs::config::ProvideCredentials as _;

use super::{Metadata, Queue};
use crate::settings::Settings;
use heartbeats::Heartbeat;

pub use clients::{ec2_client, s3_client, sqs_client};
pub use ec2::{Ec2Compute, Ec2Options};
pub use heartbeats::Heartbeats;
pub use imds::Ec2Metadata;
pub use s3::{Encryption, S3Objects};
pub use sqs::SqsQueues;
pub use tags::READY_TAG;

/// The adapters of one account and region.
pub struct AwsCloud {
    /// Queues on SQS.
    pub queues: Arc<SqsQueues>,
    /// Objects on S3.
    pub objects: Arc<S3Objects>,
    /// Instances on EC2.
    pub compute: Arc<Ec2Compute>,
    ec2: aws_sdk_ec2::Client,
    sdk: SdkConfig,
}

impl AwsCloud {
    /// Creates the adapters from AWS's own configuration and the settings. Makes no API calls except to get
    /// credentials.
    ///
    /// `fix` makes [`SqsQueues`] correct the attributes of existing queues, see [`SqsQueues::correcting_attributes`].
    ///
    /// # Errors
    /// There is no region, or the file `aws.user_data` cannot be read.
    pub async fn connect(settings: &Settings, fix: bool) -> anyhow::Result<Self> {
        let sdk = clients::sdk_config(settings).await?;
        let aws = &settings.aws;
        let queues = SqsQueues::new(sqs_client(&sdk), aws.linger, &settings.cloud.cluster);
        let encryption = aws.kms_key.clone().map_or(Encryption::S3, Encryption::Kms);
        let ec2 = ec2_client(&sdk);
        Ok(Self {
            queues: Arc::new(if fix { queues.correcting_attributes() } else { queues }),
            objects: Arc::new(S3Objects::new(s3_client(&sdk, aws.s3_path_style), encryption)),
            compute: Arc::new(Ec2Compute::new(ec2.clone(), ec2_options(settings)?)),
            ec2,
            sdk,
        })
    }

    /// Checks that credentials can be obtained; does not check what they allow.
    ///
    /// # Errors
    /// No provider has credentials.
    pub async fn credentials(&self) -> anyhow::Result<()> {
        let provider = self.sdk.credentials_provider().context("no credentials are configured")?;
        provider.provide_credentials().await.context("no AWS credentials")?;
        Ok(())
    }

    /// Returns the metadata of the instance that this process runs on. `probe` is any queue, see [`Ec2Metadata::new`].
    /// Heartbeats are sent to `status`, if there is one, with this time between them.
    pub fn metadata(
        &self,
        probe: Arc<dyn Queue>,
        status: Option<Arc<dyn Queue>>,
        every: Duration,
    ) -> Arc<dyn Metadata> {
        let imds = aws_config::imds::Client::builder().build();
        let metadata = Ec2Metadata::new(imds, self.ec2.clone(), probe);
        Arc::new(match status {
            Some(status) => metadata.with_heartbeat(Heartbeat::new(status, every)),
            None => metadata,
        })
    }

    /// Tells CloudFormation that this node, with the logical id `resource` in the stack of `cluster`, is ready.
    ///
    /// # Errors
    /// There is no instance metadata, or the signal could not be sent.
    pub async fn signal_ready(&self, cluster: &str, resource: &str) -> anyhow::Result<()> {
        let imds = aws_config::imds::Client::builder().build();
        let id = imds.get("/latest/meta-data/instance-id").await.context("the id of this instance")?;
        let signal = stack_signal::StackSignal::new(&self.sdk, cluster, resource);
        Ok(signal.success(id.as_ref()).await?)
    }
}

fn ec2_options(settings: &Settings) -> anyhow::Result<Ec2Options> {
    let read =
        |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("aws.user_data: {}", path.display()));
    Ok(Ec2Options {
        cluster: settings.cloud.cluster.clone(),
        name_prefix: settings.fleet.name_prefix.clone(),
        launch: settings.aws.launch.clone(),
        user_data: settings.aws.user_data.as_ref().map(read).transpose()?,
        describe_lag: settings.fleet.describe_lag,
        // A node that has only been restarted is back before that.
        replace_later_after: settings.fleet.boot_timeout,
    })
}
