"""What the service keeps: plans parsed once, logs that stay apart, verdicts' pure parts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from commandcenter.core.check import Found, Judgement, Receipt, Verdict, judge
from commandcenter.core.forge import Decision, Issue, Review, Severity
from commandcenter.core.plan import Batch, Plan, Task, to_json
from commandcenter.core.run import TaskStatus
from commandcenter.core.workspace import Completed, Ended
from commandcenter.settings import ProjectCheck
from commandcenter.stages import verify
from commandcenter.stages.logs import Logs
from commandcenter.stages.plans import PLANS_MAX, Plans
from commandcenter.store import database, facts

RUN = "exec_1"
TREE = "a" * 40


def completed(folder: Path, ended: Ended = Ended.EXITED, code: int | None = 0) -> Completed:
    folder.mkdir(exist_ok=True)
    (folder / "stdout").write_text(f"out of {folder.name}")
    (folder / "stderr").write_text("err")
    return Completed(ended, code, b"out", b"err\0", 1.5, 6, folder)


def test_logs_outlive_the_workspace(tmp_path: Path) -> None:
    logs, done = Logs(tmp_path / "logs"), completed(tmp_path / "one")
    logs.keep(RUN, "1.1", 1, "try-1", done)
    for name in ("stdout", "stderr"):
        (done.log / name).unlink()
    found = logs.find(RUN, ("1.1",), None)
    assert {(log.name, log.stream, log.size_bytes) for log in found} == {
        ("try-1", "stdout", 10),
        ("try-1", "stderr", 3),
    }
    assert {log.path.read_text() for log in found} == {"out of one", "err"}


def test_a_command_that_ran_again_shows_its_last_log(tmp_path: Path) -> None:
    logs = Logs(tmp_path / "logs")
    for name in ("first", "second", "second"):
        logs.keep(RUN, "1.1", 1, "review-1", completed(tmp_path / name))
    found = logs.find(RUN, ("1.1",), 1)
    assert len(found) == 2
    assert "out of second" in {log.path.read_text() for log in found}


def test_logs_of_a_command_that_left_none_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    logs = Logs(tmp_path / "logs")
    gone = Completed(Ended.LOST, None, b"", b"", 0, 0, tmp_path / "empty")
    logs.keep(RUN, "1.1", 1, "try-1", gone)
    assert logs.find(RUN, ("1.1", "1.2"), None) == ()


@pytest.mark.parametrize(("one", "other"), [("a", ".a"), ("a_b", "a-b"), ("..", "-"), (".", "..")])
def test_tasks_with_odd_ids_do_not_see_each_others_logs(
    tmp_path: Path, one: str, other: str
) -> None:
    logs = Logs(tmp_path / "logs")
    logs.keep(RUN, one, 1, "try-1", completed(tmp_path / "one"))
    assert logs.find(RUN, (other,), None) == ()
    assert len(logs.find(RUN, (one,), None)) == 2
    assert all(
        log.path.is_relative_to(tmp_path / "logs" / RUN) for log in logs.find(RUN, (one,), 1)
    )


def test_tries_come_in_order(tmp_path: Path) -> None:
    logs = Logs(tmp_path / "logs")
    for number in (10, 2, 1):
        logs.keep(RUN, "1", number, f"try-{number}", completed(tmp_path / "one"))
    assert [log.attempt for log in logs.find(RUN, ("1",), None)][::2] == [1, 2, 10]


def test_plans_of_many_runs_are_read_from_many_threads(tmp_path: Path) -> None:
    database.prepare_sqlite(tmp_path / "db")
    engine = database.open_engine(database.sqlite_url(tmp_path / "db"))
    database.migrate(engine)
    runs = [f"exec_{n}" for n in range(PLANS_MAX + 4)]
    with Session(engine) as session, session.begin():
        for run in runs:
            plan = Plan(title=run, batches=(Batch("1", "", 1),), tasks=(Task("1", "t", "1"),))
            record = facts.NewRun(run, to_json(plan), "", "", "", "", "", "", "local", {}, ())
            facts.insert_run(session, record, [TaskStatus(run, "1", "t", "1", 0)], [], 1)
    plans = Plans()
    titles: list[bool] = []

    def read() -> None:
        with Session(engine) as session:
            titles.extend(plans.of(session, run).title == run for run in runs * 5)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    assert titles == [True] * (6 * 5 * len(runs))


@pytest.mark.parametrize(
    ("ended", "code", "found"),
    [
        (Ended.EXITED, 0, Found.PASSED),
        (Ended.EXITED, 1, Found.FAILED),
        (Ended.EXITED, -9, Found.FAILED),
        (Ended.EXITED, 126, Found.NOT_RUN),
        (Ended.EXITED, 127, Found.NOT_RUN),
        (Ended.TIMED_OUT, None, Found.NOT_RUN),
        (Ended.IDLE, None, Found.NOT_RUN),
        (Ended.OUTPUT_LIMIT, None, Found.NOT_RUN),
        (Ended.MEMORY_LIMIT, None, Found.NOT_RUN),
        (Ended.DISK_LIMIT, None, Found.NOT_RUN),
        (Ended.STOPPED, None, Found.NOT_RUN),
        (Ended.LOST, None, Found.NOT_RUN),
    ],
)
def test_only_a_command_that_ran_to_its_end_found_something(
    tmp_path: Path, ended: Ended, code: int | None, found: Found
) -> None:
    done = completed(tmp_path / "log", ended, code)
    assert verify._found(done) is found
    words = verify._words(done)
    assert words.startswith("out\nerr")
    assert "\0" not in words
    assert ("[ended: " in words) == (ended is not Ended.EXITED)


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        ("", ["src/a.py", "src/b/c.py", "README.md"]),
        ("*.py", ["src/a.py", "src/b/c.py"]),
        ("src/**/*.py", ["src/a.py", "src/b/c.py"]),
        ("**/*.md", ["README.md"]),
        ("src/b/*", ["src/b/c.py"]),
        ("*.rs", None),
    ],
)
def test_a_check_is_about_the_files_that_match(pattern: str, matching: list[str] | None) -> None:
    check = ProjectCheck("lint", "lint {files}", pattern)
    assert verify._matching(check, ["src/a.py", "src/b/c.py", "README.md"]) == matching


def test_names_of_files_are_quoted_for_the_shell() -> None:
    check = ProjectCheck("lint", "lint {files}")
    assert verify._scoped(check, ["a b.py", "$(x)"]) == "lint 'a b.py' '$(x)'"


def receipt(found: Found) -> Receipt:
    return Receipt("c", "c", TREE, found, 0, 0.5, "d" * 64, "words")


@given(st.lists(st.sampled_from(Found), max_size=6))
def test_failed_beats_not_run_beats_passed_and_nothing_is_unverified(found: list[Found]) -> None:
    verdict = judge(TREE, [receipt(each) for each in found])
    if Found.FAILED in found:
        assert verdict.judgement is Judgement.FAILED
    elif Found.NOT_RUN in found:
        assert verdict.judgement is Judgement.NOT_RUN
    else:
        assert verdict.judgement is (Judgement.PASSED if found else Judgement.UNVERIFIED)
    assert verdict.mergeable == (verdict.judgement in (Judgement.PASSED, Judgement.UNVERIFIED))
    assert Verdict.from_json({**verdict.to_json(), "changed": True}) == verdict


def test_a_receipt_of_another_tree_is_never_judged() -> None:
    with pytest.raises(AssertionError):
        judge("b" * 40, [receipt(Found.PASSED)])


def test_a_review_survives_its_storage() -> None:
    issue = Issue("p", Severity.BLOCKER, False, "f", 3, "s")
    review = Review("c" * 40, Decision.REVISE, "sum", (issue,), "judge")
    assert Review.from_json({**review.to_json(), "published": "comment"}) == review
