"""Which webhooks came already, and where the hub sends its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def _counted(name: str) -> sa.Column[int]:
    counted = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    return sa.Column(name, counted, primary_key=True, autoincrement=True)


def upgrade() -> None:
    """Create them, empty: nothing older knows."""
    op.create_table(
        "cc_deliveries",
        _counted("seq"),
        sa.Column("mark", sa.String(64), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("mark", name="cc_deliveries_once"),
        sa.Index("cc_deliveries_by_time", "at_ms"),
    )
    op.create_table(
        "hub_hooks",
        _counted("id"),
        sa.Column("repository", sa.Integer, sa.ForeignKey("hub_repositories.id"), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("events", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
    )
