"""Progress on a terminal: what runs now, with the agents' latest words, redrawn in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from commandcenter.api.schema import BatchAnswer, EventAnswer, StatusAnswer, TaskAnswer
from commandcenter.cli import wording
from commandcenter.cli.summary import STYLES, state
from commandcenter.core.run import EventKind, State

_REFRESH_PER_S = 4
_FRAME_LINES = 5
"""Lines that are not batches or tasks: title, place, blanks and the count of what is hidden."""


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
        self._console.print(Text(sentence))

    def _drawn(self) -> RenderableType:
        if self._picture is None:
            return Text("")
        return draw(self._picture, now=datetime.now(UTC), height=self._console.height)


def draw(picture: Picture, *, now: datetime, height: int) -> RenderableType:
    """Return the picture, in at most `height` lines.

    What is going on comes first, then what went wrong; the rest is counted.
    """
    rows = _rows(picture, now)
    room = max(3, height - _FRAME_LINES)
    kept = _kept(rows, room)
    hidden = sum(row.task is not None for row in rows) - sum(row.task is not None for row in kept)
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for _ in range(5):
        table.add_column(no_wrap=True, justify="right")
    for row in kept:
        table.add_row(*row.cells)
    footer = Text(f"{wording.count(hidden, 'more task')} not shown" if hidden else "", "dim")
    return Group(_title(picture.status, now), _place(picture.status), table, footer)


@dataclass(frozen=True)
class _Row:
    cells: tuple[Text, ...]
    rank: int
    """The lower, the sooner it is shown."""
    task: TaskAnswer | None = None


def _rows(picture: Picture, now: datetime) -> list[_Row]:
    rows = []
    for batch in picture.batches:
        rows.append(_batch_row(batch, now))
        for task in batch.tasks:
            rows.append(_task_row(task, now))
            if task.status is State.IN_PROGRESS and task.task_number in picture.words:
                rows.append(_words_row(picture.words[task.task_number]))
    return rows


def _kept(rows: Sequence[_Row], room: int) -> list[_Row]:
    if len(rows) <= room:
        return list(rows)
    order = sorted(range(len(rows)), key=lambda index: (rows[index].rank, index))
    return [rows[index] for index in sorted(order[:room])]


_RANKS = {State.IN_PROGRESS: 0, State.FAILED: 3, State.SKIPPED: 5, State.CANCELLED: 5}
_OF_GOING_BATCH = 1
_OF_WORDS = 2
_OF_OTHER_BATCH = 4
_OF_REST = 6


def _batch_row(batch: BatchAnswer, now: datetime) -> _Row:
    title = wording.one_line(f"Batch {batch.batch_number}  {batch.title}")
    ended = sum(task.status.ended for task in batch.tasks)
    going = batch.status is State.IN_PROGRESS
    return _Row(
        (
            Text(title, "bold"),
            Text(batch.status.replace("_", " "), STYLES[batch.status]),
            Text(""),
            Text(""),
            Text(f"{ended}/{len(batch.tasks)}"),
            Text(wording.elapsed(batch.started_at, batch.completed_at, now)),
        ),
        _OF_GOING_BATCH if going else _OF_OTHER_BATCH,
    )


def _task_row(task: TaskAnswer, now: datetime) -> _Row:
    attempt = f" (attempt {task.attempt})" if task.attempt > 1 else ""
    return _Row(
        (
            Text(wording.one_line(f"  {task.task_number} {task.task_title}")).copy(),
            Text(state(task) + attempt, STYLES[task.status]),
            Text(wording.checks(task.checks)),
            Text(f"#{task.pr_number}" if task.pr_number else ""),
            Text(wording.usage(task.tokens, task.cost_usd)),
            Text(wording.elapsed(task.started_at, task.completed_at, now)),
        ),
        _RANKS.get(task.status, _OF_REST),
        task,
    )


def _words_row(words: str) -> _Row:
    return _Row((Text(f"      {words}", "dim italic"), *[Text("")] * 5), _OF_WORDS)


def _title(status: StatusAnswer, now: datetime) -> Text:
    ended = status.tasks_total - round(status.tasks_total * (1 - status.progress))
    took = wording.elapsed(status.started_at, status.completed_at, now)
    title = wording.one_line(status.title) or "Run"
    return Text.assemble((title, "bold"), f"  {ended}/{status.tasks_total} tasks  {took}")


def _place(status: StatusAnswer) -> Text:
    phase = f", {status.phase}" if status.phase else ""
    words = f"{status.target} of {status.repository}{phase}  {status.execution_id}"
    return Text(wording.one_line(words), "dim", no_wrap=True, overflow="ellipsis")
