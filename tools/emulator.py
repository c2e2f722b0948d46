"""Runs a Python module or file as a program that ends when its standard input does.

    emulator.py MODULE|FILE.py [ARGUMENT]...

Whoever starts it holds the other end of the pipe, so it cannot be left behind.
"""

import os
import runpy
import sys
import threading


def end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_input, daemon=True).start()
    sys.argv = sys.argv[1:]
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
