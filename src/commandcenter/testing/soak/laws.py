"""What must hold of every run, however it was disturbed: pure, from its events and its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from commandcenter.core.run import Event, EventKind
from commandcenter.testing.soak.schedule import CANCELLED, SKIPPED, End

ATTEMPTS_MAX = 3 + 3 + 8
"""Tries, review rounds and stops that a task may have before it must end."""


def unexpected(
    wanted: Mapping[str, End], found: Mapping[str, End], *, cancels: bool
) -> Iterator[str]:
    """Name the tasks that did not end as they do without any disturbance."""
    for task, end in wanted.items():
        # A cancellation may have come before or after; nothing else may come of it.
        allowed = {end, CANCELLED, SKIPPED} if cancels else {end}
        if found[task] not in allowed:
            yield f"task {task} ended {found[task]}, not {end}"


def unlawful(events: Iterable[Event]) -> Iterator[str]:
    """Name what one task's events show that may not be: too many tries, a second review of one."""
    reviewed: set[int] = set()
    since_opened = 0
    for event in events:
        if event.kind is EventKind.TASK_REOPENED:
            since_opened = 0
        if event.kind is EventKind.TASK_STARTED:
            since_opened += 1
            if since_opened > ATTEMPTS_MAX:
                yield f"it was tried more than {ATTEMPTS_MAX} times"
        if event.kind is EventKind.TASK_REVIEWED:
            if event.attempt in reviewed:
                yield f"try {event.attempt} was reviewed twice"
            reviewed.add(event.attempt)


def too_early(events: Iterable[Event], edges: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Name the tasks that were started before what they wait for was completed.

    `edges` are (task before, task after).
    """
    needed: dict[str, set[str]] = {}
    for before, after in edges:
        needed.setdefault(after, set()).add(before)
    completed: set[str] = set()
    for event in events:
        if event.kind is EventKind.TASK_COMPLETED:
            completed.add(event.task)
        missing = needed.get(event.task, set()) - completed
        if event.kind is EventKind.TASK_STARTED and missing:
            yield f"task {event.task} was started before {sorted(missing)}"
