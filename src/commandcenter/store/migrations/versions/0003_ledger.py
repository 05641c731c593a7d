"""The ledger of what we own outside the database, filled with what the older tables tell of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_Row = dict[str, Any]  # Any: column values


def upgrade() -> None:
    """Create it, and note what earlier versions made."""
    table = op.create_table(
        "cc_ledger",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("fact", sa.String(20), nullable=False),
        sa.Column("run", sa.String(40), nullable=False),
        sa.Column("task", sa.String(60), nullable=False),
        sa.Column("commit", sa.String(64), nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("cc_ledger_by_name", "cc_ledger", ["kind", "place", "name", "seq"])
    op.create_index("cc_ledger_by_task", "cc_ledger", ["run", "task"])
    rows = list(_made_before(op.get_bind()))
    if rows:
        op.bulk_insert(table, rows)


def _made_before(connection: sa.Connection) -> Iterator[_Row]:
    tries = _tries(connection)
    query = "SELECT id, upstream, mode, landed_on, created_ms FROM cc_runs"
    for run in connection.execute(sa.text(query)).mappings().all():
        query = "SELECT id, branch, unsettled, merge_commit FROM cc_tasks WHERE run = :run"
        tasks = connection.execute(sa.text(query), {"run": run["id"]}).mappings().all()
        for task in tasks:
            yield from _of_task(run, task, tries.get((run["id"], task["id"]), []))
        yield from _of_result(run, tasks, tries)


def _tries(connection: sa.Connection) -> dict[tuple[str, str], list[_Row]]:
    found: dict[tuple[str, str], list[_Row]] = {}
    query = "SELECT run, task, number, record FROM cc_attempts ORDER BY run, task, number"
    for row in connection.execute(sa.text(query)).mappings():
        found.setdefault((row["run"], row["task"]), []).append(json.loads(row["record"]))
    return found


def _of_task(run: sa.RowMapping, task: sa.RowMapping, tries: list[_Row]) -> Iterator[_Row]:
    heads = [each for each in tries if each["head"]]
    for each in heads:
        name = f"refs/cc/task/{_component(run['id'])}/{_component(task['id'])}/{each['number']}"
        yield _row(run, "ref", name, task["id"], each["head"])
        if task["branch"]:
            yield _row(run, "branch", task["branch"], task["id"], each["head"])
    if not task["unsettled"]:
        return
    for generation in sorted({each["generation"] for each in tries}):
        name = f"{run['id']}/{task['id']}/{generation}/work"
        yield {**_row(run, "workspace", name, task["id"]), "place": run["mode"]}
    pin = f"refs/cc/keep/{_component(run['id'])}/{_component(task['id'])}"
    yield _row(run, "ref", pin, task["id"], tries[-1]["base"] if tries else "")


def _of_result(
    run: sa.RowMapping, tasks: Any, tries: dict[tuple[str, str], list[_Row]]
) -> Iterator[_Row]:
    """Note the branch that holds a run's result: made at a tip that tasks began from, or landed."""
    name = f"commandcenter/{run['id']}/result"
    if run["landed_on"] != name:
        return
    bases = [each["base"] for task in tasks for each in tries.get((run["id"], task["id"]), [])]
    commits = [*bases, *(task["merge_commit"] for task in tasks)]
    for commit in dict.fromkeys(filter(None, commits)):
        yield _row(run, "branch", name, "", commit)


def _row(run: sa.RowMapping, kind: str, name: str, task: str, commit: str = "") -> _Row:
    return {
        "kind": kind,
        "place": run["upstream"],
        "name": name,
        "fact": "put",
        "run": run["id"],
        "task": task,
        "commit": commit,
        "words": "",
        "at_ms": run["created_ms"],
    }


def _component(text: str) -> str:
    quoted = quote(text, safe="").replace("~", "%7E")
    if quoted.startswith(".") or quoted.endswith((".", ".lock")) or ".." in quoted:
        quoted = quoted.replace(".", "%2E")
    return quoted
