//! Requests of the command line to a running server.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use reqwest::{
    Certificate, Client, ClientBuilder, Method, Response,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{cloud::local::TOKEN_VARIABLE, settings::Settings};

/// The server to send requests to.
#[derive(clap::Args)]
pub(super) struct Server {
    /// Address of the server; by default http.listen of this configuration
    #[arg(long)]
    pub(super) url: Option<String>,
    /// File of the authority, in PEM, that has signed the certificate of an https:// address; by default any that this
    /// machine trusts
    #[arg(long, env = CA, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Print the server's response unchanged, as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Server {
    /// Returns the server of the configuration, for commands without arguments for it.
    pub(super) fn of_settings() -> Self {
        Self { url: None, ca: std::env::var_os(CA).map(PathBuf::from), json: false }
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// There is no response, or its status is not a success; the message has the reason that the server states.
    pub(super) async fn send(&self, method: Method, path: &str, settings: &Settings) -> anyhow::Result<Response> {
        let base = self.url.clone().unwrap_or_else(|| settings.http.url());
        let url = format!("{}{path}", base.trim_end_matches('/'));
        let response = client(&url, self.ca.as_deref())?.build()?.request(method, &url).send().await;
        let response = response.with_context(|| {
            format!("no response from {url}: is `rollcall up` running, and is its certificate trusted (--ca)?")
        })?;
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

/// Environment variable of the authority's file.
pub(super) const CA: &str = "ROLLCALL_CA";

/// Returns a builder of clients for a server, which send the token in `ROLLCALL_TOKEN`, if there is one, with each
/// request. They trust the authority in the file `ca` alone or, without one, those that this machine trusts.
///
/// # Errors
/// The token contains characters that cannot be sent; the authority's file cannot be read.
pub(super) fn client(url: &str, ca: Option<&Path>) -> anyhow::Result<ClientBuilder> {
    let mut headers = HeaderMap::new();
    // There is no argument for the token, because others can see arguments.
    if let Some(token) = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()) {
        let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
        let mut value = value.with_context(|| format!("{TOKEN_VARIABLE} is not a token"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(trusting(url, ca)?.default_headers(headers))
}

/// Returns a builder of clients for a server, without a token. They trust what those of [`client`] trust.
///
/// # Errors
/// The authority's file cannot be read.
pub(super) fn trusting(url: &str, ca: Option<&Path>) -> anyhow::Result<ClientBuilder> {
    let builder = Client::builder();
    let authorities = match ca {
        Some(path) => authorities(path).with_context(|| format!("--ca {}", path.display()))?,
        // No authority is needed, and a machine without any can use the server.
        None if url.starts_with("http://") => Vec::new(),
        None => return Ok(builder),
    };
    Ok(builder.tls_certs_only(authorities))
}

fn authorities(path: &Path) -> anyhow::Result<Vec<Certificate>> {
    let authorities = Certificate::from_pem_bundle(&std::fs::read(path)?)?;
    anyhow::ensure!(!authorities.is_empty(), "there is no certificate in PEM");
    Ok(authorities)
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
