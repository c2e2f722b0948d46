"""Runs a Python module or file as a program that ends when its standard input does.

    emulator.py MODULE|FILE.py [ARGUMENT]...

The process that starts it holds the other end of the pipe, so neither this program nor what it has started is left
behind.
"""

import os
import runpy
import signal
import subprocess
import sys
import threading


def end_with_input() -> None:
    while os.read(0, 4096):
        pass
    everybody = subprocess.run(["ps", "-A", "-o", "pid="], capture_output=True, text=True, check=False).stdout
    own = os.getpid()
    for pid in map(int, everybody.split()):
        try:
            if pid != own and os.getsid(pid) == own:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has just ended
    os._exit(0)


def run(arguments: list[str]) -> None:
    """Runs a module or file in a session of its own."""
    if os.getpgrp() != os.getpid():  # a shell's own child leads a group already
        os.setsid()
    threading.Thread(target=end_with_input, daemon=True).start()
    sys.argv = arguments
    if arguments[0].endswith(".py"):
        runpy.run_path(arguments[0], run_name="__main__")
    else:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run(sys.argv[1:])
