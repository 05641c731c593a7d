"""Facts are appended; rows are their fold; what can start follows from the graph."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from commandcenter.core.attempt import Attempt
from commandcenter.core.check import Found, Receipt
from commandcenter.core.errors import InputError, NotFound
from commandcenter.core.run import Event, EventKind, Reason, State, TaskStatus, fold
from commandcenter.store import database, facts, receipts, schema, views

RUN = "exec_1"
Edges = list[tuple[str, str, str]]


def new_run(run: str = RUN) -> facts.NewRun:
    return facts.NewRun(
        id=run,
        plan="{}",
        plan_path="/plan.md",
        title="A plan",
        repository="/r",
        upstream="/r.git",
        target="main",
        landed_on="main",
        mode="local",
        options={"work": 1},
        notes=("first",),
    )


def task(name: str, ordinal: int = 0, run: str = RUN) -> TaskStatus:
    return TaskStatus(run, name, f"Task {name}", "1", ordinal)


def tasks(*names: str) -> list[TaskStatus]:
    return [task(name, n) for n, name in enumerate(names)]


def done_in_plan(name: str, ordinal: int) -> TaskStatus:
    return TaskStatus(RUN, name, "", "1", ordinal, state=State.SKIPPED, reason=Reason.DONE_IN_PLAN)


def end(name: str, kind: EventKind, at_ms: int = 5) -> Event:
    reasons = {EventKind.TASK_COMPLETED: "merged", EventKind.TASK_FAILED: "checks"}
    return Event(RUN, kind, at_ms, name, 1, {"reason": reasons[kind], "explanation": ""})


def states(session: Session) -> dict[str, State]:
    return {status.id: status.state for status in views.tasks(session, RUN)}


@pytest.fixture
def session(engine: sa.Engine) -> Iterator[Session]:
    with Session(engine) as session, session.begin():
        yield session


@contextmanager
def fresh_session() -> Iterator[Session]:
    """Give a session on a new database in memory, for properties."""
    with tempfile.TemporaryDirectory() as folder:
        engine = database.open_engine(database.sqlite_url(Path(folder) / "db"))
        schema.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            yield session
        engine.dispose()


def test_a_stored_run_reads_back_and_tells_what_can_start(session: Session) -> None:
    edges: Edges = [("a", "b", "explicit"), ("b", "c", "sequence")]
    assert facts.insert_run(session, new_run(), tasks("a", "b", "c", "d"), edges, 9) == ("a", "d")

    record = views.read_run(session, RUN)
    assert (record.title, record.options, record.notes) == ("A plan", {"work": 1}, ("first",))
    assert (record.cancel_requested, record.created_ms, record.ended_ms) == (False, 9, 0)
    assert views.tasks(session, RUN) == tuple(tasks("a", "b", "c", "d"))
    assert views.read_plan(session, RUN) == "{}"
    assert [e.kind for e in views.events(session, RUN, after=0, limit=9)] == [
        EventKind.RUN_SUBMITTED
    ]


def test_what_the_plan_has_done_ends_at_once_and_holds_nothing_up(session: Session) -> None:
    statuses = [done_in_plan("a", 0), task("b", 1)]
    ready = facts.insert_run(session, new_run(), statuses, [("a", "b", "explicit")], 9)
    assert ready == ("b",)
    found = views.read_task(session, RUN, "a")
    assert (found.state, found.ended_ms) == (State.SKIPPED, 9)
    kinds = [e.kind for e in views.events(session, RUN, after=0, limit=9)]
    assert kinds == [EventKind.RUN_SUBMITTED, EventKind.TASK_SKIPPED]


def test_an_unknown_run_or_task_is_not_found(session: Session) -> None:
    with pytest.raises(NotFound, match="exec_9 not found"):
        views.read_run(session, "exec_9")
    facts.insert_run(session, new_run(), tasks("a"), [], 1)
    with pytest.raises(NotFound, match="Task z not found"):
        views.read_task(session, RUN, "z")


def test_an_event_of_an_unknown_run_is_refused(session: Session) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        facts.append(session, Event("exec_9", EventKind.RUN_ENDED, 1))


KINDS = st.sampled_from(
    [
        (EventKind.TASK_STARTED, {}),
        (EventKind.TASK_PHASE, {"phase": "working"}),
        (EventKind.TASK_PHASE, {"phase": "waiting", "waiting_for": "a person"}),
        (EventKind.TASK_CHECKED, {"judgement": "failed", "receipts": [{"found": "failed"}]}),
        (EventKind.TASK_PROPOSED, {"number": 3, "url": "/3"}),
        (
            EventKind.TASK_CAPTURED,
            {
                "branch": "b",
                "head": "h",
                "tree": "t",
                "input_tokens": 3,
                "output_tokens": 1,
                "cost_usd": 0.25,
            },
        ),
        (EventKind.TASK_FAILED, {"reason": "checks", "explanation": "red"}),
        (EventKind.TASK_COMPLETED, {"reason": "merged", "merge_commit": "m"}),
        (EventKind.TASK_REOPENED, {}),
        (EventKind.AGENT, {"events": []}),
    ]
)


@given(st.lists(st.tuples(st.sampled_from("ab"), KINDS, st.integers(1, 9)), max_size=25))
@settings(max_examples=25, deadline=None)
def test_rows_are_always_the_fold_of_their_events(
    told: list[tuple[str, tuple[EventKind, dict[str, object]], int]],
) -> None:
    with fresh_session() as session:
        facts.insert_run(session, new_run(), tasks("a", "b"), [], 1)
        expected = {status.id: status for status in tasks("a", "b")}
        for name, (kind, data), attempt in told:
            event = Event(RUN, kind, 7, name, attempt, data)
            expected[name] = fold(expected[name], event)
            assert facts.append(session, event) == expected[name]

        assert {s.id: s for s in views.tasks(session, RUN)} == expected
        again = {status.id: status for status in tasks("a", "b")}
        for event in views.events(session, RUN, after=0, limit=99):
            if event.task:
                again[event.task] = fold(again[event.task], event)
        assert again == expected


NAMES = [str(n) for n in range(8)]


@given(
    st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=28),
    st.sets(st.sampled_from(NAMES), max_size=3),
    st.data(),
)
@settings(max_examples=30, deadline=None)
def test_releases_and_skips_follow_the_graph_in_any_order(
    pairs: set[tuple[int, int]], already: set[str], data: st.DataObject
) -> None:
    edges = [(str(a), str(b), "explicit") for a, b in sorted(pairs) if a < b]
    needs = {n: {a for a, b, _ in edges if b == n} for n in NAMES}
    statuses = [done_in_plan(n, i) if n in already else task(n, i) for i, n in enumerate(NAMES)]
    with fresh_session() as session:
        running = set(facts.insert_run(session, new_run(), statuses, edges, 1))
        done, lost = set(already), set[str]()
        assert running == {n for n in NAMES if n not in done and needs[n] <= done}
        while running:
            name = data.draw(st.sampled_from(sorted(running)))
            running.remove(name)
            if data.draw(st.booleans()):
                done.add(name)
                facts.append(session, end(name, EventKind.TASK_COMPLETED))
                ready = facts.release(session, RUN, name)
                assert list(ready) == sorted(ready)
                assert set(ready) == {
                    n
                    for n in NAMES
                    if name in needs[n] and needs[n] <= done and n not in done | lost
                }
                running |= set(ready)
            else:
                lost.add(name)
                facts.append(session, end(name, EventKind.TASK_FAILED))
                facts.skip_dependants(session, RUN, name, 5)
                for n in NAMES:  # ids ascend along the edges
                    if needs[n] & lost and n not in done:
                        lost.add(n)
        found = states(session)
        assert {n for n in NAMES if found[n] is State.COMPLETED} == done - already
        assert {n for n in NAMES if found[n] in (State.FAILED, State.SKIPPED)} - already == lost
        assert views.open_tasks(session, RUN) == 0


def test_each_skipped_task_names_what_it_needs_and_how_that_ended(session: Session) -> None:
    edges: Edges = [("a", "b", "explicit"), ("b", "c", "explicit")]
    facts.insert_run(session, new_run(), tasks("a", "b", "c"), edges, 1)
    facts.append(session, end("a", EventKind.TASK_FAILED))
    facts.skip_dependants(session, RUN, "a", 6)
    words = {status.id: status.explanation for status in views.tasks(session, RUN)}
    assert words["b"] == "it needs task a, which failed"
    assert words["c"] == "it needs task b, which was skipped"
    assert views.read_task(session, RUN, "c").reason is Reason.DEPENDENCY


def test_a_run_ends_once_and_only_when_all_is_cleaned_up(session: Session) -> None:
    facts.insert_run(session, new_run(), tasks("a"), [], 1)
    assert not facts.end_run_if_over(session, RUN, 2)
    facts.mark_unsettled(session, RUN, "a", True)
    facts.append(session, end("a", EventKind.TASK_COMPLETED))
    assert not facts.end_run_if_over(session, RUN, 3)
    assert views.settling_tasks(session, RUN) == {"a"}
    facts.mark_unsettled(session, RUN, "a", False)
    assert facts.end_run_if_over(session, RUN, 4)
    assert facts.end_run_if_over(session, RUN, 5)
    assert views.read_run(session, RUN).ended_ms == 4
    kinds = [event.kind for event in views.events(session, RUN, after=0, limit=99)]
    assert kinds.count(EventKind.RUN_ENDED) == 1
    assert views.active_runs(session) == ()


def test_a_cancellation_ends_at_once_what_nobody_works_on(session: Session) -> None:
    facts.insert_run(session, new_run(), tasks("a", "b"), [("a", "b", "explicit")], 1)
    facts.mark_unsettled(session, RUN, "a", True)
    facts.append(session, Event(RUN, EventKind.TASK_STARTED, 2, "a", 1))
    facts.request_cancel(session, RUN, 3)
    assert states(session) == {"a": State.IN_PROGRESS, "b": State.CANCELLED}
    assert views.cancel_requested(session, RUN)
    assert views.settling_tasks(session, RUN) == {"a"}
    assert views.read_run(session, RUN).ended_ms == 0


def test_reopened_tasks_start_when_what_they_need_is_there(session: Session) -> None:
    edges: Edges = [("a", "c", "explicit"), ("b", "c", "explicit"), ("c", "d", "explicit")]
    facts.insert_run(session, new_run(), tasks("a", "b", "c", "d"), edges, 1)
    facts.append(session, end("a", EventKind.TASK_COMPLETED))
    assert facts.release(session, RUN, "a") == ()
    facts.append(session, end("b", EventKind.TASK_FAILED))
    facts.skip_dependants(session, RUN, "b", 4)
    facts.request_cancel(session, RUN, 5)

    assert facts.reopen(session, RUN, ["b", "c", "d"], 6) == ("b",)
    assert not views.cancel_requested(session, RUN)
    assert views.read_run(session, RUN).ended_ms == 0
    facts.append(session, end("b", EventKind.TASK_COMPLETED))
    assert facts.release(session, RUN, "b") == ("c",)
    facts.append(session, end("c", EventKind.TASK_COMPLETED))
    assert facts.release(session, RUN, "c") == ("d",)


def test_a_result_that_goes_elsewhere_is_noted_once(session: Session) -> None:
    facts.insert_run(session, new_run(), tasks("a"), [], 1)
    for _ in range(2):
        facts.move_landing(session, RUN, "aside", "it is aside", 2)
    record = views.read_run(session, RUN)
    assert (record.landed_on, record.notes) == ("aside", ("first", "it is aside"))
    kinds = [event.kind for event in views.events(session, RUN, after=0, limit=9)]
    assert kinds.count(EventKind.RUN_LANDING_MOVED) == 1


def test_a_try_is_stored_and_stored_again(session: Session) -> None:
    facts.insert_run(session, new_run(), tasks("a"), [], 1)
    assert views.last_attempt(session, RUN, "a") == 0
    facts.save_attempt(session, RUN, "a", Attempt(1))
    facts.save_attempt(session, RUN, "a", Attempt(1, base="b"))
    facts.save_attempt(session, RUN, "a", Attempt(2))
    assert views.read_attempt(session, RUN, "a", 1) == Attempt(1, base="b")
    assert views.last_attempt(session, RUN, "a") == 2


def test_events_come_in_order_in_pages_and_by_task(session: Session) -> None:
    facts.insert_run(session, new_run(), tasks("a", "b"), [], 1)
    for name in ("a", "b", "a"):
        facts.append(session, Event(RUN, EventKind.TASK_STARTED, 2, name, 1))
    first = views.events(session, None, after=0, limit=2)
    rest = views.events(session, None, after=first[-1].seq, limit=9)
    assert [e.task for e in (*first, *rest)] == ["", "a", "b", "a"]
    assert [e.task for e in views.events(session, RUN, after=0, limit=9, task="a")] == ["a", "a"]
    last = views.last_event_of(session, RUN, "a", 1, EventKind.TASK_STARTED)
    assert last == rest[-1]
    assert views.last_event_of(session, RUN, "a", 2, EventKind.TASK_STARTED) is None


def test_tasks_that_wait_for_a_person_are_found_over_all_runs(session: Session) -> None:
    for run in ("exec_1", "exec_2"):
        facts.insert_run(session, new_run(run), [task("a", run=run)], [], 1)
        waiting = {"phase": "waiting", "waiting_for": "a person"}
        facts.append(session, Event(run, EventKind.TASK_STARTED, 2, "a", 1))
        facts.append(session, Event(run, EventKind.TASK_PHASE, 2, "a", 1, waiting))
    assert [s.run for s in views.waiting_tasks(session, "a person")] == ["exec_1", "exec_2"]
    assert views.waiting_tasks(session, "a free worker") == ()


def test_a_run_that_a_newer_version_stored_is_refused(session: Session) -> None:
    facts.insert_run(session, new_run(), tasks("a"), [], 1)
    session.execute(sa.update(schema.runs).values(schema=2))
    with pytest.raises(InputError, match="newer version"):
        views.read_run(session, RUN)


def test_events_that_a_newer_version_stored_are_refused_and_not_misread(session: Session) -> None:
    facts.insert_run(session, new_run(), tasks("a"), [], 1)
    session.execute(sa.update(schema.events).values(schema=2))
    with pytest.raises(InputError, match="newer version"):
        views.events(session, RUN, after=0, limit=9)


def test_a_try_that_a_newer_version_stored_is_refused(session: Session) -> None:
    facts.insert_run(session, new_run(), tasks("a"), [], 1)
    facts.save_attempt(session, RUN, "a", Attempt(1))
    newer = json.dumps({**Attempt(1).to_json(), "schema": 2, "mood": "good"})
    session.execute(sa.update(schema.attempts).values(record=newer))
    with pytest.raises(InputError, match="newer version"):
        views.read_attempt(session, RUN, "a", 1)


def test_writers_in_many_threads_lose_no_event_and_no_change(engine: sa.Engine) -> None:
    names = [str(n) for n in range(6)]
    with Session(engine) as session, session.begin():
        facts.insert_run(session, new_run(), tasks(*names), [], 1)

    def tell(name: str) -> None:
        data = {"decision": "revise", "input_tokens": 1, "output_tokens": 0, "cost_usd": None}
        for _ in range(15):
            for each in (name, "0"):
                with Session(engine) as session, session.begin():
                    facts.append(session, Event(RUN, EventKind.TASK_REVIEWED, 2, each, 1, data))

    threads = [threading.Thread(target=tell, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Session(engine) as session:
        tokens = [status.input_tokens for status in views.tasks(session, RUN)]
        seqs = [event.seq for event in views.events(session, RUN, after=0, limit=999)]
    assert tokens == [105, 15, 15, 15, 15, 15]
    assert len(seqs) == 181


def test_a_large_plan_is_stored_skipped_and_reopened_within_seconds(engine: sa.Engine) -> None:
    layers = [[f"{n}.{i}" for i in range(50)] for n in range(8)]
    names = [name for layer in layers for name in layer]
    edges = [
        (before, after, "barrier")
        for one, two in pairwise(layers)
        for before in one
        for after in two
    ]
    began = time.monotonic()
    with Session(engine) as session, session.begin():
        ready = facts.insert_run(session, new_run(), tasks(*names), edges, 1)
        facts.append(session, end("0.0", EventKind.TASK_FAILED))
        facts.skip_dependants(session, RUN, "0.0", 2)
        assert len(ready) == 50
        assert views.open_tasks(session, RUN) == 49
        lost = [status.id for status in views.tasks(session, RUN) if status.state.ended]
        assert facts.reopen(session, RUN, lost, 3) == ("0.0",)
    assert time.monotonic() - began < 20


def test_a_queue_is_what_merges_into_one_branch_by_age_of_runs_and_in_plan_order(
    engine: sa.Engine,
) -> None:
    with Session(engine) as session:
        for age, run in enumerate(("exec_old", "exec_new", "exec_over", "exec_aside")):
            record = replace(new_run(run), landed_on="aside" if run == "exec_aside" else "main")
            statuses = [task("b", 0, run), task("a", 1, run), task("c", 2, run)]
            facts.insert_run(session, record, statuses, [], age)
            for name in ("a", "b"):
                merging = Event(run, EventKind.TASK_PHASE, 9, name, 2, {"phase": "merging"})
                facts.append(session, Event(run, EventKind.TASK_STARTED, 8, name, 2))
                facts.append(session, merging)
        facts.request_cancel(session, "exec_over", 9)

        queued = views.merging_tasks(session, "/r.git", "main", "main")

    assert queued == (
        ("exec_old", "b", 2),
        ("exec_old", "a", 2),
        ("exec_new", "b", 2),
        ("exec_new", "a", 2),
    )


def test_what_a_check_found_last_on_a_tree_is_kept(engine: sa.Engine) -> None:
    red = Receipt("unit", "make test", "t" * 40, Found.FAILED, 1, 0.5, "log", "words")
    green = replace(red, found=Found.PASSED, exit_code=0)
    with Session(engine) as session:
        for receipt in (red, green):
            receipts.save(session, "unit's", receipt, 1)

        assert receipts.find(session, "t" * 40, "unit's") == green
        assert receipts.find(session, "t" * 40, "other") is None
        assert receipts.find(session, "u" * 40, "unit's") is None
