"""The files that are checked, the findings, and the list of checks."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Callable, Iterable, Iterator, NamedTuple


class Finding(NamedTuple):
    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class Tree:
    """A set of files by their paths from the root of the repository, with `/` as separator."""

    def __init__(self, paths: Iterable[str], read: Callable[[str], str]):
        self.paths = sorted(paths)
        self.text = cache(read)
        self._known = set(self.paths) | {"/".join(path.split("/")[:n]) for path in self.paths for n in range(path.count("/") + 1)}

    @classmethod
    def of_repository(cls, root: Path) -> Tree:
        """Returns the files that git tracks, and new ones that it does not ignore."""
        git = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(git, check=True, capture_output=True, text=True).stdout.split("\0")
        present = {path for path in listed if path and (root / path).is_file()}
        return cls(present, lambda path: (root / path).read_text(encoding="utf-8"))

    @classmethod
    def made_of(cls, files: dict[str, str]) -> Tree:
        return cls(files, lambda path: files[path])

    def matching(self, pattern: str) -> list[str]:
        """Returns the paths that the regular expression matches from their start."""
        return [path for path in self.paths if re.match(pattern, path)]

    def has(self, path: str) -> bool:
        """Returns whether there is a file or a folder with that path."""
        return path in self._known

    def lines(self, pattern: str) -> Iterator[tuple[str, int, str]]:
        """Yields path, number and text of each line of the files whose path the regular expression matches."""
        for path in self.matching(pattern):
            for number, line in enumerate(self.text(path).splitlines(), 1):
                yield path, number, line


class Check(NamedTuple):
    """A check, and the small trees that test it: it finds something in each of `bad`, and nothing in `good`."""

    run: Callable[[Tree], Iterator[Finding]]
    bad: list[dict[str, str]]
    good: list[dict[str, str]]


CHECKS: list[Check] = []


def check(bad: list[dict[str, str]], good: list[dict[str, str]] = ()):
    """Adds a function to the checks."""

    def add(run: Callable[[Tree], Iterator[Finding]]):
        CHECKS.append(Check(run, list(bad), list(good)))
        return run

    return add
