"""Checks Rollcall's architecture, documents and vocabulary: what the compiler and clippy cannot check.

    python3 tools/lint                  prints each finding with a remedy; exit code 1 if there are any
    python3 tools/lint --self-test      verifies that each check finds what it is meant to find

Each check is a function whose docstring states the rule and its reason.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import documents, imports, layers, vocabulary  # noqa: E401,F401 (each adds its checks)
from tree import CHECKS, Tree

ROOT = Path(__file__).resolve().parents[2]


def self_test() -> list[str]:
    """Returns what the checks miss in their bad trees, and what they find in their good trees."""
    wrong = []
    for check in CHECKS:
        name = check.run.__name__
        found = [list(check.run(Tree.made_of(files))) for files in check.bad]
        wrong += [f"{name} finds nothing in {files}" for files, findings in zip(check.bad, found) if not findings]
        false_alarms = [finding for files in check.good for finding in check.run(Tree.made_of(files))]
        wrong += [f"{name} finds in a good tree: {finding}" for finding in false_alarms]
        wrong += [] if check.bad else [f"{name} has no bad tree"]
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/lint", description="Checks architecture, documents and vocabulary.")
    parser.add_argument("--self-test", action="store_true", help="test the checks")
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="the repository (default: this one)")
    args = parser.parse_args()
    tree = None if args.self_test else Tree.of_repository(args.root)
    wrong = self_test() if tree is None else sorted(finding for check in CHECKS for finding in check.run(tree))
    for problem in wrong:
        print(problem, file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
