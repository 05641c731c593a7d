"""What checks found, by tree and check. Call it inside a transaction."""

from __future__ import annotations

import json

import sqlalchemy as sa
from sqlalchemy.orm import Session

from commandcenter.core.check import Receipt
from commandcenter.store import schema


def save(session: Session, check: str, receipt: Receipt, at_ms: int) -> None:
    """Store what a check, named by its digest, found last on a tree."""
    table = schema.receipts
    key = {"tree": receipt.tree, "check": check}
    values = {"record": json.dumps(receipt.to_json()), "at_ms": at_ms}
    updated = session.execute(
        sa.update(table)
        .where(*(table.c[name] == value for name, value in key.items()))
        .values(values)
        .returning(table.c.tree)
    )
    if updated.first() is None:
        session.execute(sa.insert(table), {**key, **values})


def find(session: Session, tree: str, check: str) -> Receipt | None:
    """Return what a check found last on a tree, if it ever ran there."""
    table = schema.receipts
    query = sa.select(table.c.record).where(table.c.tree == tree, table.c.check == check)
    record = session.execute(query).scalar()
    return None if record is None else Receipt.from_json(json.loads(record))
