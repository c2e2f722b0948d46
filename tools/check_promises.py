"""Checks that each test that tests/README.md lists for a promise exists, unless it is marked there as missing.

    check_promises.py

A name is `file::test` for a file of tests/, or `module::test` for a module of src/. Nothing is built.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "tests/README.md"
MISSING = "*(missing)*"
# A function, or a test that a macro generates from its first identifiers.
TEST = r"\bfn {0}\s*\(|\w+_contract!\(\s*\w+,\s*{0}\b"


def sources(path: list[str]) -> list[Path]:
    """Returns the files that may contain a test with that module path."""
    place = "/".join(path)
    integration = list((ROOT / "tests").glob(f"*/{place}.rs"))
    unit = [ROOT / f"src/{place}.rs", ROOT / f"src/{place}/mod.rs", ROOT / f"src/{place}/tests.rs"]
    return [file for file in integration + unit if file.is_file()]


def exists(name: str) -> bool:
    *path, test = name.split("::")
    pattern = re.compile(TEST.format(re.escape(test)))
    return any(pattern.search(file.read_text()) for file in sources(path))


def problems() -> list[str]:
    rows = [line for line in README.read_text().splitlines() if line.startswith("| ") and "::" in line]
    if not rows:
        return ["there is no table of promises"]
    found = []
    for row in rows:
        promise, tests = (cell.strip() for cell in row.strip("|").rsplit("|", 1))
        for name in re.findall(r"`([\w:]+::\w+)`", tests):
            if MISSING in tests and exists(name):
                found.append(f"{name} exists: remove {MISSING} from the row: {promise}")
            elif MISSING not in tests and not exists(name):
                found.append(f"there is no test {name}, which the row names: {promise}")
    return found


if __name__ == "__main__":
    for problem in (wrong := problems()):
        print(f"tests/README.md: {problem}", file=sys.stderr)
    sys.exit(bool(wrong))
