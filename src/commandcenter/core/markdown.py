"""Foreign text in Markdown: code spans, blocks and table cells that nothing in it can end."""

from __future__ import annotations

import re

_TICKS = re.compile(r"`+")


def code(text: str) -> str:
    """Return text as a code span on one line."""
    line = " ".join(text.split("\n"))
    # A span is ended only by as many back-ticks as it began with.
    fence = "`" * (1 + _longest_run(line))
    edge = " " if "`" in (line[:1], line[-1:]) or not line.strip() else ""
    return f"{fence}{edge}{line}{edge}{fence}"


def cell(text: str) -> str:
    """Return text as a code span inside of a table's cell."""
    # A table is cut into cells before the code spans in it are found.
    return code(text).replace("|", "\\|")


def block(text: str, language: str = "") -> str:
    """Return text as a fenced code block."""
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}{language}\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(ticks) for ticks in _TICKS.findall(text)), default=0)
