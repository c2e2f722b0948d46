//! SDK clients with Rollcall's timeouts and retries.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};

use crate::settings::Settings;

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest time for one attempt of an SQS call; a long poll takes up to 20 s.
const SQS_ATTEMPT: Duration = Duration::from_secs(25);
/// Longest time for one attempt of an S3 call: half a gigabyte at 20 MB/s.
const S3_ATTEMPT: Duration = Duration::from_secs(30);
/// Longest time for one attempt of an EC2 call.
const EC2_ATTEMPT: Duration = Duration::from_secs(20);
/// Attempts per call of SQS and S3, with the SDK's backoff between them.
const ATTEMPTS: u32 = 3;

/// Loads AWS's own configuration; `aws.region` of the settings overrides its region.
///
/// # Errors
/// There is no region.
pub(crate) async fn sdk_config(settings: &Settings) -> anyhow::Result<SdkConfig> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = &settings.aws.region {
        loader = loader.region(Region::new(region.clone()));
    }
    let sdk = loader.load().await;
    anyhow::ensure!(sdk.region().is_some(), "no AWS region: set AWS_REGION or aws.region");
    Ok(sdk)
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(attempt).build()
}

/// Creates an SQS client whose timeout leaves room for long polls.
pub fn sqs_client(sdk: &SdkConfig) -> aws_sdk_sqs::Client {
    let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS);
    let config = aws_sdk_sqs::config::Builder::from(sdk).retry_config(retries).timeout_config(timeouts(SQS_ATTEMPT));
    aws_sdk_sqs::Client::from_conf(config.build())
}

/// Creates an S3 client. `path_style` puts the bucket's name in the path rather than the host name, which most
/// S3-compatible stores require.
pub fn s3_client(sdk: &SdkConfig, path_style: bool) -> aws_sdk_s3::Client {
    let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS);
    let config = aws_sdk_s3::config::Builder::from(sdk).retry_config(retries).timeout_config(timeouts(S3_ATTEMPT));
    aws_sdk_s3::Client::from_conf(config.force_path_style(path_style).build())
}

/// Creates an EC2 client without retries: the controller decides when to repeat a call.
pub fn ec2_client(sdk: &SdkConfig) -> aws_sdk_ec2::Client {
    let config = aws_sdk_ec2::config::Builder::from(sdk).retry_config(RetryConfig::disabled());
    aws_sdk_ec2::Client::from_conf(config.timeout_config(timeouts(EC2_ATTEMPT)).build())
}
