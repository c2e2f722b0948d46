//! Sets a cluster on AWS up and takes it down again: the image of its machines (`bake`), the stack of everything else
//! (`up`), and the way back (`down`). What is done here is done once, by a person with rights of their own; the services
//! themselves need none of it.

pub mod bake;
pub mod builder;
pub mod down;
pub mod leftovers;
mod package;
mod stack;
pub mod up;
mod wait;

use std::time::Duration;

use anyhow::Context as _;
use aws_config::{retry::RetryConfig, timeout::TimeoutConfig};

use crate::{
    cloud::aws::{classify, sdk},
    settings::Settings,
};

/// Tag of what `bake` makes for the time of its work: the cluster's name. It is not the cluster's own tag, because a
/// controller takes what has that for its workers.
pub const BAKE_TAG: &str = "rollcall:bake";

/// Longest time for one try of a call; an upload has [`UPLOAD`].
const TRY: Duration = Duration::from_secs(30);
/// Tries of a call in all.
const TRIES: u32 = 6;
/// Longest time for an upload: 200 MB at 2 Mbit/s.
const UPLOAD: Duration = Duration::from_secs(800);

/// An account in a region, and the cluster in it that is meant.
pub struct Account {
    pub cluster: String,
    pub id: String,
    pub region: String,
    cloudformation: aws_sdk_cloudformation::Client,
    ec2: aws_sdk_ec2::Client,
    s3: aws_sdk_s3::Client,
    sqs: aws_sdk_sqs::Client,
}

impl Account {
    /// Asks who the credentials belong to.
    pub async fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let sdk = sdk(settings).await?;
        let region = sdk.region().context("no AWS region")?.to_string();
        let retries = RetryConfig::standard().with_max_attempts(TRIES);
        let timeouts = |one_try| TimeoutConfig::builder().operation_attempt_timeout(one_try).build();
        let sdk = sdk.into_builder().retry_config(retries).timeout_config(timeouts(TRY)).build();
        let s3 = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(settings.aws.s3_path_style);
        let caller = aws_sdk_sts::Client::new(&sdk).get_caller_identity().send().await;
        let caller = caller.map_err(|e| classify("credentials", e)).context(
            "AWS does not say who you are: set AWS_PROFILE or log in (`aws sts get-caller-identity` must work)",
        )?;
        Ok(Self {
            cluster: settings.cloud.cluster.clone(),
            id: caller.account.context("AWS names no account")?,
            region,
            cloudformation: aws_sdk_cloudformation::Client::new(&sdk),
            ec2: aws_sdk_ec2::Client::new(&sdk),
            s3: aws_sdk_s3::Client::from_conf(s3.timeout_config(timeouts(UPLOAD)).build()),
            sqs: aws_sdk_sqs::Client::new(&sdk),
        })
    }

    /// Name of one of the cluster's buckets.
    fn bucket(&self, kind: &str) -> String {
        format!("{}-{kind}-{}", self.cluster, self.id)
    }

    /// Names of all that there may be.
    fn buckets(&self) -> Vec<String> {
        BUCKETS.iter().chain([&BAKE_BUCKET]).map(|kind| self.bucket(kind)).collect()
    }
}

/// What a bucket of the template is for, as its name says it.
const BUCKETS: [&str; 3] = ["input", "output", "state"];
/// What the bucket is for that a bake makes for the time of its work.
const BAKE_BUCKET: &str = "bake";

fn tag(key: &str, value: &str) -> aws_sdk_ec2::types::Tag {
    aws_sdk_ec2::types::Tag::builder().key(key).value(value).build()
}

fn filter(name: impl Into<String>, value: &str) -> aws_sdk_ec2::types::Filter {
    aws_sdk_ec2::types::Filter::builder().name(name).values(value).build()
}
