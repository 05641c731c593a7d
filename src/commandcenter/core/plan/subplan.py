"""Splits one task into tasks of their own, by what a planner answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, islice
from types import MappingProxyType
from typing import Any

from commandcenter.core.plan.diagnostic import Diagnostic
from commandcenter.core.plan.graph import Edge, edges
from commandcenter.core.plan.model import (
    Batch,
    FileOp,
    FileUse,
    Mode,
    Plan,
    Reference,
    Task,
    Verification,
    VerificationKind,
)
from commandcenter.core.plan.paths import within
from commandcenter.core.plan.validation import check
from commandcenter.core.words import one_line

NOT_INHERITED = ("pattern", "handoff")
"""Labels of a task that those it is split into do not have: one agent does each of them."""


def subplan(
    answer: Mapping[str, Any],  # Any: JSON, valid `cc.subplan/1`
    plan: Plan,
    parent: Task,
    delegated: int,
    tasks_max: int,
) -> tuple[Task, ...] | tuple[Diagnostic, ...]:
    """Return the tasks that a planner splits `parent` into, or all that is wrong with them.

    They are checked like a plan of their own, in the planner's words, and then named
    `<parent>-<n>`, where n goes on after the `delegated` ones before and passes over ids that
    `plan`, as it was submitted, has. They depend on each other at most, and stay in the parent's
    files if it declares any. What the parent's labels say, they say, but for `NOT_INHERITED`.
    """
    drafts = [_draft(given, parent) for given in answer["tasks"]]
    found = [*_sizes(drafts, tasks_max), *_faults(plan, drafts), *_outside(drafts, parent)]
    if found:
        return tuple(found)
    ids = islice(_free_ids(plan, parent), delegated, delegated + len(drafts))
    names = {draft.id: name for draft, name in zip(drafts, ids, strict=True)}
    named = tuple(_renamed(draft, names) for draft in drafts)
    return tuple(_faults(plan, named)) or named


def subplan_edges(tasks: Sequence[Task]) -> tuple[Edge, ...]:
    """Return who waits for whom among tasks that one was split into: as named, and by overlap."""
    return edges(_alone(Plan(), tasks))


def grafted(plan: Plan, tasks: Sequence[Task]) -> Plan:
    """Return the plan with tasks right behind the one that was split into them, and its others.

    It is for people to read: who waits for them waits for their parent, as before.
    """
    if not tasks:
        return plan
    family = (tasks[0].parent, *(t.id for t in plan.tasks if t.parent == tasks[0].parent))
    at = 1 + max(n for n, task in enumerate(plan.tasks) if task.id in family)
    return replace(plan, tasks=(*plan.tasks[:at], *tasks, *plan.tasks[at:]))


def _draft(given: Mapping[str, Any], parent: Task) -> Task:
    """Return a task with the planner's own ids."""
    ops = {use.path: use.op for use in parent.files}
    return Task(
        id=given["id"],
        title=given["title"],
        batch=parent.batch,
        instructions=given["instructions"],
        depends_on=tuple(map(Reference, given.get("depends_on", ()))),
        follows_previous=False,
        files=tuple(
            FileUse(path, ops.get(path, FileOp.UNKNOWN)) for path in given.get("files", ())
        ),
        verification=tuple(
            Verification(VerificationKind.COMMAND, text) for text in given.get("verification", ())
        ),
        labels=_inherited(parent),
        parent=parent.id,
    )


def _inherited(parent: Task) -> Mapping[str, str]:
    kept = {name: text for name, text in parent.labels.items() if name not in NOT_INHERITED}
    return MappingProxyType(kept)


def _sizes(drafts: Sequence[Task], tasks_max: int) -> Iterator[Diagnostic]:
    if len(drafts) > tasks_max:
        message = f"the sub-plan has {len(drafts)} tasks; at most {tasks_max} are accepted"
        yield Diagnostic("P014", message, hint="join some of them")


def _faults(plan: Plan, tasks: Sequence[Task]) -> Iterator[Diagnostic]:
    return (found for found in check(_alone(plan, tasks)) if found.is_error)


def _alone(plan: Plan, tasks: Sequence[Task]) -> Plan:
    """Return a plan of these tasks only, in one parallel batch."""
    batches = (Batch(tasks[0].batch, "", 1, mode=Mode.PARALLEL),) if tasks else ()
    return Plan(defaults=plan.defaults, batches=batches, tasks=tuple(tasks))


def _outside(drafts: Sequence[Task], parent: Task) -> Iterator[Diagnostic]:
    declared = [use.path for use in parent.files]
    for draft in drafts if declared else ():
        for use in draft.files:
            if not any(within(use.path, path) for path in declared):
                message = (
                    f"path `{one_line(use.path)}` of task {draft.id} is outside its parent's files"
                )
                hint = f"stay in: {', '.join(declared)}"
                yield Diagnostic("P023", message, hint=hint, subject=use.path)


def _free_ids(plan: Plan, parent: Task) -> Iterator[str]:
    taken = {task.id.casefold() for task in plan.tasks if task.parent != parent.id}
    names = (f"{parent.id}-{n}" for n in count(1))
    return (name for name in names if name.casefold() not in taken)


def _renamed(draft: Task, names: Mapping[str, str]) -> Task:
    waits = tuple(Reference(names[reference.id]) for reference in draft.depends_on)
    return replace(draft, id=names[draft.id], depends_on=waits)
