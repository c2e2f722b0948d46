"""Runs a command, and meanwhile starts emulators for its tests: by forking a process that has loaded their modules.

    prefork.py PACKAGES COMMAND [ARGUMENT]...

Most of an emulator's CPU time is spent on importing its modules, which takes seconds, and most tests start their own
emulators. The command finds the path of a Unix socket in $ROLLCALL_TEST_EMULATORS. For each connection, an emulator is
started with the connection as its standard input, so that it ends with the connection: see emulator.py. The request is
one line of JSON:

    {"arguments": [MODULE|FILE.py, ARGUMENT...], "environment": {NAME: VALUE...}, "folder": PATH}
"""

from __future__ import annotations

import gc
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import emulator

# What the emulators import. ministack itself is not included, because it reads its settings when it is imported.
MODULES = ["moto.server", "moto.ec2.responses", "boto3", "hypercorn.asyncio", "hypercorn.protocol.h2", "aiohttp.web"]


def become(connection: socket.socket) -> None:
    """Makes this process the emulator that the connection requests."""
    line = b""
    while not line.endswith(b"\n"):
        if not (byte := connection.recv(1)):
            return
        line += byte
    asked = json.loads(line)
    os.dup2(connection.fileno(), 0)
    connection.close()
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    random.seed()
    if "ROLLCALL_TEST_LOG" not in os.environ:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    emulator.run(asked["arguments"])


def reap(command: subprocess.Popen) -> None:
    """Collects the emulators that have ended, but leaves the command to its owner."""
    while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != command.pid:
        os.waitpid(ended.si_pid, 0)


def serve(listener: socket.socket, command: subprocess.Popen) -> int:
    """Starts emulators until the command ends, and returns its status."""
    while command.poll() is None:
        if select.select([listener], [], [], 0.2)[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                try:
                    become(connection)
                except Exception:  # noqa: BLE001
                    traceback.print_exc()
                finally:
                    os._exit(1)
            connection.close()
        reap(command)
    return command.returncode


def main(packages: str, arguments: list[str]) -> int:
    sys.path.insert(0, str(Path(packages).absolute()))
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = f"{folder}/emulators"
        listener.bind(path)
        listener.listen(64)
        command = subprocess.Popen(arguments, env=os.environ | {"ROLLCALL_TEST_EMULATORS": path})
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command receives it too
        signal.signal(signal.SIGTERM, lambda *_: command.terminate())
        for module in MODULES:  # while the first connections wait
            __import__(module)
        gc.freeze()  # so that collections do not copy the pages that all emulators share
        return serve(listener, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
