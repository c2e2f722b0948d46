"""Finds import cycles between the files of src/. The compiler finds those between crates."""

from __future__ import annotations

import re
from typing import Iterator

from rust import Segments, Source, absolute, module_of
from tree import Finding, Tree, check

Graph = dict[str, dict[str, int]]


class Modules:
    """The files of src/ as modules, and where their names are defined."""

    def __init__(self, tree: Tree):
        files = [path for path in tree.matching(r"src/.*\.rs$") if path != "src/main.rs"]
        # Without a lib.rs, as in a small tree, the root of the crate is empty.
        self.sources = {"src/lib.rs": Source("", tests=False)}
        self.sources |= {path: Source(tree.text(path), tests=False) for path in files}
        self.file = {module_of(path): path for path in self.sources}

    def defines(self, module: Segments, name: str) -> bool:
        """Returns whether the module's file has an item of that name outside of any block."""
        kinds = r"(?:fn|struct|enum|trait|type|const|static|union|macro_rules!)"
        item = rf"^(?:pub(?:\([^)]*\))? )?(?:(?:async|const|unsafe) )*{kinds} {re.escape(name)}\b"
        return re.search(item, self.sources[self.file[module]].code, re.MULTILINE) is not None

    def imported(self, module: Segments, name: str, seen: frozenset) -> str | None:
        """Returns the file that defines what the module has imported under that name, by name or through a glob."""
        uses = self.sources[self.file[module]].uses
        named = [use.path for use in uses if use.alias == name]
        globs = [use.path + (name,) for use in uses if use.alias == "*"]
        found = (self.resolve(path, module, seen=seen) for path in named + globs)
        return next((file for file in found if file), None)

    def resolve(self, path: Segments, module: Segments, depth: int = 0, seen: frozenset = frozenset()) -> str | None:
        """Returns the file that defines what a path in `module` refers to; `None` for other crates and modules."""
        if (path, module) in seen:
            return None
        seen |= {(path, module)}
        rest = absolute(path, module, depth)
        if rest is None:
            head = path[0]
            if module + (head,) in self.file:
                rest = module + path
            else:
                uses = [use for use in self.sources[self.file[module]].uses if use.alias == head and use.path != path]
                whole = (self.resolve(use.path + path[1:], module, seen=seen) for use in uses)
                return next((file for file in whole if file), None)
        here, rest = rest[:1], rest[1:]
        for i, name in enumerate(rest):
            last = i == len(rest) - 1
            if last and self.defines(here, name):
                return self.file[here]
            if here + (name,) in self.file and not (last and self.imported(here, name, seen)):
                here += (name,)
                continue
            return self.imported(here, name, seen) or (self.file[here] if self.defines(here, name) else None)
        return None

    def imports(self, path: str) -> Iterator[tuple[str, int]]:
        """Yields the files that a file imports from, with the line of each import.

        A module that only re-exports what its children define does not import it; one that also uses it does.
        """
        source, module = self.sources[path], module_of(path)
        for use in source.uses:
            target = self.resolve(use.path, module, source.inline_depth(use.position))
            child = target is not None and module_of(target)[: len(module)] == module
            passed_on = use.public and child and not re.search(rf"\b{use.alias}\b", source.body)
            if use.alias == "*" and target is None:
                target = self.file.get(absolute(use.path, module, source.inline_depth(use.position)))
            if target and not passed_on:
                yield target, source.line(use.position)
        for name, position in source.paths:
            if target := self.resolve(name, module, source.inline_depth(position)):
                yield target, source.line(position)

    def graph(self) -> Graph:
        graph: Graph = {path: {} for path in self.sources}
        for path, targets in graph.items():
            for target, line in self.imports(path):
                if target != path:
                    targets.setdefault(target, line)
        return graph


def components(graph: Graph) -> Iterator[list[str]]:
    """Yields the groups of files that all reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> Iterator[list[str]]:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target not in index:
                yield from visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            yield stack[at:]
            del stack[at:]

    for node in graph:
        if node not in index:
            yield from visit(node)


@check(
    bad=[
        {"src/a.rs": "use crate::b::B;\npub struct A;", "src/b.rs": "pub struct B;\nfn f() { crate::a::A::new() }"},
        {"src/a/mod.rs": "mod b;\npub use b::B;\nfn f(b: B) {}\npub struct A;", "src/a/b.rs": "use super::A;\npub struct B;"},
        {
            "src/a/mod.rs": "mod b;\nmod c;\npub use {b::B, c::C};",
            "src/a/b.rs": "use super::{C};\npub struct B;",
            "src/a/c.rs": "use crate::a;\npub struct C(a::B);",
        },
    ],
    good=[
        {"src/a/mod.rs": "mod b;\npub use b::B;\npub struct A;", "src/a/b.rs": "use super::A;\npub struct B;"},
        {"src/a.rs": "use crate::b::B;\npub struct A;", "src/b.rs": "//! [`crate::a::A`]\npub struct B;"},
        {"src/a.rs": "use crate::b::B;\npub struct A;", "src/b.rs": "pub struct B;\n#[cfg(test)]\nuse crate::a::A;"},
    ],
)
def no_import_cycles(tree: Tree) -> Iterator[Finding]:
    """Files do not import each other, not even through others: a reader of one file in a cycle must read them all.

    Test code is ignored and may import anything.
    """
    graph = Modules(tree).graph()
    for files in components(graph):
        if len(files) > 1:
            circle = set(files)
            steps = [(a, line, b) for a in sorted(files) for b, line in graph[a].items() if b in circle]
            listed = "".join(f"\n    {a}:{line} imports {b}" for a, line, b in sorted(steps))
            advice = "move what several of them need into a file that imports none of them"
            yield Finding(steps[0][0], steps[0][1], f"import cycle of {len(files)} files; {advice}:{listed}")
