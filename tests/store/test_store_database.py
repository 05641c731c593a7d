"""The database file: opened, migrated, and fit for many writers."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from commandcenter.core.errors import InputError
from commandcenter.store import database
from commandcenter.store.schema import metadata


def test_the_migrations_make_exactly_the_tables_that_we_use(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": "cc_migrations",
                "compare_type": True,
                "include_name": lambda name, kind, _: kind != "table" or name in metadata.tables,
            },
        )
        assert compare_metadata(context, metadata) == []


def test_migrating_again_changes_nothing(engine: sa.Engine, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        before = connection.execute("SELECT name, sql FROM sqlite_master").fetchall()
    database.migrate(engine)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name, sql FROM sqlite_master").fetchall() == before


def test_migrations_that_are_cut_off_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "fresh.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        # In the way of the second migration, when the first one is done.
        connection.execute("CREATE TABLE hub_pulls (mine)")
    engine = database.open_engine(database.sqlite_url(path))

    with pytest.raises(sa.exc.OperationalError, match="hub_pulls"):
        database.migrate(engine)

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("hub_pulls",)]
        connection.execute("DROP TABLE hub_pulls")
    database.migrate(engine)
    engine.dispose()


def test_a_database_of_a_newer_version_is_refused_and_left_alone(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE cc_migrations SET version_num = '9999'"))
    with pytest.raises(InputError, match="newer version"):
        database.migrate(engine)


def test_the_file_is_in_write_ahead_mode_for_everybody(engine: sa.Engine, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_connections_wait_for_each_other_and_keep_foreign_keys(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert connection.scalar(sa.text("PRAGMA busy_timeout")) == 30_000
        assert connection.scalar(sa.text("PRAGMA foreign_keys")) == 1


def test_the_clock_of_the_database_knows_fractions_of_a_second(engine: sa.Engine) -> None:
    query = sa.text("SELECT unixepoch('subsec'), typeof(unixepoch('subsec'))")
    with engine.connect() as connection:
        moments = [connection.execute(query).one() for _ in range(5)]
    assert {kind for _, kind in moments} == {"real"}
    assert any(moment != int(moment) for moment, _ in moments)


def test_the_tables_of_old_and_new_sqlite_are_served_by_the_same_driver() -> None:
    old = sqlite3.sqlite_version_info < database.UNIXEPOCH_SUBSECOND
    assert bool(database.engine_options()) == old
    assert database.paramstyle == sqlite3.paramstyle


def test_a_file_that_is_no_database_is_refused_with_a_word(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be looked at as one" * 100)
    with pytest.raises(InputError, match=r"cannot be used.*not a database"):
        database.prepare_sqlite(path)


def test_a_folder_in_the_place_of_the_database_is_refused_with_a_word(path: Path) -> None:
    path.mkdir()
    with pytest.raises(InputError, match="cannot be used"):
        database.prepare_sqlite(path)


def test_many_writers_lose_nothing(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE counter (value INTEGER)"))
        connection.execute(sa.text("INSERT INTO counter VALUES (0)"))

    def count() -> None:
        for _ in range(40):
            with engine.begin() as connection:
                connection.execute(sa.text("UPDATE counter SET value = value + 1"))

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT value FROM counter")) == 240


async def test_a_transaction_that_fails_leaves_nothing(engine: sa.Engine) -> None:
    store = database.Database(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE counter (value INTEGER)"))

    def broken(session: sa.orm.Session) -> None:
        session.execute(sa.text("INSERT INTO counter VALUES (1)"))
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await store.transact(broken)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM counter")) == 0
