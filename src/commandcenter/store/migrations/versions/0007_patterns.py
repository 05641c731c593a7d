"""What patterns ask and are answered, and the tasks that others were split into."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add them, empty: older runs have one agent a task."""
    op.create_table(
        "cc_asks",
        sa.Column("run", sa.String(40), primary_key=True),
        sa.Column("task", sa.String(60), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("round", sa.Integer, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("stops", sa.Integer, nullable=False),
        sa.Column("reply", sa.Text),
        sa.ForeignKeyConstraint(["run", "task"], ["cc_tasks.run", "cc_tasks.id"]),
    )
    op.add_column("cc_runs", _counter("plan_revision"))
    op.add_column("cc_tasks", _words("parent", sa.String(60)))
    op.add_column("cc_tasks", _words("pattern", sa.Text()))
    op.add_column("cc_tasks", _counter("rounds"))
    op.add_column("cc_tasks", _words("outcome", sa.String(20)))


def _counter(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def _words(name: str, kind: sa.String) -> sa.Column[str]:
    return sa.Column(name, kind, nullable=False, server_default="")
