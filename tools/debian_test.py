"""Tries the Debian package in a bare Debian that boots its own systemd, from the installation to the removal.

    debian_test.py PACKAGE NEWER_PACKAGE      (as root; the second is the same with a higher revision)

The Debian has no network: what the package needs must be in it. Each line says what was seen; the first thing that is not
as promised ends the test with exit code 1.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = Path(os.environ.get("ROLLCALL_ASSETS") or ROOT / ".assets") / "photos"
RELEASE = "bookworm"
URL = "http://127.0.0.1:8080"
# Jobs that wait while the package is upgraded.
JOBS = 400
TIMEOUT = 120
# What apt, dpkg and systemd write about their own work.
NOT_OURS = ("./proc/", "./sys/", "./dev/", "./run/", "./tmp/", "./root/", "./var/log/", "./var/cache/", "./var/tmp/",
            "./var/lib/apt/", "./var/lib/dpkg/", "./var/lib/systemd/")  # fmt: skip
# Bookkeeping of users: the user stays, because files of it may be left.
USERS = {f"./etc/{name}{end}" for name in ("passwd", "group", "shadow", "gshadow") for end in ("", "-")}


class Broken(Exception):
    """A promise of the package that does not hold."""


class Machine:
    """A Debian that has booted in namespaces of its own."""

    def __init__(self, folder: Path, leader: int) -> None:
        self.folder = folder
        self.leader = leader

    def run(self, command: str, expected: int | None = 0) -> str:
        """Runs a command as root and returns what it printed."""
        enter = ["nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
        done = subprocess.run([*enter, "/bin/sh", "-c", f"cd /root; {command}"], env=ENVIRONMENT, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
        if expected is not None and done.returncode != expected:
            raise Broken(f"`{command}` ended with {done.returncode}, not {expected}:\n{done.stdout}")
        return done.stdout

    def wait(self, what: str, command: str) -> None:
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            if subprocess.run(["kill", "-0", str(self.leader)]).returncode != 0:
                raise Broken("the machine has ended")
            if "yes" in self.run(f"({command}) >/dev/null 2>&1 && echo yes", expected=None):
                return
            time.sleep(0.2)
        raise Broken(f"not after {TIMEOUT} s: {what}\n{self.run('journalctl --no-pager -n 40 -u rollcall', None)}")

    def files(self) -> set[str]:
        """Returns every path, but for those whose content is somebody else's bookkeeping."""
        paths = subprocess.run(["find", "."], cwd=self.folder, check=True, stdout=subprocess.PIPE, text=True).stdout
        return {path for path in paths.splitlines() if not path.startswith(NOT_OURS)} - USERS


ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LANG": "C.UTF-8"}


@contextmanager
def bare_debian(packages: list[Path]):
    """Makes a Debian with systemd, curl and nothing else, puts the packages and photos into it, and boots it."""
    folder = Path(tempfile.mkdtemp(prefix="rollcall-debian-"))
    try:
        make = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=systemd,systemd-sysv,curl", RELEASE, folder]
        subprocess.run(make, check=True)
        for package in packages:
            shutil.copy(package, folder / "root")
        shutil.copytree(PHOTOS, folder / "srv/photos")
        boot = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--boot", "-D", folder]
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(boot, **silent) as nspawn:
            try:
                machine = Machine(folder, leader_of(nspawn))
                machine.wait("systemd has started", "systemctl list-units --no-pager multi-user.target | grep -q active")
                yield machine
            finally:
                end(nspawn)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def end(nspawn: subprocess.Popen) -> None:
    """Shuts the machine down in order, or else at once."""
    nspawn.terminate()
    try:
        nspawn.wait(30)
    except subprocess.TimeoutExpired:
        nspawn.kill()


def leader_of(nspawn: subprocess.Popen) -> int:
    """Returns the first process of the machine."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end and nspawn.poll() is None:
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
        for child in children:
            # It has become systemd once the namespaces are complete.
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return int(child)
        time.sleep(0.1)
    raise Broken("systemd-nspawn does not boot the machine")


def main(package: Path, newer: Path) -> None:
    with bare_debian([package, newer]) as machine:
        before = machine.files()
        install(machine, package)
        recognise(machine)
        upgrade_with_jobs_waiting(machine, newer)
        remove(machine, before)


def install(machine: Machine, package: Path) -> None:
    machine.run(f"apt-get install --yes ./{package.name}")
    machine.wait("the service is active", "systemctl is-active rollcall && curl -fs -o /dev/null " + URL + "/readyz")
    say("installed without a network, and started")
    check(machine.run("systemctl show -P User rollcall").strip() == "rollcall", "it runs as its own user")
    mode = machine.run("stat -c '%U %a' /var/lib/rollcall").strip()
    check(mode == "rollcall 700", f"only that user can read the data folder ({mode})")
    exposure = machine.run("systemd-analyze security --no-pager rollcall | tail -1").strip()
    say(f"systemd says of the unit: {exposure.lstrip('→ ')}")
    for path in ("man/man1/rollcall.1.gz", "man/man1/rollcall-up.1.gz", "bash-completion/completions/rollcall",
                 "doc/rollcall/licences/crates.txt.gz", "doc/rollcall/copyright"):  # fmt: skip
        machine.run(f"test -s /usr/share/{path}")
    say("manual pages, completions and licences are there")


def recognise(machine: Machine) -> None:
    refused = machine.run("rollcall enroll /srv/photos/known", expected=1)
    check("sudo -u rollcall" in refused, "root, whose files the service could not read, is told what to run")
    say(as_user(machine, "rollcall enroll /srv/photos/known").strip())
    say(as_user(machine, "rollcall doctor").strip().splitlines()[0])
    name = machine.run(f"curl -sS -F myfile=@/srv/photos/probes/Emmanuel_Macron/person_a_2.jpg {URL}/").strip()
    check(name == "Emmanuel_Macron", f"a photo is recognised: {name}")
    name = machine.run(f"curl -sS -F myfile=@/srv/photos/strangers/Barack_Obama/impostor_1.jpg {URL}/").strip()
    check(name == "unknown", f"a stranger is not: {name}")


def upgrade_with_jobs_waiting(machine: Machine, newer: Path) -> None:
    before = machine.run("systemctl show -P MainPID rollcall").strip()
    upload = "-sS -o /dev/null -H 'Prefer: respond-async' -F myfile=@/srv/photos/probes/Emmanuel_Macron/person_a_2.jpg"
    write_out = "-w '%header{location}\\n'"
    every = f"seq {JOBS} | xargs -P 20 -INUMBER curl {upload} {write_out} {URL}/v1/recognitions"
    locations = machine.run(every).split()
    check(len(set(locations)) == JOBS, f"{len(set(locations))} of {JOBS} uploads are accepted")
    metrics = machine.run(f"curl -fsS {URL}/metrics").splitlines()
    waiting = sum(int(line.split()[-1]) for line in metrics if line.startswith("rollcall_queue_jobs"))
    check(waiting > 0, f"{waiting} of them wait while the package is upgraded")
    machine.run(f"apt-get install --yes ./{newer.name}")
    machine.wait("the service is active again", f"curl -fs -o /dev/null {URL}/readyz")
    after = machine.run("systemctl show -P MainPID rollcall").strip()
    check(after not in (before, "0"), "the service was restarted")
    urls = "\n".join(f"url={URL}{shlex.quote(path)}" for path in locations)
    (machine.folder / "root/results").write_text(urls)
    done = "curl -sS -K results | grep -o '\"status\": *\"done\"' | wc -l"
    machine.wait("every job is done", f"test $({done}) = {JOBS}")
    say(f"{JOBS} of {JOBS} jobs are done")


def remove(machine: Machine, before: set[str]) -> None:
    machine.run("apt-get remove --yes rollcall")
    programs = machine.run("for process in /proc/[0-9]*; do readlink $process/exe; done", expected=None)
    check("/usr/bin/rollcall" not in programs, "after the removal, no process is left")
    left = machine.files() - before
    # Whether it starts at boot is a setting, too.
    expected = ("./etc/rollcall", "./etc/systemd/system/multi-user.target.wants/rollcall.service", "./var/lib/rollcall")
    others = sorted(path for path in left if not path.startswith(expected))
    check(not others and "./var/lib/rollcall" in left, f"nothing is left but the settings and the data {others or ''}")
    said = machine.run("apt-get purge --yes rollcall")
    check("rm -r /var/lib/rollcall" in said, "a purge says where the data is")
    others = sorted(path for path in machine.files() - before if not path.startswith("./var/lib/rollcall"))
    check(not others, f"after the purge, nothing is left but the data {others or ''}")


def as_user(machine: Machine, command: str) -> str:
    return machine.run(f"runuser -u rollcall -- {command}")


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Broken(what)
    say(what)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("debian-test: run it as root: it boots a machine")
    try:
        main(*(Path(argument).resolve() for argument in sys.argv[1:3]))
    except Broken as error:
        sys.exit(f"NOT AS PROMISED: {error}")
