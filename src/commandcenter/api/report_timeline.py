"""Where the bars of a timeline are: a lane for each task, a bar for each thing done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from commandcenter.api.report_words import stands
from commandcenter.core.run import Phase
from commandcenter.core.run_report import RunReport, Span, TaskReport
from commandcenter.core.words import duration

HEAD_PX = 20
"""Above the lanes: the times."""
TICKS_MAX = 4
_ROOMY_MAX = 60
_NAMED_MAX = 300
"""With more lanes than this they are too narrow for a name."""
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_NAME_CHARACTERS = 9


@dataclass(frozen=True)
class Bar:
    """One span of a task."""

    phase: Phase
    x: float
    """Where it begins, in hundredths of the whole width; so is `width`."""
    width: float
    words: str


@dataclass(frozen=True)
class Lane:
    """One task."""

    y: int
    name: str
    words: str
    state: str
    bars: tuple[Bar, ...]
    end: float | None
    """Where it ended, if it did."""


@dataclass(frozen=True)
class Tick:
    """A time after the start."""

    x: float
    words: str


@dataclass(frozen=True)
class Timeline:
    """All lanes, in plan order."""

    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]
    phases: tuple[Phase, ...]
    """Those that are to be seen, for the legend."""
    lane_px: int
    named: bool

    @property
    def height_px(self) -> int:
        """Return the height of the whole picture."""
        return HEAD_PX + self.lane_px * len(self.lanes) + 4


def timeline(report: RunReport) -> Timeline:
    """Return where everything is."""
    number = len(report.tasks)
    lane_px = 18 if number <= _ROOMY_MAX else 13 if number <= _NAMED_MAX else 5
    scale = _Scale(report.run.started_ms, max(report.end_ms, report.run.started_ms + 1))
    lanes = tuple(
        _lane(task, HEAD_PX + lane_px * place, scale) for place, task in enumerate(report.tasks)
    )
    return Timeline(
        lanes, tuple(scale.ticks()), tuple(report.seconds), lane_px, named=number <= _NAMED_MAX
    )


@dataclass(frozen=True)
class _Scale:
    start_ms: int
    end_ms: int

    def x(self, at_ms: int) -> float:
        # The clock may have been put back.
        within = min(max(at_ms, self.start_ms), self.end_ms) - self.start_ms
        return round(100 * within / (self.end_ms - self.start_ms), 3)

    def ticks(self) -> Iterator[Tick]:
        total_s = (self.end_ms - self.start_ms) / 1000
        fitting = (step for step in _STEPS_S if total_s / step <= TICKS_MAX)
        step_s = next(fitting, total_s / TICKS_MAX)
        for place in range(int(total_s / step_s) + 1):
            words = _after(place * step_s)
            yield Tick(self.x(self.start_ms + round(place * step_s * 1000)), words)


def _after(seconds: float) -> str:
    hours, minutes = divmod(round(seconds) // 60, 60)
    if hours:
        return f"{hours}h{minutes:02}" if minutes else f"{hours}h"
    return f"{minutes}m" if minutes and not round(seconds) % 60 else f"{round(seconds)}s"


def _lane(task: TaskReport, y: int, scale: _Scale) -> Lane:
    status = task.status
    name = status.id
    if len(name) > _NAME_CHARACTERS:
        name = f"{name[: _NAME_CHARACTERS - 1]}…"
    ended = status.state.ended and status.ended_ms
    return Lane(
        y=y,
        name=name,
        words=f"{status.id} {status.title}: {stands(status)}",
        state=status.state.value,
        bars=tuple(_bar(span, scale) for span in task.spans),
        end=scale.x(status.ended_ms) if ended else None,
    )


def _bar(span: Span, scale: _Scale) -> Bar:
    x = scale.x(span.start_ms)
    waits = f" for {span.waiting_for}" if span.waiting_for else ""
    words = f"{span.phase}{waits}, try {span.attempt}, {duration(span.seconds)}"
    return Bar(span.phase, x, round(scale.x(span.end_ms) - x, 3), words)
