from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from commandcenter.core.diff import diff_lines
from commandcenter.core.pull_request import Closed, NewPull, PullQuery, RepositoryName
from commandcenter.hub import HubRecords
from commandcenter.store.hub import HubStore
from commandcenter.store.schema import metadata

KEY = RepositoryName("acme", "project")


def _new(branch: str) -> NewPull:
    return NewPull(
        title="t",
        body="",
        author="me",
        head_branch=branch,
        base_branch="main",
        head="a" * 40,
        base="b" * 40,
        draft=False,
        at_ms=1,
    )


def test_the_migration_makes_the_tables_that_the_store_uses(desk: Any) -> None:
    engine = desk.engine()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = compare_metadata(context, metadata)
    engine.dispose()
    assert [each for each in found if "hub_" in str(each)] == []


def test_numbers_have_no_gap_and_no_double_under_many_threads(desk: Any) -> None:
    engine = desk.engine()
    records: HubRecords = HubStore(engine)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: records.add_pull(KEY, _new(f"task-{n % 20}")), range(60)))
    engine.dispose()

    assert sorted(pull.number for pull in made if pull) == list(range(1, 21))


def test_a_write_that_read_something_older_is_refused(desk: Any) -> None:
    engine = desk.engine()
    records = HubStore(engine)
    pull = records.add_pull(KEY, _new("task"))
    assert pull is not None

    first = records.save_pull(KEY, replace(pull, title="first"))
    second = records.save_pull(KEY, replace(pull, title="second"))

    now = records.pull(KEY, pull.number)
    engine.dispose()
    assert (first, second) == (now, None)
    assert now is not None
    assert now.title == "first"


def test_a_pull_request_does_not_open_beside_another_of_its_branch(desk: Any) -> None:
    engine = desk.engine()
    records = HubStore(engine)
    first = records.add_pull(KEY, _new("task"))
    assert first is not None
    closed = records.save_pull(KEY, replace(first, ending=Closed(2)))
    assert closed is not None
    assert records.add_pull(KEY, _new("task")) is not None

    opened = records.save_pull(KEY, replace(closed, ending=None))

    count = records.count_pulls(KEY, PullQuery(open=True))
    engine.dispose()
    assert (opened, count) == (None, 1)


def test_repositories_count_for_themselves(desk: Any) -> None:
    engine = desk.engine()
    records = HubStore(engine)
    names = [RepositoryName("acme", name) for name in ("one", "two")]
    made = [records.add_pull(name, _new("task")) for name in names]
    engine.dispose()
    assert [pull.number for pull in made if pull] == [1, 1]


def test_only_lines_inside_hunks_count() -> None:
    patch = (
        "@@ -3,3 +3,4 @@ def f():\n context\n-old\n+new\n+@@ -9 +9 @@\n tail\n"
        "\\ No newline at end of file\n@@ -20 +21 @@\n-x\u2028y\n+z"
    )
    shown = diff_lines(patch)
    assert sorted(shown.old) == [3, 4, 5, 20]
    assert sorted(shown.new) == [3, 4, 5, 6, 21]
    assert diff_lines("") == diff_lines("Binary files differ")
