"""Our tables. Every change here comes with a migration in `store/migrations/versions`."""

from __future__ import annotations

import sqlalchemy as sa

EVENT_SCHEMA = 1
RUN_SCHEMA = 1
"""Versions of the JSON inside a run's and an event's columns: newer ones are refused."""

metadata = sa.MetaData()

runs = sa.Table(
    "cc_runs",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("schema", sa.Integer, nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("plan_revision", sa.Integer, nullable=False, server_default="0"),
    sa.Column("plan_path", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("repository", sa.Text, nullable=False),
    sa.Column("upstream", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("landed_on", sa.Text, nullable=False),
    sa.Column("mode", sa.String(20), nullable=False),
    sa.Column("options", sa.Text, nullable=False),
    sa.Column("notes", sa.Text, nullable=False),
    sa.Column("cancel_requested_ms", sa.BigInteger, nullable=False, default=0),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger, nullable=False, default=0),
)

tasks = sa.Table(
    "cc_tasks",
    metadata,
    sa.Column("run", sa.String(40), sa.ForeignKey("cc_runs.id"), primary_key=True),
    sa.Column("id", sa.String(60), primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("batch", sa.String(60), nullable=False),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("parent", sa.String(60), nullable=False, server_default=""),
    sa.Column("open_dependencies", sa.Integer, nullable=False),
    sa.Column("unsettled", sa.Boolean, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("phase", sa.String(20)),
    sa.Column("waiting_for", sa.Text, nullable=False),
    sa.Column("reason", sa.String(40)),
    sa.Column("explanation", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("branch", sa.Text, nullable=False),
    sa.Column("head", sa.String(64), nullable=False),
    sa.Column("tree", sa.String(64), nullable=False),
    sa.Column("proposal", sa.Integer, nullable=False),
    sa.Column("proposal_url", sa.Text, nullable=False),
    sa.Column("merge_commit", sa.String(64), nullable=False),
    sa.Column("checks", sa.String(20), nullable=False),
    sa.Column("checks_passed", sa.Integer, nullable=False),
    sa.Column("checks_total", sa.Integer, nullable=False),
    sa.Column("review", sa.String(20), nullable=False),
    sa.Column("pattern", sa.Text, nullable=False, server_default=""),
    sa.Column("rounds", sa.Integer, nullable=False, server_default="0"),
    sa.Column("outcome", sa.String(20), nullable=False, server_default=""),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("cost_usd", sa.Float, nullable=False),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger, nullable=False),
    sa.Index("cc_tasks_by_state", "run", "state"),
)

edges = sa.Table(
    "cc_edges",
    metadata,
    sa.Column("run", sa.String(40), sa.ForeignKey("cc_runs.id"), primary_key=True),
    sa.Column("before", sa.String(60), primary_key=True),
    sa.Column("after", sa.String(60), primary_key=True),
    sa.Column("why", sa.String(20), nullable=False),
    sa.Index("cc_edges_by_after", "run", "after"),
)

attempts = sa.Table(
    "cc_attempts",
    metadata,
    sa.Column("run", sa.String(40), primary_key=True),
    sa.Column("task", sa.String(60), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("record", sa.Text, nullable=False),
    sa.ForeignKeyConstraint(["run", "task"], ["cc_tasks.run", "cc_tasks.id"]),
)

asks = sa.Table(
    "cc_asks",
    metadata,
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

events = sa.Table(
    "cc_events",
    metadata,
    sa.Column(
        "seq",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("run", sa.String(40), sa.ForeignKey("cc_runs.id"), nullable=False),
    sa.Column("task", sa.String(60), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("schema", sa.Integer, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Index("cc_events_by_run", "run", "seq"),
    sqlite_autoincrement=True,
)

ledger = sa.Table(
    "cc_ledger",
    metadata,
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
    # No foreign key: a run's result branch is noted before the run is stored.
    sa.Column("run", sa.String(40), nullable=False),
    sa.Column("task", sa.String(60), nullable=False),
    sa.Column("commit", sa.String(64), nullable=False),
    sa.Column("words", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Index("cc_ledger_by_name", "kind", "place", "name", "seq"),
    sa.Index("cc_ledger_by_task", "run", "task"),
    sqlite_autoincrement=True,
)

receipts = sa.Table(
    "cc_receipts",
    metadata,
    sa.Column("tree", sa.String(64), primary_key=True),
    sa.Column("check", sa.String(64), primary_key=True),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
)

deliveries = sa.Table(
    "cc_deliveries",
    metadata,
    sa.Column(
        "seq",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("mark", sa.String(64), nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("mark", name="cc_deliveries_once"),
    sa.Index("cc_deliveries_by_time", "at_ms"),
)
