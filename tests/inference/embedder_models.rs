//! Before it is used, an embedder shows that it computes correctly on this machine; what "auto" chose is replaced if it
//! does not.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::support::{asset, int8_settings, model, other_settings, settings};
use rollcall::{inference::embedder::Embedder, inference::factory::factory, settings::Settings};
use tempfile::TempDir;

const FP32: &str = "face_recognition_sface_2021dec.onnx";
const INT8: &str = "face_recognition_sface_2021dec_int8.onnx";

/// Copies a model of set-up with weights that are wrong: 1 MiB of them, in the middle of the file.
fn broken(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(asset("models").join(name)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + (1 << 20)].iter_mut().for_each(|byte| *byte ^= 0x55);
    let file = folder.path().join(name);
    std::fs::write(&file, bytes).unwrap();
    (folder, file)
}

fn with(file: &Path) -> Settings {
    let mut settings = settings();
    settings.recognition.embedder = file.to_owned();
    settings
}

fn loaded(settings: &Settings) -> Result<String, String> {
    let embedder = Embedder::load(&settings.recognition).map_err(|error| format!("{error:#}"))?;
    Ok(embedder.model().to_string())
}

#[test]
fn embedders_name_their_model() {
    assert_eq!(loaded(&settings()), Ok("sface-2021dec".into()));
    let id = loaded(&other_settings()).unwrap();
    assert!(id.len() == 16 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}: of the file's checksum");
    if let Some(int8) = int8_settings() {
        assert_eq!(loaded(&int8), Ok("sface-2021dec-int8".into()));
    }
}

#[test]
fn a_model_installed_by_set_up_is_identified_by_content_under_any_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, id) in [(FP32, "sface-2021dec"), (INT8, "sface-2021dec-int8")] {
        if name == INT8 && int8_settings().is_none() {
            continue;
        }
        let renamed = folder.path().join(id).with_extension("onnx");
        symlink(std::path::absolute(asset("models").join(name)).unwrap(), &renamed).unwrap();
        assert_eq!(loaded(&with(&renamed)), Ok(id.into()));
    }
}

#[test]
fn an_embedder_file_that_computes_wrongly_is_refused_with_a_remedy() {
    for name in [INT8, FP32] {
        let (_folder, file) = broken(name);
        let error = loaded(&with(&file)).unwrap_err();
        assert!(error.contains("computes wrongly") && error.contains("set recognition.embedder"), "{error}");
        assert!(error.contains(file.to_str().unwrap()), "{error}");
    }
    // Another model under a known name.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FP32);
    std::fs::copy(other_settings().recognition.embedder, &file).unwrap();
    assert!(loaded(&with(&file)).unwrap_err().contains("computes wrongly"));
}

/// What is logged on this thread while `run` runs.
fn logged(run: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, run);
    String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn auto_replaces_an_int8_embedder_that_computes_wrongly_with_one_warning() {
    let (_folder, file) = broken(INT8);
    let missing = PathBuf::from("nowhere.onnx");
    for (file, why) in [(file, "computes wrongly"), (missing, "does not exist")] {
        let mut settings = with(&file);
        settings.recognition.embedder_is_auto = true;
        let log = logged(|| {
            let factory = factory(&settings.recognition);
            for _ in 0..3 {
                let recogniser = factory.build().unwrap();
                assert_eq!(recogniser.model(), Some(&model("sface-2021dec")));
            }
        });
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains("is not used")).collect();
        assert_eq!(warnings.len(), 1, "{log}");
        assert!(warnings[0].contains("WARN") && warnings[0].contains(why) && warnings[0].contains(FP32), "{log}");

        settings.recognition.embedder_is_auto = false;
        let error = factory(&settings.recognition).build().err().unwrap();
        assert!(format!("{error:#}").contains(why), "an embedder that was set is not replaced: {error:#}");
    }
}
