//! Objects on S3: encrypted at rest, with conditional writes by ETag.

use async_trait::async_trait;
use aws_sdk_s3::{
    Client, config::retry::RetryConfig, error::SdkError, operation::put_object::PutObjectOutput,
    primitives::ByteStream, types::ServerSideEncryption,
};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use bytes::Bytes;

use super::errors::{classify, code};
use crate::cloud::aws::call_sites::CallSite as _;
use crate::cloud::{
    CloudError, CloudResult, ETag, Object, ObjectInfo, ObjectStore, Precondition,
    object_key::{check_bucket, check_key, check_prefix},
};

/// Attempts of a conditional write.
const ATTEMPTS: usize = 3;

/// How objects are encrypted at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// With keys that S3 manages (SSE-S3).
    #[default]
    S3,
    /// With a KMS key, given by id, ARN or alias.
    Kms(String),
}

/// Provides all buckets of an account.
pub struct S3Objects {
    client: Client,
    encryption: Encryption,
}

impl S3Objects {
    /// Creates the adapter. `encryption` applies to every object that it writes.
    pub fn new(client: Client, encryption: Encryption) -> Self {
        Self { client, encryption }
    }

    async fn put_once(&self, bucket: &str, key: &str, bytes: Bytes, when: &Precondition) -> CloudResult<ETag> {
        let mut call = self.client.put_object().bucket(bucket).key(key).body(ByteStream::from(bytes));
        call = match &self.encryption {
            Encryption::S3 => call.server_side_encryption(ServerSideEncryption::Aes256),
            // S3 asks KMS for a key of the bucket now and then, and not for each object: it bills for that.
            Encryption::Kms(key) => {
                let call = call.server_side_encryption(ServerSideEncryption::AwsKms).ssekms_key_id(key);
                call.bucket_key_enabled(true)
            }
        };
        let output = match when {
            Precondition::Always => call.recorded().send().await,
            // A repeated conditional write may conflict with its own first attempt, so `put` does the retries.
            Precondition::Absent => send_once(call.if_none_match("*")).await,
            Precondition::Match(etag) => send_once(call.if_match(&etag.0)).await,
        };
        let place = || format!("{bucket}/{key}");
        match output {
            Ok(PutObjectOutput { e_tag: Some(etag), .. }) => Ok(ETag(etag)),
            Ok(_) => Err(CloudError::Unavailable(format!("{}: no ETag in the response", place()))),
            // S3's response to `If-Match` if the object does not exist.
            Err(error) if matches!(when, Precondition::Match(_)) && code(&error) == "NoSuchKey" => {
                Err(CloudError::Conflict(format!("{} is gone", place())))
            }
            Err(error) => Err(classify(&place(), error)),
        }
    }
}

/// Sends without the SDK's retries.
async fn send_once(
    call: aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder,
) -> Result<PutObjectOutput, SdkError<aws_sdk_s3::operation::put_object::PutObjectError>> {
    let config = aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled());
    call.customize().config_override(config).recorded().send().await
}

#[async_trait]
impl ObjectStore for S3Objects {
    async fn put(&self, bucket: &str, key: &str, bytes: Bytes, when: Precondition) -> CloudResult<ETag> {
        check_bucket(bucket)?;
        check_key(key)?;
        let mut pauses = ExponentialBuilder::default().with_jitter().with_max_times(ATTEMPTS - 1).build();
        let mut may_be_applied = false;
        loop {
            let result = self.put_once(bucket, key, bytes.clone(), &when).await;
            match result {
                // An uncertain operation: if an earlier attempt was applied, the object has the bytes of this write.
                Err(CloudError::Conflict(why)) if may_be_applied => {
                    let present = self.get(bucket, key).await?;
                    let ours = present.bytes == bytes;
                    return if ours { Ok(present.etag) } else { Err(CloudError::Conflict(why)) };
                }
                Err(CloudError::Unavailable(_) | CloudError::Throttled) if when != Precondition::Always => {
                    may_be_applied = true;
                    match pauses.next() {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => return result,
                    }
                }
                result => return result,
            }
        }
    }

    async fn get(&self, bucket: &str, key: &str) -> CloudResult<Object> {
        let object = self.fetch(bucket, key, None).await?;
        object.ok_or_else(|| CloudError::Unavailable(format!("{bucket}/{key}: no object in the response")))
    }

    async fn get_if_changed(&self, bucket: &str, key: &str, etag: &ETag) -> CloudResult<Option<Object>> {
        self.fetch(bucket, key, Some(etag)).await
    }

    async fn list(&self, bucket: &str, prefix: &str) -> CloudResult<Vec<ObjectInfo>> {
        check_bucket(bucket)?;
        check_prefix(prefix)?;
        let mut pages = self.client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().recorded().send();
        let mut out = Vec::new();
        while let Some(page) = pages.next().await {
            for object in page.map_err(|e| classify(bucket, e))?.contents.unwrap_or_default() {
                if let Some(key) = object.key {
                    let modified = object.last_modified.and_then(|at| at.to_millis().ok());
                    let modified_ms = modified.unwrap_or(0).max(0) as u64;
                    out.push(ObjectInfo { key, size: object.size.unwrap_or(0).max(0) as u64, modified_ms });
                }
            }
        }
        Ok(out)
    }

    async fn delete(&self, bucket: &str, key: &str) -> CloudResult<()> {
        check_bucket(bucket)?;
        check_key(key)?;
        let output = self.client.delete_object().bucket(bucket).key(key).recorded().send().await;
        output.map(drop).map_err(|e| classify(&format!("{bucket}/{key}"), e))
    }

    async fn check(&self, bucket: &str) -> CloudResult<()> {
        check_bucket(bucket)?;
        let output = self.client.head_bucket().bucket(bucket).recorded().send().await;
        output.map(drop).map_err(|e| classify(bucket, e))
    }
}

impl S3Objects {
    /// Gets an object; `None` if its version is still `unless`.
    async fn fetch(&self, bucket: &str, key: &str, unless: Option<&ETag>) -> CloudResult<Option<Object>> {
        check_bucket(bucket)?;
        check_key(key)?;
        let place = format!("{bucket}/{key}");
        let call =
            self.client.get_object().bucket(bucket).key(key).set_if_none_match(unless.map(|etag| etag.0.clone()));
        let output = match call.recorded().send().await {
            Ok(output) => output,
            Err(error) if error.raw_response().is_some_and(|r| r.status().as_u16() == 304) => return Ok(None),
            Err(error) => return Err(classify(&place, error)),
        };
        let etag = output.e_tag.ok_or_else(|| CloudError::Unavailable(format!("{place}: no ETag in the response")))?;
        let body = output.body.collect().await;
        let body = body.map_err(|e| CloudError::Unavailable(format!("{place}: the response was cut off: {e}")))?;
        Ok(Some(Object { bytes: body.into_bytes(), etag: ETag(etag) }))
    }
}
