//! Loads ONNX Runtime, once per process, and creates sessions.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, bail, ensure};
use ort::{
    environment::Environment,
    logging::LogLevel,
    session::{Session, builder::SessionBuilder},
};

/// The loaded library and its path: a process can load it only once.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// Whether ONNX Runtime knows the operators of Rollcall. It registers them with the first session that uses them, and
/// fails if two sessions do that at the same time: "the domain is already exist".
static REGISTERED: Mutex<bool> = Mutex::new(false);

/// Loads ONNX Runtime from `library`, unless it is loaded already.
fn environment(library: &Path) -> anyhow::Result<Environment> {
    // The slot is filled after loading has succeeded, so a poisoned lock is usable.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((from, environment)) = &*loaded {
        ensure!(from == library, "ONNX Runtime is already loaded from {}", from.display());
        return Ok(environment.clone());
    }
    let advice = || {
        format!(
            "ONNX Runtime cannot be loaded from {}: run `make setup`, reinstall Rollcall, or set recognition.runtime to its shared library",
            library.display()
        )
    };
    if !library.is_file() {
        bail!("{} (no such file)", advice());
    }
    let environment =
        ort::init_from(library).with_context(advice)?.with_name("rollcall").with_telemetry(false).build()?;
    environment.set_log_level(LogLevel::Warning);
    *loaded = Some((library.to_owned(), environment.clone()));
    Ok(environment)
}

/// Creates a session with one thread, without spinning: one session per worker thread gives the highest throughput, and
/// an idle worker uses no CPU time. `key` is the setting that names the model, for the error.
pub(super) fn session(library: &Path, model: &Path, key: &str) -> anyhow::Result<Session> {
    let mut builder = builder(library, model, key)?;
    builder.commit_from_file(model).with_context(|| not_loaded(model, key))
}

/// Does the same for a model that may use the operators of Rollcall.
pub(super) fn session_with_stages(library: &Path, model: &Path, key: &str) -> anyhow::Result<Session> {
    let builder = builder(library, model, key)?;
    let build = || builder.with_operators(rollcall_vision::stages::domain()?)?.commit_from_file(model);
    // Set after a success only, so a poisoned lock is usable.
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    let session = if *registered {
        drop(registered);
        build()
    } else {
        build().inspect(|_| *registered = true)
    };
    session.with_context(|| not_loaded(model, key))
}

fn builder(library: &Path, model: &Path, key: &str) -> anyhow::Result<SessionBuilder> {
    let environment = environment(library)?;
    if !model.is_file() {
        bail!(
            "the model {} does not exist: run `make setup`, reinstall Rollcall, or set {key} to an ONNX file",
            model.display()
        );
    }
    let build = || -> ort::Result<SessionBuilder> {
        Ok(SessionBuilder::new(&environment)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?)
    };
    build().context("ONNX Runtime cannot be used")
}

fn not_loaded(model: &Path, key: &str) -> String {
    format!("{} ({key}) is not a model that ONNX Runtime can load", model.display())
}
