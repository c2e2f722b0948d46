//! Set-up: quiet and offline when everything is there; a wrong checksum, an absent tool or an interruption is one
//! clear line, an exit code that is not 0, and nothing half-made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the path of the interpreter itself: python3 in the PATH may be a script that needs the PATH.
fn python() -> PathBuf {
    let name = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let output = Command::new(&name).args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Returns a command that runs `tools/setup.py` with pip cut off from the network.
fn setup(assets: &Path, steps: &[&str]) -> Command {
    let mut command = Command::new(python());
    command.arg("-B").arg(root().join("tools/setup.py")).args(steps);
    command.env("ROLLCALL_ASSETS", assets);
    command.env("PIP_CONFIG_FILE", "/dev/null").env("PIP_NO_INDEX", "1").env_remove("PIP_FIND_LINKS");
    command
}

/// Creates a pip that consists of `main` alone. PYTHONPATH puts it before the real one.
fn fake_pip(main: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("pip")).unwrap();
    fs::write(folder.path().join("pip/__init__.py"), "").unwrap();
    fs::write(folder.path().join("pip/__main__.py"), main).unwrap();
    folder
}

/// Returns the only line of a set-up that failed.
#[track_caller]
fn failure(output: &Output) -> String {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!output.status.success(), "succeeded: {error}");
    assert_eq!(error.lines().count(), 1, "one line is wanted: {error}");
    assert!(error.starts_with("setup: "), "{error}");
    error
}

#[track_caller]
fn assert_empty(folder: &Path) {
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn installed(name: &str) -> PathBuf {
    let folder = root().join(".assets").join(name);
    assert!(folder.exists(), "no {}: run `make setup`", folder.display());
    folder
}

#[test]
fn installed_assets_are_left_untouched_silently_and_without_pip() {
    let pip = fake_pip("raise SystemExit('pip was called')");
    installed("photos");
    let output = setup(&root().join(".assets"), &[]).env("PYTHONPATH", pip.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "not quiet: {output:?}");
}

#[test]
fn a_download_with_a_wrong_checksum_is_refused() {
    let platform = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("macos", _) => "macosx_14_0_arm64".to_string(),
        (_, arch) => format!("manylinux_2_28_{arch}"),
    };
    let index = TempDir::new().unwrap();
    let wheel = format!("onnxruntime-1.26.0-cp311-cp311-{platform}.whl");
    fs::write(index.path().join(wheel), "not what was pinned").unwrap();
    let assets = TempDir::new().unwrap();

    let output = setup(assets.path(), &["runtime"]).env("PIP_FIND_LINKS", index.path()).output().unwrap();

    let line = failure(&output);
    assert!(line.contains("wrong checksum") && line.contains("onnxruntime.txt"), "{line}");
    assert_empty(assets.path());
}

#[test]
fn an_unpacked_file_that_is_not_what_was_pinned_is_refused() {
    // A pip that downloads a wheel with another library in it, and does not look at hashes.
    let pip = fake_pip(
        "import sys, zipfile, pathlib
folder = pathlib.Path(next(a for a in sys.argv if a.startswith('--dest=')).removeprefix('--dest='))
with zipfile.ZipFile(folder / 'onnxruntime.whl', 'w') as wheel:
    for name in ['libonnxruntime.so.1.26.0', 'libonnxruntime.1.26.0.dylib']:
        wheel.writestr('onnxruntime/capi/' + name, 'another library')
",
    );
    let assets = TempDir::new().unwrap();
    let output = setup(assets.path(), &["runtime"]).env("PYTHONPATH", pip.path()).output().unwrap();
    let line = failure(&output);
    assert!(line.contains("wrong checksum: libonnxruntime.so"), "{line}");
    assert_empty(assets.path());
}

#[test]
fn a_changed_installed_file_is_detected_and_the_others_are_kept() {
    let assets = TempDir::new().unwrap();
    copy(&installed("photos"), &assets.path().join("photos"));
    let changed = assets.path().join("photos/known/Emmanuel_Macron/person_a_1.jpg");
    fs::write(&changed, "another photo").unwrap();

    let output = setup(assets.path(), &["photos"]).output().unwrap();

    assert!(String::from_utf8_lossy(&output.stdout).contains("repairing sample photos"), "{output:?}");
    assert!(failure(&output).contains("check the network"), "{output:?}");
    assert_eq!(fs::read_to_string(&changed).unwrap(), "another photo");
    assert!(assets.path().join("photos/CREDITS.md").exists());
    assert!(!assets.path().join(".partial").exists());
}

#[test]
fn a_missing_tool_is_named_with_the_remedy() {
    let assets = TempDir::new().unwrap();
    let tools = TempDir::new().unwrap();

    let output = setup(assets.path(), &[]).env("PATH", tools.path()).output().unwrap();
    assert!(failure(&output).contains("cargo is missing: install Rust"), "{output:?}");

    std::os::unix::fs::symlink("/bin/sh", tools.path().join("cargo")).unwrap();
    let output = setup(assets.path(), &[]).env("PATH", tools.path()).output().unwrap();
    assert!(failure(&output).contains("cc is missing: install gcc"), "{output:?}");

    std::os::unix::fs::symlink("/bin/sh", tools.path().join("cc")).unwrap();
    let output = setup(assets.path(), &["browser"]).env("PATH", tools.path()).output().unwrap();
    assert!(failure(&output).contains("curl, chromium, chromium-driver and apt-get are missing"), "{output:?}");

    // -S: Python without its installed packages, such as pip.
    let mut without_pip = Command::new(python());
    without_pip.args(["-S", "-B"]).arg(root().join("tools/setup.py")).env("ROLLCALL_ASSETS", assets.path());
    let output = without_pip.env_remove("PYTHONPATH").output().unwrap();
    assert!(failure(&output).contains("pip is missing"), "{output:?}");
    assert_empty(assets.path());

    let mut make = Command::new("make");
    make.args(["setup", "PYTHON=no-such-python"]).current_dir(root()).env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    let output = make.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(error.starts_with("setup: no-such-python is missing: install Python"), "{error}");
}

/// Creates a pip that has downloaded half of a file when its set-up gets a signal.
fn pip_interrupted_by(signal: &str) -> TempDir {
    fake_pip(&format!(
        "import os, pathlib, signal, sys
target = next(a.split('=', 1)[1] for a in sys.argv if a.startswith('--dest='))
pathlib.Path(target, 'half.whl').write_text('half')
os.kill(os.getppid(), signal.{signal})
sys.stdin.read() or signal.pause()"
    ))
}

#[test]
fn a_stopped_set_up_leaves_nothing_half_made() {
    let assets = TempDir::new().unwrap();
    for signal in ["SIGTERM", "SIGINT"] {
        let pip = pip_interrupted_by(signal);
        let output = setup(assets.path(), &["runtime"]).env("PYTHONPATH", pip.path()).output().unwrap();
        assert!(failure(&output).contains("run it again to finish"), "{output:?}");
        assert_empty(assets.path());
    }
}

#[test]
fn a_killed_set_up_is_cleaned_up_by_the_next() {
    let assets = TempDir::new().unwrap();
    let pip = fake_pip("import os, signal; os.kill(os.getppid(), signal.SIGKILL)");
    let output = setup(assets.path(), &["runtime"]).env("PYTHONPATH", pip.path()).output().unwrap();
    assert!(!output.status.success());
    assert!(assets.path().join(".partial").exists());

    let pip = fake_pip("raise SystemExit('ERROR: no network')");
    let output = setup(assets.path(), &["runtime"]).env("PYTHONPATH", pip.path()).output().unwrap();
    assert!(failure(&output).contains("no network"), "{output:?}");
    assert_empty(assets.path());
}
