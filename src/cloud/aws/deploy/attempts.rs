//! Calls that a role must be denied, made by a machine that has the role. None of them changes anything, even where it is
//! allowed: objects are written and deleted under keys that do not exist, on conditions that do not hold, and EC2 is asked
//! for a dry run.

use std::fmt;

use aws_sdk_ec2::types::Tag;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use serde::{Deserialize, Serialize};

use super::super::{
    clients::{ec2_client, s3_client, sdk_config, sqs_client},
    errors::{classify, code},
};
use crate::{
    cloud::{CloudError, aws::call_sites::CallSite as _},
    settings::Settings,
};

/// An ETag that no object has.
const NO_ETAG: &str = "\"00000000000000000000000000000000\"";

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Attempt {
    /// Reads an object.
    Get { bucket: String, key: String },
    /// Replaces an object.
    Put { bucket: String, key: String },
    /// Deletes an object.
    Delete { bucket: String, key: String },
    /// Lists a bucket.
    List { bucket: String },
    /// Finds a queue by its name, without which no other call to it can be made.
    Find { queue: String },
    /// Stops an instance.
    Stop { instance: String },
    /// Terminates an instance.
    Terminate { instance: String },
    /// Tags an instance.
    Tag { instance: String, key: String },
    /// Launches an instance from an image.
    Launch { image: String, subnet: String, instance_type: String },
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get { bucket, key } => write!(f, "read {bucket}/{key}"),
            Self::Put { bucket, key } => write!(f, "replace {bucket}/{key}"),
            Self::Delete { bucket, key } => write!(f, "delete {bucket}/{key}"),
            Self::List { bucket } => write!(f, "list {bucket}"),
            Self::Find { queue } => write!(f, "find the queue {queue}"),
            Self::Stop { instance } => write!(f, "stop {instance}"),
            Self::Terminate { instance } => write!(f, "terminate {instance}"),
            Self::Tag { instance, key } => write!(f, "tag {instance} with {key}"),
            Self::Launch { image, .. } => write!(f, "launch {image}"),
        }
    }
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Attempted {
    /// The role may make the call.
    Allowed,
    /// It may not.
    Denied,
    /// Neither is known; says why.
    Unclear(String),
}

/// Makes the calls one after another with the credentials of this machine.
///
/// # Errors
/// There is no region.
pub(crate) async fn make(settings: &Settings, attempts: &[Attempt]) -> anyhow::Result<Vec<Attempted>> {
    let sdk = sdk_config(settings).await?;
    let (s3, sqs, ec2) = (s3_client(&sdk, settings.aws.s3_path_style), sqs_client(&sdk), ec2_client(&sdk));
    let mut all = Vec::new();
    for attempt in attempts {
        all.push(match attempt {
            Attempt::Get { bucket, key } => attempted(s3.get_object().bucket(bucket).key(key).recorded().send().await),
            Attempt::Put { bucket, key } => {
                let call = s3.put_object().bucket(bucket).key(key).if_match(NO_ETAG);
                attempted(call.body(ByteStream::from_static(b"rollcall aws verify")).recorded().send().await)
            }
            Attempt::Delete { bucket, key } => {
                attempted(s3.delete_object().bucket(bucket).key(key).recorded().send().await)
            }
            Attempt::List { bucket } => {
                attempted(s3.list_objects_v2().bucket(bucket).max_keys(1).recorded().send().await)
            }
            Attempt::Find { queue } => match sqs.get_queue_url().queue_name(queue).recorded().send().await {
                // SQS may answer that a queue does not exist to who may not use it: this one exists.
                Err(error) => match classify(queue, error) {
                    CloudError::NotFound(_) => Attempted::Denied,
                    error => of_error(error),
                },
                Ok(_) => Attempted::Allowed,
            },
            Attempt::Stop { instance } => {
                attempted(ec2.stop_instances().dry_run(true).instance_ids(instance).recorded().send().await)
            }
            Attempt::Terminate { instance } => {
                attempted(ec2.terminate_instances().dry_run(true).instance_ids(instance).recorded().send().await)
            }
            Attempt::Tag { instance, key } => {
                let tag = Tag::builder().key(key).value("rollcall aws verify").build();
                attempted(ec2.create_tags().dry_run(true).resources(instance).tags(tag).recorded().send().await)
            }
            Attempt::Launch { image, subnet, instance_type } => {
                let call = ec2.run_instances().dry_run(true).min_count(1).max_count(1).image_id(image);
                let call = call.subnet_id(subnet).instance_type(instance_type.as_str().into());
                attempted(call.recorded().send().await)
            }
        });
    }
    Ok(all)
}

/// Judges the response to an attempt.
fn attempted<T, E>(response: Result<T, SdkError<E, HttpResponse>>) -> Attempted
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let Err(error) = response else { return Attempted::Allowed };
    // EC2's response to a dry run of a call that is allowed.
    if code(&error) == "DryRunOperation" {
        return Attempted::Allowed;
    }
    of_error(classify("attempt", error))
}

/// Judges an error: who is told that something is missing, or that a condition does not hold, is allowed to ask.
fn of_error(error: CloudError) -> Attempted {
    match error {
        CloudError::Denied(_) => Attempted::Denied,
        CloudError::NotFound(_) | CloudError::Conflict(_) => Attempted::Allowed,
        other => Attempted::Unclear(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_is_a_denial() {
        assert_eq!(of_error(CloudError::Denied("x".into())), Attempted::Denied);
        assert_eq!(of_error(CloudError::NotFound("x".into())), Attempted::Allowed);
        assert_eq!(of_error(CloudError::Conflict("x".into())), Attempted::Allowed);
        assert!(matches!(of_error(CloudError::Unavailable("x".into())), Attempted::Unclear(_)));
    }

    #[test]
    fn attempts_cross_to_the_machine_as_json() {
        let attempt = Attempt::Put { bucket: "b".into(), key: "k".into() };
        let text = serde_json::to_string(&attempt).expect("JSON");
        assert_eq!(text, r#"{"put":{"bucket":"b","key":"k"}}"#);
        assert_eq!(serde_json::from_str::<Attempt>(&text).expect("JSON"), attempt);
    }
}
