"""Finds tasks that a reader does not see: in code blocks, comments, quotes, lists and plain text.

Losing a task must never be silent, yet an example in a code block is not a task. So there it is an
error only where the task is missed: its number fills a hole among those found. What can hardly be
anything but a task, such as a paragraph `Task 1.2: Title`, is always an error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from commandcenter.core.plan import Diagnostic
from commandcenter.readers.ids import ABOUT, TASK_ID
from commandcenter.readers.markdown import Block, closed, label, text_lines
from commandcenter.readers.outline import task_rows

HEADING = re.compile(
    r"^[ \t>*+-]*(?P<hashes>#{1,6})(?P<gap>[ \t]*)(?:\*\*)?"
    rf"(?P<kind>Task|Batch)\s*#?\s*(?P<id>{TASK_ID})",
    re.IGNORECASE,
)
_TITLE = re.compile(
    r"\s*(?:\[[ ~/-]\]\*?\s+)?(?:(?P<bold>\*\*|__)\s*)?"
    rf"(?P<kind>Task|Batch)\s*#?\s*(?P<id>{TASK_ID})(?P<set_off>(?:\*\*|__)?\s*:|\s+[–—-]\s)?",
    re.IGNORECASE,
)
_BOX = re.compile(
    r"\s*\[[ ~/-]\]\*?\s+(?:\*\*|__)?(?P<id>\d+(?:\.\d+)+[A-Za-z]?|[A-Z]{1,3}-?\d{2,4})(?![\w-])"
)
_DEPENDENCIES = re.compile(r"depend|blocked by|prerequisite")
_BROKEN = "write a blank after the `#`, at the start of a line, below a blank line"
_PLAIN = "write `### {kind} {id}: Title`; if it is none, do not let it begin with this number"
_ROW = "move the table above the first task of its batch, or give `Task {id}: Title` a heading"
_HIDDEN = "end the block before it; or is it an example? Then give it another number"


@dataclass(frozen=True)
class Unseen:
    """A line that looks like the heading of a task or batch, and is none."""

    kind: str
    id: str
    line: int
    where: str
    certain: bool = False
    """Whether it can be nothing but a task."""
    hint: str = _HIDDEN
    step: bool = False
    """Whether it is told only where it is missed: a box in a task is one of its steps."""


@dataclass(frozen=True)
class Seen:
    """The ids that were found, and the batches that have no task."""

    tasks: frozenset[str]
    batches: frozenset[str]
    empty: tuple[range, ...] = ()
    """Lines of the batches without a task."""


def unseen(
    blocks: Sequence[Block], tasks: Container[int] = (), ids: Collection[str] = ()
) -> list[Unseen]:
    """Return the lines of a document that look like tasks, but are not.

    `tasks` are the lines that belong to tasks, `ids` those of the tasks. In a task of a plan with
    ids like 1.1, a box is a step of it, and `Task 2: Title` is another numbering.
    """
    found: list[Unseen] = []
    about = _About()
    depths = {task_id.count(".") for task_id in ids}
    for block in blocks:
        about.pass_by(block)
        inside = block.line in tasks
        for one in _in_block(block):
            other_list = inside and one.kind == "task" and one.id.count(".") not in depths
            plain = one.hint == _PLAIN and (about.others(block, inside) or other_list)
            found.append(replace(one, certain=False) if plain else one)
        found += _boxes(block, inside, about.no_work)
        if block.kind == "table" and inside:
            found += _rows(block)
    return found


class _About:
    """Keeps what the heading or label above says of the tasks that are named below it."""

    def __init__(self) -> None:
        self._heading: int | None = None
        """The level of a heading below which tasks are spoken of, and not given."""
        self._label = ""

    @property
    def no_work(self) -> bool:
        """Say whether boxes here are no tasks."""
        return self._heading is not None or bool(ABOUT.search(self._label))

    def others(self, block: Block, inside: bool) -> bool:
        """Say whether a block names tasks that are given elsewhere.

        The notes of a task end where the next one begins, heading or not.
        """
        dependencies = bool(_DEPENDENCIES.search(self._label)) and block.kind != "paragraph"
        return dependencies or (self._heading is not None and not inside)

    def pass_by(self, block: Block) -> None:
        """Take note of a heading, or of the labels in a paragraph."""
        if block.kind == "heading":
            self._label = ""
            given = re.match(r"\W*(Task|Batch|Phase)\b", block.text, re.IGNORECASE)
            if given or self._heading is None or block.level <= self._heading:
                told = bool(ABOUT.search(block.text)) and not given
                self._heading = block.level if told else None
        elif block.kind == "paragraph":
            for line in text_lines(block):
                if labelled := label(line.text):
                    self._label = labelled[0]


def swallowed(found: Sequence[Unseen], seen: Seen) -> Iterator[Diagnostic]:
    """Give an error for each that is missed, and a warning for the others not seen elsewhere."""
    told = set[tuple[str, str]]()
    highest = {"task": _highest(seen.tasks), "batch": _highest(seen.batches)}
    for one in sorted(found, key=lambda one: not one.certain):
        known = seen.tasks if one.kind == "task" else seen.batches
        missed = one.certain or _fills_hole(one, highest[one.kind]) or _in_empty(one, seen)
        if one.id.casefold() in known or (one.kind, one.id.casefold()) in told:
            continue
        if one.step and not missed:
            continue
        told.add((one.kind, one.id.casefold()))
        message = f"{one.kind} {one.id} is in {one.where}, so it is not seen"
        hint = (
            one.hint.format(kind=one.kind.capitalize(), id=one.id)
            if missed
            else "fine if it is an example"
        )
        yield Diagnostic("P011" if missed else "W117", message, one.line, hint=hint, subject=one.id)


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
            yield from _titles(block, "a paragraph", certain=True)
        case "blockquote":
            for child in block.children:
                yield from _nested(child, "a quotation", certain=False)
        case "bullet_list" | "ordered_list":
            for child in block.children:
                yield from _nested(child, "a list", certain=True)


def _nested(block: Block, where: str, certain: bool) -> Iterator[Unseen]:
    if block.kind == "heading":
        yield from _headings(f"# {block.text}", block.line, where)
    elif block.kind == "paragraph":
        yield from _headings(block.text, block.line, where)
        yield from _titles(block, where, certain)
    elif block.kind in ("fence", "code_block", "html_block"):
        yield from (u for u in _in_block(block) if not u.certain)
    else:
        for child in block.children:
            yield from _nested(child, where, certain and block.kind != "blockquote")


def _headings(text: str, line: int, where: str, certain: bool = False) -> Iterator[Unseen]:
    for offset, content in enumerate(text.split("\n")):
        if found := HEADING.match(content):
            kind = found["kind"].casefold()
            hint = _BROKEN if certain else _HIDDEN
            yield Unseen(kind, found["id"], line + offset, where, certain, hint)


def _titles(block: Block, where: str, certain: bool) -> Iterator[Unseen]:
    """Give each line that begins like `Task 1.2: Title`; a wrapped line may do so by chance."""
    for offset, content in enumerate(block.text.split("\n")):
        found = _TITLE.match(content)
        titled = found and (found["set_off"] or (found["bold"] and "." in found["id"]))
        if found and (titled or offset == 0):
            place = f"{'bold text' if found['bold'] else where}, not in a heading"
            sure = certain and offset == 0 and bool(titled)
            kind = found["kind"].casefold()
            yield Unseen(kind, found["id"], block.line + offset, place, sure, _PLAIN)


def _rows(table: Block) -> Iterator[Unseen]:
    """Give each row of a table of tasks that stands inside a task, where it is text."""
    header = next(b.text for b in table.walk() if b.kind == "th")
    for row in task_rows(table):
        certain = "task" in header.casefold()
        task_id = row.cells["task"]
        yield Unseen("task", task_id, row.block.line, "a table inside a task", certain, _ROW)


def _boxes(block: Block, inside: bool, about: bool) -> Iterator[Unseen]:
    """Give each open box with an id, `- [ ] 1.2 Title`, except where others are spoken of."""
    if block.kind not in ("bullet_list", "ordered_list") or about:
        return
    for item in (b for b in block.walk() if b.kind == "list_item"):
        first = item.children[0] if item.children else None
        if first and first.kind == "paragraph" and (found := _BOX.match(first.text)):
            where = "a list, not in a heading"
            certain = not inside
            yield Unseen("task", found["id"], item.line, where, certain, _PLAIN, step=inside)


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
