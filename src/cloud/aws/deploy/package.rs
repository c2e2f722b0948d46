//! The archive that is installed on a cluster's machines: the program, its data files, units and settings.

use std::{
    io::{Read as _, Seek as _, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

const INSTALL: &str = include_str!("../../../../deploy/install.sh");
const UNITS: [(&str, &str); 3] = [
    ("rollcall-logs.service", include_str!("../../../../deploy/rollcall-logs.service")),
    ("rollcall-serve.service", include_str!("../../../../deploy/rollcall-serve.service")),
    ("rollcall-worker.service", include_str!("../../../../deploy/rollcall-worker.service")),
];
const SETTINGS: &str = include_str!("../../../../config/aws.toml");

/// A tar archive, compressed with gzip, whose files are all in the directory `rollcall`.
pub(super) struct Package {
    /// The archive.
    pub(super) file: NamedTempFile,
    /// Its size.
    pub(super) bytes: u64,
    /// Its SHA-256 digest in hex.
    pub(super) sha256: String,
}

impl Package {
    /// Builds the archive. `program` is installed as `rollcall`, and each of `files` under the same relative path below
    /// the installation directory. `config` is the settings file of the machines, by default `config/aws.toml`.
    ///
    /// # Errors
    /// A file cannot be read, or its path is not Unicode.
    pub(super) fn build(program: &Path, files: &[PathBuf], config: Option<&Path>) -> anyhow::Result<Self> {
        let config = match config {
            None => SETTINGS.to_owned(),
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?,
        };
        let file = NamedTempFile::new().context("a temporary file for the package")?;
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
        let add = |archive: &mut tar::Builder<_>, from: &Path, to: &str| {
            let added = archive.append_path_with_name(from, format!("rollcall/{to}"));
            added.with_context(|| format!("{}: does it exist? (`make setup` installs models)", from.display()))
        };
        add(&mut archive, program, "rollcall")?;
        for path in files {
            let name = path.to_str().with_context(|| format!("{}: the path is not Unicode", path.display()))?;
            add(&mut archive, path, &format!("models/{name}"))?;
        }
        let texts = UNITS.iter().copied().chain([("install.sh", INSTALL), ("aws.toml", &config)]);
        for (name, text) in texts {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, format!("rollcall/{name}"), text.as_bytes())?;
        }
        let mut file = archive.into_inner()?.finish()?;
        file.flush()?;
        let bytes = file.as_file().metadata()?.len();
        let sha256 = sha256(file.as_file_mut())?;
        Ok(Self { file, bytes, sha256 })
    }
}

fn sha256(file: &mut std::fs::File) -> anyhow::Result<String> {
    file.rewind()?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        digest.update(&buffer[..n]);
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
