//! `[http]`: the web tier.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;

use super::{
    auto::{Auto, Place},
    layers::SettingsError,
    reader::{GIB, HOUR, KIB, MIB, Reader, SECOND},
};

/// How `POST /` responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyStyle {
    /// The label alone.
    Label,
    /// The stem of the file name, a colon and the label.
    StemLabel,
}

/// What requests without a token may do, if there is access control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// Nothing.
    None,
    /// What the role `upload` allows.
    Upload,
}

/// The files of the server's certificate.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate and those that lead to its authority, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// Settings of the HTTP server.
#[derive(Clone, Debug)]
pub struct Http {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// The certificate, if the server speaks HTTPS.
    pub tls: Option<TlsFiles>,
    /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` count.
    pub proxies: Vec<IpNet>,
    /// Requests per minute that one client may send; zero for any number.
    pub requests_per_minute: u32,
    /// Bytes of uploads per minute that one client may send; zero for any number, otherwise at least `max_upload`.
    pub upload_per_minute: usize,
    /// What requests without a token may do.
    pub anonymous: Anonymous,
    /// Host names that requests may have if `listen` is not loopback; empty for any.
    pub hosts: Vec<String>,
    /// How `POST /` responds.
    pub reply: ReplyStyle,
    /// Longest wait for a reply.
    pub deadline: Duration,
    /// How long an idle connection is kept after a response.
    pub keep_alive: Duration,
    /// Largest upload in bytes, all its files together.
    pub max_upload: usize,
    /// Longest time to receive an upload.
    pub upload_timeout: Duration,
    /// Bytes per second at which an upload must arrive, once it has begun; zero for any.
    pub min_upload_rate: usize,
    /// Maximum number of uploads from one address that are being received at the same time.
    pub max_receiving_per_address: usize,
    /// Maximum number of uploads that wait for a reply at the same time.
    pub max_waiting: usize,
    /// Memory for uploads that are being received, in bytes; at least `max_upload`.
    pub max_upload_memory: usize,
    /// Threads that serve HTTP.
    pub threads: usize,
    /// Maximum number of files in one upload.
    pub max_files: usize,
}

impl Http {
    /// Returns whether only this machine can reach the server, as far as the settings tell: it listens on loopback, and
    /// is known by no other host name or proxy.
    pub fn is_local(&self) -> bool {
        self.listen.ip().is_loopback() && self.hosts.is_empty() && self.proxies.is_empty()
    }

    pub(super) fn read(r: &Reader<'_>, place: Place) -> Result<Self, SettingsError> {
        let styles = [("label", ReplyStyle::Label), ("stem-label", ReplyStyle::StemLabel)];
        let threads = Auto::new(place.machine.cores.min(4), "one per core, at most 4");
        let max_waiting = r.count("http.max_waiting", 1..=100_000)?;
        let share = Auto::new(max_waiting.div_ceil(4), "a quarter of http.max_waiting");
        let http = Self {
            listen: r.parsed("http.listen", "an address and a port such as 127.0.0.1:8080")?,
            tls: tls(r)?,
            proxies: proxies(r)?,
            requests_per_minute: r.count("http.requests_per_minute", 0..=1_000_000)? as u32,
            upload_per_minute: r.size("http.upload_per_minute", 0..=64 * GIB)?,
            anonymous: r.choice("http.anonymous", &[("none", Anonymous::None), ("upload", Anonymous::Upload)])?,
            hosts: r.texts("http.hosts")?,
            reply: r.choice("http.reply", &styles)?,
            deadline: r.duration("http.deadline", SECOND..=HOUR)?,
            keep_alive: r.duration("http.keep_alive", SECOND..=HOUR)?,
            max_upload: r.size("http.max_upload", KIB..=512 * MIB)?,
            upload_timeout: r.duration("http.upload_timeout", SECOND..=HOUR)?,
            min_upload_rate: r.size("http.min_upload_rate", 0..=MIB)?,
            max_waiting,
            max_receiving_per_address: r.count_or_auto("http.max_receiving_per_address", 1..=100_000, share)?,
            max_upload_memory: r.size("http.max_upload_memory", KIB..=64 * GIB)?,
            threads: r.count_or_auto("http.threads", 1..=256, threads)?,
            max_files: r.count("http.max_files", 1..=1000)?,
        };
        if http.max_upload_memory < http.max_upload {
            return Err(r.invalid("http.max_upload_memory", "at least http.max_upload"));
        }
        if (1..http.max_upload).contains(&http.upload_per_minute) {
            return Err(r.invalid("http.upload_per_minute", "0B, or at least http.max_upload"));
        }
        Ok(http)
    }

    /// Returns the address of the server for clients on this machine.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.listen)
    }
}

fn tls(r: &Reader<'_>) -> Result<Option<TlsFiles>, SettingsError> {
    match (r.optional("http.tls_certificate")?, r.optional("http.tls_key")?) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate: certificate.into(), key: key.into() })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(r.invalid("http.tls_key", "the private key's file of http.tls_certificate")),
        (None, Some(_)) => Err(r.invalid("http.tls_certificate", "the certificate's file of http.tls_key")),
    }
}

fn proxies(r: &Reader<'_>) -> Result<Vec<IpNet>, SettingsError> {
    let network = |text: &String| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| r.invalid("http.proxies", "addresses or networks such as 10.0.0.1 or 10.0.0.0/8"))
    };
    r.texts("http.proxies")?.iter().map(network).collect()
}
