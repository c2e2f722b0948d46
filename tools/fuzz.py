"""Fuzzes Rollcall with AFL++: `fuzz.py [TARGET]... [--minutes M | --executions N]`; see `make fuzz`.

Installs cargo-afl into `.assets`, builds the targets with its instrumentation, and runs each from its corpus. Prints the
executions, the time and the findings of each, and fails if there is one. `fuzz/target/findings/TARGET` keeps its inputs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ASSETS = Path(os.environ.get("ROLLCALL_ASSETS") or ROOT / ".assets").absolute()
#: Also in fuzz/Cargo.toml: the runtime must be that of the crate.
VERSION = "0.18.2"
TARGET_DIR = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "fuzz/target").absolute() / "afl"
FOUND = TARGET_DIR / "findings"
#: An input that takes longer is a finding, in milliseconds: a thousand times as long as most.
HANG = 5000
#: Longest input in bytes. Longer ones are only slower.
LONGEST = 16384


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ASSETS / "bin"), os.environ["PATH"]])
    return os.environ | {
        "PATH": path,
        "XDG_DATA_HOME": str(ASSETS / "share"),  # where cargo-afl keeps AFL++
        "CARGO_TARGET_DIR": str(TARGET_DIR),
        "AFL_NO_UI": "1",
        "AFL_SKIP_CPUFREQ": "1",
        "AFL_NO_AFFINITY": "1",
        "AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES": "1",  # where the kernel passes crashes on to a program
        "AFL_AUTORESUME": "1",  # a second run goes on with what the first has found
        "AFL_HANG_TMOUT": str(HANG),
        "RUST_BACKTRACE": "0",  # of panics that the program catches
    }


def run(*command: str | Path, folder: Path = ROOT, **options: object) -> subprocess.CompletedProcess:
    return subprocess.run([str(part) for part in command], cwd=folder, env=environment(), **options)


def install() -> None:
    installed = run("cargo", "afl", "--version", capture_output=True, text=True)
    if VERSION not in installed.stdout:
        run("cargo", "install", "cargo-afl", "--version", VERSION, "--locked", "--root", ASSETS, check=True)
    # Its runtime must be built by the toolchain that builds the targets.
    if not any((ASSETS / "share/afl.rs").glob(f"rustc-*/afl.rs-{VERSION}/afl/bin/afl-fuzz")):
        run("cargo", "afl", "config", "--build", "--force", check=True)


def build() -> Path:
    version = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    host = re.search(r"host: (.+)", version)[1]
    # With a target, the instrumentation is not in build scripts and macros.
    run("cargo", "afl", "build", "--release", "--locked", "--target", host, folder=ROOT / "fuzz", check=True)
    return TARGET_DIR / host / "release/rollcall-fuzz"


def dictionary(target: str) -> list[str]:
    """Returns the arguments for the target's dictionary: ours, or the one that AFL++ has for a format."""
    ours = ROOT / "fuzz/dictionaries" / f"{target}.dict"
    theirs = (ASSETS / "share/afl.rs").glob(f"rustc-*/afl.rs-{VERSION}/afl/share/afl/dictionaries/{target}.dict")
    found = [ours] if ours.exists() else list(theirs)[:1]
    return ["-x", str(found[0])] if found else []


def stats(folder: Path) -> dict[str, str]:
    lines = (folder / "default/fuzzer_stats").read_text().splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def fuzz(program: Path, target: str, limit: list[str]) -> bool:
    """Runs a target, and returns whether it had no finding."""
    folder = FOUND / target
    folder.mkdir(parents=True, exist_ok=True)
    corpus = ROOT / "fuzz/corpus" / target
    arguments = ["-i", corpus, "-o", folder, "-t", f"{HANG}", "-G", str(LONGEST), *dictionary(target), *limit]
    with open(folder / "log", "w") as log:
        status = run("cargo", "afl", "fuzz", *arguments, "--", program, "fuzz", target, stdout=log, stderr=log).returncode
    if status != 0 or not (folder / "default/fuzzer_stats").exists():
        print(f"{target}: AFL++ has failed: see {folder / 'log'}", flush=True)
        return False
    end = stats(folder)
    crashes, hangs = int(end["saved_crashes"]), int(end["saved_hangs"])
    print(
        f"{target}: {int(end['execs_done']):,} executions in {int(end['run_time']):,} s, corpus of {end['corpus_count']},"
        f" coverage {end['bitmap_cvg']}, {crashes} crashes, {hangs} hangs",
        flush=True,
    )
    for found in sorted((folder / "default").glob("crashes*/id*")) + sorted((folder / "default").glob("hangs*/id*")):
        print(f"  {program} run {target} {found}", flush=True)
    return crashes == hangs == 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzzes Rollcall with AFL++.")
    parser.add_argument("targets", nargs="*", help="by default all")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--minutes", type=float, default=1, help="for each target (default: 1)")
    limit.add_argument("--executions", type=int, help="of each target, from the beginning")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs have found")
    chosen = parser.parse_args()
    if not shutil.which("cc") or not shutil.which("make"):
        sys.exit("fuzz: AFL++ is built by cc and make: install them (Debian: apt-get install gcc make)")
    install()
    program = build()
    listed = subprocess.run([program, "list"], check=True, capture_output=True, text=True).stdout.split()
    if unknown := set(chosen.targets) - set(listed):
        sys.exit(f"fuzz: there is no target {', '.join(sorted(unknown))}; there are {', '.join(listed)}")
    ends = ["-E", str(chosen.executions)] if chosen.executions else ["-V", str(round(60 * chosen.minutes))]
    if chosen.fresh:
        shutil.rmtree(FOUND, ignore_errors=True)
    passed = [fuzz(program, target, ends) for target in chosen.targets or listed]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
