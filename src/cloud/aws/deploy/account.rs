//! The account, region and cluster that the commands work on, with their SDK clients.

use std::time::Duration;

use anyhow::Context as _;
use aws_config::{retry::RetryConfig, timeout::TimeoutConfig};

use super::super::{
    clients::sdk_config,
    errors::classify,
    s3::{Encryption, S3Objects},
};
use crate::cloud::aws::call_sites::CallSite as _;
use crate::settings::Settings;

/// Longest time for one attempt of a call other than an upload.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Attempts per call.
const ATTEMPTS: u32 = 6;
/// Longest time for one attempt of an upload: 200 MB at 2 Mbit/s.
const UPLOAD: Duration = Duration::from_secs(800);

/// Purposes of the template's buckets. A bucket's name contains its purpose.
pub(super) const BUCKETS: [&str; 3] = ["input", "output", "state"];
/// Purpose of the bucket that exists while a bake runs.
pub(super) const BAKE_BUCKET: &str = "bake";

/// A cluster in an account and region.
pub(crate) struct Account {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// The account's id.
    pub(crate) id: String,
    /// The region's name.
    pub(crate) region: String,
    pub(super) cloudformation: aws_sdk_cloudformation::Client,
    pub(super) ec2: aws_sdk_ec2::Client,
    pub(super) logs: aws_sdk_cloudwatchlogs::Client,
    pub(super) s3: aws_sdk_s3::Client,
    pub(super) sqs: aws_sdk_sqs::Client,
}

impl Account {
    /// Finds the account that the credentials belong to.
    ///
    /// # Errors
    /// There is no region, or the credentials are missing or invalid.
    pub(crate) async fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let sdk = sdk_config(settings).await?;
        let region = sdk.region().context("no AWS region")?.to_string();
        let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS);
        let timeouts = |attempt| TimeoutConfig::builder().operation_attempt_timeout(attempt).build();
        let sdk = sdk.into_builder().retry_config(retries).timeout_config(timeouts(ATTEMPT)).build();
        let s3 = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(settings.aws.s3_path_style);
        let caller = aws_sdk_sts::Client::new(&sdk).get_caller_identity().recorded().send().await;
        let caller = caller.map_err(|e| classify("credentials", e)).context(
            "AWS does not accept the credentials: set AWS_PROFILE or log in (`aws sts get-caller-identity` must work)",
        )?;
        Ok(Self {
            cluster: settings.cloud.cluster.clone(),
            id: caller.account.context("AWS returned no account id")?,
            region,
            cloudformation: aws_sdk_cloudformation::Client::new(&sdk),
            ec2: aws_sdk_ec2::Client::new(&sdk),
            logs: aws_sdk_cloudwatchlogs::Client::new(&sdk),
            s3: aws_sdk_s3::Client::from_conf(s3.timeout_config(timeouts(UPLOAD)).build()),
            sqs: aws_sdk_sqs::Client::new(&sdk),
        })
    }

    /// Returns the name of the cluster's bucket for a purpose. All buckets of the world share one name space, and a cluster of
    /// the same name may exist in each region.
    pub(super) fn bucket(&self, purpose: &str) -> String {
        format!("{}{}", self.bucket_without_region(purpose), self.bucket_suffix())
    }

    /// Returns what names of buckets end with.
    pub(super) fn bucket_suffix(&self) -> String {
        format!("-{}", self.region)
    }

    /// Returns the name of the bucket that a stack of an earlier release made: without the region.
    pub(super) fn bucket_without_region(&self, purpose: &str) -> String {
        format!("{}-{purpose}-{}", self.cluster, self.id)
    }

    /// Returns the name of a stack's bucket for a purpose. `suffix` is that of the stack.
    pub(crate) fn stack_bucket(&self, purpose: &str, suffix: &str) -> String {
        format!("{}{suffix}", self.bucket_without_region(purpose))
    }

    /// Returns the objects of all buckets, encrypted with a KMS key if it is not empty.
    pub(crate) fn objects(&self, kms_key: &str) -> S3Objects {
        let encryption = if kms_key.is_empty() { Encryption::S3 } else { Encryption::Kms(kms_key.to_owned()) };
        S3Objects::new(self.s3.clone(), encryption)
    }

    /// Returns the names of all buckets that the cluster may have.
    pub(super) fn buckets(&self) -> Vec<String> {
        let purposes = || BUCKETS.iter().chain([&BAKE_BUCKET]);
        let names = purposes().map(|purpose| self.bucket(purpose));
        names.chain(purposes().map(|purpose| self.bucket_without_region(purpose))).collect()
    }
}

/// Builds an EC2 tag.
pub(super) fn tag(key: &str, value: &str) -> aws_sdk_ec2::types::Tag {
    aws_sdk_ec2::types::Tag::builder().key(key).value(value).build()
}

/// Builds a filter for an EC2 description.
pub(super) fn filter(name: impl Into<String>, value: &str) -> aws_sdk_ec2::types::Filter {
    aws_sdk_ec2::types::Filter::builder().name(name).values(value).build()
}
