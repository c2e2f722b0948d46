"""Parses as much Rust as the checks need: code without comments, `use` declarations, the paths that a file names."""

from __future__ import annotations

import re
from typing import Iterator, NamedTuple

NOT_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|\bb?r(\#*)".*?"\1|\bb?"(?:\\.|[^"\\])*"|"(?:\\.|[^"\\])*"|'(?:\\[^\n]*?|[^'\\\n])'""", re.DOTALL
)
TEST_ITEM = re.compile(r"#\[cfg\((?:test|all\(test\b[^\]]*)\)\]")
USE = re.compile(r"\b(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);")
PATH = re.compile(r"(?<![\w:.$])[A-Za-z_]\w*(?:::[A-Za-z_]\w*)+")
INLINE_MODULE = re.compile(r"\bmod\s+\w+\s*\{")

#: The folders of src that are crates of their own. Every other file belongs to `rollcall`.
CRATES = {
    "src/fleet": "rollcall_fleet",
    "src/inference/embeddings": "rollcall_embeddings",
    "src/inference/vision": "rollcall_vision",
    "src/simulator": "rollcall_simulator",
}

Segments = tuple[str, ...]


class Use(NamedTuple):
    """One name that a `use` declaration brings into scope: `alias` is "*" for a glob."""

    path: Segments
    alias: str
    position: int
    public: bool


def blank(text: str) -> str:
    """Returns the text with everything except line breaks replaced by spaces."""
    return re.sub(r"[^\n]", " ", text)


def code(text: str) -> str:
    """Returns the text with comments, strings and characters blanked, so that lines and positions stay the same."""
    return NOT_CODE.sub(lambda match: blank(match[0]), text)


def block_end(text: str, start: int) -> int:
    """Returns the position after the block whose `{` is the first at or after `start`."""
    depth = 0
    for brace in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return len(text)


def without_tests(text: str) -> str:
    """Returns the code with each item under `#[cfg(test)]` blanked."""
    while match := TEST_ITEM.search(text):
        end = re.compile(r"use\b[^;]*;|[;{]").search(text, match.end())
        stop = len(text) if end is None else block_end(text, end.start()) if end[0] == "{" else end.end()
        text = text[: match.start()] + blank(text[match.start() : stop]) + text[stop:]
    return text


def split_at_commas(tree: str) -> Iterator[str]:
    """Splits the content of a `use` tree's braces at the commas of the outermost level."""
    depth, begin = 0, 0
    for i, char in enumerate(tree):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            yield tree[begin:i]
            begin = i + 1
    yield tree[begin:]


def expand(tree: str, prefix: Segments = ()) -> Iterator[tuple[Segments, str]]:
    """Yields the path and the alias of each name of a `use` tree such as `a::{self, b as c, d::*}`."""
    tree = tree.strip()
    if tree.endswith("}"):
        head, braces = tree.split("{", 1)
        inner = prefix + tuple(s.strip() for s in head.split("::") if s.strip())
        for part in split_at_commas(braces[:-1]):
            if part.strip():
                yield from expand(part, inner)
        return
    name, _, alias = (part.strip() for part in tree.partition(" as "))
    path = prefix + tuple(s.strip() for s in name.split("::") if s.strip())
    if path[-1] == "self" and len(path) > 1:
        path = path[:-1]
    yield (path[:-1], "*") if path[-1] == "*" else (path, alias or path[-1])


class Source:
    """A Rust file: its `use` declarations, and every path that it names elsewhere, with their positions."""

    def __init__(self, text: str, tests: bool):
        stripped = code(text)
        self.code = stripped if tests else without_tests(stripped)
        self.uses = [
            Use(path, alias, match.start(), bool(match[1]))
            for match in USE.finditer(self.code)
            for path, alias in expand(match[2])
        ]
        #: The code without its `use` declarations.
        self.body = USE.sub(lambda match: blank(match[0]), self.code)
        self.paths = [(tuple(match[0].split("::")), match.start()) for match in PATH.finditer(self.body)]
        self._inline = [(m.start(), block_end(self.code, m.start())) for m in INLINE_MODULE.finditer(self.code)]

    def line(self, position: int) -> int:
        return self.code.count("\n", 0, position) + 1

    def inline_depth(self, position: int) -> int:
        """Returns how many inline modules the position is in."""
        return sum(start < position < end for start, end in self._inline)


def module_of(path: str) -> Segments:
    """Returns the crate and the module of a file: ("rollcall_fleet", "policy") for src/fleet/policy/mod.rs."""
    folder, crate = next((entry for entry in CRATES.items() if path.startswith(entry[0] + "/")), ("src", "rollcall"))
    parts = path.removeprefix(folder + "/").removesuffix(".rs").split("/")
    if parts[-1] in ("mod", "lib", "main"):
        parts.pop()
    return (crate, *parts)


def absolute(path: Segments, module: Segments, inline_depth: int = 0) -> Segments | None:
    """Returns the path from the name of the crate, if it starts with `crate`, `self` or `super`."""
    head, rest = path[0], path[1:]
    if head == "crate":
        return module[:1] + rest
    if head == "self":
        return None if inline_depth else module + rest
    supers = next((i for i, name in enumerate(path) if name != "super"), len(path))
    if supers == 0:
        return None
    up = max(supers - inline_depth, 0)
    return module[: len(module) - up] + path[supers:]
