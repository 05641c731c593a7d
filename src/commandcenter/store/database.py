"""One database: a SQLite file by default. Opens it, migrates it, and makes it survive."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy.orm import Session, sessionmaker

from commandcenter.core.errors import DiskFull, InputError, newer_record
from commandcenter.store.condition import is_damage, rescue

P = ParamSpec("P")
R = TypeVar("R")

POOL_SIZE = 8
"""Connections that are kept open; more are opened while there is need."""
CACHE_KIB = 512
BUSY_S = 30
"""How long a connection waits for another one's transaction."""
ROOM_BYTES = 4 * 2**20
"""What any transaction of ours finds enough."""
VERSION_TABLE = "cc_migrations"
"""Names the migration that the tables are at."""
_MIGRATIONS = Path(__file__).parent / "migrations"

_NO_ROOM = "The disk of the database is full: nothing can be recorded."
_short: WeakSet[sa.Pool] = WeakSet()
"""The connections of databases for which there was no room when that was last looked at."""
_impatient: ContextVar[bool] = ContextVar("impatient", default=False)
log = logging.getLogger(__name__)

UNIXEPOCH_SUBSECOND = (3, 42)
"""First SQLite whose `unixepoch('subsec')` works; the durable engine relies on it."""


def sqlite_url(path: Path) -> str:
    """Return the SQLAlchemy URL of a SQLite file."""
    return f"sqlite:///{path}"


def prepare_sqlite(path: Path) -> None:
    """Create the file if need be, and switch it to write-ahead logging for good.

    The engine never does this itself, and without it every commit costs several times as much.

    Raises:
        InputError: it is no database, or cannot be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_S)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except (OSError, sqlite3.Error) as error:
        raise InputError(
            f"The database {path} cannot be used: {error}.",
            hint="choose another data folder: --data-dir",
        ) from error


def engine_options() -> dict[str, Any]:  # Any: keyword arguments of `sqlalchemy.create_engine`
    """Return the engine options that this interpreter's SQLite needs."""
    if sqlite3.sqlite_version_info >= UNIXEPOCH_SUBSECOND:
        return {}
    return {"module": sys.modules[__name__]}


def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:  # Any: passed on to sqlite3
    """Connect with a `unixepoch` that knows sub-seconds, as newer SQLite does.

    SQLAlchemy takes this module for the driver when `engine_options` says so.
    """
    connection: sqlite3.Connection = sqlite3.connect(*args, **kwargs)
    connection.create_function("unixepoch", -1, lambda *_: round(time.time(), 3))
    return connection


def __getattr__(name: str) -> Any:  # Any: whatever the driver exports
    return getattr(sqlite3, name)


def open_engine(url: str) -> sa.Engine:
    """Return an engine for our tables; the durable engine shares it."""
    options = engine_options() if url.startswith("sqlite") else {}
    # Without a limit: the durable engine takes a second connection while it holds the write lock,
    # and would wait for those that wait for the lock.
    engine = sa.create_engine(url, pool_size=POOL_SIZE, max_overflow=-1, **options)
    if url.startswith("sqlite"):
        sa.event.listen(engine, "connect", _configure)
        sa.event.listen(engine, "handle_error", _wait_for_room)
    return engine


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = "IMMEDIATE"
    connection.execute(f"PRAGMA busy_timeout={BUSY_S * 1000}")
    connection.execute("PRAGMA foreign_keys=ON")
    # What was committed survives a power cut. Some builds of SQLite default to less.
    connection.execute("PRAGMA synchronous=FULL")
    # Every thread has a connection, and the system caches the file: 2 MB for each is too much.
    connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")


def _wait_for_room(context: sa.engine.ExceptionContext) -> None:
    """Have a full disk waited for like another one's transaction: a workflow must not end of it.

    The durable engine and its transactions try again for as long as the database is locked.
    """
    error = context.original_exception
    if not is_full(error):
        return
    if context.engine is not None:
        # Not the engine: the durable one has its own view of ours.
        _short.add(context.engine.pool)
    if _impatient.get():
        raise DiskFull(_NO_ROOM, hint="free some space") from error
    log.warning("%s", _NO_ROOM)
    locked = sqlite3.OperationalError(f"database is locked: {error}")
    raise sa.exc.OperationalError(context.statement, None, locked) from error


def is_full(error: BaseException) -> bool:
    """Say whether a driver's error tells that the disk is full."""
    name = getattr(error, "sqlite_errorname", "")
    return name in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")


def _free_bytes(url: sa.URL) -> int:
    space = os.statvfs(Path(url.database or "").parent)
    return space.f_bavail * space.f_frsize


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Have a full disk raised at once as `DiskFull`, also in threads that start in the block."""
    token = _impatient.set(True)
    try:
        yield
    finally:
        _impatient.reset(token)


class Database:
    """Our tables, for reads and for facts that need no workflow."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._sessions = sessionmaker(engine)

    def is_short_of_room(self) -> bool:
        """Say whether a write found no room on the disk, and there is hardly any still."""
        pool = self.engine.pool
        if pool in _short and _free_bytes(self.engine.url) >= ROOM_BYTES:
            _short.discard(pool)
        return pool in _short

    async def transact(
        self, body: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run `body` in one transaction, in a thread. A body that writes begins by writing.

        Raises:
            DiskFull: there is no room for what it writes.
        """

        def transaction() -> R:
            with self._sessions.begin() as session:
                return body(session, *args, **kwargs)

        with impatient():
            return await asyncio.to_thread(transaction)


def migrate(engine: sa.Engine) -> None:
    """Bring our tables to this version's form, keeping what is in them.

    Raises:
        InputError: a newer version of CommandCenter made them, or the file is damaged.
    """
    try:
        with engine.connect() as connection:
            if _is_current(connection):
                return
    except sa.exc.DatabaseError as error:
        if not is_damage(error.orig):
            raise
        path = Path(engine.url.database or "")
        said = f"The database {path} is damaged: {error.orig}."
        raise InputError(said, hint=rescue(path)) from error
    with impatient(), engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            # The driver begins no transaction for a CREATE TABLE: a crash would leave half of them.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        # Asked again: another process may have been faster.
        if not _is_current(connection):
            _upgrade(connection)


def _upgrade(connection: sa.Connection) -> None:
    # Imported here, since it takes long and most starts have nothing to migrate.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _is_current(connection: sa.Connection) -> bool:
    version, known = _version(connection), _known_versions()
    if version and version not in known:
        raise newer_record("tables")
    return version == known[-1]


def _version(connection: sa.Connection) -> str:
    """Return the migration that the tables are at, empty when there are none."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return ""
    version = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return str(version or "")


def _known_versions() -> list[str]:
    """Return the names of our migrations, oldest first; each file's name begins with its own."""
    return sorted(path.stem[:4] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
