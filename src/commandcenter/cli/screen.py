"""Progress on a terminal: what runs now, with the agents' latest words, redrawn in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import assert_never

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from commandcenter.api.schema import BatchAnswer, EventAnswer, StatusAnswer, TaskAnswer
from commandcenter.cli import wording
from commandcenter.cli.summary import STYLES, state, titled
from commandcenter.core.run import EventKind, State

_REFRESH_PER_S = 4
_FRAME_LINES = 5
"""Lines that are not batches or tasks: title, place, blanks and the count of what is hidden."""
_GAP = "  "
_TITLE_MIN = 12


@dataclass(frozen=True)
class Picture:
    """All that the screen shows."""

    status: StatusAnswer
    batches: Sequence[BatchAnswer]
    words: dict[str, str] = field(default_factory=dict)
    """The latest words of each task's agent."""


class Screen:
    """Redraws the state of a run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._picture: Picture | None = None
        self._words: dict[str, str] = {}
        self._live = Live(
            console=console,
            get_renderable=self._drawn,
            refresh_per_second=_REFRESH_PER_S,
            transient=True,
        )

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def happened(self, event: EventAnswer) -> None:
        """Keep an agent's latest words."""
        if event.kind != EventKind.AGENT or event.task is None:
            return
        for said in event.data.get("events", []):
            words = wording.one_line(f"{said.get('tool') or ''} {said.get('text') or ''}")
            if words:
                self._words[event.task] = words

    def show(self, status: StatusAnswer, batches: Sequence[BatchAnswer]) -> None:
        """Show this from the next refresh on."""
        self._picture = Picture(status, batches, dict(self._words))

    def say(self, sentence: str) -> None:
        """Print a sentence above the picture."""
        self._console.print(Text(sentence), soft_wrap=True)

    def _drawn(self) -> RenderableType:
        if self._picture is None:
            return Text("")
        width, height = self._console.size
        return draw(self._picture, now=datetime.now(UTC), width=width, height=height)


def draw(picture: Picture, *, now: datetime, width: int, height: int) -> Text:
    """Return the picture, in at most `height` lines of at most `width` columns.

    What is going on comes first, then what went wrong; the rest is counted.
    """
    entries = _entries(picture)
    kept = _kept(entries, max(3, height - _FRAME_LINES))
    hidden = sum(map(_is_task, entries)) - sum(map(_is_task, kept))
    rows = [_row(entry.subject, now) for entry in kept]
    lines = [_title(picture.status, now), _place(picture.status), Text(""), *_aligned(rows, width)]
    if hidden:
        lines.append(Text(f"{wording.count(hidden, 'more task')} not shown", "dim"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines)


@dataclass(frozen=True)
class _Entry:
    """What could be a line: a batch, a task, or an agent's words."""

    subject: BatchAnswer | TaskAnswer | str
    rank: int
    """The lower, the sooner it is shown."""


_RANKS = {State.IN_PROGRESS: 0, State.FAILED: 3, State.SKIPPED: 5, State.CANCELLED: 5}
_OF_GOING_BATCH = 1
_OF_WORDS = 2
_OF_OTHER_BATCH = 4
_OF_REST = 6


def _entries(picture: Picture) -> list[_Entry]:
    entries = []
    for batch in picture.batches:
        going = batch.status is State.IN_PROGRESS
        entries.append(_Entry(batch, _OF_GOING_BATCH if going else _OF_OTHER_BATCH))
        for task in batch.tasks:
            entries.append(_Entry(task, _RANKS.get(task.status, _OF_REST)))
            if doing := _doing(task, picture):
                entries.append(_Entry(doing, _OF_WORDS))
    return entries


def _doing(task: TaskAnswer, picture: Picture) -> str:
    """Return what goes on in a task: how far its pattern has come, and its agent's latest words."""
    if task.status is not State.IN_PROGRESS:
        return ""
    words = picture.words.get(task.task_number, "")
    told = ": ".join(filter(None, (wording.pattern(task), words)))
    return f"{_indent(task)}{told}" if told else ""


def _indent(task: TaskAnswer) -> str:
    return "  " if task.parent else ""


def _kept(entries: Sequence[_Entry], room: int) -> list[_Entry]:
    if len(entries) <= room:
        return list(entries)
    order = sorted(range(len(entries)), key=lambda index: (entries[index].rank, index))
    return [entries[index] for index in sorted(order[:room])]


def _is_task(entry: _Entry) -> bool:
    return isinstance(entry.subject, TaskAnswer)


@dataclass(frozen=True)
class _Row:
    left: Text
    right: tuple[Text, ...] = ()
    """Columns at the right edge; none when `left` has the whole line."""


def _row(subject: BatchAnswer | TaskAnswer | str, now: datetime) -> _Row:
    match subject:
        case BatchAnswer():
            return _batch_row(subject, now)
        case TaskAnswer():
            return _task_row(subject, now)
        case str():
            return _Row(Text(f"      {subject}", "dim italic"))
        case _:
            assert_never(subject)


def _aligned(rows: Sequence[_Row], width: int) -> list[Text]:
    columns = zip(*(row.right for row in rows if row.right), strict=True)
    widths = [max(cell.cell_len for cell in column) for column in columns]
    room = width - sum(size + len(_GAP) for size in widths if size)
    return [_line(row, room, widths) for row in rows]


def _line(row: _Row, room: int, widths: Sequence[int]) -> Text:
    if not row.right:
        return row.left
    line = row.left.copy()
    line.truncate(max(room, _TITLE_MIN), overflow="ellipsis", pad=True)
    for cell, size in zip(row.right, widths, strict=True):
        if size:
            line.append(_GAP + " " * (size - cell.cell_len)).append_text(cell)
    return line


def _batch_row(batch: BatchAnswer, now: datetime) -> _Row:
    title = wording.one_line(f"Batch {batch.batch_number}: {batch.title}")
    # What a task was split into counts through that task.
    counted = [task for task in batch.tasks if not task.parent]
    ended = sum(task.status.ended for task in counted)
    right = (
        Text(batch.status.replace("_", " "), STYLES[batch.status]),
        Text(""),
        Text(""),
        Text(f"{ended}/{len(counted)}"),
        Text(wording.elapsed(batch.started_at, batch.completed_at, now)),
    )
    return _Row(Text(title, "bold"), right)


def _task_row(task: TaskAnswer, now: datetime) -> _Row:
    attempt = f", attempt {task.attempt}" if task.attempt > 1 else ""
    outcome = f", {task.outcome}" if task.outcome and task.status.ended else ""
    right = (
        Text(state(task) + outcome + attempt, STYLES[task.status]),
        Text(wording.checks(task.checks)),
        Text(f"#{task.pr_number}" if task.pr_number else ""),
        Text(wording.usage(task.tokens, task.cost_usd)),
        Text(wording.elapsed(task.started_at, task.completed_at, now)),
    )
    return _Row(Text(f"  {_indent(task)}{titled(task)}"), right)


def _title(status: StatusAnswer, now: datetime) -> Text:
    ended = round(status.tasks_total * status.progress)
    took = wording.elapsed(status.started_at, status.completed_at, now)
    title = wording.one_line(status.title) or "Run"
    return Text.assemble((title, "bold"), f"  {ended}/{status.tasks_total} tasks  {took}")


def _place(status: StatusAnswer) -> Text:
    phase = f", {status.phase}" if status.phase else ""
    words = f"into {status.target} of {status.repository}{phase} ({status.execution_id})"
    return Text(wording.one_line(words), "dim")
