"""Which lines of a file a unified diff shows: only those can carry an inline comment."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@dataclass(frozen=True)
class DiffLines:
    """1-based line numbers inside the hunks of one file's patch, context included."""

    old: frozenset[int] = frozenset()
    new: frozenset[int] = frozenset()


def diff_lines(patch: str) -> DiffLines:
    """Return the lines that the hunks of one file's patch show; text before them is skipped."""
    old: set[int] = set()
    new: set[int] = set()
    old_next = new_next = old_left = new_left = 0
    # Only "\n" ends a line of a patch; splitlines() would also split inside of lines.
    for line in patch.split("\n"):
        if old_left <= 0 and new_left <= 0:
            if hunk := _HUNK.match(line):
                old_next, old_left = int(hunk[1]), int(hunk[2] or 1)
                new_next, new_left = int(hunk[3]), int(hunk[4] or 1)
            continue
        if line.startswith("\\"):
            continue
        if not line.startswith("+"):
            old.add(old_next)
            old_next, old_left = old_next + 1, old_left - 1
        if not line.startswith("-"):
            new.add(new_next)
            new_next, new_left = new_next + 1, new_left - 1
    return DiffLines(frozenset(old), frozenset(new))
