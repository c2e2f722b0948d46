//! Requests to the web node, and an upload with what becomes of it.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, multipart};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{cli::server::trusting, job::JobId};

/// Longest time for a request other than an upload.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two requests for the same thing.
pub(super) const POLL: Duration = Duration::from_millis(250);
/// How long after its response a result may be stored.
const STORED: Duration = Duration::from_secs(60);

/// A response: its status, and its body if that is JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Response {
    /// Describes a response for messages.
    pub(super) fn text(&self) -> String {
        let detail = self.body["detail"].as_str().map_or_else(String::new, |detail| format!(": {detail}"));
        format!("HTTP {}{detail}", self.status)
    }
}

/// The web node.
#[derive(Clone)]
pub(super) struct Api {
    client: reqwest::Client,
    url: String,
}

/// A photo to upload, and the id that its job will have.
#[derive(Clone, Debug)]
pub(super) struct Photo {
    pub(super) id: JobId,
    /// The `Idempotency-Key` from which the id is derived.
    pub(super) key: String,
    pub(super) file: String,
    pub(super) bytes: Bytes,
}

/// What has become of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Uploaded {
    /// It was answered with a label, and the result is stored.
    Stored { label: String },
    /// It was answered, but the result is not stored; says what is.
    NotStored { label: String, why: String },
    /// It was not answered; says why.
    Unanswered(String),
}

impl Api {
    /// Creates a client for the server at `url`.
    ///
    /// # Errors
    /// The authority's file cannot be read.
    pub(super) fn new(url: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        let client = trusting(url, ca)?.connect_timeout(CONNECT_TIMEOUT).no_proxy().build()?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned() })
    }

    fn request(&self, method: Method, path: &str, token: Option<&str>) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// There is no response; says why.
    pub(super) async fn send(&self, method: Method, path: &str, token: Option<&str>) -> Result<Response, String> {
        respond(self.request(method, path, token).timeout(TIMEOUT)).await
    }

    /// Uploads a photo once; `wait` is whether the response is to be that of the job.
    ///
    /// # Errors
    /// There is no response within `timeout`; says why.
    pub(super) async fn post(
        &self,
        photo: &Photo,
        token: Option<&str>,
        wait: bool,
        timeout: Duration,
    ) -> Result<Response, String> {
        let length = photo.bytes.len() as u64;
        let part = multipart::Part::stream_with_length(photo.bytes.clone(), length).file_name(photo.file.clone());
        let request = self.request(Method::POST, "/v1/recognitions", token).timeout(timeout);
        let request = request.header("Idempotency-Key", &photo.key);
        let request = if wait { request } else { request.header("Prefer", "respond-async") };
        respond(request.multipart(multipart::Form::new().part("myfile", part))).await
    }

    /// Uploads a photo, and waits at most `timeout` until it is answered and its result is stored. Repeats the upload when
    /// the server is busy or the connection breaks.
    pub(super) async fn upload(&self, photo: &Photo, token: &str, timeout: Duration) -> Uploaded {
        let until = Instant::now() + timeout;
        let left = || until.saturating_duration_since(Instant::now());
        let answer = loop {
            let answer = self.post(photo, Some(token), true, left().max(POLL)).await;
            let again = answer.as_ref().map_or(true, |response| [429, 503].contains(&response.status));
            if !again || left().is_zero() {
                break answer;
            }
            sleep(POLL).await;
        };
        let response = match answer {
            // The server waited as long as it may; the job goes on.
            Ok(Response { status: 504, .. }) | Err(_) => match self.result(photo.id, token, left()).await {
                Ok(response) => response,
                Err(why) => {
                    return Uploaded::Unanswered(answer.map_or_else(|e| e, |response| response.text()) + "; " + &why);
                }
            },
            Ok(response) => response,
        };
        let Some(label) = response.body["label"].as_str().map(str::to_owned) else {
            return Uploaded::Unanswered(response.text());
        };
        match self.result(photo.id, token, STORED.min(timeout)).await {
            Ok(stored) if stored.body["label"] == label.as_str() => Uploaded::Stored { label },
            Ok(stored) => Uploaded::NotStored { label, why: stored.text() },
            Err(why) => Uploaded::NotStored { label, why },
        }
    }

    /// Waits at most `timeout` for the result of a job that is done or has failed.
    async fn result(&self, id: JobId, token: &str, timeout: Duration) -> Result<Response, String> {
        let until = Instant::now() + timeout;
        loop {
            let problem = match self.send(Method::GET, &format!("/v1/recognitions/{id}"), Some(token)).await {
                Ok(Response { status: 200, body }) if body["status"] != "pending" => {
                    return Ok(Response { status: 200, body });
                }
                Ok(Response { status: 200, .. }) => "its result is still pending".to_owned(),
                Ok(response) => format!("its result: {}", response.text()),
                Err(why) => why,
            };
            if Instant::now() >= until {
                return Err(problem);
            }
            sleep(POLL).await;
        }
    }
}

async fn respond(request: RequestBuilder) -> Result<Response, String> {
    let response = request.send().await.map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
    let status = response.status().as_u16();
    Ok(Response { status, body: response.json().await.unwrap_or_default() })
}
