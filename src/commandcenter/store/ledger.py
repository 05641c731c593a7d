"""The ledger: notes what we own outside the database, before it is made. Inside a transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.orm import Session

from commandcenter.core.ledger import Entry, Fact, Holding, Kind, adds_nothing, holdings
from commandcenter.store import schema

_TABLE = schema.ledger


def note(session: Session, entries: Iterable[Entry]) -> None:
    """Append these entries, but for those that say what is known already."""
    # A transaction of SQLite begins with its first write: before that, what is read may be stale.
    session.execute(sa.delete(_TABLE).where(_TABLE.c.seq < 0))
    for entry in entries:
        if not adds_nothing(holding(session, entry.kind, entry.place, entry.name), entry):
            session.execute(sa.insert(_TABLE), asdict(entry))


def holding(session: Session, kind: Kind, place: str, name: str) -> Holding | None:
    """Return what is known of one thing; None when we never put it there."""
    found = _read(session, _TABLE.c.kind == kind, _TABLE.c.name == name, _TABLE.c.place == place)
    return found[0] if found else None


def of_task(session: Session, run: str, task: str) -> tuple[Holding, ...]:
    """Return what is held for a task."""
    found = _read(session, _TABLE.c.run == run, _TABLE.c.task == task)
    return tuple(each for each in found if each.held)


def held(session: Session, *kinds: Kind) -> tuple[Holding, ...]:
    """Return all that is held of these kinds, in the order in which it was first put there."""
    newest = (
        sa.select(sa.func.max(_TABLE.c.seq))
        .where(_TABLE.c.kind.in_(kinds))
        .group_by(_TABLE.c.kind, _TABLE.c.place, _TABLE.c.name)
    )
    # What is gone is most of it, and its last entry alone tells that.
    last = _TABLE.alias()
    here = [last.c[name] == _TABLE.c[name] for name in ("kind", "place", "name")]
    still = sa.exists().where(*here, last.c.seq.in_(newest), last.c.fact != Fact.GONE)
    return _read(session, _TABLE.c.kind.in_(kinds), still)


def _read(session: Session, *conditions: sa.ColumnElement[bool]) -> tuple[Holding, ...]:
    rows = session.execute(sa.select(_TABLE).where(*conditions).order_by(_TABLE.c.seq)).mappings()
    return holdings(
        Entry(
            kind=Kind(row["kind"]),
            place=row["place"],
            name=row["name"],
            fact=Fact(row["fact"]),
            run=row["run"],
            task=row["task"],
            commit=row["commit"],
            words=row["words"],
            at_ms=row["at_ms"],
        )
        for row in rows
    )
