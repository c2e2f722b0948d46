//! A server with a certificate speaks HTTPS and nothing else, to curl, to the command line and to browsers, and uses a new
//! certificate without a restart.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData as _};
use rollcall_testing::uploads::{KNOWN, MACRON};
use rollcall_testing::{Rollcall, RollcallOptions, program, wait_until};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const TIMEOUT: Duration = Duration::from_secs(60);

/// An authority, and the files of a certificate for `localhost` that it has signed.
pub struct Certificates {
    folder: tempfile::TempDir,
    pub authority: String,
    /// Of the public key of the certificate, as browsers pin it: base64 of its SHA-256.
    pub pin: String,
}

impl Certificates {
    pub fn make() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (authority, pin) = issue(&folder.path().join("certificate.pem"), &folder.path().join("key.pem"));
        fs::write(folder.path().join("authority.pem"), &authority).expect("written");
        Self { folder, authority, pin }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn options(&self) -> RollcallOptions {
        RollcallOptions::default().tls(&self.authority, &self.path("certificate.pem"), &self.path("key.pem"))
    }

    /// Returns the file of an authority in PEM.
    fn trusted(&self, name: &str, authority: &str) -> String {
        fs::write(self.path(name), authority).expect("written");
        self.path(name).display().to_string()
    }
}

/// Writes a certificate and its key. Returns a new authority in PEM, which has signed it, and the pin of its key.
fn issue(certificate: &PathBuf, key: &PathBuf) -> (String, String) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.distinguished_name.push(DnType::CommonName, "An authority of tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).expect("signed");
    let issuer = Issuer::new(params, authority_key);
    let server_key = KeyPair::generate().expect("a key");
    let signed = CertificateParams::new(vec!["localhost".into()]).expect("a name").signed_by(&server_key, &issuer);
    fs::write(key, server_key.serialize_pem()).expect("written");
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("changed");
    fs::write(certificate, signed.expect("signed").pem()).expect("written");
    (authority.pem(), STANDARD.encode(Sha256::digest(server_key.subject_public_key_info())))
}

fn curl(args: &[&str]) -> Output {
    Command::new("curl")
        .args(["--silent", "--show-error"])
        .args(args)
        .output()
        .expect("curl is there: `make setup-test`")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_the_command_line_use_https() {
    let certificates = Certificates::make();
    let server = Rollcall::start(certificates.options().enroll(KNOWN)).await;
    let url = server.url("/v1/recognitions");
    let authority = certificates.path("authority.pem").display().to_string();

    let uploaded = curl(&["--cacert", &authority, "-F", &format!("myfile=@{MACRON}"), &url]);
    let body: Value = serde_json::from_slice(&uploaded.stdout).expect("JSON");
    assert_eq!(body["label"], "Emmanuel_Macron");
    assert_eq!(curl(&[&url]).status.code(), Some(60), "an authority that nobody trusts");
    let by_address = url.replace("localhost", "127.0.0.1");
    assert_eq!(curl(&["--cacert", &authority, &by_address]).status.code(), Some(60), "another name");
    for version in ["1.2", "1.3"] {
        let only = format!("--tlsv{version}");
        let healthy = curl(&["--cacert", &authority, &only, "--tls-max", version, &server.url("/healthz")]);
        assert_eq!(text(&healthy.stdout), "ok\n", "TLS {version}");
    }
    let plain = curl(&[&server.url("/healthz").replace("https", "http")]);
    assert!(!plain.status.success() && plain.stdout.is_empty(), "no HTTP on this port: {plain:?}");

    let fleet = server.run(&["fleet", "status", "--url", &server.url(""), "--ca", &authority]);
    assert!(fleet.status.success(), "{}", text(&fleet.stderr));
    let stranger = server.run(&["fleet", "status", "--url", &server.url("")]);
    assert!(!stranger.status.success() && text(&stranger.stderr).contains("--ca"), "{}", text(&stranger.stderr));
    let load = ["load", "--url", &server.url("/"), "--ca", &authority, "--requests", "5", "--no-verify"];
    let load = server.run(&load);
    assert!(load.status.success(), "{}", text(&load.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_without_a_restart() {
    let certificates = Certificates::make();
    let server = Rollcall::start(certificates.options()).await;
    let url = server.url("/healthz");
    let earlier = certificates.trusted("earlier.pem", &certificates.authority);
    let answers = |authority: &str| curl(&["--cacert", authority, &url]).status.success();
    assert!(answers(&earlier));
    // Half of a change: the key is not that of the certificate.
    fs::copy(certificates.path("key.pem"), certificates.path("key.old")).expect("copied");
    let (next, _) = issue(&certificates.path("certificate.pem"), &certificates.path("key.new"));
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(answers(&earlier), "the earlier one stays in use");
    fs::rename(certificates.path("key.new"), certificates.path("key.pem")).expect("renamed");
    let next = certificates.trusted("next.pem", &next);
    wait_until("the new certificate is used", TIMEOUT, async || answers(&next)).await;
    assert!(!answers(&earlier));
}

#[test]
fn files_that_are_no_certificate_are_refused_at_start() {
    let (certificates, others) = (Certificates::make(), Certificates::make());
    let up = |command: &str, certificate: &PathBuf, key: &PathBuf| {
        let data = tempfile::tempdir().expect("a folder");
        let mut command = {
            let mut limited = Command::new("timeout");
            limited.args(["60", &program(), command]);
            limited
        };
        command.env("ROLLCALL__LOCAL__DATA_DIR", data.path()).env("ROLLCALL__HTTP__LISTEN", "127.0.0.1:0");
        command.env("ROLLCALL__HTTP__TLS_CERTIFICATE", certificate).env("ROLLCALL__HTTP__TLS_KEY", key);
        let output = command.output().expect("the program starts");
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (certificate, key) = (certificates.path("certificate.pem"), certificates.path("key.pem"));
    for (certificate, key, code, words) in [
        (&certificate, &others.path("key.pem"), 1, "do not belong together"),
        (&certificate, &PathBuf::from("/nowhere"), 1, "http.tls_key"),
        (&key, &key, 1, "BEGIN CERTIFICATE"),
        (&certificate, &PathBuf::new(), 78, "http.tls_key"),
    ] {
        let (status, output) = up("up", certificate, key);
        assert_eq!(status, Some(code), "{output}");
        assert!(output.contains(words) && !output.contains("PRIVATE"), "{output}");
    }
    let (status, output) = up("doctor", &certificate, &others.path("key.pem"));
    assert!(status == Some(1) && output.contains("FAULT  certificate"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_finishes_its_handshake_is_closed() {
    let certificates = Certificates::make();
    let server = Rollcall::start(certificates.options()).await;
    let address = server.url("").replace("https://localhost", "127.0.0.1");
    let silent = TcpStream::connect(address).expect("connected");
    silent.set_read_timeout(Some(TIMEOUT)).expect("set");
    let closed = tokio::task::spawn_blocking(move || std::io::Read::read(&mut &silent, &mut [0; 1]));
    assert_eq!(closed.await.expect("no panic").expect("closed by the server"), 0);
}
