//! Calls to SQS and S3 as they are billed.

use std::ops::{Add, Sub};

use bytes::Bytes;
use serde_json::Value;

use super::prices::SQS_CHUNK;
use crate::support::iam::{Call, Service};

/// Numbers of billed requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// To FIFO queues.
    pub fifo: u64,
    /// To standard queues.
    pub standard: u64,
    /// Calls of S3 that write or list.
    pub put: u64,
    /// Calls of S3 that read.
    pub get: u64,
}

impl Requests {
    /// Returns what a call and its response are billed as.
    pub fn of(call: &Call, request: &Bytes, response: &Bytes) -> Self {
        let one = Self::default();
        match call.service {
            // CloudWatch bills the bytes of logs, not the calls.
            Service::Ec2 | Service::CloudFormation | Service::Logs => one,
            Service::Sqs => {
                let chunks = (payload(request) + payload(response)).div_ceil(SQS_CHUNK).max(1) as u64;
                let is_fifo = call.rights.iter().any(|right| right.resource.ends_with(".fifo"));
                if is_fifo { Self { fifo: chunks, ..one } } else { Self { standard: chunks, ..one } }
            }
            Service::S3 => match call.name.split(' ').next().unwrap_or_default() {
                name if name.starts_with("Delete") => one,
                name if name.starts_with("Get") || name.starts_with("Head") => Self { get: 1, ..one },
                _ => Self { put: 1, ..one },
            },
        }
    }
}

/// Returns the size of the bodies of all messages in a request to SQS or in its response.
fn payload(body: &Bytes) -> usize {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let many = ["Entries", "Messages"].iter().filter_map(|key| body[key].as_array()).flatten();
    let size = |message: &Value| {
        let text = message["MessageBody"].as_str().or(message["Body"].as_str());
        text.map_or(0, str::len)
    };
    many.map(size).sum::<usize>() + size(&body)
}

impl Add for Requests {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            fifo: self.fifo + other.fifo,
            standard: self.standard + other.standard,
            put: self.put + other.put,
            get: self.get + other.get,
        }
    }
}

impl Sub for Requests {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            fifo: self.fifo - other.fifo,
            standard: self.standard - other.standard,
            put: self.put - other.put,
            get: self.get - other.get,
        }
    }
}
