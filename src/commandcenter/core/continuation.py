"""Which tasks of a plan a new run begins with as done. A pure decision."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from commandcenter.core.errors import InputError
from commandcenter.core.plan import Done, Plan, Task
from commandcenter.core.plan.spelling import closest
from commandcenter.core.run import Reason, State, TaskStatus

EVERY_DONE = "done"
"""What stands for all tasks that the plan marks as done, where ids are asked for."""


@dataclass(frozen=True)
class Landed:
    """What an earlier run has landed of one task."""

    commit: str
    """That has it: unless the target contains this, the target does not have it any more."""
    words: str
    """How it is told, with the run and the commit."""


@dataclass(frozen=True)
class Beginning:
    """What a run begins with."""

    plan: Plan
    """With every task as it is to be taken."""
    landed: Mapping[str, Landed]
    """What earlier runs have done of it, by task."""


def refuse_to_continue(run: str, *, ended: bool, same_upstream: bool, same_target: bool) -> None:
    """Make sure that what a run has landed can count for another one.

    Raises:
        InputError: it goes on, or landed somewhere else.
    """
    why, hint = "", ""
    if not same_upstream:
        why, hint = "worked on another repository", f"look at it: commandcenter status {run}"
    elif not same_target:
        why, hint = "landed on another branch", "name that one: --into BRANCH"
    elif not ended:
        why, hint = "has not ended", f"wait for it, or go on with it: --resume {run}"
    if why:
        raise InputError(f"Run {run} cannot be continued: it {why}.", hint=hint)


def landed_before(
    plan: Plan, earlier: Plan, statuses: Sequence[TaskStatus]
) -> Mapping[str, Landed]:
    """Return what a run of an earlier plan has landed of those tasks that ask for the same now.

    Parts of a task that was split count through that task alone.
    """
    asked = {task.id: task.sha256 for task in earlier.tasks}
    tasks = {task.id: task for task in plan.tasks if asked.get(task.id) == task.sha256}
    found = {s.id: _landed(s, statuses) for s in statuses if s.id in tasks and not s.parent}
    return {name: landed for name, landed in found.items() if landed is not None}


def _landed(status: TaskStatus, statuses: Sequence[TaskStatus]) -> Landed | None:
    match status.state, status.reason:
        case State.COMPLETED, Reason.MERGED:
            words = f"it landed in run {status.run} as {status.merge_commit[:12]}"
            return Landed(status.merge_commit, words)
        case State.COMPLETED, Reason.JOINED:
            parts = [s for s in statuses if s.parent == status.id and s.state is State.COMPLETED]
            last = max(parts, key=lambda part: part.ended_ms, default=status)
            # One that changed nothing has landed with the commit that it found.
            commit = last.merge_commit or last.head
            words = f"its sub-tasks landed in run {status.run}, the last as {commit[:12]}"
            return Landed(commit, words)
        case State.COMPLETED, Reason.ALREADY_DONE:
            words = f"run {status.run} found that {status.head[:12]} has it already"
            return Landed(status.head, words)
        case State.SKIPPED, Reason.LANDED_BEFORE:
            return Landed(status.head, status.explanation)
        case _:
            return None


def begin(
    plan: Plan, rerun: str | None = None, landed: Mapping[str, Landed] | None = None
) -> Beginning:
    """Return what a run begins with.

    Args:
        plan: as it was read.
        rerun: tasks that are run although they are done: ids with commas between, or `done`.
        landed: what earlier runs have landed of it.

    Raises:
        InputError: a task is to be run again that the plan does not have, or that is not done.
    """
    before = landed or {}
    named = _named(rerun)
    marked = {task.id for task in plan.tasks if task.done is Done.DONE}
    _refuse(plan, named, marked | set(before))
    opened = marked if rerun is not None and not named else named
    tasks = tuple(_opened(task, opened) for task in plan.tasks)
    carried = {t.id: before[t.id] for t in tasks if _carries(t, before, named)}
    done = tuple(replace(t, done=Done.DONE) if t.id in carried else t for t in tasks)
    return Beginning(replace(plan, tasks=done), carried)


def _named(rerun: str | None) -> frozenset[str]:
    """Return the ids that are named; none for all that are done."""
    if rerun is None or rerun.strip() == EVERY_DONE:
        return frozenset()
    names = [name.strip() for name in rerun.split(",")]
    if not all(names):
        raise InputError("A task to run again is not named.", hint="write `done`, or ids: 1.1,2.3")
    return frozenset(names)


def _refuse(plan: Plan, named: Iterable[str], done: Collection[str]) -> None:
    """Make sure that what is named is there, and done."""
    ids = {task.id: task for task in plan.tasks}
    for name in sorted(named):
        if name not in ids:
            raise InputError(
                f"The plan has no task {name}, which is to be run again.",
                hint=closest(name, ids) or "write its id as the plan has it",
            )
        if name not in done:
            raise InputError(
                f"Task {name} is not done, so it cannot be run again.",
                hint=" ".join(filter(None, (_why(ids[name]), closest(name, done)))),
            )


def _why(task: Task) -> str:
    if task.done.settled:
        return f"the plan says that it is {task.done}: change it there."
    return "it is run anyway: leave it out."


def _opened(task: Task, opened: Collection[str]) -> Task:
    return replace(task, done=Done.TODO) if task.id in opened else task


def _carries(task: Task, landed: Mapping[str, Landed], named: Collection[str]) -> bool:
    return task.id in landed and task.id not in named and not task.done.settled
