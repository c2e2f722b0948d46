"""What a machine of the emulated EC2 does by itself: it runs its user data, and then the units that this script enabled. The
last of them does the machine's work; see ec2_journal.py for the others.

Each machine has a folder as its disk, copied from that of its image. Paths in /etc, /opt and /var in scripts and units
are relative to it, and the few commands that only a whole machine can carry out are replaced by short scripts:
`shutdown -P now`, `systemctl enable --now UNIT`, `journalctl` and `useradd`. Everything else is done for real.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from ec2_journal import Journal, OtherUnits

CREDENTIALS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"}
NO_FILES = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
STUBS = {
    # Scripts that a script starts use the same disk.
    "sh": """
case "$1" in *.sh) sed -E -i "s#(^|[ =\\"'])/(etc|opt|var)/#\\\\1$MACHINE/\\\\2/#g" "$1" ;; esac
exec /bin/sh "$@"
""",
    "shutdown": '[ "$2" = now ] && touch "$MACHINE/off"; exit 0',
    # Fails if there is no such unit, as the real one does.
    "systemctl": """
[ "$1 $2" = "enable --now" ] || exit 0
[ -e "$MACHINE/etc/systemd/system/$3.service" ] && echo "$3" >> "$MACHINE/enabled"
""",
    "journalctl": f'ROLLCALL_JOURNAL="$MACHINE/journal" exec python3 {Path(__file__).parent.absolute()}/journalctl.py "$@"',
    "useradd": "exit 0",
    "sync": "exit 0",
}


class Disk:
    """The folder of one machine."""

    def __init__(self, root: Path, machine: str, image: str, user_data: str):
        self.folder = root / machine
        template = root / image
        if template.is_dir():
            shutil.copytree(template, self.folder, copy_function=os.link)
        for part in ("etc/systemd/system", "opt", "var/log", "bin"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        for name, text in STUBS.items():
            stub = self.folder / "bin" / name
            stub.unlink(missing_ok=True)  # a hard link to the image's file, which must not be written to
            stub.write_text(f"#!/bin/sh\n{text}\n")
            stub.chmod(0o755)
        script = self.folder / "user-data"
        script.unlink(missing_ok=True)
        script.write_text(self.here(user_data))
        self.console = self.folder / "console"
        self.journal, self.others = Journal(self.folder / "journal"), OtherUnits(self)

    def here(self, text: str) -> str:
        return re.sub(r"""(^|[ =\"'>])/(etc|opt|var)/""", rf"\1{self.folder}/\2/", text, flags=re.MULTILINE)

    def commands(self) -> dict[str, str]:
        """Returns the variables by which this machine's commands are found."""
        return {"MACHINE": str(self.folder), "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def environment(self, metadata: str) -> dict[str, str]:
        """Returns the environment of scripts. Credentials are those of the machine's role, from its metadata service."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        own = {"MACHINE": str(self.folder), "PATH": path, "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata}
        return {key: value for key, value in os.environ.items() if key not in CREDENTIALS} | NO_FILES | own

    def first_boot(self, metadata: str) -> subprocess.Popen:
        self.console.unlink(missing_ok=True)
        with self.console.open("wb") as console:
            return subprocess.Popen(
                ["/bin/sh", str(self.folder / "user-data")],
                cwd=self.folder, env=self.environment(metadata), stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                preexec_fn=os.setpgrp,
            )  # fmt: skip

    def switched_off(self) -> bool:
        """Returns whether the machine has switched itself off since the last call."""
        off = self.folder / "off"
        was = off.exists()
        off.unlink(missing_ok=True)
        return was

    def enabled(self) -> list[str]:
        """Returns the enabled units, in the order in which they were enabled."""
        enabled = self.folder / "enabled"
        return enabled.read_text().split() if enabled.exists() else []

    def unit(self) -> tuple[list[str], dict[str, str], str] | None:
        """Returns the command, environment and folder of the unit that does the machine's work."""
        return self.command(self.enabled()[-1]) if self.enabled() else None

    def command(self, unit: str) -> tuple[list[str], dict[str, str], str] | None:
        """Returns the command, environment and folder of a unit."""
        file = self.folder / f"etc/systemd/system/{unit}.service"
        if not file.exists():  # the image has nothing installed
            return None
        text = self.here(file.read_text())
        keys = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
        if "StateDirectory" in keys:
            (self.folder / "var/lib" / keys["StateDirectory"]).mkdir(parents=True, exist_ok=True)
        lines = Path(keys["EnvironmentFile"]).read_text().splitlines()
        variables = dict(line.split("=", 1) for line in lines if "=" in line)
        # A test's settings for all machines override the stack's. Credentials are not passed on: those are the role's.
        environment = {key: value for key, value in os.environ.items() if key not in CREDENTIALS}
        return shlex.split(keys["ExecStart"]), variables | environment | NO_FILES, keys["WorkingDirectory"]

    def image(self, root: Path, image: str) -> None:
        shutil.copytree(self.folder, root / image, copy_function=os.link)
        for name in ("enabled", "user-data", "console", "off", "journal"):
            (root / image / name).unlink(missing_ok=True)
