"""Finds tasks that a reader does not see: in code blocks, comments, quotes and broken headings.

Losing a task must never be silent, yet an example in a code block is not a task. So it is an error
only where the task is missed: its number fills a hole among those found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from commandcenter.core.plan import Diagnostic
from commandcenter.readers.markdown import Block, closed

HEADING = re.compile(
    r"^[ \t>*+-]*(?P<hashes>#{1,6})(?P<gap>[ \t]*)(?:\*\*)?"
    r"(?P<kind>Task|Batch)\s*#?\s*(?P<id>[A-Za-z]{0,3}-?\d+(?:\.\d+)*[A-Za-z]?)(?!\w)",
    re.IGNORECASE,
)
_BOLD = re.compile(
    r"^\s*(?:[-*+]\s+)?(?:\[[ xX]\]\s+)?\*\*(?P<kind>Task)\s+(?P<id>\d+(?:\.\d+)+[A-Za-z]?)(?!\w)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Unseen:
    """A line that looks like the heading of a task or batch, and is none."""

    kind: str
    id: str
    line: int
    where: str
    certain: bool = False
    """Whether it can be nothing but a broken heading."""


@dataclass(frozen=True)
class Seen:
    """The ids that were found, and the batches that have no task."""

    tasks: frozenset[str]
    batches: frozenset[str]
    empty: tuple[range, ...] = ()
    """Lines of the batches without a task."""


def unseen(blocks: Sequence[Block]) -> list[Unseen]:
    """Return the lines of a document that look like headings of tasks, but are not."""
    return [found for block in blocks for found in _in_block(block)]


def swallowed(found: Sequence[Unseen], seen: Seen) -> Iterator[Diagnostic]:
    """Give an error for each that fills a hole, and a warning for the others not seen elsewhere."""
    told = set[tuple[str, str]]()
    highest = {"task": _highest(seen.tasks), "batch": _highest(seen.batches)}
    for one in found:
        known = seen.tasks if one.kind == "task" else seen.batches
        if one.id.casefold() in known or (one.kind, one.id.casefold()) in told:
            continue
        told.add((one.kind, one.id.casefold()))
        message = f"{one.kind} {one.id} is in {one.where}, so it is not seen"
        if one.certain or _fills_hole(one, highest[one.kind]) or _in_empty(one, seen):
            hint = "end the block before it; or is it an example? Then give it another number"
            if one.certain:
                hint = "write a blank after the `#`, at the start of a line, below a blank line"
            yield Diagnostic("P011", message, one.line, hint=hint, subject=one.id)
        else:
            hint = "fine if it is an example"
            yield Diagnostic("W117", message, one.line, hint=hint, subject=one.id)


def open_fences(blocks: Sequence[Block], lines: Sequence[str]) -> Iterator[Diagnostic]:
    """Give a diagnostic for each code fence that never ends: an error if it hides a task."""
    for block in blocks:
        for fence in block.walk():
            if fence.kind == "fence" and not closed(fence, lines):
                hides = any(HEADING.match(text) for text in fence.text.split("\n"))
                message = "this code fence is never closed"
                if hides:
                    message += ", and swallows the tasks below it"
                hint = f"close it with `{fence.markup}`"
                code = "P010" if hides else "W118"
                yield Diagnostic(code, message, fence.line, hint=hint, subject=fence.markup)


def _in_block(block: Block) -> Iterator[Unseen]:
    match block.kind:
        case "heading":
            return
        case "fence":
            yield from _headings(block.text, block.line + 1, "a code block")
        case "code_block":
            yield from _headings(block.text, block.line, "an indented code block")
        case "html_block":
            comment = block.text.lstrip().startswith("<!--")
            where = "an HTML comment" if comment else "an HTML block"
            yield from _headings(block.text, block.line, where, certain=not comment)
        case "front_matter":
            yield from _headings(block.text, block.line + 1, "front matter", certain=True)
        case "paragraph":
            yield from _headings(block.text, block.line, "a paragraph", certain=True)
            yield from _bold(block)
        case "blockquote" | "bullet_list" | "ordered_list":
            where = "a quotation" if block.kind == "blockquote" else "a list"
            for child in block.children:
                yield from _nested(child, where)


def _nested(block: Block, where: str) -> Iterator[Unseen]:
    if block.kind == "heading":
        yield from _headings(f"# {block.text}", block.line, where)
    elif block.kind == "paragraph":
        yield from _headings(block.text, block.line, where)
        yield from _bold(block)
    elif block.kind in ("fence", "code_block", "html_block"):
        yield from (u for u in _in_block(block) if not u.certain)
    else:
        for child in block.children:
            yield from _nested(child, where)


def _headings(text: str, line: int, where: str, certain: bool = False) -> Iterator[Unseen]:
    for offset, content in enumerate(text.split("\n")):
        if found := HEADING.match(content):
            kind = found["kind"].casefold()
            yield Unseen(kind, found["id"], line + offset, where, certain)


def _bold(block: Block) -> Iterator[Unseen]:
    for offset, content in enumerate(block.text.split("\n")):
        if found := _BOLD.match(content):
            yield Unseen("task", found["id"], block.line + offset, "bold text, not in a heading")


def _fills_hole(one: Unseen, highest: Mapping[str, int]) -> bool:
    """Say whether a later number of the same series was found, and it is itself missing."""
    series, number = _series(one.id)
    return 0 < number < highest.get(series, 0)


def _highest(known: Iterable[str]) -> dict[str, int]:
    """Return the highest number found of each series: of `1.` in 1.1, 1.2, 1.5 it is 5."""
    highest: dict[str, int] = {}
    for series, number in map(_series, known):
        highest[series] = max(number, highest.get(series, 0))
    return highest


def _series(task_id: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?P<series>.*?)(?P<number>\d{1,9})[A-Za-z]?", task_id.casefold())
    return (match["series"], int(match["number"])) if match else (task_id.casefold(), 0)


def _in_empty(one: Unseen, seen: Seen) -> bool:
    return one.kind == "task" and any(one.line in lines for lines in seen.empty)
