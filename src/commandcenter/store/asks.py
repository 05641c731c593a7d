"""What patterns asked and were answered, by try, round and position. Call it in a transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from commandcenter.core.run import State
from commandcenter.store import schema
from commandcenter.store.views import Lost

_TABLE = schema.asks
Record = Mapping[str, Any]  # Any: JSON, see `core.pattern_record`


@dataclass(frozen=True)
class Asked:
    """One ask, or a delegation, with its answer."""

    attempt: int
    round: int
    """1, 2, ... in its try."""
    position: int
    """1, 2, ... in its round."""
    record: Record
    stops: int = 0
    """How often the world ended it."""
    reply: Record | None = None

    @property
    def name(self) -> str:
        """Return what tells it from all others of its task: `1-2-3`."""
        return f"{self.attempt}-{self.round}-{self.position}"

    @property
    def head(self) -> str:
        """Return the commit that holds what it left; empty when it left nothing."""
        change = self.reply.get("change") if self.reply else None
        return change["head"] if change and change["head"] != change["base"] else ""


def insert(session: Session, run: str, task: str, asked: Sequence[Asked]) -> None:
    """Store a round before anything of it is begun."""
    session.execute(
        sa.insert(_TABLE),
        [
            {
                "run": run,
                "task": task,
                "attempt": each.attempt,
                "round": each.round,
                "position": each.position,
                "record": json.dumps(each.record),
                "stops": each.stops,
            }
            for each in asked
        ],
    )


def reply(session: Session, run: str, task: str, asked: Asked, answer: Record) -> bool:
    """Store an answer, unless there is one; say whether it counts."""
    updated = session.execute(
        sa.update(_TABLE)
        .where(*_is(run, task, asked), _TABLE.c.reply.is_(None))
        .values(reply=json.dumps(answer))
        .returning(_TABLE.c.position)
    )
    return updated.first() is not None


def stop(session: Session, run: str, task: str, asked: Asked) -> int:
    """Count one more interruption by the world; return how many there were."""
    stops = _TABLE.c.stops
    updated = sa.update(_TABLE).where(*_is(run, task, asked)).values(stops=stops + 1)
    counted: int = session.execute(updated.returning(stops)).scalar_one()
    return counted


def read(session: Session, run: str, task: str, attempt: int, round_: int, position: int) -> Asked:
    """Return one."""
    key = Asked(attempt, round_, position, {})
    query = sa.select(_TABLE).where(*_is(run, task, key))
    return _asked(session.execute(query).mappings().one())


def rounds(session: Session, run: str, task: str, attempt: int) -> tuple[tuple[Asked, ...], ...]:
    """Return all rounds of a try, in order."""
    query = sa.select(_TABLE).where(*_of(run, task), _TABLE.c.attempt == attempt)
    rows = session.execute(query.order_by(_TABLE.c.round, _TABLE.c.position)).mappings()
    grouped = groupby(map(_asked, rows), key=lambda each: each.round)
    return tuple(tuple(group) for _, group in grouped)


def of_task(session: Session, run: str, task: str) -> tuple[Asked, ...]:
    """Return all of a task, in order."""
    order = (_TABLE.c.attempt, _TABLE.c.round, _TABLE.c.position)
    query = sa.select(_TABLE).where(*_of(run, task)).order_by(*order)
    return tuple(_asked(row) for row in session.execute(query).mappings())


def captured(session: Session, upstream: str) -> tuple[tuple[str, str, Asked], ...]:
    """Return (run, task, asked) of what left something, of tasks that are not cleaned up yet."""
    tasks, runs = schema.tasks.c, schema.runs.c
    query = (
        sa.select(_TABLE)
        .join(schema.tasks, sa.and_(tasks.run == _TABLE.c.run, tasks.id == _TABLE.c.task))
        .join(schema.runs, runs.id == _TABLE.c.run)
        .where(runs.upstream == upstream, tasks.unsettled)
    )
    rows = session.execute(query).mappings()
    found = ((row["run"], row["task"], _asked(row)) for row in rows)
    return tuple(each for each in found if each[2].head)


def not_landed(session: Session) -> tuple[Lost, ...]:
    """Return what was left for tasks that ended without landing."""
    tasks, runs = schema.tasks.c, schema.runs.c
    ended = [state.value for state in (State.FAILED, State.CANCELLED, State.SKIPPED)]
    query = (
        sa.select(_TABLE, runs.upstream, tasks.state, tasks.ended_ms)
        .join(schema.tasks, sa.and_(tasks.run == _TABLE.c.run, tasks.id == _TABLE.c.task))
        .join(schema.runs, runs.id == _TABLE.c.run)
        .where(tasks.state.in_(ended))
        .order_by(*_TABLE.primary_key.columns)
    )
    return tuple(
        Lost(
            row["run"],
            row["task"],
            row["upstream"],
            State(row["state"]),
            row["ended_ms"],
            asked.name,
            asked.head,
            f"what round {asked.round} of try {asked.attempt} left in lane {asked.record['lane']}",
        )
        for row in session.execute(query).mappings()
        if (asked := _asked(row)).head
    )


def _of(run: str, task: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (_TABLE.c.run == run, _TABLE.c.task == task)


def _is(run: str, task: str, asked: Asked) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        *_of(run, task),
        _TABLE.c.attempt == asked.attempt,
        _TABLE.c.round == asked.round,
        _TABLE.c.position == asked.position,
    )


def _asked(row: sa.RowMapping) -> Asked:
    return Asked(
        row["attempt"],
        row["round"],
        row["position"],
        json.loads(row["record"]),
        row["stops"],
        json.loads(row["reply"]) if row["reply"] else None,
    )
