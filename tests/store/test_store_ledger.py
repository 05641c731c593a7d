"""The ledger's table: noted once, read back as what is held, and filled from older data."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.orm import Session

from commandcenter.core.ledger import Entry, Fact, Kind, Standing, standing
from commandcenter.store import database, ledger
from commandcenter.store.schema import ledger as table

A, B, C = "a" * 40, "b" * 40, "c" * 40


def put(name: str, commit: str = "", task: str = "1.1", kind: Kind = Kind.BRANCH) -> Entry:
    return Entry(kind, "/up.git", name, Fact.PUT, "exec_1", task, commit)


def gone(name: str, kind: Kind = Kind.BRANCH) -> Entry:
    return Entry(kind, "/up.git", name, Fact.GONE, "exec_1", "1.1")


def note(engine: sa.Engine, *entries: Entry) -> None:
    with Session(engine) as session, session.begin():
        ledger.note(session, entries)


def test_an_effect_that_is_repeated_is_noted_once(engine: sa.Engine) -> None:
    note(engine, put("b", A))
    note(engine, put("b", A), put("b", A))
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 1


def test_what_is_held_is_read_back_with_all_its_commits(engine: sa.Engine) -> None:
    note(engine, put("b", A), put("gone", A), put("b", B), gone("gone"), put("back", A))
    note(engine, gone("back"), put("back", C), put("w", kind=Kind.WORKSPACE))
    with Session(engine) as session:
        held = ledger.held(session, Kind.BRANCH)
        everything = ledger.held(session, *Kind)
        one = ledger.holding(session, Kind.BRANCH, "/up.git", "gone")
    assert {each.name: each.commits for each in held} == {"b": (A, B), "back": (A, C)}
    assert {each.name for each in everything} == {"b", "back", "w"}
    assert one is not None
    assert (one.held, one.commits) == (False, (A,))


def test_a_task_is_asked_for_what_it_still_holds(engine: sa.Engine) -> None:
    note(engine, put("mine", A), put("done", A), put("other", A, task="1.2"), gone("done"))
    with Session(engine) as session:
        assert [each.name for each in ledger.of_task(session, "exec_1", "1.1")] == ["mine"]


def test_what_was_never_ours_is_unknown(engine: sa.Engine) -> None:
    note(engine, put("b", A), gone("never"))
    with Session(engine) as session:
        assert ledger.holding(session, Kind.BRANCH, "/other.git", "b") is None
        assert ledger.holding(session, Kind.BRANCH, "/up.git", "never") is None


def migrate_to(engine: sa.Engine, version: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)


def record(number: int, generation: int = 1, head: str = "") -> str:
    return json.dumps(
        {"schema": 1, "number": number, "generation": generation, "base": C, "head": head}
    )


def old_run(path: Path, run: str, landed_on: str, *, unsettled: bool, merge_commit: str) -> None:
    """Store a run as the version before the ledger did: two tries of one task."""
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO cc_runs VALUES (?,1,'{}','','t','/r','/up.git','main',?,'local','{}','[]',"
            "0,5,0)",
            (run, landed_on),
        )
        columns = [row[1] for row in connection.execute("PRAGMA table_info(cc_tasks)")]
        values = dict.fromkeys(columns, 0) | {
            **dict.fromkeys(("title", "waiting_for", "explanation", "tree", "proposal_url"), ""),
            "run": run,
            "id": "a.b",
            "batch": "1",
            "state": "in_progress",
            "checks": "",
            "review": "",
            "branch": f"commandcenter/{run}/a.b",
            "head": A,
            "unsettled": unsettled,
            "merge_commit": merge_commit,
        }
        marks = ",".join("?" * len(columns))
        connection.execute(
            f"INSERT INTO cc_tasks VALUES ({marks})", [values[name] for name in columns]
        )
        for number, generation, head in ((1, 1, A), (2, 2, B), (3, 2, "")):
            connection.execute(
                "INSERT INTO cc_attempts VALUES (?,'a.b',?,?)",
                (run, number, record(number, generation, head)),
            )


def test_what_earlier_versions_made_is_ours_after_a_migration(path: Path) -> None:
    database.prepare_sqlite(path)
    engine = database.open_engine(database.sqlite_url(path))
    migrate_to(engine, "0002")
    old_run(path, "exec_1", "main", unsettled=True, merge_commit="")
    old_run(path, "exec_2", "commandcenter/exec_2/result", unsettled=False, merge_commit=B)

    database.migrate(engine)

    with Session(engine) as session:
        held = {(each.kind.value, each.name): each for each in ledger.held(session, *Kind)}
    engine.dispose()
    of_first = {name for _, name in held if "exec_1" in name}
    assert of_first == {
        "commandcenter/exec_1/a.b",
        "exec_1/a.b/1/work",
        "exec_1/a.b/2/work",
        "refs/cc/keep/exec_1/a.b",
        "refs/cc/task/exec_1/a.b/1",
        "refs/cc/task/exec_1/a.b/2",
    }
    branch = held["branch", "commandcenter/exec_1/a.b"]
    assert (branch.place, branch.task, branch.commits) == ("/up.git", "a.b", (A, B))
    assert held["workspace", "exec_1/a.b/2/work"].place == "local"
    result = held["branch", "commandcenter/exec_2/result"]
    assert [standing(result, tip) for tip in (C, B, A)] == [
        Standing.OURS,
        Standing.OURS,
        Standing.FOREIGN,
    ]
    assert ("workspace", "exec_2/a.b/1/work") not in held
