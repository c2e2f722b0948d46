"""Makes what is installed instead of a checkout: an archive for any Linux, and on Debian a package.

    dist.py [--revision N] [--features F] [--out DIR]

Both contain the program, ONNX Runtime, the models, completions, manual pages, documents, and the licences of all of
these. The same sources give the same archive, byte for byte: times are those of the newest commit.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import licences

ROOT = Path(__file__).resolve().parent.parent
ASSETS = Path(os.environ.get("ROLLCALL_ASSETS") or ROOT / ".assets")
PAGES = ["README.md", "CHANGELOG.md", "LICENSE", "config/default.toml"]
# As shells and Debian look for them, below share/.
COMPLETIONS = {
    "bash": "bash-completion/completions/rollcall",
    "zsh": "zsh/vendor-completions/_rollcall",
    "fish": "fish/vendor_completions.d/rollcall.fish",
}
DEBIAN_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--revision", type=int, default=1, help="of the Debian package")
    parser.add_argument("--features", default="", help="features of the crate, such as aws")
    parser.add_argument("--out", type=Path, default=ROOT / "target/dist")
    options = parser.parse_args()
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    time = int(output("git", "log", "-1", "--format=%ct"))

    run(os.environ.get("CARGO", "cargo"), "build", "--release", "--locked", f"--features={options.features}")
    program = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/rollcall"
    name = f"rollcall-{version}-linux-{platform.machine()}"
    shutil.rmtree(options.out / "staged", ignore_errors=True)
    staged = options.out / "staged" / name
    stage(program, staged, options.features)
    archive(staged, options.out / f"{name}.tar.gz", time)
    print(options.out / f"{name}.tar.gz")
    if shutil.which("dh"):
        print(debian_package(staged, f"{version}-{options.revision}", options.out, time))
    else:
        print("no Debian package: debhelper is missing (apt-get install debhelper)")


def stage(program: Path, staged: Path, features: str) -> None:
    """Lays out a prefix: bin, lib/rollcall, share."""
    put(program, staged / "bin/rollcall", 0o755)
    put(ASSETS / "onnxruntime/libonnxruntime.so", staged / "lib/rollcall/onnxruntime/libonnxruntime.so")
    for model in sorted((ASSETS / "models").glob("*.onnx")):
        put(model, staged / "lib/rollcall/models" / model.name)
    share = staged / "share"
    for shell, path in COMPLETIONS.items():
        write(share / path, output(program, "completions", shell))
    manual = share / "man/man1"
    run(program, "manual", manual)
    documents = share / "doc/rollcall"
    for page in [*PAGES, *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.*"))]:
        put(ROOT / page, documents / Path(page).name)
    for kind in ("onnxruntime", "models"):
        for text in sorted((ASSETS / "licences" / kind).iterdir()):
            put(text, documents / "licences" / kind / text.name)
    write(documents / "licences/crates.txt", licences.of_crates(ROOT, features))


def archive(staged: Path, target: Path, time: int) -> None:
    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = time
        return entry

    with target.open("wb") as file, gzip.GzipFile(fileobj=file, filename="", mode="wb", mtime=time) as packed:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path in sorted([staged, *staged.rglob("*")]):
                tar.add(path, path.relative_to(staged.parent), recursive=False, filter=plain)


def debian_package(staged: Path, version: str, out: Path, time: int) -> Path:
    """Packs the same prefix with debhelper, which adds the unit, the user and what upgrades need."""
    work = out / "staged/debian"
    shutil.copytree(ROOT / "deploy/debian", work / "debian")
    shutil.copytree(staged, work / "staged")
    put(work / "debian/rollcall.toml", work / "staged/etc/rollcall/rollcall.toml")
    date = output("date", "--utc", "--rfc-email", f"--date=@{time}").strip()
    write(
        work / "debian/changelog",
        f"rollcall ({version}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n"
        f" -- The Rollcall developers <rollcall@localhost>  {date}\n",
    )
    command = ["dpkg-buildpackage", "--build=binary", "--no-sign", "--no-check-builddeps"]
    done = subprocess.run(
        command, cwd=work, capture_output=True, text=True, env=os.environ | {"SOURCE_DATE_EPOCH": str(time)}
    )
    if done.returncode != 0:
        raise SystemExit(f"dist: {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    package = f"rollcall_{version}_{DEBIAN_ARCHITECTURES[platform.machine()]}.deb"
    (work.parent / package).replace(out / package)
    return out / package


def put(source: Path, target: Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def output(*command: str | Path) -> str:
    return subprocess.run([*map(str, command)], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def run(*command: str | Path) -> None:
    subprocess.run([*map(str, command)], cwd=ROOT, check=True)


if __name__ == "__main__":
    os.umask(0o022)
    main()
