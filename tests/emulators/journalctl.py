"""journalctl of an emulated machine: prints entries of $ROLLCALL_JOURNAL, a file with one JSON object per line.

It takes the options that the forwarder of logs uses, and refuses others, as the real one does.
"""

import argparse
import json
import os
import sys
import time

parser = argparse.ArgumentParser(allow_abbrev=False)
for flag in ("--follow", "--no-tail", "--all", "--quiet"):
    parser.add_argument(flag, action="store_true")
parser.add_argument("--output", choices=["json"], required=True)
parser.add_argument("--output-fields")
parser.add_argument("--unit", action="append", default=[])
parser.add_argument("--after-cursor")
options = parser.parse_args()
# These are printed whatever is asked for.
FIELDS = {"__CURSOR", "__REALTIME_TIMESTAMP", *(options.output_fields or "").split(",")}
PARENT = os.getppid()


def entries():
    """Yields the entries of the file, and None where there are no more yet."""
    rest = b""
    with open(os.environ["ROLLCALL_JOURNAL"], "rb") as file:
        while True:
            rest += file.read()
            *lines, rest = rest.split(b"\n")
            yield from map(json.loads, lines)
            yield None


def of_units(entry: dict) -> bool:
    # What systemd logs about a unit belongs to it.
    of = {entry.get("_SYSTEMD_UNIT"), entry.get("UNIT") if entry.get("_PID") == "1" else None}
    return not options.unit or not of.isdisjoint(options.unit)


old, reached = [], options.after_cursor is None
for entry in entries():
    if entry is None:
        # Following starts with the last ten entries, unless it is to start with the first one.
        for shown in old or () if options.no_tail or not options.follow else old[-10:]:
            print(json.dumps({key: value for key, value in shown.items() if key in FIELDS}), flush=True)
        old = []
        if not options.follow or os.getppid() != PARENT:
            sys.exit(0)
        options.no_tail = True
        time.sleep(0.02)
    elif not reached:
        reached = entry["__CURSOR"] == options.after_cursor
    elif of_units(entry):
        old.append(entry)
