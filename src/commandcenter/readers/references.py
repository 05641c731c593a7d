"""Reads dependencies: `Task 1.1, Task 1.2 and 1.3.`, `Batches 1-3`, `None`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from commandcenter.readers.ids import NUMBER
from commandcenter.readers.markdown import Field, Line, text_lines

_NONE = re.compile(r"(none|nothing|n/?a|no dependencies|-|–|—)[.!]?", re.IGNORECASE)
_ALL_BEFORE = re.compile(r"all (previous|preceding|earlier|prior) \w+\.?", re.IGNORECASE)
_NOTE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]\([^()]*\)")
_SPLIT = re.compile(r"\s*(?:,|;|&|\+|\band\b)\s*", re.IGNORECASE)
_PIECE = re.compile(
    rf"(?P<kind>tasks?|batch(?:es)?|phases?)?\s*#?\s*(?P<id>{NUMBER}|(?<!\w)[A-Z](?!\w))"
    rf"(?:\s*(?:-|–|—|to|through)\s*(?:(?:tasks?|batch|phase)\s+)?(?P<last>{NUMBER}))?"
    r"(?:\s*:.*|\s+(?:complete|completed|done|merged)?)?[.!]?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Named:
    """One id that a field names."""

    kind: str
    """`task`, `batch`, `phase`, or empty when no such word stands before it."""
    id: str
    line: int
    last: str = ""
    """The last id of a range such as `1.1-1.3`."""


@dataclass
class References:
    """All that the dependency fields of one task or batch name."""

    named: list[Named] = field(default_factory=list)
    none: bool = False
    """Whether it says `None`, alone."""
    all_before: bool = False
    unclear: list[Line] = field(default_factory=list)
    """Pieces of text that name no id."""

    @property
    def given(self) -> bool:
        """Say whether it names something, all of it understood."""
        return (bool(self.named) or self.none or self.all_before) and not self.unclear


def references(fields: list[Field]) -> References:
    """Return what these fields name together."""
    found = References()
    for one in fields:
        for line in _lines(one):
            _read(line, found)
    found.none = found.none and not found.named
    return found


def _lines(one: Field) -> Iterator[Line]:
    yield from (line for line in one.texts if line.text.strip())
    for block in one.blocks:
        for part in block.walk():
            if part.kind == "paragraph":
                yield from text_lines(part)


def _read(line: Line, found: References) -> None:
    text = " ".join(_NOTE.sub(" ", line.text.replace("`", "").replace("*", "")).split())
    if _NONE.fullmatch(" ".join(line.text.replace("`", "").split())):
        found.none = True
    elif _ALL_BEFORE.fullmatch(text):
        found.all_before = True
    else:
        _pieces(text, line, found)


def _pieces(text: str, line: Line, found: References) -> None:
    kind = ""
    for piece in _SPLIT.split(text):
        match = _PIECE.fullmatch(piece.strip())
        if match is None:
            if piece.strip(" ."):
                found.unclear.append(Line(piece.strip(), line.line))
            continue
        kind = _singular(match["kind"]) if match["kind"] else kind
        found.named.append(Named(kind, match["id"], line.line, match["last"] or ""))


def _singular(word: str) -> str:
    return {"t": "task", "b": "batch", "p": "phase"}[word[0].casefold()]
