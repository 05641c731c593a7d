"""Which checks must have passed before the hub merges into a branch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create it, empty: nothing was protected before."""
    op.create_table(
        "hub_protections",
        sa.Column("repository", sa.Integer, sa.ForeignKey("hub_repositories.id"), primary_key=True),
        sa.Column("branch", sa.String(250), primary_key=True),
        sa.Column("contexts", sa.Text, nullable=False),
    )
