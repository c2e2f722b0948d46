//! The certificate of the server, which is read again when its files change.

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::settings::TlsFiles;

/// How often the files are read, which finds every way in which programs replace certificates.
const RELOAD: Duration = Duration::from_secs(5);

/// Returns a configuration with the certificate in `files`. Reads them again every [`RELOAD`]: connections from then on
/// have the new certificate, and earlier ones remain. Must be called inside an actix system.
///
/// # Errors
/// A file cannot be read, or they are not a certificate and its key.
pub(super) fn server_config(files: &TlsFiles) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificate = Arc::new(Certificate::load(files.clone(), provider.clone())?);
    actix_web::rt::spawn(keep_current(certificate.clone()));
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_no_client_auth().with_cert_resolver(certificate))
}

/// Checks that the files are a certificate and its key.
///
/// # Errors
/// Same as [`server_config`].
pub fn check(files: &TlsFiles) -> anyhow::Result<()> {
    parse(files, &read(files)?, &aws_lc_rs::default_provider()).map(drop)
}

/// What the two files contain.
type Contents = (Vec<u8>, Vec<u8>);

/// The certificate that new connections get.
#[derive(Debug)]
struct Certificate {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
    /// What was read last, whether or not it could be used.
    read: RwLock<Contents>,
}

impl Certificate {
    fn load(files: TlsFiles, provider: Arc<CryptoProvider>) -> anyhow::Result<Self> {
        let contents = read(&files)?;
        let current = RwLock::new(Arc::new(parse(&files, &contents, &provider)?));
        warn_of_readers(&files.key);
        Ok(Self { files, provider, current, read: RwLock::new(contents) })
    }

    /// Reads the files, and returns whether there is a new certificate. What cannot be used is an error once.
    fn reload(&self) -> anyhow::Result<bool> {
        let contents = read(&self.files)?;
        let mut read = self.read.write().unwrap_or_else(PoisonError::into_inner);
        if *read == contents {
            return Ok(false);
        }
        let parsed = parse(&self.files, &contents, &self.provider);
        *read = contents;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(parsed?);
        Ok(true)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

async fn keep_current(certificate: Arc<Certificate>) {
    let mut has_failed = false;
    loop {
        tokio::time::sleep(RELOAD).await;
        let reader = certificate.clone();
        let Ok(reloaded) = tokio::task::spawn_blocking(move || reader.reload()).await else { continue };
        match &reloaded {
            Ok(true) => tracing::info!("the certificate has changed: new connections use it"),
            Err(error) if !has_failed => {
                tracing::warn!("the certificate was not read again, so the earlier one stays in use: {error:#}");
            }
            Ok(false) | Err(_) => {}
        }
        // Files that are not there are an error each time.
        has_failed = reloaded.is_err();
    }
}

fn read(files: &TlsFiles) -> anyhow::Result<Contents> {
    let read =
        |path: &Path, key| std::fs::read(path).with_context(|| format!("{key} = {:?}", path.display().to_string()));
    Ok((read(&files.certificate, "http.tls_certificate")?, read(&files.key, "http.tls_key")?))
}

fn parse(files: &TlsFiles, (chain, key): &Contents, provider: &CryptoProvider) -> anyhow::Result<CertifiedKey> {
    let (certificate_path, key_path) = (files.certificate.display(), files.key.display());
    let certificates = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
    let certificates = certificates.with_context(|| {
        format!("http.tls_certificate = \"{certificate_path}\": it must have the certificate in PEM (-----BEGIN CERTIFICATE-----)")
    })?;
    // The error would say what is in the file.
    let key = PrivateKeyDer::from_pem_slice(key).ok();
    let key = key.with_context(|| {
        format!("http.tls_key = \"{key_path}\": it must have a private key without a password in PEM")
    })?;
    CertifiedKey::from_der(certificates, key, provider).with_context(|| {
        format!(
            "http.tls_certificate = \"{certificate_path}\" and http.tls_key = \"{key_path}\" do not belong together"
        )
    })
}

fn warn_of_readers(key: &Path) {
    if std::fs::metadata(key).is_ok_and(|metadata| metadata.mode() & 0o007 != 0) {
        tracing::warn!(
            "every user of this machine can read http.tls_key = {:?}: chmod o= it",
            key.display().to_string()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &TlsFiles, certificate: &str, key: &str) {
        std::fs::write(&files.certificate, certificate).expect("written");
        std::fs::write(&files.key, key).expect("written");
    }

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn served(certificate: &Certificate) -> Vec<CertificateDer<'static>> {
        certificate.current.read().expect("no panic").cert.clone()
    }

    #[test]
    fn a_new_certificate_is_used_only_if_it_has_its_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = TlsFiles { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
        let provider = || Arc::new(aws_lc_rs::default_provider());
        let error =
            |files: &TlsFiles| format!("{:#}", Certificate::load(files.clone(), provider()).expect_err("refused"));
        assert!(error(&files).contains("http.tls_certificate"), "missing files");
        let ((first, first_key), (second, second_key)) = (made(), made());
        write(&files, "nothing", &first_key);
        assert!(error(&files).contains("BEGIN CERTIFICATE"));
        write(&files, &first, "nothing");
        assert!(error(&files).contains("http.tls_key"));
        write(&files, &first, &second_key);
        assert!(error(&files).contains("do not belong together"));
        write(&files, &first, &first_key);
        let certificate = Certificate::load(files.clone(), provider()).expect("loaded");
        let before = served(&certificate);
        assert!(!certificate.reload().expect("unchanged"));
        write(&files, &second, &first_key); // a program that replaces both is half done
        assert!(certificate.reload().is_err());
        assert!(!certificate.reload().expect("reported once"));
        assert_eq!(served(&certificate), before);
        write(&files, &second, &second_key);
        assert!(certificate.reload().expect("changed"));
        assert_ne!(served(&certificate), before);
        std::fs::remove_file(&files.key).expect("removed");
        assert!(certificate.reload().is_err());
    }
}
