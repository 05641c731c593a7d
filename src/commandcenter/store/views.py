"""Reads facts back as values. Nothing here writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from commandcenter.core.attempt import Attempt
from commandcenter.core.errors import NotFound, newer_record
from commandcenter.core.run import Event, EventKind, Phase, Reason, State, TaskStatus
from commandcenter.store import schema

_ENDED = tuple(state.value for state in State if state.ended)
_TASK_FIELDS = tuple(field.name for field in fields(TaskStatus))


@dataclass(frozen=True)
class RunRecord:
    """A run as it is stored."""

    id: str
    plan_path: str
    title: str
    repository: str
    upstream: str
    target: str
    landed_on: str
    mode: str
    options: Mapping[str, Any]  # Any: JSON, shape owned by `service`
    notes: tuple[str, ...]
    cancel_requested: bool
    created_ms: int
    ended_ms: int


def task_row(status: TaskStatus) -> dict[str, Any]:  # Any: column values
    """Return a status as the columns of its row."""
    row = asdict(status)
    row["state"] = status.state.value
    row["phase"] = status.phase.value if status.phase else None
    row["reason"] = status.reason.value if status.reason else None
    return row


def _status(row: sa.RowMapping) -> TaskStatus:
    values = {name: row[name] for name in _TASK_FIELDS}
    values["state"] = State(row["state"])
    values["phase"] = Phase(row["phase"]) if row["phase"] else None
    values["reason"] = Reason(row["reason"]) if row["reason"] else None
    return TaskStatus(**values)


def _run(row: sa.RowMapping) -> RunRecord:
    if row["schema"] > schema.RUN_SCHEMA:
        raise newer_record(f"run {row['id']}")
    return RunRecord(
        id=row["id"],
        plan_path=row["plan_path"],
        title=row["title"],
        repository=row["repository"],
        upstream=row["upstream"],
        target=row["target"],
        landed_on=row["landed_on"],
        mode=row["mode"],
        options=json.loads(row["options"]),
        notes=tuple(json.loads(row["notes"])),
        cancel_requested=bool(row["cancel_requested_ms"]),
        created_ms=row["created_ms"],
        ended_ms=row["ended_ms"],
    )


_RUN_COLUMNS = tuple(column for column in schema.runs.c if column.name != "plan")


def plan_revision(session: Session, run: str) -> int:
    """Return how often the run's plan has changed, since tasks of it were split."""
    query = sa.select(schema.runs.c.plan_revision).where(schema.runs.c.id == run)
    revision: int = session.execute(query).scalar_one()
    return revision


def read_plan(session: Session, run: str) -> str:
    """Return the canonical JSON of a run's plan, which may be large."""
    query = sa.select(schema.runs.c.plan).where(schema.runs.c.id == run)
    plan: str = session.execute(query).scalar_one()
    return plan


def cancel_requested(session: Session, run: str) -> bool:
    """Say whether a person cancelled the run."""
    query = sa.select(schema.runs.c.cancel_requested_ms).where(schema.runs.c.id == run)
    return bool(session.execute(query).scalar_one())


def read_run(session: Session, run: str) -> RunRecord:
    """Return one run.

    Raises:
        NotFound: there is none of this id.
    """
    query = sa.select(*_RUN_COLUMNS).where(schema.runs.c.id == run)
    row = session.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"Execution {run} not found", hint="list them: commandcenter status")
    return _run(row)


def has_run(session: Session, run: str) -> bool:
    """Say whether there is a run of this id."""
    query = sa.select(schema.runs.c.id).where(schema.runs.c.id == run)
    return session.execute(query).first() is not None


def runs(session: Session) -> tuple[RunRecord, ...]:
    """Return all runs, newest first."""
    order = (schema.runs.c.created_ms.desc(), schema.runs.c.id)
    rows = session.execute(sa.select(*_RUN_COLUMNS).order_by(*order)).mappings()
    return tuple(_run(row) for row in rows)


def open_upstreams(session: Session) -> tuple[str, ...]:
    """Return the upstreams of the runs that have not ended."""
    column = schema.runs.c.upstream
    query = sa.select(column).where(schema.runs.c.ended_ms == 0).distinct()
    return tuple(session.scalars(query))


def read_task(session: Session, run: str, task: str) -> TaskStatus:
    """Return one task's status.

    Raises:
        NotFound: there is none of this id in this run.
    """
    query = sa.select(schema.tasks).where(schema.tasks.c.run == run, schema.tasks.c.id == task)
    row = session.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"Task {task} not found in execution {run}")
    return _status(row)


def task_title(session: Session, run: str, task: str) -> str | None:
    """Return the title of a task; None when there is none of this id in this run."""
    rows = schema.tasks.c
    query = sa.select(rows.title).where(rows.run == run, rows.id == task)
    return session.execute(query).scalar()


def tasks(session: Session, run: str) -> tuple[TaskStatus, ...]:
    """Return the status of all tasks of a run, in reading order."""
    query = (
        sa.select(schema.tasks).where(schema.tasks.c.run == run).order_by(schema.tasks.c.ordinal)
    )
    return tuple(_status(row) for row in session.execute(query).mappings())


def tasks_in(session: Session, run: str, *states: State) -> tuple[str, ...]:
    """Return the ids of the tasks in one of these states, in reading order."""
    query = (
        sa.select(schema.tasks.c.id)
        .where(
            schema.tasks.c.run == run,
            schema.tasks.c.state.in_([state.value for state in states]),
        )
        .order_by(schema.tasks.c.ordinal)
    )
    return tuple(session.execute(query).scalars())


def waiting_tasks(session: Session, waiting_for: str) -> tuple[TaskStatus, ...]:
    """Return the tasks of all runs that wait for this, or for something that begins so."""
    query = sa.select(schema.tasks).where(
        schema.tasks.c.phase == Phase.WAITING.value,
        schema.tasks.c.waiting_for.startswith(waiting_for, autoescape=True),
    )
    return tuple(_status(row) for row in session.execute(query).mappings())


def merging_tasks(
    session: Session, upstream: str, target: str, landed_on: str
) -> tuple[tuple[str, str, int], ...]:
    """Return the (run, task, try) of what is in one merge queue: runs by age, in plan order.

    What is to be cancelled is left out.
    """
    runs, tasks = schema.runs, schema.tasks
    query = (
        sa.select(tasks.c.run, tasks.c.id, tasks.c.attempt)
        .join(runs, runs.c.id == tasks.c.run)
        .where(
            runs.c.upstream == upstream,
            runs.c.target == target,
            runs.c.landed_on == landed_on,
            runs.c.ended_ms == 0,
            runs.c.cancel_requested_ms == 0,
            tasks.c.state == State.IN_PROGRESS.value,
            tasks.c.phase == Phase.MERGING.value,
        )
        .order_by(runs.c.created_ms, runs.c.id, tasks.c.ordinal)
    )
    return tuple((row.run, row.id, row.attempt) for row in session.execute(query))


def merged_tasks(session: Session) -> tuple[tuple[str, str, int, str], ...]:
    """Return the (run, task, last try, commit that landed) of what landed, in all runs."""
    tasks = schema.tasks
    query = sa.select(tasks.c.run, tasks.c.id, tasks.c.attempt, tasks.c.merge_commit).where(
        tasks.c.state == State.COMPLETED.value, tasks.c.merge_commit != ""
    )
    return tuple((row.run, row.id, row.attempt, row.merge_commit) for row in session.execute(query))


def open_tasks(session: Session, run: str) -> int:
    """Return how many tasks have not ended."""
    query = (
        sa.select(sa.func.count())
        .select_from(schema.tasks)
        .where(schema.tasks.c.run == run, schema.tasks.c.state.not_in(_ENDED))
    )
    return session.execute(query).scalar_one()


def open_children(session: Session, run: str, parent: str) -> int:
    """Return how many of the tasks that one was split into have not ended."""
    tasks = schema.tasks.c
    query = (
        sa.select(sa.func.count())
        .select_from(schema.tasks)
        .where(tasks.run == run, tasks.parent == parent, tasks.state.not_in(_ENDED))
    )
    return session.execute(query).scalar_one()


def unsettled_tasks(session: Session, run: str) -> int:
    """Return how many tasks have branches, workspaces or pins that are not cleaned up yet."""
    query = (
        sa.select(sa.func.count())
        .select_from(schema.tasks)
        .where(schema.tasks.c.run == run, schema.tasks.c.unsettled)
    )
    return session.execute(query).scalar_one()


def unsettled(session: Session) -> tuple[tuple[str, str], ...]:
    """Return the (run, task) of all tasks that have something to clean up, now or later."""
    query = sa.select(schema.tasks.c.run, schema.tasks.c.id).where(schema.tasks.c.unsettled)
    return tuple((row.run, row.id) for row in session.execute(query))


def settling_tasks(session: Session, run: str) -> frozenset[str]:
    """Return the ids of the tasks that are still being stopped or cleaned up."""
    cancelling = sa.select(schema.runs.c.id).where(
        schema.runs.c.id == run, schema.runs.c.cancel_requested_ms != 0
    )
    query = (
        sa.select(schema.tasks.c.id)
        .where(schema.tasks.c.run == run, schema.tasks.c.unsettled)
        .where(sa.or_(schema.tasks.c.state.in_(_ENDED), cancelling.exists()))
    )
    return frozenset(session.execute(query).scalars())


def edges(session: Session, run: str) -> tuple[tuple[str, str], ...]:
    """Return the edges of a run: (task before, task after)."""
    query = sa.select(schema.edges.c.before, schema.edges.c.after).where(schema.edges.c.run == run)
    return tuple((row.before, row.after) for row in session.execute(query))


def active_runs(session: Session) -> tuple[str, ...]:
    """Return the ids of the runs that have not ended."""
    query = sa.select(schema.runs.c.id).where(schema.runs.c.ended_ms == 0)
    return tuple(session.execute(query).scalars())


def read_attempt(session: Session, run: str, task: str, number: int) -> Attempt:
    """Return what is stored of one try."""
    table = schema.attempts
    record = session.execute(
        sa.select(table.c.record).where(
            table.c.run == run, table.c.task == task, table.c.number == number
        )
    ).scalar_one()
    return Attempt.from_json(json.loads(record))


@dataclass(frozen=True)
class Lost:
    """A capture of a task that ended without landing."""

    run: str
    task: str
    upstream: str
    state: State
    ended_ms: int
    name: str
    """What its ref ends with: see `task_ref`."""
    head: str
    what: str
    """In words."""


def captures_not_landed(session: Session) -> tuple[Lost, ...]:
    """Return the captured tries of tasks that ended without landing; empty changes are none."""
    ended = [state.value for state in (State.FAILED, State.CANCELLED, State.SKIPPED)]
    of_task = sa.and_(
        schema.tasks.c.run == schema.attempts.c.run, schema.tasks.c.id == schema.attempts.c.task
    )
    query = (
        sa.select(
            schema.attempts, schema.runs.c.upstream, schema.tasks.c.state, schema.tasks.c.ended_ms
        )
        .join(schema.tasks, of_task)
        .join(schema.runs, schema.runs.c.id == schema.tasks.c.run)
        .where(schema.tasks.c.state.in_(ended))
        .order_by(schema.tasks.c.run, schema.tasks.c.ordinal, schema.attempts.c.number)
    )
    found = (
        (row, Attempt.from_json(json.loads(row["record"])))
        for row in session.execute(query).mappings()
    )
    return tuple(
        Lost(
            row["run"],
            row["task"],
            row["upstream"],
            State(row["state"]),
            row["ended_ms"],
            str(attempt.number),
            attempt.head,
            f"try {attempt.number}",
        )
        for row, attempt in found
        if attempt.head not in ("", attempt.base)
    )


def unsettled_attempts(session: Session, upstream: str) -> tuple[tuple[str, str, Attempt], ...]:
    """Return the (run, task, try) of an upstream's tasks that have something to clean up.

    The last try of a task comes last.
    """
    table, tasks = schema.attempts, schema.tasks
    query = (
        sa.select(table.c.run, table.c.task, table.c.record)
        .join(tasks, sa.and_(tasks.c.run == table.c.run, tasks.c.id == table.c.task))
        .join(schema.runs, schema.runs.c.id == table.c.run)
        .where(schema.runs.c.upstream == upstream, tasks.c.unsettled)
        .order_by(table.c.run, table.c.task, table.c.number)
    )
    return tuple(
        (row.run, row.task, Attempt.from_json(json.loads(row.record)))
        for row in session.execute(query)
    )


def last_attempt(session: Session, run: str, task: str) -> int:
    """Return the number of the last try, 0 when there was none."""
    table = schema.attempts
    query = sa.select(sa.func.max(table.c.number)).where(table.c.run == run, table.c.task == task)
    return session.execute(query).scalar() or 0


def events(
    session: Session, run: str | None, *, after: int, limit: int, task: str | None = None
) -> tuple[Event, ...]:
    """Return the events after this position, in order; of all runs when `run` is None."""
    query = sa.select(schema.events).where(schema.events.c.seq > after)
    if run is not None:
        query = query.where(schema.events.c.run == run)
    if task is not None:
        query = query.where(schema.events.c.task == task)
    rows = session.execute(query.order_by(schema.events.c.seq).limit(limit)).mappings()
    return tuple(_event(row) for row in rows)


def newest_event_ms(session: Session) -> int:
    """Return the time of the event that was stored last, 0 when there is none."""
    table = schema.events
    query = sa.select(table.c.at_ms).order_by(table.c.seq.desc()).limit(1)
    return session.execute(query).scalar() or 0


def events_of(
    session: Session,
    run: str,
    kinds: Sequence[EventKind],
    tasks: tuple[str, ...] | None = None,
) -> tuple[Event, ...]:
    """Return all events of a run that are of these kinds, in order; of these tasks only, if any."""
    table = schema.events
    query = sa.select(table).where(table.c.run == run, table.c.kind.in_(kinds))
    if tasks is not None:
        query = query.where(table.c.task.in_(tasks))
    rows = session.execute(query.order_by(table.c.seq)).mappings()
    return tuple(_event(row) for row in rows)


def _event(row: sa.RowMapping) -> Event:
    if row["schema"] > schema.EVENT_SCHEMA:
        raise newer_record(f"events of run {row['run']}")
    return Event(
        run=row["run"],
        kind=EventKind(row["kind"]),
        at_ms=row["at_ms"],
        task=row["task"],
        attempt=row["attempt"],
        data=json.loads(row["data"]),
        seq=row["seq"],
    )


def last_event_of(
    session: Session, run: str, task: str, attempt: int, kind: EventKind
) -> Event | None:
    """Return the newest event of this kind for one try, if there is any."""
    return _newest(session, run, task, attempt, kind)


def last_words_of(session: Session, run: str, task: str, attempt: int, name: str) -> Event | None:
    """Return the newest live words of one try's agent run of this name, if there are any."""
    named = schema.events.c.data.contains(json.dumps({"name": name})[1:-1], autoescape=True)
    return _newest(session, run, task, attempt, EventKind.AGENT, named)


def _newest(
    session: Session,
    run: str,
    task: str,
    attempt: int,
    kind: EventKind,
    *further: sa.ColumnElement[bool],
) -> Event | None:
    query = (
        sa.select(schema.events.c.seq)
        .where(
            schema.events.c.run == run,
            schema.events.c.task == task,
            schema.events.c.attempt == attempt,
            schema.events.c.kind == kind.value,
            *further,
        )
        .order_by(schema.events.c.seq.desc())
        .limit(1)
    )
    seq = session.execute(query).scalar()
    return events(session, run, after=seq - 1, limit=1)[0] if seq else None
