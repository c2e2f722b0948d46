"""Checks that the documents refer only to what exists."""

from __future__ import annotations

import posixpath
import re
from typing import Iterator

from tree import Finding, Tree, check

DOCUMENTS = r"(README|ARCHITECTURE)\.md$|docs/.*\.md$"
# A path that begins a span in backticks or a line of a code block; a line number or words may follow.
FOLDERS = "src|docs|tests|config|deploy|tools|pages|benches|examples"
NAMED = re.compile(rf"(?:`|^ {{4,}})((?:{FOLDERS})/[\w./-]*)(?=[`:\s]|$)")
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


@check(
    bad=[{"README.md": "See `src/absent.rs`."}, {"docs/a.md": "Of `config/` there is none."}, {"docs/a.md": "    src/a.rs   what"}],
    good=[{"README.md": "`src/a/`, `src/a/b.rs`, `src/a/b.rs:3`, `ORT/src/x`", "src/a/b.rs": ""}],
)
def named_paths_exist(tree: Tree) -> Iterator[Finding]:
    """A path in backticks, or at the start of a line of a code block, names an existing file or folder.

    A stale path misleads the reader.
    """
    for path, line, text in tree.lines(DOCUMENTS):
        for match in NAMED.finditer(text):
            if not tree.has(match[1].rstrip("/.")):
                yield Finding(path, line, f"{match[1]} does not exist: correct the path")


@check(
    bad=[{"docs/a.md": "[there](b.md)"}, {"README.md": "![page](docs/page.png)"}],
    good=[{"docs/adr/a.md": "[b](../b.md#part) [c](https://example.org/c) [d](#d)", "docs/b.md": ""}],
)
def links_resolve(tree: Tree) -> Iterator[Finding]:
    """A relative link refers to a file or a folder of the repository."""
    for path, line, text in tree.lines(r".*\.md$"):
        for match in LINK.finditer(text):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[1]))
            if not re.match(r"\w+:", match[1]) and not tree.has(target):
                yield Finding(path, line, f"the link refers to {target}, which does not exist")
