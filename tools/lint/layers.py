"""Checks which code may use what: the pure core, the layers, jobs without their meaning. Also the length of files."""

from __future__ import annotations

import re
from typing import Iterator

from rust import Segments, Source, absolute, module_of
from tree import Finding, Tree, check

MAX_LINES = 450

# Crates and paths that do I/O, spawn threads or read the clock, or that depend on such code.
IMPURE_CRATES = r"rollcall|actix\w*|tokio\w*|aws_\w+|reqwest|redb|tarpc"
IMPURE_PATHS = [
    *(("std", name) for name in ("env", "fs", "net", "process", "thread")),
    ("std", "time", "Instant"),
    ("std", "time", "SystemTime"),
]


def named(tree: Tree, path: str, tests: bool) -> Iterator[tuple[Segments, int]]:
    """Yields every path that a file names, in full: from the name of a crate.

    An imported name at the start of a path is replaced by the path from which it was imported. A glob ends with "*".
    """
    source, module = Source(tree.text(path), tests), module_of(path)
    alias = {use.alias: use.path for use in source.uses}

    def whole(segments: Segments, position: int) -> Segments:
        return absolute(segments, module, source.inline_depth(position)) or segments

    for use in source.uses:
        end = ("*",) if use.alias == "*" else ()
        yield whole(use.path, use.position) + end, source.line(use.position)
    for segments, position in source.paths:
        segments = alias.get(segments[0], segments[:1]) + segments[1:]
        yield whole(segments, position), source.line(position)


def reaches(segments: Segments, forbidden: Segments) -> bool:
    """Returns whether the path is the forbidden one, is below it, or is a glob that brings it into scope."""
    if segments[-1] == "*" and forbidden[: len(segments) - 1] == segments[:-1]:
        return True
    return segments[: len(forbidden)] == forbidden


@check(
    bad=[
        {"src/fleet/a.rs": "use tokio::time::sleep;"},
        {"src/fleet/Cargo.toml": '[dependencies]\naws-config = "1"'},
        {"src/simulator/Cargo.toml": '[dependencies]\nrollcall = { path = "../.." }'},
        {"src/simulator/a.rs": "use std::time;\nfn f() { time::Instant::now(); }"},
        {"src/simulator/a.rs": "fn f() { std::fs::read(1) }"},
        {"src/fleet/a.rs": "use std::time::*;"},
    ],
    good=[
        {"src/fleet/a.rs": "//! Not of tokio::time.\nuse std::time::Duration;\nuse crate::{b::B};\nuse super::c;"},
        {"src/fleet/a.rs": "#[cfg(test)]\nmod tests {\n    fn f() { std::fs::read(1) }\n}"},
        {"src/actors/a.rs": "use tokio::time::Instant;"},
        {"src/simulator/Cargo.toml": '[package]\nname = "rollcall-simulator"\n[dependencies]\nrollcall-fleet = { path = "../fleet" }'},
    ],
)
def pure_core(tree: Tree) -> Iterator[Finding]:
    """The fleet's core and its simulator are functions of their arguments: no runtime, no I/O, no clock, no adapters.

    The same decisions therefore run on AWS, with child processes and in the simulator, and every history can be
    replayed. Tests may read files.
    """
    for path in tree.matching(r"src/(fleet|simulator)\b(?!.*\btests\.rs).*\.rs$"):
        for segments, line in named(tree, path, tests=False):
            if re.fullmatch(IMPURE_CRATES, segments[0]) or any(reaches(segments, forbidden) for forbidden in IMPURE_PATHS):
                yield Finding(path, line, f"{'::'.join(segments)} in the pure core: pass in the value, or move the code out")
    for path, line, text in tree.lines(r"src/(fleet|simulator)/Cargo\.toml$"):
        dependency = re.match(r"([\w-]+) *= *[\"{]", text)
        if dependency and re.fullmatch(IMPURE_CRATES, dependency[1].replace("-", "_")):
            yield Finding(path, line, f"the pure core depends on {dependency[1]}: move what needs it out")


@check(
    bad=[
        {"src/cli/enroll.rs": "use crate::{fleet::Depth, simulator::Trace};"},
        {"src/app/mod.rs": "fn f() { crate::simulator::simulate() }"},
        {"src/fleet/a.rs": "use rollcall_simulator::Trace;"},
        {"src/cli/tuner.rs": "use crate::simulator::Trace;"},
    ],
    good=[{"src/cli/load/prediction.rs": "use crate::simulator::Trace;", "src/cli/judge.rs": "use crate::simulator::Trace;", "src/cli/tune/a.rs": "use crate::simulator::Run;", "src/cli/simulate/text.rs": "use crate::simulator::Report;", "src/lib.rs": "pub use rollcall_simulator as simulator;"}],
)
def nothing_depends_on_the_simulator(tree: Tree) -> Iterator[Finding]:
    """Only the commands that simulate use the simulator, and the page of their results, so that it can change freely."""
    for path in tree.matching(r"src/(?!simulator\b|cli/(?:simulate|judge|tune|load|report_page)\b|lib\.rs).*\.rs$"):
        for segments, line in named(tree, path, tests=True):
            if segments[0] == "rollcall_simulator" or reaches(segments, ("rollcall", "simulator")):
                yield Finding(path, line, "only src/cli/simulate, judge, tune, load and report_page may use the simulator: move what is shared to src/fleet")


@check(
    bad=[{"src/cloud/mod.rs": "//! Where a Gallery is kept."}, {"src/worker/pool.rs": "let face = 1;"}],
    good=[{"src/worker/pool.rs": "//! An interface of surfaces."}, {"src/inference/face.rs": "struct Face;"}],
)
def job_is_not_the_face(tree: Tree) -> Iterator[Finding]:
    """Actors, fleet, cloud and worker know of jobs, not of faces: another handler must run on them without a change."""
    subject = re.compile(r"galler|embedding|recogniser|recognition|\bfaces?\b", re.IGNORECASE)
    for path, line, text in tree.lines(r"src/(actors|fleet|cloud|worker)\b.*\.rs$"):
        if match := subject.search(text):
            yield Finding(path, line, f'"{match[0]}" in the runtime: say job, payload or result, or move it to src/inference')


# Crates by pattern, the files that may name them, and where such code belongs.
OWNERS = [
    (r"actix\w*", r"src/(actors|http|app|client|testing|main)\b", "src/actors, src/http or src/app"),
    (r"aws_\w+", r"src/cloud/aws\b", "src/cloud/aws, behind a port"),
    (r"bincode", r"src/wire\.rs", "src/wire.rs"),
]


@check(
    bad=[
        {"src/worker/pool.rs": "use actix::Addr;"},
        {"src/http/a.rs": "fn f() { aws_sdk_sqs::Client::new() }"},
        {"src/results/mod.rs": "use bincode::config;"},
    ],
    good=[
        {"src/http/a.rs": "use actix_web::web;", "src/wire.rs": "use bincode::config;"},
        {"src/cloud/aws/a.rs": "use aws_sdk_sqs::Client;\n#[cfg(test)]\nmod tests {\n #[actix::test]\n fn f() {}\n}"},
    ],
)
def crates_stay_in_their_layer(tree: Tree) -> Iterator[Finding]:
    """actix, the AWS SDK and bincode are each used in one layer, so that each can be replaced. Tests may use them."""
    for path in tree.matching(r"src/(?!.*\btests\.rs).*\.rs$"):
        for segments, line in named(tree, path, tests=False):
            for crate, files, place in OWNERS:
                if re.fullmatch(crate, segments[0]) and not re.match(files, path):
                    yield Finding(path, line, f"{segments[0]} outside its layer: move the code to {place}")


@check(
    bad=[{"src/actors/batch.rs": "struct Batch;"}],
    good=[{"src/actors/a.rs": "impl Actor for A {}", "src/actors/a/tests.rs": "", "src/actors/actor_ref.rs": ""},
          {"src/actors/a.rs": "impl Actor for A {}", "src/actors/a/tests/b.rs": ""}],
)
def actors_folder_holds_actors(tree: Tree) -> Iterator[Finding]:
    """Each file of src/actors has an actor with its messages; code without one is easier to use and test elsewhere."""
    for path in tree.matching(r"src/actors/(?!(.*/)?((mod|actor_ref|tests)\.rs$|tests/)).*\.rs$"):
        if not re.search(r"\bimpl(<.*>)? (actix::)?Actor for\b", tree.text(path)):
            yield Finding(path, 1, "no actor in this file: move it to the component that it belongs to")


@check(
    bad=[{"src/a.rs": "//\n" * (MAX_LINES + 1)}],
    good=[{"src/a.rs": "//\n" * MAX_LINES, "tests/a.rs": "//\n" * 2 * MAX_LINES}],
)
def files_are_short(tree: Tree) -> Iterator[Finding]:
    """A longer file does more than one thing."""
    for path in tree.matching(r"src/.*\.rs$"):
        if (length := tree.text(path).count("\n")) > MAX_LINES:
            yield Finding(path, length, f"{length} lines, more than {MAX_LINES}: split it by what its parts do")
