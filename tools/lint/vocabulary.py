"""Checks that each concept has one name, the standard term of the field."""

from __future__ import annotations

import re
from typing import Iterator, NamedTuple

from tree import Finding, Tree, check

TEXTS = r"(?!tools/lint/vocabulary\.py$)(.*\.(rs|py|md|toml|js|html|css|yaml|sh|service)|Makefile)$"


class Term(NamedTuple):
    """What not to write, as a regular expression; what to write instead; an example that it finds; in which files.

    A pattern without capital letters ignores case.
    """

    pattern: str
    instead: str
    example: str
    files: str = ""

    def compiled(self) -> re.Pattern:
        capitals = re.search(r"[A-Z]", re.sub(r"\\[A-Z]", "", self.pattern))
        return re.compile(self.pattern, re.MULTILINE | (0 if capitals else re.IGNORECASE))


class Allowed(NamedTuple):
    """Lines on which a term is allowed, and why."""

    path: str
    line: str
    reason: str


# What follows the name of a type, but not the first word of a sentence.
TYPE = r"\b(?=[ ]*(?:[{(,;>)=]|::|$))"
UNIT = "codegen unit|command|crate|file|folder|image|instance|job|key|label|line|person|photo|role|row|thread|worker"
QUEUES = r"docs/|src/(actors|cloud|worker)/|tests/(aws|cloud)/"

TERMS = [
    Term(r"\bcompany\b", "batching, linger", "waits for company"),
    Term(r"\b(GLANCE|WORTH)\b", "MIN_LINGER, MIN_HIT_RATE", "const GLANCE: u8 = 1;"),
    Term(r"look_?ahead|\b(look|ask)s? ahead\b", "prefetch", "struct LookAhead;"),
    Term(r"\bhorizon\b", "max_prefetch_delay", "the horizon", r"src/(actors|cloud|settings|worker)/"),
    Term(r"\bplenty\b", "batch_was_full, many", "plenty: bool"),
    Term(rf"\bUsual{TYPE}", "ServiceTime", "Usual { mean, most }"),
    Term(rf"\bLearned{TYPE}", "ServiceTimeEstimator, LearnedTimes", "struct Learned {"),
    Term(rf"\bAskCapacity\b|\bAsk{TYPE}", "PollDecision, RequestCapacity", "Ask::Now"),
    Term(rf"\bLookOnce\b|\bQuiet{TYPE}", "FinalPoll, QueueEmpty", "struct Quiet;"),
    Term(r"\blast look\b", "final poll", "A last look at the queue"),
    Term(rf"\bAbandon{TYPE}", "Nack", "Abandon(receipt)"),
    Term(r"\b(giv(e|es|en|ing)|gave) ((it|them|jobs?|messages?) )?back\b", "return to the queue", "gives it back", QUEUES),
    Term(r"\b(send|put)_soon\b", "send_buffered, put_buffered", "queue.send_soon(batch)"),
    Term(r"\b(story|stories|tales?)\b|what it did\b", "event log, events", "the story of the fleet"),
    Term(r"\bscribe\b", "EventRecorder, recorder", "let scribe = 1;"),
    Term(r"\bhear\(|\b(core|controller|it) (hears?|heard)\b", "record, receive", "what the core hears"),
    Term(r"\b(former|earlier) (life|lives)\b|\b(life|lives) of (a|the) controller\b", "epoch", "a life of the controller"),
    Term(r"\bsettl(e|es|ed|ing)\b", "what it does: persist, prune, bill, end", "settles the job"),
    Term(r"\b(hungry|quiet)_since\b|\bhungry\b", "backlog_since, empty_since", "hungry_since"),
    Term(r"\bdoubts?\b|\bdoubtful\b", "uncertain", "doubts keep their place"),
    Term(r"\bcondemned\b", "orphaned launches", "condemned: Vec<Token>"),
    Term(rf"\bLeaving{TYPE}", "Terminating", "State::Leaving,"),
    Term(rf"\b(Turns|Pace){TYPE}", "RateLimits, TokenBucket", "struct Pace {"),
    Term(r"\bdoors?\b|\bknock(s|ed|ing)?\b", "origin_guard, host and origin checks", "who may knock"),
    Term(r"\bWard\b|\bIrreplaceable\b", "Supervised", "struct Ward;"),
    Term(r"\birreplaceable\b", "fail_fast", "irreplaceable: bool"),
    Term(r"\b(the|a) (listener|speaker)\b|\b(listener|speaker) queue", "request queue, reply queue", "the speaker queue"),
    Term(r"(?<![\w.-])speakers?(?![\w-])", "replies", "let speaker = queue;", r".*\.rs$"),
    Term(r"\bPolicy::Report\b|\bpolicy( |=| = )[`\"]?report\b", "one-per-job", "--policy report"),
    Term(r"\bthere\.rs\b|\bShelves\b", "commands.rs, StoreProbe", "struct Shelves;"),
    Term(r"\bluck\b", "dispatch_rng", "let luck = 1;"),
    Term(r"(\b|_)roads?(\b|_)", "request path, end to end", "mod whole_road;"),
    Term(r"\bhouses?\b", "crate", "the house's rule"),
    Term(r"\bwhat calls cost\b", "API calls per image", "What calls cost"),
    Term(rf"\b(a|one) ({UNIT}) an? ({UNIT})\b", "one ... per ...", "a line a file"),
    Term(r"\beach third of\b", "every third", "each third of it"),
    Term(r"\bshall\b", "must", "it shall stop"),
    Term(r"\bnotes that (it|they)\b", "reports", "notes that it stops"),
    Term(r"\btold to\b", "asked to", "is told to stop"),
]

ALLOWED = [
    Allowed(r"src/settings/", r"\bspeaker\b", "the configuration key queue.speaker"),
]


# The end of a line, with the indentation and the comment marker of the next line.
BREAK = re.compile(r"[ \t]*\n[ \t]*(?:(?://[/!]?|#+|\*|>)(?=[ \t]))?[ \t]*")


def phrases(pattern: re.Pattern, text: str) -> Iterator[tuple[int, str]]:
    """Yields line and text of each match, within one line or across the break between two lines of prose."""
    for match in pattern.finditer(text):
        yield text.count("\n", 0, match.start()), match[0]
    if " " not in pattern.pattern:
        return
    breaks = list(BREAK.finditer(text))
    for line, (before, after) in enumerate(zip(breaks, [*breaks[1:], None])):
        first = text.rfind("\n", 0, before.start()) + 1
        left, right = text[first : before.start()], text[before.end() : after.start() if after else len(text)]
        for match in pattern.finditer(f"{left} {right}"):
            if match.start() <= len(left) < match.end() - 1:
                yield text.count("\n", 0, first), match[0]


def allowances(path: str, text: str) -> list[Allowed]:
    return [allowed for allowed in ALLOWED if re.match(allowed.path, path) and re.search(allowed.line, text)]


def example_path(term: Term) -> str:
    return "src/cloud/a.rs" if term.files.startswith((r"src/", r"docs/")) else "a.rs"


@check(
    bad=[{example_path(term): term.example} for term in TERMS] + [{"docs/the-story.md": ""}]
    + [{"a.rs": "    // A last\n    // look"}, {"a.md": "the last\nlook"}],
    good=[
        {"a.md": "Turns the page.\nAsk for it.\nQuiet is kept. At the pace of AWS; worth it. A railroad."},
        {"a.rs": "let listener = TcpListener::bind(settings.queue.speaker);", "src/settings/a.rs": "speaker: l.text(1),"},
    ],
)
def terms_of_the_field(tree: Tree) -> Iterator[Finding]:
    """Code, comments, documents, pages and messages use terms that an engineer of the field knows, one per concept.

    The names of files are checked too. An allowance that nothing needs is a finding, so that the list stays short.
    """
    unused = set(ALLOWED)
    texts = [(path, f"{path}\n{tree.text(path) if re.match(TEXTS, path) else ''}") for path in tree.paths]
    for term in TERMS:
        pattern = term.compiled()
        for path, text in texts if not term.files else [pair for pair in texts if re.match(term.files, pair[0])]:
            for line, match in phrases(pattern, text):
                allowed = allowances(path, text.splitlines()[line])
                unused -= set(allowed)
                if not allowed:
                    yield Finding(path, max(line, 1), f'"{match.strip()}": say {term.instead}')
    if tree.has("tools/lint"):
        for allowed in unused:
            yield Finding("tools/lint/vocabulary.py", 1, f"nothing needs the allowance for {allowed.reason}: remove it")
