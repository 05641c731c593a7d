"""The graph of a plan: who waits for whom, and why. Safe means more edges, never fewer."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from commandcenter.core.errors import InputError
from commandcenter.core.plan.model import Batch, Done, FileOp, Mode, Plan, Reference, Task
from commandcenter.core.plan.paths import folders, place


class Why(StrEnum):
    """Why one task waits for another."""

    EXPLICIT = "explicit"
    SEQUENCE = "sequence"
    BARRIER = "barrier"
    OVERLAP = "overlap"
    """Both declare the same file, in a parallel batch."""


@dataclass(frozen=True)
class Edge:
    """`task` waits for `on`."""

    task: str
    on: str
    why: Why
    line: int = 0
    """Where the plan says so: the field, or the heading of the task or batch that waits."""
    about: str = ""
    """The file that both declare, when `why` is overlap."""


@dataclass(frozen=True)
class Restricted:
    """A plan cut down to a range of batches."""

    plan: Plan
    notes: tuple[str, ...] = ()
    """Sentences that name what now counts as satisfied because it is outside the range."""


def edges(plan: Plan) -> tuple[Edge, ...]:
    """Return who waits for whom, each pair once, in reading order of the waiting task.

    Of a plan with errors it gives the edges between tasks that exist.
    """
    found: dict[tuple[str, str], Edge] = {}
    for edge in [*_inner(plan), *_barriers(plan)]:
        found.setdefault((edge.task, edge.on), edge)
    for edge in _overlaps(plan, tuple(found.values())):
        found[edge.task, edge.on] = edge
    position = {task.id: n for n, task in enumerate(plan.tasks)}
    return tuple(sorted(found.values(), key=lambda e: (position[e.task], position[e.on])))


def barrier_size(plan: Plan) -> int:
    """Return how many edges the barriers between batches make."""
    return sum(len(joint.starts) * len(joint.ends) for joint in _joints(plan))


def explicit_edges(plan: Plan) -> tuple[Edge, ...]:
    """Return the edges that tasks name themselves, between tasks that exist."""
    known = {task.id for task in plan.tasks}
    return tuple(
        Edge(task.id, reference.id, Why.EXPLICIT, reference.line)
        for task in plan.tasks
        for reference in task.depends_on
        if reference.id in known
    )


def order(plan: Plan) -> tuple[Task, ...]:
    """Return all tasks in reading order, moved only as far as the edges demand."""
    ids = _sorted([t.id for t in plan.tasks], _waits(edges(plan)))
    assert ids is not None, "a plan with a cycle does not pass `check`"
    by_id = {task.id: task for task in plan.tasks}
    return tuple(by_id[i] for i in ids)


def layers(plan: Plan) -> tuple[tuple[Task, ...], ...]:
    """Return the tasks in waves: each waits only for tasks of the waves before it."""
    waits = _waits(edges(plan))
    depth: dict[str, int] = {}
    for task in order(plan):
        depth[task.id] = 1 + max((depth[on] for on in waits.get(task.id, ())), default=-1)
    count = 1 + max(depth.values(), default=-1)
    return tuple(tuple(t for t in plan.tasks if depth[t.id] == n) for n in range(count))


def ready(plan: Plan, done: AbstractSet[str]) -> tuple[Task, ...]:
    """Return the tasks to run whose dependencies are all done, in reading order.

    Tasks that are done in the plan count as done; tasks in `done` are not returned.
    """
    satisfied = {t.id for t in plan.tasks if t.done in (Done.DONE, Done.SKIPPED)} | done
    waiting = {e.task for e in edges(plan) if e.on not in satisfied}
    return tuple(
        t for t in plan.tasks if not t.done.settled and t.id not in done and t.id not in waiting
    )


def restrict(plan: Plan, start_batch: int | None, end_batch: int | None) -> Restricted:
    """Return the plan with only the batches whose number is in the range, both ends included.

    None leaves an end open, and the end may be past the last batch. What lies outside counts as
    satisfied, and is named in a note.

    Raises:
        InputError: no batch with a task is in the range.
    """
    low, high = (start_batch,), (end_batch,)
    kept = tuple(
        b
        for b in plan.batches
        if (start_batch is None or b.number >= low) and (end_batch is None or b.number <= high)
    )
    if kept == plan.batches:
        return Restricted(plan)
    ids = {b.id for b in kept}
    tasks = tuple(t for t in plan.tasks if t.batch in ids)
    if not tasks:
        raise InputError(
            f"No task is in the batches {start_batch} to {end_batch}.",
            hint=f"the plan has the batches {', '.join(b.id for b in plan.batches)}",
        )
    return _cut(plan, kept, tasks)


def batch_dependencies(plan: Plan) -> dict[str, tuple[Reference, ...]]:
    """Return for each batch the batches it waits for, the one before it included if it does."""
    found: dict[str, tuple[Reference, ...]] = {}
    previous: Batch | None = None
    for batch in plan.batches:
        references = batch.depends_on
        if batch.follows_previous and previous is not None:
            references = (*references, Reference(previous.id, batch.span.start))
        found[batch.id] = references
        previous = batch
    return found


def _by_batch(plan: Plan) -> dict[str, list[Task]]:
    grouped: dict[str, list[Task]] = {batch.id: [] for batch in plan.batches}
    for task in plan.tasks:
        grouped.setdefault(task.batch, []).append(task)
    return grouped


def _inner(plan: Plan) -> list[Edge]:
    """Return the explicit edges, and those between neighbours in sequential batches."""
    found = list(explicit_edges(plan))
    waits, by_batch = _waits(found), _by_batch(plan)
    for batch in plan.batches:
        if batch.mode is Mode.SEQUENTIAL:
            found += _sequence(by_batch[batch.id], waits)
    return found


def _sequence(tasks: Sequence[Task], waits: Mapping[str, Sequence[str]]) -> Iterable[Edge]:
    """Follow the order that the explicit dependencies allow, so that no cycle arises.

    Settled tasks are passed over, since they hold nothing back.
    """
    arranged = _sorted([t.id for t in tasks], waits)
    if arranged is None:
        return
    by_id = {task.id: task for task in tasks}
    open_tasks = [by_id[i] for i in arranged if not by_id[i].done.settled]
    for before, task in pairwise(open_tasks):
        if task.follows_previous:
            yield Edge(task.id, before.id, Why.SEQUENCE, task.span.start)


def _overlaps(plan: Plan, found: Sequence[Edge]) -> Iterable[Edge]:
    """Make open tasks that share a file wait for each other, where no edge orders them yet."""
    waits = _waits(found)
    arranged = _sorted([t.id for t in plan.tasks], waits)
    if arranged is None:
        return
    by_id = {task.id: task for task in plan.tasks}
    bit = {i: 1 << n for n, i in enumerate(arranged)}
    above: dict[str, int] = {}
    register = _Register()
    for task in (by_id[i] for i in arranged):
        mask = 0
        for on in waits.get(task.id, ()):
            mask |= bit[on] | above[on]
        for other, path in [] if task.done.settled else register.add(task):
            if not mask & bit[other]:
                mask |= bit[other] | above[other]
                yield Edge(task.id, other, Why.OVERLAP, task.span.start, path)
        above[task.id] = mask


class _Register:
    """Which tasks so far use a place, or something below it."""

    def __init__(self) -> None:
        self._at: dict[str, list[tuple[str, bool]]] = {}
        self._below: dict[str, list[tuple[str, bool]]] = {}

    def add(self, task: Task) -> list[tuple[str, str]]:
        """Return the tasks that must be done before this one, latest first, with the path."""
        found: dict[str, str] = {}
        uses = [(place(f.path), f.op is not FileOp.READ, f.path) for f in task.files]
        for at, writes, path in uses:
            near = [*self._at.get(at, ()), *self._below.get(at, ())]
            for folder in folders(at):
                near += self._at.get(folder, ()) if folder != at else ()
            found |= {other: path for other, wrote in near if wrote or writes}
        for at, writes, _path in uses:
            self._note(self._at, at, task.id, writes)
            for folder in folders(at):
                self._note(self._below, folder, task.id, writes)
        found.pop(task.id, None)
        return list(reversed(found.items()))

    @staticmethod
    def _note(where: dict[str, list[tuple[str, bool]]], at: str, task: str, writes: bool) -> None:
        where.setdefault(at, []).append((task, writes))


class _Joint(NamedTuple):
    """Every task of `starts` waits for every task of `ends`."""

    starts: Sequence[str]
    ends: Sequence[str]
    line: int


def _barriers(plan: Plan) -> Iterable[Edge]:
    for joint in _joints(plan):
        for task in joint.starts:
            for on in joint.ends:
                yield Edge(task, on, Why.BARRIER, joint.line)


def _joints(plan: Plan) -> Iterable[_Joint]:
    """Join the last open tasks of a batch to the first tasks of the batches that wait for it.

    It is the same as joining all to all, since the tasks between are ordered by their own edges.
    Tasks that the plan calls done hold nothing back, so neither end may lean on one.
    """
    own, by_batch = _batch_edges(plan, _inner(plan)), _by_batch(plan)
    wanted = batch_dependencies(plan)
    ends = {b: _ends(by_batch[b], own.get(b, ())) for b in wanted}
    for batch in plan.batches:
        if not batch.barrier:
            continue
        starts = _starts(by_batch[batch.id], own.get(batch.id, ()))
        for source, line in _open_batches(batch.id, wanted, ends).items():
            yield _Joint(starts, ends[source], line)


def _batch_edges(plan: Plan, inner: Sequence[Edge]) -> dict[str, list[Edge]]:
    home = {t.id: t.batch for t in plan.tasks}
    grouped: dict[str, list[Edge]] = {}
    for edge in inner:
        if home[edge.task] == home[edge.on]:
            grouped.setdefault(home[edge.task], []).append(edge)
    return grouped


def _ends(tasks: Sequence[Task], inner: Iterable[Edge]) -> list[str]:
    open_ids = {t.id for t in tasks if not t.done.settled}
    waited_for = {e.on for e in inner if e.task in open_ids}
    ends = [t.id for t in tasks if t.id in open_ids and t.id not in waited_for]
    return ends or [t.id for t in tasks if t.id in open_ids]


def _starts(tasks: Sequence[Task], inner: Iterable[Edge]) -> list[str]:
    open_ids = {t.id for t in tasks if not t.done.settled}
    held = {e.task for e in inner if e.on in open_ids}
    starts = [t.id for t in tasks if t.id in open_ids and t.id not in held]
    return starts or [t.id for t in tasks if t.id in open_ids]


def _open_batches(
    batch: str,
    wanted: Mapping[str, tuple[Reference, ...]],
    ends: Mapping[str, Sequence[str]],
) -> dict[str, int]:
    """Return the batches with open tasks that it waits for, looking through those with none."""
    found: dict[str, int] = {}
    seen = {batch}
    queue = deque((r.id, r.line) for r in wanted[batch])
    while queue:
        current, line = queue.popleft()
        if current in seen or current not in wanted:
            continue
        seen.add(current)
        if ends[current]:
            found[current] = line
        else:
            queue += [(r.id, line) for r in wanted[current]]
    return found


def _cut(plan: Plan, kept: tuple[Batch, ...], tasks: tuple[Task, ...]) -> Restricted:
    notes: list[str] = []
    inside, wanted = {b.id for b in kept}, batch_dependencies(plan)
    batches = []
    for batch in kept:
        references, outside = _inside_range(batch.id, wanted, inside)
        notes += [
            f"Batch {batch.id} depends on batch {i}, which is outside the range: satisfied."
            for i in outside
        ]
        batches.append(replace(batch, depends_on=references, follows_previous=False))
    ids = {task.id for task in tasks}
    for task in tasks:
        notes += [
            f"Task {task.id} depends on task {r.id}, which is outside the range: satisfied."
            for r in task.depends_on
            if r.id not in ids
        ]
    cut = tuple(replace(t, depends_on=tuple(r for r in t.depends_on if r.id in ids)) for t in tasks)
    return Restricted(replace(plan, batches=tuple(batches), tasks=cut), tuple(notes))


def _inside_range(
    batch: str, wanted: Mapping[str, tuple[Reference, ...]], inside: AbstractSet[str]
) -> tuple[tuple[Reference, ...], tuple[str, ...]]:
    """Return the references inside the range, reached through those outside, and the latter."""
    found: dict[str, Reference] = {}
    outside: dict[str, None] = {}
    queue = deque(wanted[batch])
    while queue:
        reference = queue.popleft()
        if reference.id in inside:
            found.setdefault(reference.id, reference)
        elif reference.id not in outside:
            outside[reference.id] = None
            queue += wanted.get(reference.id, ())
    direct = {r.id for r in wanted[batch]}
    return tuple(found.values()), tuple(i for i in outside if i in direct)


def _waits(found: Iterable[Edge]) -> dict[str, list[str]]:
    waits: dict[str, list[str]] = {}
    for edge in found:
        waits.setdefault(edge.task, []).append(edge.on)
    return waits


def _sorted(ids: Sequence[str], waits: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Return the ids with each after those it waits for, else as given; None for a cycle."""
    position = {i: n for n, i in enumerate(ids)}
    missing = {i: {on for on in waits.get(i, ()) if on in position} for i in ids}
    followers: dict[str, list[str]] = {}
    for i, ons in missing.items():
        for on in ons:
            followers.setdefault(on, []).append(i)
    heap = [position[i] for i, ons in missing.items() if not ons]
    heapq.heapify(heap)
    arranged: list[str] = []
    while heap:
        current = ids[heapq.heappop(heap)]
        arranged.append(current)
        for follower in followers.get(current, ()):
            missing[follower].discard(current)
            if not missing[follower]:
                heapq.heappush(heap, position[follower])
    return arranged if len(arranged) == len(position) else None
