"""Which lines of a file a unified diff shows: only those can carry an inline comment."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_NEW_FILE = "+++ "
_ESCAPED = re.compile(rb"\\([0-7]{3}|.)")
_LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_LETTERS |= {b"v": b"\v"}


@dataclass(frozen=True)
class DiffLines:
    """1-based line numbers inside the hunks of one file's patch, context included."""

    old: frozenset[int] = frozenset()
    new: frozenset[int] = frozenset()
    unchanged: Mapping[int, int] = field(default_factory=dict)
    """Of each line that is in both files, by its number in the new one: that in the old one."""


@dataclass(frozen=True)
class _Line:
    """A line of a hunk: its number in the old and in the new file, 0 where it is not in."""

    file: str
    old: int
    new: int


def diff_lines(patch: str) -> DiffLines:
    """Return the lines that the hunks of one file's patch show; text before them is skipped."""
    return _gathered(_shown(patch))


def lines_by_file(diff: str) -> dict[str, DiffLines]:
    """Return the lines that a diff of several files shows, by the path of the new file."""
    lines: dict[str, list[_Line]] = defaultdict(list)
    for line in _shown(diff):
        lines[line.file].append(line)
    return {file: _gathered(shown) for file, shown in lines.items()}


def _gathered(lines: Iterable[_Line]) -> DiffLines:
    shown = list(lines)
    return DiffLines(
        frozenset(line.old for line in shown if line.old),
        frozenset(line.new for line in shown if line.new),
        {line.new: line.old for line in shown if line.new and line.old},
    )


def _shown(diff: str) -> Iterator[_Line]:
    file = ""
    old_next = new_next = old_left = new_left = 0
    # Only "\n" ends a line of a patch; splitlines() would also split inside of lines.
    for line in diff.split("\n"):
        if old_left <= 0 and new_left <= 0:
            if line.startswith(_NEW_FILE):
                file = _path(line.removeprefix(_NEW_FILE))
            elif hunk := _HUNK.match(line):
                old_next, old_left = int(hunk[1]), int(hunk[2] or 1)
                new_next, new_left = int(hunk[3]), int(hunk[4] or 1)
            continue
        if line.startswith("\\"):
            continue
        removed, added = line.startswith("-"), line.startswith("+")
        yield _Line(file, 0 if added else old_next, 0 if removed else new_next)
        if not added:
            old_next, old_left = old_next + 1, old_left - 1
        if not removed:
            new_next, new_left = new_next + 1, new_left - 1


def _path(named: str) -> str:
    """Return the path of `b/path`, which git quotes as C does when it is not plain."""
    if not named.startswith('"'):
        # git ends a name that has spaces with a tab.
        return named.removesuffix("\t").removeprefix("b/")
    content = named.removesuffix("\t")[1:-1].encode(errors="surrogateescape")
    return _ESCAPED.sub(_unescaped, content).decode(errors="replace").removeprefix("b/")


def _unescaped(found: re.Match[bytes]) -> bytes:
    code = found[1]
    return bytes([int(code, 8)]) if len(code) == 3 else _LETTERS.get(code, code)
