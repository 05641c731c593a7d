"""The hub: repositories, pull requests, reviews, comments, statuses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create its tables."""
    op.create_table(
        "hub_repositories",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("owner", sa.String(100), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("last_number", sa.Integer, nullable=False),
        sa.UniqueConstraint("owner", "name", name="hub_repositories_by_name"),
    )
    op.create_table(
        "hub_pulls",
        sa.Column("repository", sa.Integer, sa.ForeignKey("hub_repositories.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("author", sa.String(100), nullable=False),
        sa.Column("head_branch", sa.Text, nullable=False),
        sa.Column("base_branch", sa.Text, nullable=False),
        sa.Column("head", sa.String(64), nullable=False),
        sa.Column("base", sa.String(64), nullable=False),
        sa.Column("draft", sa.Boolean, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("closed_ms", sa.BigInteger),
        sa.Column("merged_ms", sa.BigInteger),
        sa.Column("merge_commit", sa.String(64), nullable=False),
        sa.Column("merged_by", sa.String(100), nullable=False),
        sa.Column("merging", sa.String(64), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
    )
    op.create_index(
        "hub_pulls_open_once",
        "hub_pulls",
        ["repository", "head_branch", "base_branch"],
        unique=True,
        sqlite_where=sa.text("closed_ms IS NULL"),
        postgresql_where=sa.text("closed_ms IS NULL"),
    )
    op.create_index("hub_pulls_by_head", "hub_pulls", ["repository", "head_branch"])
    op.create_table(
        "hub_reviews",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("repository", sa.Integer, sa.ForeignKey("hub_repositories.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("author", sa.String(100), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("commit", sa.String(64), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["repository", "number"], ["hub_pulls.repository", "hub_pulls.number"]
        ),
    )
    op.create_index("hub_reviews_by_pull", "hub_reviews", ["repository", "number"])
    op.create_table(
        "hub_line_comments",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column(
            "review",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.ForeignKey("hub_reviews.id"),
            nullable=False,
        ),
        sa.Column("repository", sa.Integer, sa.ForeignKey("hub_repositories.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("author", sa.String(100), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("line", sa.Integer, nullable=False),
        sa.Column("side", sa.String(5), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("commit", sa.String(64), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["repository", "number"], ["hub_pulls.repository", "hub_pulls.number"]
        ),
    )
    op.create_index("hub_line_comments_by_pull", "hub_line_comments", ["repository", "number"])
    op.create_table(
        "hub_comments",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("repository", sa.Integer, sa.ForeignKey("hub_repositories.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("author", sa.String(100), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["repository", "number"], ["hub_pulls.repository", "hub_pulls.number"]
        ),
    )
    op.create_index("hub_comments_by_pull", "hub_comments", ["repository", "number"])
    op.create_table(
        "hub_statuses",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("repository", sa.Integer, sa.ForeignKey("hub_repositories.id"), nullable=False),
        sa.Column("commit", sa.String(64), nullable=False),
        sa.Column("context", sa.Text, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("target_url", sa.Text, nullable=False),
        sa.Column("author", sa.String(100), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("hub_statuses_by_commit", "hub_statuses", ["repository", "commit"])
