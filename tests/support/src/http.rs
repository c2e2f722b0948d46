//! The client of the tests of HTTP: that of `reqwest`, except that every response is checked against the description of the
//! API.

use std::{fmt::Display, time::Duration};

pub use reqwest::{Body, Method, Response, StatusCode, Url, multipart};
use reqwest::{
    IntoUrl, Result,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    multipart::Form,
};
use serde::Serialize;

use crate::openapi;

/// Responses of these types may have no end, or are large.
const STREAMS: [&str; 2] = ["text/event-stream", "application/x-tar"];

/// A client whose responses are checked.
#[derive(Clone, Default)]
pub struct Client(reqwest::Client);

impl From<reqwest::Client> for Client {
    fn from(client: reqwest::Client) -> Self {
        Self(client)
    }
}

impl Client {
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a client of plain HTTP, which does not read the system's certificates: a hundred clients that do so one after
    /// another may connect and then be too busy to send a request before the server gives up.
    pub fn plain() -> Self {
        Self(reqwest::Client::builder().tls_certs_only([]).build().expect("a client"))
    }

    pub fn request(&self, method: Method, url: impl IntoUrl) -> RequestBuilder {
        RequestBuilder(self.0.request(method, url))
    }

    pub fn get(&self, url: impl IntoUrl) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    pub fn post(&self, url: impl IntoUrl) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    pub fn put(&self, url: impl IntoUrl) -> RequestBuilder {
        self.request(Method::PUT, url)
    }

    pub fn delete(&self, url: impl IntoUrl) -> RequestBuilder {
        self.request(Method::DELETE, url)
    }

    pub fn head(&self, url: impl IntoUrl) -> RequestBuilder {
        self.request(Method::HEAD, url)
    }
}

/// A request whose response is checked.
pub struct RequestBuilder(reqwest::RequestBuilder);

impl RequestBuilder {
    pub fn header<N, V>(self, name: N, value: V) -> Self
    where
        HeaderName: TryFrom<N>,
        <HeaderName as TryFrom<N>>::Error: Into<http::Error>,
        HeaderValue: TryFrom<V>,
        <HeaderValue as TryFrom<V>>::Error: Into<http::Error>,
    {
        Self(self.0.header(name, value))
    }

    pub fn headers(self, headers: HeaderMap) -> Self {
        Self(self.0.headers(headers))
    }

    pub fn bearer_auth(self, token: impl Display) -> Self {
        Self(self.0.bearer_auth(token))
    }

    pub fn multipart(self, form: Form) -> Self {
        Self(self.0.multipart(form))
    }

    pub fn body(self, body: impl Into<Body>) -> Self {
        Self(self.0.body(body))
    }

    pub fn json(self, json: &(impl Serialize + ?Sized)) -> Self {
        Self(self.0.json(json))
    }

    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// Sends the request, and checks the response.
    ///
    /// # Errors
    /// Those of `reqwest`, also while the body is received.
    ///
    /// # Panics
    /// The response is not as the description of the API has it.
    pub async fn send(self) -> Result<Response> {
        let (client, request) = self.0.build_split();
        let request = request?;
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = client.execute(request).await?;
        let (status, version, headers) = (response.status(), response.version(), response.headers().clone());
        let media = headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
        if STREAMS.iter().any(|stream| media.starts_with(stream)) {
            openapi::check(&method, &path, status, &headers, None);
            return Ok(response);
        }
        let body = response.bytes().await?;
        openapi::check(&method, &path, status, &headers, Some(&body));
        let mut whole = http::Response::new(body);
        (*whole.status_mut(), *whole.version_mut(), *whole.headers_mut()) = (status, version, headers);
        Ok(whole.into())
    }
}

/// Sends a GET, and checks the response.
///
/// # Errors
/// Those of `reqwest`.
pub async fn get(url: impl IntoUrl) -> Result<Response> {
    Client::new().get(url).send().await
}
