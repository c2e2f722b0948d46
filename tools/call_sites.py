"""Lists the places that call AWS with the tests that reach them, and fails if there is one that no test reaches.

    call_sites.py RECORD

RECORD has the lines that a run of all tests has appended to the file that ROLLCALL_CALL_SITES names (`make call-sites`).
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools/lint"))

from rust import code, without_tests  # noqa: E402  (the folder has to be on the path)

FOLDER = "src/cloud/aws"
#: How a call is sent, and how its place is recorded.
SENT, RECORDED = ".send()", ".recorded()"


def places(text: str) -> list[tuple[int, bool]]:
    """Returns the line of each call in a file, and whether it is recorded: that line is the one that a run reports."""
    text = without_tests(code(text))
    found, position = [], 0
    while (sent := text.find(SENT, position)) >= 0:
        position = sent + len(SENT)
        before = text[:sent].rstrip()
        recorded = before.endswith(RECORDED)
        at = len(before) - len(RECORDED) if recorded else sent
        found.append((text.count("\n", 0, at) + 1, recorded))
    return found


def call_sites() -> tuple[list[str], list[str]]:
    """Returns the places of calls that are recorded, and of those that are not."""
    recorded, others = [], []
    for file in sorted((ROOT / FOLDER).rglob("*.rs")):
        for line, is_recorded in places(file.read_text()):
            (recorded if is_recorded else others).append(f"{file.relative_to(ROOT)}:{line}")
    return recorded, others


def main(record: Path) -> int:
    reached = defaultdict(set)
    for line in record.read_text().splitlines():
        test, place = line.split("\t")
        reached[place].add(test or "(no test)")
    recorded, others = call_sites()
    unreached = [place for place in recorded if place not in reached]
    for place in recorded:
        tests = sorted(reached[place])
        print(f"{place:<44} {len(tests):>4}  {', '.join(tests[:2])}{', ...' if len(tests) > 2 else ''}")
    for place in others:
        print(f"{place}: write {RECORDED}{SENT}, so that tests are seen to reach it", file=sys.stderr)
    for place in unreached:
        print(f"{place}: no test reaches this call", file=sys.stderr)
    for place in sorted(set(reached) - set(recorded)):
        print(f"{place}: recorded, but not found in the sources", file=sys.stderr)
    print(f"{len(recorded)} places call AWS, {len(unreached)} of them in no test", file=sys.stderr)
    return bool(unreached or others or set(reached) - set(recorded))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
