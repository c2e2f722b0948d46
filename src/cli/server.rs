//! Requests of the command line to a running server.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use reqwest::{
    Client, ClientBuilder, Method, Response,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::settings::Settings;

/// The server to send requests to.
#[derive(clap::Args)]
pub(super) struct Server {
    /// Address of the server; by default http.listen of this configuration
    #[arg(long)]
    pub(super) url: Option<String>,
    /// Print the server's response unchanged, as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Server {
    /// Sends a request without a body.
    ///
    /// # Errors
    /// There is no response, or its status is not a success; the message has the reason that the server states.
    pub(super) async fn send(&self, method: Method, path: &str, settings: &Settings) -> anyhow::Result<Response> {
        let base = self.url.clone().unwrap_or_else(|| format!("http://{}", settings.http.listen));
        let url = format!("{}{path}", base.trim_end_matches('/'));
        let response = client()?.build()?.request(method, &url).send().await;
        let response = response.with_context(|| format!("no response from {url}: is `rollcall up` running?"))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let problem: Value = response.json().await.unwrap_or_default();
        anyhow::bail!("{url}: {}", problem["detail"].as_str().map_or_else(|| status.to_string(), str::to_owned));
    }

    /// Returns the body of the server's response to GET `path`.
    ///
    /// # Errors
    /// Same as [`Self::send`].
    pub(super) async fn ask(&self, path: &str, settings: &Settings) -> anyhow::Result<String> {
        Ok(self.send(Method::GET, path, settings).await?.text().await?)
    }

    /// Returns the server's response to GET `path`, parsed.
    ///
    /// # Errors
    /// Same as [`Self::send`]; the response is not what this program expects.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, settings: &Settings) -> anyhow::Result<T> {
        let text = self.ask(path, settings).await?;
        serde_json::from_str(&text).context("the response is not from a Rollcall server of this version")
    }
}

/// Environment variable of the token for a server. There is no argument for it, because others can see arguments.
const TOKEN: &str = "ROLLCALL_TOKEN";

/// Returns a builder of clients that send the token in `ROLLCALL_TOKEN`, if there is one, with each request.
///
/// # Errors
/// The token contains characters that cannot be sent.
pub(super) fn client() -> anyhow::Result<ClientBuilder> {
    let mut headers = HeaderMap::new();
    if let Some(token) = std::env::var(TOKEN).ok().filter(|token| !token.is_empty()) {
        let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
        let mut value = value.with_context(|| format!("{TOKEN} is not a token"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(Client::builder().default_headers(headers))
}

/// Formats milliseconds since the Unix epoch. A time after the year 9999 is formatted as the end of that year.
pub(super) fn time(ms: u64) -> String {
    const LAST: u64 = 253_402_300_799_999;
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + Duration::from_millis(ms.min(LAST))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_utc_with_milliseconds() {
        assert_eq!(time(1_795_951_409_570), "2026-11-29T11:23:29.570Z");
        assert_eq!(time(u64::MAX), "9999-12-31T23:59:59.999Z");
    }
}
