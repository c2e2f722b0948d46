//! The logs of a cluster's machines in CloudWatch Logs: what sends them there from the systemd journal of each machine, and
//! what reads them.
//!
//! Each cluster has one log group, which its stack creates, and each machine a log stream, which has the id of the instance.

mod batch;
mod forwarder;
mod journal;
mod reader;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use aws_config::{SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_cloudwatchlogs::Client;

use super::clients::sdk_config;
use crate::settings::Settings;
use forwarder::Forwarder;

pub(crate) use reader::{FOLLOW_EVERY, Line, Query, Reader, samples};

/// Longest time for one attempt of a call: a batch of one mebibyte at half a megabit per second.
const ATTEMPT: Duration = Duration::from_secs(20);
/// Attempts per call, with the SDK's backoff between them.
const ATTEMPTS: u32 = 3;

/// Returns the name of a cluster's log group.
pub(crate) fn group(cluster: &str) -> String {
    format!("/rollcall/{cluster}")
}

fn client(sdk: &SdkConfig) -> Client {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT).build();
    let config = aws_sdk_cloudwatchlogs::config::Builder::from(sdk).timeout_config(timeouts);
    Client::from_conf(config.retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS)).build())
}

/// Forwards the journal of the instance that this process runs on, until `end` completes. The file `cursor` has the position
/// up to which it was sent; its folder must exist.
///
/// # Errors
/// There is no region or no instance metadata, or the journal cannot be read or the cursor not be written.
pub(crate) async fn forward(settings: &Settings, cursor: PathBuf, end: impl Future<Output = ()>) -> anyhow::Result<()> {
    let sdk = sdk_config(settings).await?;
    let imds = aws_config::imds::Client::builder().build();
    let stream = imds.get("/latest/meta-data/instance-id").await.context("the id of this instance")?;
    let forwarder = Forwarder::new(client(&sdk), group(&settings.cloud.cluster), stream.as_ref(), cursor);
    let mut journal = journal::follow(forwarder.cursor()?.as_deref())?;
    let output = journal.stdout.take().context("the journal has no output")?;
    let forwarded = forwarder.run(output, end).await;
    let _ = journal.kill().await; // if it has not ended by itself
    forwarded
}
