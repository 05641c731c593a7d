"""Which webhooks came already. Call it inside a transaction."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from commandcenter.store import schema

WINDOW_MS = 3 * 24 * 3_600_000
"""As long as GitHub lets people send one again."""
ROWS_MAX = 20_000


def note(session: Session, marks: Sequence[str], now_ms: int, *, rows_max: int = ROWS_MAX) -> bool:
    """Remember a webhook by its marks; say whether none of them was known."""
    table = schema.deliveries
    session.execute(sa.delete(table).where(table.c.at_ms < now_ms - WINDOW_MS))
    known = set(session.scalars(sa.select(table.c.mark).where(table.c.mark.in_(marks))))
    fresh = [{"mark": mark, "at_ms": now_ms} for mark in dict.fromkeys(marks) if mark not in known]
    if fresh:
        session.execute(sa.insert(table), fresh)
        _forget_oldest(session, rows_max)
    return not known


def _forget_oldest(session: Session, rows_max: int) -> None:
    table = schema.deliveries
    newest = sa.select(table.c.seq).order_by(table.c.seq.desc()).offset(rows_max).limit(1)
    oldest = session.execute(newest).scalar()
    if oldest is not None:
        session.execute(sa.delete(table).where(table.c.seq <= oldest))
