//! Uploads one image, with retries, and parses the response.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use reqwest::{StatusCode, Url, header, multipart};
use serde::Serialize;

use super::{super::server::client, photos::label_of};
use crate::job::JobId;

/// Header with the ids of a response's jobs, separated by commas.
const ID_HEADER: &str = "rollcall-id";
/// Pause before the first retry after a broken connection. It doubles up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// Statuses that may have `Retry-After`.
const BUSY: [StatusCode; 2] = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
/// Characters of an error's text that are kept.
const MAX_MESSAGE: usize = 200;

/// Uploads to one address over persistent connections.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) http: reqwest::Client,
    pub(super) url: Url,
    pub(super) field: String,
    /// Limit for one upload, with all its attempts and pauses.
    pub(super) timeout: Duration,
    /// Whether to retry after a broken connection.
    pub(super) retry: bool,
}

/// Numbers of retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Retries {
    /// After 429 or 503 with `Retry-After`.
    pub(super) busy: usize,
    /// After a broken connection.
    pub(super) connection: usize,
}

/// The end of an upload.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) outcome: Result<UploadResponse, Failed>,
    /// From the first attempt to the response, including pauses.
    pub(super) took: Duration,
    pub(super) retries: Retries,
}

/// The response to an upload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UploadResponse {
    pub(super) label: String,
    /// The id of the job, if the server returns it.
    pub(super) id: Option<JobId>,
}

/// Why an upload was not completed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// `connection`, `timeout`, `http 415`, ….
    pub(super) kind: String,
    pub(super) message: String,
}

impl Client {
    /// Creates a client.
    ///
    /// # Errors
    /// `url` is not an http:// or https:// address; the authority's file cannot be read.
    pub(super) fn new(
        url: &str,
        ca: Option<&Path>,
        field: &str,
        timeout: Duration,
        retry: bool,
    ) -> anyhow::Result<Self> {
        let parsed = Url::parse(url)
            .with_context(|| format!("--url {url}: it must be an address such as http://127.0.0.1:8080/"))?;
        let known = ["http", "https"].contains(&parsed.scheme());
        anyhow::ensure!(known, "--url {url}: it must begin with http:// or https://");
        let http = client(url, ca)?.connect_timeout(Duration::from_secs(10)).no_proxy().build()?;
        Ok(Self { http, url: parsed, field: field.to_owned(), timeout, retry })
    }

    /// Returns the address of another path on the same server.
    pub(super) fn at(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(path);
        url.set_query(None);
        url
    }

    /// Uploads one image and waits for its label.
    #[expect(clippy::disallowed_methods, reason = "measures how long the response takes")]
    pub(super) async fn upload(&self, file: &str, image: Bytes) -> Upload {
        let started = Instant::now();
        let mut retries = Retries::default();
        let outcome = match tokio::time::timeout(self.timeout, self.attempts(file, image, &mut retries)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failed {
                kind: "timeout".into(),
                message: format!("no response within {}", humantime::format_duration(self.timeout)),
            }),
        };
        Upload { outcome, took: started.elapsed(), retries }
    }

    async fn attempts(&self, file: &str, image: Bytes, retries: &mut Retries) -> Result<UploadResponse, Failed> {
        // All attempts have the same key, so that a job that was accepted is not accepted again.
        let key = JobId::new().to_string();
        let mut pause = MIN_BACKOFF;
        loop {
            match self.attempt(file, image.clone(), &key).await {
                Attempt::Done(outcome) => return outcome,
                Attempt::Busy(after) => {
                    retries.busy += 1;
                    tokio::time::sleep(after).await;
                }
                Attempt::Broken(message) if !self.retry => {
                    return Err(Failed { kind: "connection".into(), message });
                }
                Attempt::Broken(_) => {
                    retries.connection += 1;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_BACKOFF);
                }
            }
        }
    }

    async fn attempt(&self, file: &str, image: Bytes, key: &str) -> Attempt {
        let length = image.len() as u64;
        let part = multipart::Part::stream_with_length(image, length).file_name(file.to_owned());
        let form = multipart::Form::new().part(self.field.clone(), part);
        let sent = self.http.post(self.url.clone()).header("Idempotency-Key", key).multipart(form).send().await;
        let response = match sent {
            Ok(response) => response,
            Err(e) => return Attempt::Broken(with_causes(&e)),
        };
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|v: &header::HeaderValue| v.to_str().ok());
        let id = header(ID_HEADER).and_then(|ids| ids.split(',').next()).and_then(|id| id.trim().parse().ok());
        let retry_after = header("retry-after").and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
        match response.text().await {
            Err(e) => Attempt::Broken(with_causes(&e)),
            Ok(text) if status.is_success() => {
                Attempt::Done(Ok(UploadResponse { label: label_of(&text, file).to_owned(), id }))
            }
            Ok(text) => match retry_after {
                Some(after) if BUSY.contains(&status) => Attempt::Busy(after),
                _ => Attempt::Done(Err(Failed {
                    kind: format!("http {}", status.as_u16()),
                    message: text.trim().chars().take(MAX_MESSAGE).collect(),
                })),
            },
        }
    }
}

/// The outcome of one attempt.
enum Attempt {
    Done(Result<UploadResponse, Failed>),
    /// 429 or 503 with `Retry-After`.
    Busy(Duration),
    /// No complete response was received.
    Broken(String),
}

/// Formats an error with its causes. The outermost alone says only that sending failed.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}
