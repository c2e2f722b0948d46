"""The journal of an emulated machine, and the units besides the one that does its work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

# How long systemd waits before it starts a unit again that has ended, and how long it waits for one to end.
RESTART, GRACE = 0.5, 20.0
# What units log that are not Rollcall's: names and addresses of people.
OTHERS = "Accepted publickey for ada from 203.0.113.7 port 50022 ssh2"


class Journal:
    """A file with one entry per line, in the fields of journald."""

    def __init__(self, file: Path):
        self.file, self.lock = file, threading.Lock()
        self.id = os.urandom(4).hex()
        file.unlink(missing_ok=True)
        self.append({"_SYSTEMD_UNIT": "ssh.service"}, OTHERS)

    def append(self, fields: dict[str, str], message: str) -> None:
        with self.lock, self.file.open("ab") as file:
            own = {"__CURSOR": f"s={self.id};i={file.tell():x}", "__REALTIME_TIMESTAMP": str(time.time_ns() // 1000)}
            entry = own | {"_UID": "998", "_CMDLINE": "of the process"} | fields | {"MESSAGE": message}
            file.write(json.dumps(entry).encode() + b"\n")

    def start(self, unit: str, arguments: list[str], environment: dict[str, str], folder: str, log) -> subprocess.Popen:
        """Starts the process of a unit, whose output becomes entries, and is written to `log` too."""
        process = subprocess.Popen(
            arguments, env=environment, cwd=folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        service = f"{unit}.service"
        self.append({"UNIT": service, "_SYSTEMD_UNIT": "init.scope", "_PID": "1", "PRIORITY": "6"}, f"Started {service}.")

        def copy() -> None:
            for line in process.stdout:
                if log is not None:
                    log.write(line)
                    log.flush()
                text = line.decode(errors="replace").rstrip("\n")
                self.append({"_SYSTEMD_UNIT": service, "PRIORITY": "6"}, text)

        threading.Thread(target=copy, daemon=True).start()
        return process


class OtherUnits:
    """Units that run beside the one that does the machine's work, and are started again whenever they end."""

    def __init__(self, disk):
        self.disk = disk
        self.processes: dict[str, subprocess.Popen] = {}
        self.started: dict[str, float] = {}
        self.asked: set[int] = set()

    def pids(self) -> dict[str, int]:
        return {unit: process.pid for unit, process in self.processes.items() if process.poll() is None}

    def run(self, metadata: str, unreachable: dict[str, str], log) -> None:
        for unit in self.disk.enabled()[:-1]:
            alive = unit in self.processes and self.processes[unit].poll() is None
            if alive or time.monotonic() < self.started.get(unit, 0) + RESTART:
                continue
            if (command := self.disk.command(unit)) is not None:
                arguments, environment, folder = command
                environment |= {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata} | unreachable | self.disk.commands()
                self.processes[unit] = self.disk.journal.start(unit, arguments, environment, folder, log)
                self.started[unit] = time.monotonic()

    def end(self, age: float) -> bool:
        """Asks them to end, and returns whether they have. `age` is how long the machine has been shutting down."""
        alive = [process for process in self.processes.values() if process.poll() is None]
        for process in alive:
            if age > GRACE:
                process.kill()
            elif process.pid not in self.asked:
                self.asked.add(process.pid)
                process.send_signal(signal.SIGTERM)
        return not alive

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()
