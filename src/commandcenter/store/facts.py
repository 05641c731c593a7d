"""Appends events and keeps the rows that are their fold. Call it inside a transaction."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from commandcenter.core.attempt import Attempt
from commandcenter.core.run import (
    Event,
    EventKind,
    Reason,
    State,
    TaskStatus,
    fold,
    satisfied,
)
from commandcenter.store import schema, views


@dataclass(frozen=True)
class NewRun:
    """A run as it is submitted."""

    id: str
    plan: str
    """Canonical `cc.plan/1` JSON."""
    plan_path: str
    title: str
    repository: str
    upstream: str
    target: str
    landed_on: str
    mode: str
    options: Mapping[str, Any]  # Any: JSON, shape owned by `service`
    notes: tuple[str, ...]


def insert_run(
    session: Session,
    run: NewRun,
    statuses: Sequence[TaskStatus],
    edges: Iterable[tuple[str, str, str]],
    at_ms: int,
) -> tuple[str, ...]:
    """Store a run with its tasks and edges; return the tasks that can start, in order.

    `edges` are (task before, task after, why).
    """
    ended = {status.id for status in statuses if satisfied(status)}
    links = [edge for edge in edges if edge[1] not in ended]
    open_dependencies = dict.fromkeys((status.id for status in statuses), 0)
    for before, after, _ in links:
        open_dependencies[after] += before not in ended
    session.execute(
        sa.insert(schema.runs),
        {
            "id": run.id,
            "schema": schema.RUN_SCHEMA,
            "plan": run.plan,
            "plan_path": run.plan_path,
            "title": run.title,
            "repository": run.repository,
            "upstream": run.upstream,
            "target": run.target,
            "landed_on": run.landed_on,
            "mode": run.mode,
            "options": json.dumps(run.options),
            "notes": json.dumps(run.notes),
            "cancel_requested_ms": 0,
            "created_ms": at_ms,
            "ended_ms": 0,
        },
    )
    session.execute(
        sa.insert(schema.tasks),
        [
            {
                **views.task_row(replace(status, ended_ms=at_ms if status.state.ended else 0)),
                "open_dependencies": open_dependencies[status.id],
                "unsettled": False,
            }
            for status in statuses
        ],
    )
    if links:
        session.execute(
            sa.insert(schema.edges),
            [
                {"run": run.id, "before": before, "after": after, "why": why}
                for before, after, why in links
            ],
        )
    _insert_event(
        session,
        Event(run.id, EventKind.RUN_SUBMITTED, at_ms, data={"tasks": len(statuses)}),
    )
    for status in statuses:
        if status.state.ended:
            _insert_event(session, _ending(status, at_ms))
    return tuple(
        status.id
        for status in statuses
        if not status.state.ended and open_dependencies[status.id] == 0
    )


def graft(
    session: Session,
    run: str,
    plan: str,
    statuses: Sequence[TaskStatus],
    edges: Iterable[tuple[str, str, str]],
) -> tuple[str, ...]:
    """Store tasks that another one was split into, and the plan with them in it.

    They have the places in the reading order that their `ordinal`s say, one after the other; what
    comes behind moves on. Returns those that can start. `edges`: (task before, task after, why).
    """
    links = list(edges)
    waits = Counter(after for _, after, _ in links)
    tasks = schema.tasks
    session.execute(
        sa.update(tasks)
        .where(tasks.c.run == run, tasks.c.ordinal >= statuses[0].ordinal)
        .values(ordinal=tasks.c.ordinal + len(statuses))
    )
    session.execute(
        sa.insert(tasks),
        [
            {
                **views.task_row(status),
                "open_dependencies": waits[status.id],
                "unsettled": False,
            }
            for status in statuses
        ],
    )
    if links:
        session.execute(
            sa.insert(schema.edges),
            [{"run": run, "before": b, "after": a, "why": why} for b, a, why in links],
        )
    session.execute(
        sa.update(schema.runs)
        .where(schema.runs.c.id == run)
        .values(plan=plan, plan_revision=schema.runs.c.plan_revision + 1)
    )
    return tuple(status.id for status in statuses if not waits[status.id])


def _ending(status: TaskStatus, at_ms: int) -> Event:
    assert status.reason is not None
    data = {"reason": status.reason.value, "explanation": status.explanation}
    data |= {"head": status.head} if status.head else {}
    return Event(status.run, EventKind.TASK_SKIPPED, at_ms, status.id, data=data)


def lock(session: Session, run: str) -> None:
    """Let no other transaction change this run until ours ends; call it before reading.

    SQLite starts a transaction at the first write: what was read before it may have changed.
    """
    session.execute(sa.update(schema.runs).where(schema.runs.c.id == run).values(id=run))


def append(session: Session, event: Event) -> TaskStatus | None:
    """Append an event and bring its task's row up to date; return the task's new status."""
    _insert_event(session, event)
    if not event.task:
        return None
    before = views.read_task(session, event.run, event.task)
    after = fold(before, event)
    if after != before:
        session.execute(
            sa.update(schema.tasks)
            .where(schema.tasks.c.run == event.run, schema.tasks.c.id == event.task)
            .values(**views.task_row(after))
        )
    return after


def _append_all(session: Session, run: str, events: Sequence[Event]) -> None:
    """Append one event for each of many tasks, in a few statements: the database waits for us."""
    if not events:
        return
    session.execute(sa.insert(schema.events), [_event_row(event) for event in events])
    before = {status.id: status for status in views.tasks(session, run)}
    rows = [views.task_row(fold(before[event.task], event)) for event in events]
    session.execute(
        sa.update(schema.tasks).where(
            schema.tasks.c.run == run, schema.tasks.c.id == sa.bindparam("task")
        ),
        [{"task": row["id"], **row} for row in rows],
        execution_options={"synchronize_session": False},
    )


def _insert_event(session: Session, event: Event) -> None:
    session.execute(sa.insert(schema.events), _event_row(event))


def _event_row(event: Event) -> dict[str, Any]:  # Any: column values
    return {
        "run": event.run,
        "task": event.task,
        "attempt": event.attempt,
        "kind": event.kind.value,
        "at_ms": event.at_ms,
        "schema": schema.EVENT_SCHEMA,
        "data": json.dumps(dict(event.data)),
    }


def save_attempt(session: Session, run: str, task: str, attempt: Attempt) -> None:
    """Store what a try starts from, or what is known of it now."""
    key = {"run": run, "task": task, "number": attempt.number}
    record = json.dumps(attempt.to_json())
    table = schema.attempts
    updated = session.execute(
        sa.update(table)
        .where(*(table.c[name] == value for name, value in key.items()))
        .values(record=record)
        .returning(table.c.number)
    )
    if updated.first() is None:
        session.execute(sa.insert(table), {**key, "record": record})


def mark_unsettled(session: Session, run: str, task: str, unsettled: bool) -> None:
    """Note whether a task has something to clean up."""
    session.execute(
        sa.update(schema.tasks)
        .where(schema.tasks.c.run == run, schema.tasks.c.id == task)
        .values(unsettled=unsettled)
    )


def release(session: Session, run: str, task: str) -> tuple[str, ...]:
    """Count a satisfied task off its dependants; return those that can start now, in order."""
    after = sa.select(schema.edges.c.after).where(
        schema.edges.c.run == run, schema.edges.c.before == task
    )
    rows = session.execute(
        sa.update(schema.tasks)
        .where(
            schema.tasks.c.run == run,
            schema.tasks.c.id.in_(after),
            schema.tasks.c.state == State.PENDING.value,
        )
        .values(open_dependencies=schema.tasks.c.open_dependencies - 1)
        .returning(schema.tasks.c.ordinal, schema.tasks.c.id, schema.tasks.c.open_dependencies)
    ).all()
    return tuple(row.id for row in sorted(rows) if row.open_dependencies == 0)


def skip_dependants(session: Session, run: str, task: str, at_ms: int) -> None:
    """Skip every pending task that needs this one, directly or not, each with its reason."""
    if not _has_dependants(session, run, task):
        return
    pending = views.tasks_in(session, run, State.PENDING)
    position = {each: n for n, each in enumerate(pending)}
    after: dict[str, list[str]] = {}
    for before, each in views.edges(session, run):
        if each in position:
            after.setdefault(before, []).append(each)
    how = _ended_how(session, run, task)
    waiting = deque([task])
    events = []
    while waiting:
        cause = waiting.popleft()
        for each in sorted(after.get(cause, ()), key=lambda each: position.get(each, -1)):
            if position.pop(each, None) is not None:
                events.append(_skipped(run, each, f"it needs task {cause}, which {how}", at_ms))
                waiting.append(each)
        how = "was skipped"
    _append_all(session, run, events)


def _has_dependants(session: Session, run: str, task: str) -> bool:
    query = sa.select(schema.edges.c.after).where(
        schema.edges.c.run == run, schema.edges.c.before == task
    )
    return session.execute(query.limit(1)).first() is not None


def _skipped(run: str, task: str, explanation: str, at_ms: int) -> Event:
    data = {"reason": Reason.DEPENDENCY.value, "explanation": explanation}
    return Event(run, EventKind.TASK_SKIPPED, at_ms, task, data=data)


def _ended_how(session: Session, run: str, task: str) -> str:
    words = {State.FAILED: "failed", State.CANCELLED: "was cancelled", State.SKIPPED: "was skipped"}
    return words[views.read_task(session, run, task).state]


def end_run_if_over(session: Session, run: str, at_ms: int) -> bool:
    """Append `run.ended` once nothing is left to do or clean up; say whether the run is over."""
    if views.open_tasks(session, run) or views.unsettled_tasks(session, run):
        return False
    begun_ms = schema.runs.c.created_ms
    ended = session.execute(
        sa.update(schema.runs)
        .where(schema.runs.c.id == run, schema.runs.c.ended_ms == 0)
        # The clock may have been put back.
        .values(ended_ms=sa.case((begun_ms > at_ms, begun_ms), else_=at_ms))
        .returning(schema.runs.c.id)
    )
    if ended.first() is not None:
        _insert_event(session, Event(run, EventKind.RUN_ENDED, at_ms))
    return True


def request_cancel(session: Session, run: str, at_ms: int) -> None:
    """Note that the run is to be cancelled, and cancel the tasks that nobody works on."""
    session.execute(
        sa.update(schema.runs)
        .where(schema.runs.c.id == run, schema.runs.c.cancel_requested_ms == 0)
        .values(cancel_requested_ms=at_ms)
    )
    _insert_event(session, Event(run, EventKind.RUN_CANCEL_REQUESTED, at_ms))
    pending = views.tasks_in(session, run, State.PENDING)
    _append_all(session, run, [cancelled(run, task, 0, at_ms) for task in pending])
    end_run_if_over(session, run, at_ms)


def cancelled(run: str, task: str, attempt: int, at_ms: int) -> Event:
    """Return the event of a task that a person cancelled."""
    data = {"reason": Reason.CANCELLED.value, "explanation": "a person cancelled the run"}
    return Event(run, EventKind.TASK_CANCELLED, at_ms, task, attempt, data)


def reopen(session: Session, run: str, tasks: Sequence[str], at_ms: int) -> tuple[str, ...]:
    """Make ended tasks pending again; return those of them that can start now, in order."""
    session.execute(
        sa.update(schema.runs)
        .where(schema.runs.c.id == run)
        .values(cancel_requested_ms=0, ended_ms=0)
    )
    _insert_event(session, Event(run, EventKind.RUN_RETRIED, at_ms, data={"tasks": list(tasks)}))
    reopened = [Event(run, EventKind.TASK_REOPENED, at_ms, task) for task in tasks]
    _append_all(session, run, reopened)
    counts = _open_dependencies(session, run)
    session.execute(
        sa.update(schema.tasks).where(
            schema.tasks.c.run == run, schema.tasks.c.id == sa.bindparam("task")
        ),
        [{"task": task, "open_dependencies": counts.get(task, 0)} for task in tasks],
        execution_options={"synchronize_session": False},
    )
    return tuple(task for task in tasks if not counts.get(task))


def _open_dependencies(session: Session, run: str) -> Counter[str]:
    """Return for each task how many of those that it needs are not satisfied."""
    unsatisfied = {each.id for each in views.tasks(session, run) if not satisfied(each)}
    return Counter(after for before, after in views.edges(session, run) if before in unsatisfied)


def move_landing(session: Session, run: str, branch: str, note: str, at_ms: int) -> None:
    """Note that the run's result goes to another branch than its target, and why."""
    query = sa.select(schema.runs.c.landed_on).where(schema.runs.c.id == run)
    if session.execute(query).scalar_one() == branch:
        return
    session.execute(sa.update(schema.runs).where(schema.runs.c.id == run).values(landed_on=branch))
    add_note(session, run, note)
    data = {"branch": branch, "note": note}
    _insert_event(session, Event(run, EventKind.RUN_LANDING_MOVED, at_ms, data=data))


def add_note(session: Session, run: str, note: str) -> None:
    """Add a sentence for people to a run, once."""
    query = sa.select(schema.runs.c.notes).where(schema.runs.c.id == run)
    notes = json.loads(session.execute(query).scalar_one())
    if note not in notes:
        changed = json.dumps([*notes, note])
        session.execute(sa.update(schema.runs).where(schema.runs.c.id == run).values(notes=changed))
