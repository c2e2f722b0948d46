//! `rollcall gallery export` and `import` as commands, and what `rollcall doctor` reports for one of another model.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::support::asset;
use rollcall_testing::program;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A data folder of the embedded cloud, and files beside it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file beside the data folder.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).expect("written");
        self.path(name)
    }

    fn run(&self, args: &[&str], file: Option<&Path>) -> Output {
        let mut command = Command::new(program());
        command.env("ROLLCALL__LOCAL__DATA_DIR", self.path("data")).env("ROLLCALL__LOG__LEVEL", "warn");
        command.env("ROLLCALL__RECOGNITION__EMBEDDER", asset("models/face_recognition_sface_2021dec.onnx"));
        command.args(args).args(file).output().expect("the program starts")
    }

    /// Runs a command that succeeds, and returns what it prints.
    #[track_caller]
    fn done(&self, args: &[&str], file: Option<&Path>) -> String {
        let output = self.run(args, file);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Returns the gallery as it is stored.
    fn snapshot(&self) -> Vec<u8> {
        fs::read(self.path("data/objects/rollcall-state/gallery/current")).expect("a gallery")
    }
}

/// Returns the line of an embeddings file.
fn line(name: &str, embedding: &[f32], model: &str) -> String {
    let line = json!({ "name": name, "embedding": embedding, "model": model });
    format!("{line}\n")
}

/// Returns a data folder with the embeddings of two people. They are of unit length without rounding.
fn with_people() -> Folder {
    let folder = Folder::new();
    let people = [
        line("Ada", &[1.0, 0.0, 0.0, 0.0], "m"),
        line("Bob, \"B\"", &[0.5, 0.5, -0.5, 0.5], "m"),
        line("Ada", &[0.0, 1.0, 0.0, 0.0], "m"),
    ];
    folder.done(&["gallery", "import"], Some(&folder.file("people.jsonl", &people.concat())));
    folder
}

#[test]
fn an_export_is_imported_elsewhere_with_the_same_people() {
    let (from, to) = (with_people(), Folder::new());
    let (first, second) = (from.path("export.jsonl"), to.path("export.jsonl"));
    assert!(from.done(&["gallery", "export"], Some(&first)).starts_with("2 people exported to "));
    assert!(to.done(&["gallery", "import"], Some(&first)).starts_with("the gallery has 2 people"));
    let listed = to.done(&["gallery", "list"], None);
    assert_eq!(listed, "Ada\t2\nBob, \"B\"\t1\n");
    assert_eq!(listed, from.done(&["gallery", "list"], None));
    to.done(&["gallery", "export"], Some(&second));
    assert_eq!(fs::read_to_string(first).expect("a file"), fs::read_to_string(second).expect("a file"));
}

#[test]
fn an_export_is_readable_only_by_its_owner() {
    let folder = with_people();
    let earlier = folder.file("export.jsonl", &"x".repeat(100_000));
    fs::set_permissions(&earlier, fs::Permissions::from_mode(0o644)).expect("ours");
    for file in [&earlier, &folder.path("new.jsonl")] {
        folder.done(&["gallery", "export"], Some(file));
        assert_eq!(fs::metadata(file).expect("a file").permissions().mode() & 0o777, 0o600, "{file:?}");
        assert_eq!(fs::read_to_string(file).expect("text").lines().count(), 3, "nothing is left of an earlier file");
    }
    assert!(folder.done(&["gallery", "export"], Some(Path::new("/dev/stdout"))).lines().count() == 4, "a pipe");
}

#[test]
fn an_import_that_fails_says_why_and_changes_nothing() {
    let folder = with_people();
    let before = folder.snapshot();
    let good = line("Eve", &[1.0, 0.0, 0.0, 0.0], "m");
    for (what, text, why) in [
        ("cut.jsonl", good.clone() + "{\"name\":\"Mallory\"", "line 2: "),
        ("uneven.jsonl", good.clone() + &line("Mallory", &[1.0], "m"), "line 2: the embedding has 1 numbers"),
        ("words.csv", "Eve,1,0,0,0\nMallory,1,0,0,x\n".to_owned(), "line 2: \"x\" is not a number"),
        ("empty.csv", String::new(), "has no embeddings"),
    ] {
        let file = folder.file(what, &text);
        for args in [&["gallery", "import"][..], &["gallery", "import", "--replace"]] {
            let output = folder.run(args, Some(&file));
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{what}: {error}");
            assert!(error.starts_with("rollcall: ") && error.contains(what) && error.contains(why), "{what}: {error}");
            assert!(output.stdout.is_empty(), "{what}");
            assert!(folder.snapshot() == before, "{what} has changed the gallery");
        }
    }
    for (what, text, why) in [
        ("other.jsonl", line("Eve", &[1.0, 0.0, 0.0, 0.0], "other"), "the gallery contains embeddings of the model m,"),
        ("shorter.jsonl", line("Eve", &[1.0], "m"), "but those of the gallery have 4"),
    ] {
        let output = folder.run(&["gallery", "import"], Some(&folder.file(what, &text)));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(why), "{what}: {error}");
        assert!(folder.snapshot() == before, "{what} has changed the gallery");
    }
    let absent = folder.run(&["gallery", "import"], Some(&folder.path("absent.jsonl")));
    assert_eq!(absent.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("absent.jsonl: No such file"));
}

#[test]
fn doctor_reports_a_gallery_of_another_model_until_it_is_replaced() {
    let folder = with_people();
    let findings = || {
        let output = folder.run(&["doctor", "--json"], None);
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list");
        (output.status.code(), findings)
    };
    let (code, found) = findings();
    let faults: Vec<&Value> = found.iter().filter(|finding| finding["ok"] == false).collect();
    let [fault] = faults[..] else { panic!("{found:#?}") };
    assert_eq!((code, &fault["what"]), (Some(1), &json!("gallery")));
    let detail = fault["detail"].as_str().expect("text");
    assert!(detail.contains("of the model m,") && detail.contains("those of sface-2021dec:"), "{detail}");
    assert!(fault["remedy"].as_str().expect("text").contains("rollcall enroll --replace"), "{fault}");

    let file = folder.file("own.jsonl", &line("Ada", &[0.5; 128], "sface-2021dec"));
    folder.done(&["gallery", "import", "--replace"], Some(&file));
    let (code, found) = findings();
    assert_eq!(code, Some(0), "{found:#?}");
    assert_eq!(found.last().expect("findings")["detail"], "1 people, embedded by sface-2021dec");
}
