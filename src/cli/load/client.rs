//! One upload: sent, sent again where that can help, and its answer.

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use reqwest::{StatusCode, Url, header, multipart};
use serde::{Deserialize, Serialize};

use super::photos::label_of;
use crate::job::JobId;

/// Names the jobs of an answer: ids, separated by commas.
pub const ID_HEADER: &str = "rollcall-id";
/// First pause after a broken connection; doubled each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// What is kept of a refusal's text.
const MESSAGE_CHARS: usize = 200;

/// Sends uploads to one address over kept-alive connections.
#[derive(Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub url: Url,
    pub field: String,
    /// For one upload, all its attempts and pauses together.
    pub timeout: Duration,
    /// Whether to send again after a broken connection.
    pub retry: bool,
}

/// Uploads sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retries {
    /// After 503 with `Retry-After`.
    pub busy: usize,
    /// After a broken connection.
    pub connection: usize,
}

/// How an upload ended.
#[derive(Debug)]
pub struct Upload {
    pub outcome: Result<Answer, Failed>,
    /// From the first attempt to the answer, pauses included.
    pub took: Duration,
    pub retries: Retries,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub label: String,
    /// The job, where the server names it.
    pub id: Option<JobId>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Failed {
    /// `connection`, `timeout`, `http 415`, ….
    pub kind: String,
    pub message: String,
}

impl Client {
    pub fn new(url: &str, field: &str, timeout: Duration, retry: bool) -> anyhow::Result<Self> {
        let url =
            Url::parse(url).with_context(|| format!("--url {url}: not an address such as http://127.0.0.1:8080/"))?;
        anyhow::ensure!(url.scheme() == "http", "--url {url}: only http:// is spoken here");
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).no_proxy().build()?;
        Ok(Self { http, url, field: field.to_owned(), timeout, retry })
    }

    /// The address of another path of the same server.
    pub fn at(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(path);
        url.set_query(None);
        url
    }

    /// Uploads one image and waits for its label.
    pub async fn upload(&self, file: &str, image: Bytes) -> Upload {
        let started = Instant::now();
        let mut retries = Retries::default();
        let outcome = match tokio::time::timeout(self.timeout, self.attempts(file, image, &mut retries)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failed {
                kind: "timeout".into(),
                message: format!("no answer within {}", humantime::format_duration(self.timeout)),
            }),
        };
        Upload { outcome, took: started.elapsed(), retries }
    }

    async fn attempts(&self, file: &str, image: Bytes, retries: &mut Retries) -> Result<Answer, Failed> {
        // One key for all attempts: a server that has taken the job does not take it again.
        let key = JobId::new().to_string();
        let mut pause = FIRST_PAUSE;
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
                    pause = (pause * 2).min(LONGEST_PAUSE);
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
                Attempt::Done(Ok(Answer { label: label_of(&text, file).to_owned(), id }))
            }
            Ok(text) => match retry_after {
                Some(after) if status == StatusCode::SERVICE_UNAVAILABLE => Attempt::Busy(after),
                _ => Attempt::Done(Err(Failed {
                    kind: format!("http {}", status.as_u16()),
                    message: text.trim().chars().take(MESSAGE_CHARS).collect(),
                })),
            },
        }
    }
}

enum Attempt {
    Done(Result<Answer, Failed>),
    /// 503 with `Retry-After`.
    Busy(Duration),
    /// No whole answer came.
    Broken(String),
}

/// An error and its causes: the outermost alone says only that sending failed.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}
