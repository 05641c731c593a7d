"""Which tasks are opened again when a person retries a run. A pure decision."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from commandcenter.core.run import Reason, TaskStatus, satisfied


def to_retry(
    statuses: Sequence[TaskStatus], edges: Iterable[tuple[str, str]], task: str | None
) -> tuple[str, ...]:
    """Return the tasks to open again, in order: all that did not make it, or one and its kin.

    With one go those that it needs and that did not make it either, or it would wait for ever,
    and those that were skipped for want of it and that nothing else holds back. What a task was
    split into stays as it is: that task splits itself anew.
    `edges` are (task before, task after).
    """
    lost = {s.id for s in statuses if s.state.ended and not satisfied(s) and not s.parent}
    if task is None:
        chosen = lost
    elif task not in lost:
        return ()
    else:
        needs, needed_by = _between(lost, edges)
        chosen = _reached([task], needs)
        skipped = {s.id for s in statuses if s.reason is Reason.DEPENDENCY}
        _add_unblocked(chosen, skipped, needs, needed_by)
    return tuple(status.id for status in statuses if status.id in chosen)


_Links = dict[str, list[str]]


def _between(tasks: set[str], edges: Iterable[tuple[str, str]]) -> tuple[_Links, _Links]:
    """Return what each of these tasks needs, and what needs it, among themselves."""
    needs: _Links = defaultdict(list)
    needed_by: _Links = defaultdict(list)
    for before, after in edges:
        if before in tasks and after in tasks:
            needs[after].append(before)
            needed_by[before].append(after)
    return needs, needed_by


def _reached(start: Iterable[str], links: _Links) -> set[str]:
    found = set(start)
    waiting = deque(found)
    while waiting:
        fresh = set(links.get(waiting.popleft(), ())) - found
        found |= fresh
        waiting.extend(fresh)
    return found


def _add_unblocked(
    chosen: set[str], candidates: set[str], needs: _Links, needed_by: _Links
) -> None:
    """Add each candidate once all that it needs has been chosen."""
    missing = {each: len(needs.get(each, ())) for each in candidates - chosen}
    waiting = deque(chosen)
    while waiting:
        for after in needed_by.get(waiting.popleft(), ()):
            if after in missing:
                missing[after] -= 1
                if missing[after] == 0:
                    chosen.add(after)
                    waiting.append(after)
