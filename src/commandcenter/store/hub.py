"""The hub's records in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from commandcenter.core.forge import StatusState
from commandcenter.core.pull_request import (
    Closed,
    Comment,
    CommitStatus,
    Hook,
    LineComment,
    Merged,
    NewHook,
    NewLineComment,
    NewPull,
    NewReview,
    NewStatus,
    PullOrder,
    PullQuery,
    PullRequest,
    PullReview,
    RepositoryName,
    ReviewState,
    Side,
)
from commandcenter.store.schema import metadata

_Row = Mapping[str, Any]  # Any: columns have several types, each value's constructor knows its own


def _identity() -> sa.Column[int]:
    # SQLite numbers rows by itself only for a column of exactly the type INTEGER.
    counted = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    return sa.Column("id", counted, primary_key=True, autoincrement=True)


def _repository() -> sa.Column[int]:
    return sa.Column("repository", sa.ForeignKey("hub_repositories.id"), nullable=False)


def _pull() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["repository", "number"], ["hub_pulls.repository", "hub_pulls.number"]
    )


hub_repositories = sa.Table(
    "hub_repositories",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("owner", sa.String(100), nullable=False),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("last_number", sa.Integer, nullable=False),
    sa.UniqueConstraint("owner", "name", name="hub_repositories_by_name"),
)

hub_pulls = sa.Table(
    "hub_pulls",
    metadata,
    sa.Column("repository", sa.ForeignKey("hub_repositories.id"), primary_key=True),
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
    sa.Index(
        "hub_pulls_open_once",
        "repository",
        "head_branch",
        "base_branch",
        unique=True,
        sqlite_where=sa.text("closed_ms IS NULL"),
        postgresql_where=sa.text("closed_ms IS NULL"),
    ),
    sa.Index("hub_pulls_by_head", "repository", "head_branch"),
)

hub_reviews = sa.Table(
    "hub_reviews",
    metadata,
    _identity(),
    _repository(),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("author", sa.String(100), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("commit", sa.String(64), nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    _pull(),
    sa.Index("hub_reviews_by_pull", "repository", "number"),
)

hub_line_comments = sa.Table(
    "hub_line_comments",
    metadata,
    _identity(),
    sa.Column("review", sa.ForeignKey("hub_reviews.id"), nullable=False),
    _repository(),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("author", sa.String(100), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("line", sa.Integer, nullable=False),
    sa.Column("side", sa.String(5), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("commit", sa.String(64), nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    _pull(),
    sa.Index("hub_line_comments_by_pull", "repository", "number"),
)

hub_comments = sa.Table(
    "hub_comments",
    metadata,
    _identity(),
    _repository(),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("author", sa.String(100), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    _pull(),
    sa.Index("hub_comments_by_pull", "repository", "number"),
)

hub_statuses = sa.Table(
    "hub_statuses",
    metadata,
    _identity(),
    _repository(),
    sa.Column("commit", sa.String(64), nullable=False),
    sa.Column("context", sa.Text, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("target_url", sa.Text, nullable=False),
    sa.Column("author", sa.String(100), nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Index("hub_statuses_by_commit", "repository", "commit"),
)

hub_hooks = sa.Table(
    "hub_hooks",
    metadata,
    _identity(),
    _repository(),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("events", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)


hub_protections = sa.Table(
    "hub_protections",
    metadata,
    sa.Column("repository", sa.ForeignKey("hub_repositories.id"), primary_key=True),
    sa.Column("branch", sa.String(250), primary_key=True),
    sa.Column("contexts", sa.Text, nullable=False),
)


class HubStore:
    """The hub's memory on any database that SQLAlchemy knows; see `commandcenter.hub.records`."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def repositories(self) -> tuple[RepositoryName, ...]:
        """Return the repositories that had a pull request, by name."""
        table = hub_repositories.c
        query = sa.select(table.owner, table.name).order_by(table.owner, table.name)
        return tuple(RepositoryName(row["owner"], row["name"]) for row in self._rows(query))

    def add_pull(self, repository: RepositoryName, pull: NewPull) -> PullRequest | None:
        """Record a pull request under the next number; None when its branches have an open one."""
        self._register(repository)
        try:
            with self._engine.begin() as connection:
                key, number = _next_number(connection, repository)
                row = _new_pull_row(pull) | {"repository": key, "number": number}
                connection.execute(sa.insert(hub_pulls).values(row))
        except IntegrityError:
            # hub_pulls_open_once; the number is given back with the rest of the transaction.
            return None
        return _pull_of(row)

    def pull(self, repository: RepositoryName, number: int) -> PullRequest | None:
        """Return one pull request."""
        row = self._row(_pulls_of(repository).where(hub_pulls.c.number == number))
        return None if row is None else _pull_of(row)

    def pulls(self, repository: RepositoryName, query: PullQuery) -> tuple[PullRequest, ...]:
        """Return the pull requests that match."""
        chosen = _matching(_pulls_of(repository), query).order_by(*_ordering(query))
        chosen = chosen.offset(query.offset)
        if query.limit is not None:
            chosen = chosen.limit(query.limit)
        return tuple(_pull_of(row) for row in self._rows(chosen))

    def count_pulls(self, repository: RepositoryName, query: PullQuery) -> int:
        """Return how many match, regardless of the query's offset and limit."""
        matching = _matching(_pulls_of(repository), query).subquery()
        with self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(matching)).scalar_one()

    def save_pull(self, repository: RepositoryName, pull: PullRequest) -> PullRequest | None:
        """Replace the stored pull request if its revision is still `pull.revision`."""
        row = _saved_pull_row(pull) | {"revision": pull.revision + 1}
        change = (
            sa.update(hub_pulls)
            .where(hub_pulls.c.repository == _key_of(repository))
            .where(hub_pulls.c.number == pull.number)
            .where(hub_pulls.c.revision == pull.revision)
            .values(row)
        )
        try:
            with self._engine.begin() as connection:
                changed = connection.execute(change).rowcount
        except IntegrityError:
            return None
        return self.pull(repository, pull.number) if changed else None

    def add_review(self, repository: RepositoryName, number: int, review: NewReview) -> PullReview:
        """Record a review with its line comments."""
        row = _columns(review, leave_out={"comments"})
        where = {"repository": _key_of(repository), "number": number}
        with self._engine.begin() as connection:
            added = connection.execute(
                sa.insert(hub_reviews).values(row | where).returning(hub_reviews.c.id)
            ).scalar_one()
            for comment in review.comments:
                shared = {"review": added, "author": review.author, "commit": review.commit}
                remark = _columns(comment) | shared | {"at_ms": review.at_ms}
                connection.execute(sa.insert(hub_line_comments).values(remark | where))
            _touch(connection, repository, number, review.at_ms)
        return PullReview(id=added, **row)

    def reviews(self, repository: RepositoryName, number: int) -> tuple[PullReview, ...]:
        """Return the reviews, oldest first."""
        return tuple(
            PullReview(**_picked(row, PullReview) | {"state": ReviewState(row["state"])})
            for row in self._rows(_of_pull(hub_reviews, repository, number))
        )

    def line_comments(self, repository: RepositoryName, number: int) -> tuple[LineComment, ...]:
        """Return the line comments of all reviews, oldest first."""
        return tuple(
            LineComment(**_picked(row, LineComment) | {"side": Side(row["side"])})
            for row in self._rows(_of_pull(hub_line_comments, repository, number))
        )

    def add_comment(
        self, repository: RepositoryName, number: int, *, author: str, body: str, at_ms: int
    ) -> Comment:
        """Record a comment."""
        row = {"author": author, "body": body, "at_ms": at_ms}
        where = {"repository": _key_of(repository), "number": number}
        with self._engine.begin() as connection:
            added = connection.execute(
                sa.insert(hub_comments).values(row | where).returning(hub_comments.c.id)
            ).scalar_one()
            _touch(connection, repository, number, at_ms)
        return Comment(id=added, author=author, body=body, at_ms=at_ms)

    def comments(self, repository: RepositoryName, number: int) -> tuple[Comment, ...]:
        """Return the comments, oldest first."""
        rows = self._rows(_of_pull(hub_comments, repository, number))
        return tuple(Comment(**_picked(row, Comment)) for row in rows)

    def add_status(self, repository: RepositoryName, status: NewStatus) -> CommitStatus:
        """Record a commit status."""
        self._register(repository)
        row = _columns(status)
        with self._engine.begin() as connection:
            added = connection.execute(
                sa.insert(hub_statuses)
                .values(row | {"repository": _key_of(repository)})
                .returning(hub_statuses.c.id)
            ).scalar_one()
        return CommitStatus(id=added, **row)

    def statuses(self, repository: RepositoryName, commit: str) -> tuple[CommitStatus, ...]:
        """Return the statuses of a commit, newest first."""
        chosen = (
            sa.select(hub_statuses)
            .where(hub_statuses.c.repository == _key_of(repository))
            .where(hub_statuses.c.commit == commit)
            .order_by(hub_statuses.c.id.desc())
        )
        return tuple(
            CommitStatus(**_picked(row, CommitStatus) | {"state": StatusState(row["state"])})
            for row in self._rows(chosen)
        )

    def protect(
        self, repository: RepositoryName, branch: str, contexts: Sequence[str] | None
    ) -> None:
        """Record which checks a branch requires; None: it is not protected any more."""
        self._register(repository)
        table = hub_protections
        mine = (table.c.repository == _key_of(repository), table.c.branch == branch)
        row = {"repository": _key_of(repository), "branch": branch}
        with self._engine.begin() as connection:
            connection.execute(sa.delete(table).where(*mine))
            if contexts is not None:
                told = json.dumps(list(contexts))
                connection.execute(sa.insert(table).values(row | {"contexts": told}))

    def protections(self, repository: RepositoryName) -> dict[str, tuple[str, ...]]:
        """Return the checks that each protected branch requires."""
        table = hub_protections
        chosen = sa.select(table).where(table.c.repository == _key_of(repository))
        return {row["branch"]: tuple(json.loads(row["contexts"])) for row in self._rows(chosen)}

    def add_hook(self, repository: RepositoryName, hook: NewHook) -> Hook:
        """Record a hook."""
        self._register(repository)
        row = _columns(hook)
        stored = {"events": json.dumps(hook.events), "repository": _key_of(repository)}
        with self._engine.begin() as connection:
            added = connection.execute(
                sa.insert(hub_hooks).values(row | stored).returning(hub_hooks.c.id)
            ).scalar_one()
        return Hook(id=added, **row)

    def hooks(self, repository: RepositoryName) -> tuple[Hook, ...]:
        """Return the hooks, oldest first."""
        chosen = sa.select(hub_hooks).where(hub_hooks.c.repository == _key_of(repository))
        return tuple(
            Hook(**_picked(row, Hook) | {"events": tuple(json.loads(row["events"]))})
            for row in self._rows(chosen.order_by(hub_hooks.c.id))
        )

    def remove_hook(self, repository: RepositoryName, id_: int) -> None:
        """Forget a hook; one that is not there is fine."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.delete(hub_hooks)
                .where(hub_hooks.c.repository == _key_of(repository))
                .where(hub_hooks.c.id == id_)
            )

    def _register(self, repository: RepositoryName) -> None:
        """Make sure that the repository has a row."""
        known = sa.select(hub_repositories.c.id).where(*_named(repository))
        if self._row(known) is not None:
            return
        row = {"owner": repository.owner, "name": repository.name, "last_number": 0}
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(hub_repositories).values(row))
        except IntegrityError:
            # Somebody else was faster; if it was something else, the caller's write says so.
            return

    def _row(self, query: sa.Select[Any]) -> _Row | None:
        with self._engine.connect() as connection:
            return connection.execute(query).mappings().one_or_none()  # type: ignore[return-value] # RowMapping is a Mapping by key name

    def _rows(self, query: sa.Select[Any]) -> tuple[_Row, ...]:
        with self._engine.connect() as connection:
            return tuple(connection.execute(query).mappings())  # type: ignore[arg-type] # as above


def _next_number(connection: sa.Connection, repository: RepositoryName) -> tuple[int, int]:
    """Take the repository's next number, and its row lock: the write comes first on purpose."""
    taken = connection.execute(
        sa.update(hub_repositories)
        .where(*_named(repository))
        .values(last_number=hub_repositories.c.last_number + 1)
        .returning(hub_repositories.c.id, hub_repositories.c.last_number)
    ).one()
    return taken.id, taken.last_number


def _touch(connection: sa.Connection, repository: RepositoryName, number: int, at_ms: int) -> None:
    """Say that the pull request was active; not a new revision, for nothing of it changed."""
    connection.execute(
        sa.update(hub_pulls)
        .where(hub_pulls.c.repository == _key_of(repository))
        .where(hub_pulls.c.number == number)
        .values(updated_ms=at_ms)
    )


def _named(repository: RepositoryName) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return (
        hub_repositories.c.owner == repository.owner,
        hub_repositories.c.name == repository.name,
    )


def _key_of(repository: RepositoryName) -> sa.ScalarSelect[int]:
    return sa.select(hub_repositories.c.id).where(*_named(repository)).scalar_subquery()


def _pulls_of(repository: RepositoryName) -> sa.Select[Any]:
    return sa.select(hub_pulls).where(hub_pulls.c.repository == _key_of(repository))


def _of_pull(table: sa.Table, repository: RepositoryName, number: int) -> sa.Select[Any]:
    chosen = sa.select(table).where(table.c.repository == _key_of(repository))
    return chosen.where(table.c.number == number).order_by(table.c.id)


def _matching(chosen: sa.Select[Any], query: PullQuery) -> sa.Select[Any]:
    if query.open is not None:
        ended = hub_pulls.c.closed_ms
        chosen = chosen.where(ended.is_(None) if query.open else ended.is_not(None))
    if query.head_branch is not None:
        chosen = chosen.where(hub_pulls.c.head_branch == query.head_branch)
    if query.base_branch is not None:
        chosen = chosen.where(hub_pulls.c.base_branch == query.base_branch)
    return chosen


def _ordering(query: PullQuery) -> tuple[sa.ColumnElement[Any], ...]:
    columns: tuple[sa.Column[Any], ...] = (hub_pulls.c.number,)
    if query.order is PullOrder.UPDATED:
        columns = (hub_pulls.c.updated_ms, hub_pulls.c.number)
    return tuple(column.desc() if query.descending else column.asc() for column in columns)


def _new_pull_row(pull: NewPull) -> dict[str, Any]:
    times = {"created_ms": pull.at_ms, "updated_ms": pull.at_ms}
    row = _columns(pull, leave_out={"at_ms"}) | times | _ending_row(None)
    return row | {"merging": "", "revision": 0}


def _saved_pull_row(pull: PullRequest) -> dict[str, Any]:
    return _columns(pull, leave_out={"ending", "number", "revision"}) | _ending_row(pull.ending)


def _ending_row(ending: Merged | Closed | None) -> dict[str, Any]:
    row = {"closed_ms": None, "merged_ms": None, "merge_commit": "", "merged_by": ""}
    match ending:
        case None:
            return row
        case Closed(at_ms):
            return row | {"closed_ms": at_ms}
        case Merged(at_ms, commit, by):
            times = {"closed_ms": at_ms, "merged_ms": at_ms}
            return row | times | {"merge_commit": commit, "merged_by": by}


def _pull_of(row: _Row) -> PullRequest:
    names = {field.name for field in fields(PullRequest)} - {"ending"}
    ending: Merged | Closed | None = None
    if row["merged_ms"] is not None:
        ending = Merged(row["merged_ms"], row["merge_commit"], row["merged_by"])
    elif row["closed_ms"] is not None:
        ending = Closed(row["closed_ms"])
    return PullRequest(**{name: row[name] for name in names}, ending=ending)


def _columns(
    value: NewPull | NewReview | NewLineComment | NewStatus | NewHook | PullRequest,
    *,
    leave_out: Set[str] = frozenset(),
) -> dict[str, Any]:
    """Return a flat value's fields as a row."""
    return {
        field.name: getattr(value, field.name)
        for field in fields(value)
        if field.name not in leave_out
    }


def _picked(row: _Row, value: type) -> dict[str, Any]:
    """Return the columns that are fields of the value."""
    return {field.name: row[field.name] for field in fields(value)}
