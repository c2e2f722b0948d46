//! Queues, objects and machines on AWS: SQS, S3, EC2 and the instance metadata service. Region, credentials and endpoints
//! come from AWS's own environment variables and files (`AWS_REGION`, `AWS_PROFILE`, `AWS_ENDPOINT_URL_SQS` …) or from
//! the instance's role.

mod batcher;
pub mod deploy;
mod ec2;
mod errors;
mod imds;
mod pools;
mod s3;
mod sqs;
mod sqs_calls;
mod sqs_queue;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_sqs::config::ProvideCredentials as _;

use super::Metadata;
use crate::settings::Settings;

pub use ec2::{Ec2Compute, Ec2Options};
pub(crate) use errors::{classify, code};
pub use imds::Ec2Metadata;
pub use s3::{Encryption, S3Objects};
pub use sqs::SqsQueues;

/// Tag of everything that Rollcall makes: the cluster's name.
pub const CLUSTER_TAG: &str = "rollcall:cluster";
/// Tag of an instance: the token of the intent that asked for it.
pub const TOKEN_TAG: &str = "rollcall:token";
/// Tag of an instance: when its worker was last ready, in seconds since the Unix epoch.
pub const READY_TAG: &str = "rollcall:ready";

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest time for one try of a call of SQS: a long poll takes 20 s.
const SQS_TRY: Duration = Duration::from_secs(25);
/// The same for S3 (half a gigabyte at 20 MB/s) and EC2.
const S3_TRY: Duration = Duration::from_secs(30);
const EC2_TRY: Duration = Duration::from_secs(20);
/// Tries of a call in all, with the SDK's pauses between them. EC2 has one: see `ec2`.
const TRIES: u32 = 3;

/// All ports of an account and region.
pub struct AwsCloud {
    pub queues: Arc<SqsQueues>,
    pub objects: Arc<S3Objects>,
    pub compute: Arc<Ec2Compute>,
    ec2: aws_sdk_ec2::Client,
    sdk: SdkConfig,
}

impl AwsCloud {
    /// Reads AWS's own configuration; makes no call but for credentials. `fix`: see [`SqsQueues::fixing`].
    pub async fn connect(settings: &Settings, fix: bool) -> anyhow::Result<Self> {
        Self::new(&sdk(settings).await?, settings, fix)
    }

    /// The ports on an SDK configuration.
    pub fn new(sdk: &SdkConfig, settings: &Settings, fix: bool) -> anyhow::Result<Self> {
        let aws = &settings.aws;
        let queues = SqsQueues::new(sqs_client(sdk), aws.linger, &settings.cloud.cluster);
        let encryption = aws.kms_key.clone().map_or(Encryption::S3, Encryption::Kms);
        let ec2 = ec2_client(sdk);
        Ok(Self {
            queues: Arc::new(if fix { queues.fixing() } else { queues }),
            objects: Arc::new(S3Objects::new(s3_client(sdk, aws.s3_path_style), encryption)),
            compute: Arc::new(Ec2Compute::new(ec2.clone(), ec2_options(settings)?)),
            ec2,
            sdk: sdk.clone(),
        })
    }

    /// Whether there are credentials; says nothing of what they allow.
    pub async fn credentials(&self) -> anyhow::Result<()> {
        let provider = self.sdk.credentials_provider().context("no credentials are configured")?;
        provider.provide_credentials().await.context("no AWS credentials")?;
        Ok(())
    }

    /// What the instance that this runs on can ask about itself. `probe`: any queue, see [`Ec2Metadata`].
    pub fn metadata(&self, probe: Arc<dyn super::Queue>) -> Arc<dyn Metadata> {
        Arc::new(Ec2Metadata::new(aws_config::imds::Client::builder().build(), self.ec2.clone(), probe))
    }
}

/// AWS's own configuration, with the region of the settings over it.
pub(crate) async fn sdk(settings: &Settings) -> anyhow::Result<SdkConfig> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = &settings.aws.region {
        loader = loader.region(Region::new(region.clone()));
    }
    let sdk = loader.load().await;
    anyhow::ensure!(sdk.region().is_some(), "no AWS region: set AWS_REGION or aws.region");
    Ok(sdk)
}

fn timeouts(one_try: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(one_try).build()
}

/// A client whose calls may be long polls.
pub fn sqs_client(sdk: &SdkConfig) -> aws_sdk_sqs::Client {
    let retries = RetryConfig::standard().with_max_attempts(TRIES);
    let config = aws_sdk_sqs::config::Builder::from(sdk).retry_config(retries).timeout_config(timeouts(SQS_TRY));
    aws_sdk_sqs::Client::from_conf(config.build())
}

/// `path_style`: the bucket's name in the path instead of the host's name, as most stores that are not S3 want it.
pub fn s3_client(sdk: &SdkConfig, path_style: bool) -> aws_sdk_s3::Client {
    let retries = RetryConfig::standard().with_max_attempts(TRIES);
    let config = aws_sdk_s3::config::Builder::from(sdk).retry_config(retries).timeout_config(timeouts(S3_TRY));
    aws_sdk_s3::Client::from_conf(config.force_path_style(path_style).build())
}

/// A client without retries.
pub fn ec2_client(sdk: &SdkConfig) -> aws_sdk_ec2::Client {
    let config = aws_sdk_ec2::config::Builder::from(sdk).retry_config(RetryConfig::disabled());
    aws_sdk_ec2::Client::from_conf(config.timeout_config(timeouts(EC2_TRY)).build())
}

fn ec2_options(settings: &Settings) -> anyhow::Result<Ec2Options> {
    let read =
        |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("aws.user_data: {}", path.display()));
    Ok(Ec2Options {
        cluster: settings.cloud.cluster.clone(),
        name_prefix: settings.fleet.name_prefix.clone(),
        launch: settings.aws.launch.clone(),
        user_data: settings.aws.user_data.as_ref().map(read).transpose()?,
    })
}
