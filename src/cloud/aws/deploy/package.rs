//! What is installed on the machines of a cluster, as one archive: program, ONNX Runtime, models, units, settings.

use std::{
    io::{Read as _, Seek as _, Write},
    path::{Component, Path, PathBuf},
};

use anyhow::Context as _;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::settings::{RecogniserKind, Settings};

const INSTALL: &str = include_str!("../../../../deploy/install.sh");
const UNITS: [(&str, &str); 2] = [
    ("rollcall-serve.service", include_str!("../../../../deploy/rollcall-serve.service")),
    ("rollcall-worker.service", include_str!("../../../../deploy/rollcall-worker.service")),
];
const SETTINGS: &str = include_str!("../../../../config/aws.toml");

/// An archive (tar, gzip) with everything in the folder `rollcall`.
pub struct Package {
    pub file: NamedTempFile,
    pub bytes: u64,
    pub sha256: String,
}

impl Package {
    /// `program`: what is installed as `rollcall`. `config`: settings of the cluster's machines; else `config/aws.toml`.
    pub fn build(program: &Path, settings: &Settings, config: Option<&Path>) -> anyhow::Result<Self> {
        let config = match config {
            None => SETTINGS.to_owned(),
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?,
        };
        let file = NamedTempFile::new().context("a temporary file for the package")?;
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
        let add = |archive: &mut tar::Builder<_>, from: &Path, to: &str| {
            let added = archive.append_path_with_name(from, format!("rollcall/{to}"));
            added.with_context(|| format!("{}: is it there? (`make setup` installs models)", from.display()))
        };
        add(&mut archive, program, "rollcall")?;
        for path in models(settings)? {
            let name = path.to_str().with_context(|| format!("{}: the path is not Unicode", path.display()))?;
            add(&mut archive, &path, &format!("models/{name}"))?;
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

/// The files that workers load. Machines find them under the same paths in `/opt/rollcall`.
fn models(settings: &Settings) -> anyhow::Result<Vec<PathBuf>> {
    let r = &settings.recognition;
    let files = match r.kind {
        RecogniserKind::Face => [&r.runtime, &r.detector, &r.embedder],
        RecogniserKind::Classifier => [&r.runtime, &r.classifier, &r.labels],
    };
    for path in files {
        let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        anyhow::ensure!(
            inside,
            "{}: recognition.* must be paths below the working folder, as machines find the files below /opt/rollcall",
            path.display()
        );
    }
    Ok(files.into_iter().cloned().collect())
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
