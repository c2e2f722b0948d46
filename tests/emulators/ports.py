"""Ports for what an emulator starts later: of those that tests/support/src/ports.rs gives out, with the same locks.

The system may give one of its ephemeral ports to another process before the one for which it is meant listens.
"""

from __future__ import annotations

import fcntl
import random
import socket
import tempfile
from pathlib import Path

PORTS = range(10_000, 30_000)
# The locks of the ports that were given out. The system unlocks them when this process ends.
GIVEN = []


def free_port() -> int:
    """Returns a port on which nobody listens, and which nobody else gets before this process has ended."""
    folder = Path(tempfile.gettempdir()) / "rollcall-test-ports"
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        port = random.choice(PORTS)
        lock = (folder / str(port)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            continue
        GIVEN.append(lock)
        return port
