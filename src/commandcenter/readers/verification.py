"""Tells commands from prose. When in doubt it is prose: a sentence must never be executed.

Nothing is ever invented, and what the plan expects to fail never becomes a command that must pass.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from commandcenter.core.plan import Diagnostic, Verification, VerificationKind
from commandcenter.readers.markdown import Block, Field, spans, text_lines, without_spans

_SHELLS = {"bash", "sh", "shell", "zsh", "console", "shell-session", "shellsession"}
_NOTHING = re.compile(r"(none|n/?a|-|–|—|nothing)\.?", re.IGNORECASE)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BARE = _words(
    """
    awk basename bash bats black bun bundle bzip2 cargo cat cd chmod cmake cmp composer cp ctest
    curl deno df diff dirname docker dotnet du echo egrep env eslint fgrep find flake8 gcc g++
    false git go gofmt gradle grep head helm isort java javac jest jq kubectl ls make mkdir mvn
    mypy nix node nox npm npx perl php phpunit pip pip3 playwright pnpm poetry pre-commit prettier
    printf psql pwd pylint pyright pytest python python3 rake realpath rg rspec ruby ruff rustc
    sed sh sha256sum shellcheck sort sqlite3 stat swift tail tar terraform test tox tr true tsc
    uniq uv uvx vitest wc xargs yarn yq zig zsh
    """
)
_ALONE = frozenset({"false", "make", "mypy", "nox", "pytest", "tox", "true"})
_VERBS = {
    "bundle": "exec install",
    "cargo": "build check test clippy fmt run bench doc",
    "composer": "test install validate",
    "docker": "build",
    "dotnet": "build test run format",
    "git": "status diff log fsck",
    "go": "build test vet run fmt generate list",
    "make": "all build check ci clean fmt format install lint test tests typecheck verify",
    "npm": "test ci run install build",
    "nox": "",
    "pnpm": "test run build lint",
    "poetry": "run check build",
    "uv": "run sync build",
    "yarn": "test run build lint",
}
_SENTENCE = _words(
    """
    a an and any are as be been but by can cannot correctly could do does each error errors every
    exist exists fail fails failing file files has have if is it its must no nor not of only or
    output outputs pass passed passes present print prints raise raises return returned returns
    runs should shows shown succeed succeeds successfully sure that the their then there these
    this to valid was were when will with accepts allows builds compiles completes contains
    creates displays equals finds finishes found gives handles includes lists loads matches
    produces remains reports responds says starts supports yields installed required without work
    works
    """
)
_ARGUMENT = re.compile(r"""^-{1,2}[A-Za-z]|[/*=$<>|"']|[\w-]\.[A-Za-z]\w*$""")
_READERS = frozenset({"cat", "ls", "wc"})
"""Programs that no sentence begins with: one plain word after them is a file."""
_BARE_MAX = 2_000
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=\S*")
_PROGRAM = re.compile(r"(\./|\.\./|[a-z0-9_.-]+/)[\w./-]+|[a-z][a-z0-9_.+-]*")

_LEAD = re.compile(r"^(run|execute|command|cmd|check|verify)\s*:?\s*", re.IGNORECASE)
_TOLD = re.compile(r"^(?:run|execute|command|cmd)\s*:\s*", re.IGNORECASE)
_IN_QUOTES = re.compile(r""" "(?:\\.|[^"\\])*" | '[^']*' """, re.VERBOSE | re.DOTALL)
_PASSES = re.compile(
    r"""[\s,:]*(?:should\s+|must\s+|will\s+)?
    (?:pass(?:es)?|succeeds?|works?|runs?|is\s+(?:green|clean)|are\s+green|complet(?:es|e)
    |exits?(?:\s+with)?(?:\s+(?:code|status))?\s+(?:0|zero)|returns?\s+(?:0|zero)
    |expected:?\s*pass)?
    \s*(?:cleanly|successfully|without\s+(?:any\s+)?errors?|with\s+no\s+errors?)?[\s.]*""",
    re.IGNORECASE | re.VERBOSE,
)
_REMARK = re.compile(r"\s*(?:[-–—#]|→|->|=>|\()\s*(?P<words>.*)", re.DOTALL)
_FAILURE = re.compile(
    r"\b(?P<no>(?:no|not|never|without|zero|0|n't|cannot)(?:\s+\w+)?\s+)?"
    r"(?P<word>fail(?:s|ed|ing|ures?)?|errors?|red|non-?zero|(?:exits?|returns?)"
    r"(?:\s+with)?(?:\s+(?:code|status))?\s+[1-9]\d*)\b",
    re.IGNORECASE,
)
_EXPECTED = re.compile(
    r"\b(?:expect(?:s|ed|ing)?|should|will|must|supposed|intended|going|want)\b"
    r"(?P<between>[^.;\n]{0,40}?)"
    r"\b(?:fail(?:s|ed|ing|ures?)?|errors?|red|non-?zero)\b",
    re.IGNORECASE,
)
_NEGATED = re.compile(r"\b(?:no|not|never|without|zero|0|any)\b|n't\b", re.IGNORECASE)


class _Item:
    """One thing that a verification field asks for, not yet typed."""

    def __init__(self, text: str, line: int, *, shell: bool = False, code: bool = False) -> None:
        self.text = text
        self.line = line
        self.shell = shell
        """Whether it is the content of a shell block."""
        self.code = code
        """Whether it is the content of any code block."""
        self.fails = expected_to_fail(text if shell else without_spans(text))


def verification(field: Field) -> tuple[list[Verification], list[Diagnostic]]:
    """Return the typed items of a verification field, and what could be mistaken in them."""
    items = list(_items(field))
    _taint(items)
    found: list[Verification] = []
    doubts: list[Diagnostic] = []
    for item in items:
        command = None if item.fails else _command(item)
        if command is not None:
            found.append(Verification(VerificationKind.COMMAND, command, item.line))
        else:
            found.append(Verification(VerificationKind.PROSE, item.text.strip(), item.line))
            doubts += _doubts(item)
    return found, doubts


def expected_to_fail(text: str) -> bool:
    """Say whether a text speaks of something that shall fail, such as `Expected: FAIL`."""
    return any(not _NEGATED.search(found["between"]) for found in _EXPECTED.finditer(text))


def _items(field: Field) -> Iterator[_Item]:
    """Give the items of a field: its own text, then those of each block."""
    if field.value and not _NOTHING.fullmatch(field.value):
        yield _Item("\n".join(t.text for t in field.texts).strip(), field.line)
    for block in field.blocks:
        yield from _of_block(block)


def _of_block(block: Block) -> Iterator[_Item]:
    inside = [part for part in block.walk() if part.kind in ("paragraph", "fence", "code_block")]
    items = [_part(part) for part in inside]
    # "Run: `x`" with "Expected: FAIL" in the same list item is one statement.
    if any(item.fails for item in items):
        for item in items:
            item.fails = True
    yield from (item for item in items if item.text and not _NOTHING.fullmatch(item.text))


def _part(part: Block) -> _Item:
    if part.kind == "paragraph":
        text = "\n".join(line.text.strip() for line in text_lines(part))
        return _Item(re.sub(r"^\[[ xX]\]\s+", "", text), part.line)
    shell = part.kind == "fence" and part.info.strip().split(" ")[0].casefold() in _SHELLS
    return _Item(part.text.strip("\n"), part.line, shell=shell, code=True)


def _taint(items: list[_Item]) -> None:
    """Let a remark that something shall fail reach the item it speaks of.

    `Expected: FAIL` speaks of the one before it, `This will fail:` of the one after it.
    """
    remarks = [item for item in items if item.fails and not spans(item.text) and not item.shell]
    for remark in remarks:
        position = items.index(remark)
        neighbour = position + 1 if remark.text.rstrip().endswith(":") else position - 1
        if 0 <= neighbour < len(items) and (items[neighbour].shell or spans(items[neighbour].text)):
            items[neighbour].fails = True


def _command(item: _Item) -> str | None:
    if item.shell:
        return _script(item.text)
    if item.code:
        return None
    if spans(item.text):
        return _quoted(item.text)
    bare = _TOLD.sub("", item.text.strip())
    return bare if _bare(bare) else None


def _script(text: str) -> str | None:
    """Return a shell block as one command that stops at the first line that fails."""
    lines = text.split("\n")
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    code = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not code:
        return None
    return "\n".join(["set -e", *lines]) if len(code) > 1 else code[0].strip()


def _quoted(text: str) -> str | None:
    """Return the command of an item with one code span, if the rest says no more than 'run it'."""
    found = spans(text)
    before, _, after = without_spans(text, "\0").partition("\0")
    after = " ".join(f".{after}.".split())[1:-1]
    if len(found) != 1 or not (not before.strip() or _LEAD.fullmatch(before.strip() + " ")):
        return None
    remark = _REMARK.fullmatch(after)
    plain = not after.strip() or bool(_PASSES.fullmatch(after))
    if not plain and (remark is None or _speaks_of_failure(remark["words"])):
        return None
    return found[0].strip() if _program(found[0].strip(), whole=plain) else None


def _speaks_of_failure(words: str) -> bool:
    return any(not found["no"] for found in _FAILURE.finditer(words))


def _program(text: str, *, whole: bool) -> bool:
    """Say whether the content of a code span is a command line rather than a name or a value."""
    words = text.split()
    while words and _ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    if not words:
        return False
    first = words[0]
    if len(words) == 1:
        return first in _ALONE or first.startswith("./")
    if first in _BARE or first.startswith("./") or first in ("!", "[", "[["):
        return True
    return whole and bool(_PROGRAM.fullmatch(first)) and not _sentence(words)


def _bare(text: str) -> bool:
    """Say whether text without code spans is a command: a known program and its arguments."""
    if "\n" in text or len(text) > _BARE_MAX or not _splits(text):
        return False
    words = text.split()
    while words and _ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    if not words or not (words[0] in _BARE or words[0].startswith("./")):
        return False
    rest = words[1:]
    if not rest:
        return words[0] in _ALONE or words[0].startswith("./")
    outside = _IN_QUOTES.sub("", text).split()[1:]
    if _sentence(outside):
        return False
    if rest[-1].endswith((".", "!", "?", ":")) and not re.search(r"/|^\.+$", rest[-1]):
        return False
    if len(rest) == 1 and words[0] in _READERS:
        return True
    verbs = _words(_VERBS.get(words[0], ""))
    return rest[0] in verbs or any(_ARGUMENT.search(word) for word in rest)


def _sentence(words: list[str]) -> bool:
    return any(word.rstrip(",.;:").casefold() in _SENTENCE for word in words)


def _splits(text: str) -> bool:
    try:
        return bool(shlex.split(text))
    except ValueError:
        return False


def _doubts(item: _Item) -> Iterable[Diagnostic]:
    """Warn of prose in which somebody may see a command."""
    subject = item.text.split("\n")[0].strip()[:60]
    if item.fails:
        message = f"not run, since it is expected to fail: {subject}"
        hint = "verification must pass when the task is done; leave this to the agent"
        yield Diagnostic("W125", message, item.line, hint=hint, subject=subject)
    elif item.shell or any(_program(s.strip(), whole=False) for s in spans(item.text)):
        message = f"not run, since it is not only a command: {subject}"
        hint = "put the command alone in backticks to have it run"
        yield Diagnostic("W123", message, item.line, hint=hint, subject=subject)
    elif not spans(item.text) and _LEAD.sub("", item.text, count=1).split(" ")[0] in _BARE:
        message = f"read as a sentence, not run: {subject}"
        hint = "put it in backticks if it is a command"
        yield Diagnostic("W123", message, item.line, hint=hint, subject=subject)
