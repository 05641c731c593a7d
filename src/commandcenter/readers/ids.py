"""How plans number their tasks and batches: `1`, `1.10`, `3.1.1`, `1.1a`, `1.a`, `T012`, `B`."""

from __future__ import annotations

import re

NUMBER = r"[A-Za-z]{0,3}-?\d+[A-Za-z]?(?:\.(?:\d+[A-Za-z]?|[A-Za-z]))*(?!\w)"
LETTER = r"(?<![A-Za-z])[A-Za-z](?=\s*[:)]|\s+[–—-]\s|\.\s|\.?\s*$)"
"""A single letter is an id only before a separator: `Task a: Title`, not `Task a day`."""
TASK_ID = rf"(?:{NUMBER}|{LETTER})"

ABOUT = re.compile(
    r"success criteria|acceptance|definition of done|coverage|checklist|status|notes?\b|summary"
    r"|dependenc|depends|blocked by|progress|overview|out of scope|future|references?\b|risks?\b"
    r"|timeline|changelog|graph|order\b|matrix|prerequisites?",
    re.IGNORECASE,
)
"""Headings and labels below which tasks are spoken of, and not given."""

_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_ROMAN = "i ii iii iv v vi vii viii ix x xi xii"


def counted(word: str) -> int:
    """Return the number that a word such as `ten` or `IV` stands for, or 0."""
    for words in (_WORDS.split(), _ROMAN.split()):
        if word.casefold() in words:
            return words.index(word.casefold()) + 1
    return 0
