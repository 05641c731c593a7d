"""A run's state as a function of its events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandcenter.core.run import (
    Event,
    EventKind,
    Phase,
    Reason,
    State,
    TaskStatus,
    fold,
    overall,
    satisfied,
)

RUN, TASK = "exec_1", "1.1"
NEW = TaskStatus(RUN, TASK, "A task", "1", 0)
USAGE = {"input_tokens": 10, "output_tokens": 2, "cost_usd": 0.5}
CAPTURED = {"branch": "b", "head": "h", "tree": "t", **USAGE}
RECEIPTS = [{"found": "passed"}, {"found": "failed_on_base"}]
DATA: dict[EventKind, dict[str, Any]] = {
    EventKind.TASK_STARTED: {},
    EventKind.TASK_PHASE: {"phase": "working", "waiting_for": ""},
    EventKind.TASK_ROUND: {"pattern": "vote(3)", "round": 2, "until": "all", "asks": []},
    EventKind.TASK_ANSWERED: {"round": 2, "position": 1, "outcome": "done", **USAGE},
    EventKind.TASK_JOINED: {"round": 2, "children": [], "verdict": None},
    EventKind.TASK_CONCLUDED: {"result": "accepted", "words": "", "lane": 1, "facts": {}},
    EventKind.TASK_CAPTURED: CAPTURED,
    EventKind.TASK_USED: {"profile": "claude", **USAGE},
    EventKind.TASK_CHECKED: {"judgement": "passed", "receipts": RECEIPTS},
    EventKind.TASK_LOOKED_AT: {"head": "h", "checks": []},
    EventKind.TASK_HANDED_OVER: {"head": "h", "since_ms": 1, "removal": ""},
    EventKind.TASK_PROPOSED: {"number": 7, "url": "/7"},
    EventKind.TASK_REVIEWED: {"decision": "approve", **USAGE},
    EventKind.TASK_DECIDED: {"decision": "approve", "words": "", "by": "me", "head": "h"},
    EventKind.TASK_TRY_FAILED: {"why": "x", "next": 2, "feedback": ""},
    EventKind.TASK_COMPLETED: {"reason": "merged", "explanation": "in", "merge_commit": "m"},
    EventKind.TASK_FAILED: {"reason": "checks", "explanation": "red"},
    EventKind.TASK_SKIPPED: {"reason": "dependency", "explanation": "it needs 1"},
    EventKind.TASK_CANCELLED: {"reason": "cancelled", "explanation": "a person"},
    EventKind.TASK_REOPENED: {},
    EventKind.AGENT: {"events": []},
}
ENDS = {
    EventKind.TASK_COMPLETED: State.COMPLETED,
    EventKind.TASK_FAILED: State.FAILED,
    EventKind.TASK_SKIPPED: State.SKIPPED,
    EventKind.TASK_CANCELLED: State.CANCELLED,
}


def event(kind: EventKind, at_ms: int = 5, attempt: int = 1, **data: Any) -> Event:  # Any: JSON
    return Event(RUN, kind, at_ms, TASK, attempt, data or DATA[kind])


def after(*kinds: EventKind) -> TaskStatus:
    status = NEW
    for at_ms, kind in enumerate(kinds, 1):
        status = fold(status, event(kind, at_ms))
    return status


def test_every_kind_of_a_tasks_event_is_told_here() -> None:
    assert set(DATA) == {k for k in EventKind if not k.value.startswith("run.")}


def test_a_task_that_lands_tells_its_story() -> None:
    status = after(
        EventKind.TASK_STARTED,
        EventKind.TASK_PHASE,
        EventKind.TASK_CAPTURED,
        EventKind.TASK_CHECKED,
        EventKind.TASK_PROPOSED,
        EventKind.TASK_REVIEWED,
        EventKind.TASK_COMPLETED,
    )
    assert (status.state, status.phase, status.reason) == (State.COMPLETED, None, Reason.MERGED)
    assert (status.branch, status.head, status.tree, status.merge_commit) == ("b", "h", "t", "m")
    assert (status.checks, status.checks_passed, status.checks_total) == ("passed", 1, 2)
    assert (status.proposal, status.proposal_url, status.review) == (7, "/7", "approve")
    assert (status.input_tokens, status.output_tokens, status.cost_usd) == (20, 4, 1.0)
    assert (status.started_ms, status.ended_ms) == (1, 7)


def test_what_a_run_used_that_left_no_result_counts_as_well() -> None:
    status = after(EventKind.TASK_STARTED, EventKind.TASK_USED, EventKind.TASK_CAPTURED)

    assert (status.input_tokens, status.output_tokens, status.cost_usd) == (20, 4, 1.0)


def test_usage_that_no_one_knows_costs_nothing() -> None:
    status = fold(
        NEW, Event(RUN, EventKind.TASK_CAPTURED, 5, TASK, 1, {**CAPTURED, "cost_usd": None})
    )
    assert status.cost_usd == 0


@pytest.mark.parametrize("kind", ENDS)
def test_an_end_clears_what_was_being_done(kind: EventKind) -> None:
    waiting = fold(NEW, event(EventKind.TASK_PHASE, phase="waiting", waiting_for="a person"))
    status = fold(waiting, event(kind, at_ms=9))
    assert status.state is ENDS[kind]
    assert (status.phase, status.waiting_for, status.ended_ms) == (None, "", 9)
    assert status.reason is Reason(DATA[kind]["reason"])


@pytest.mark.parametrize("kind", ENDS)
def test_a_phase_that_is_told_late_does_not_wake_an_ended_task(kind: EventKind) -> None:
    ended = after(EventKind.TASK_STARTED, kind)
    assert fold(ended, event(EventKind.TASK_PHASE)) == ended


@pytest.mark.parametrize("kind", ENDS)
def test_a_reopened_task_waits_again_and_keeps_what_it_cost(kind: EventKind) -> None:
    status = after(EventKind.TASK_STARTED, EventKind.TASK_CAPTURED, kind, EventKind.TASK_REOPENED)
    assert (status.state, status.phase, status.reason) == (State.PENDING, None, None)
    assert (status.explanation, status.ended_ms, status.cost_usd) == ("", 0, 0.5)
    assert status.started_ms == 1


def test_a_phase_can_be_told_twice() -> None:
    once = after(EventKind.TASK_STARTED, EventKind.TASK_PHASE)
    assert fold(once, event(EventKind.TASK_PHASE)) == once


def test_a_new_try_forgets_the_checks_and_the_review_of_the_last_one() -> None:
    status = after(
        EventKind.TASK_STARTED,
        EventKind.TASK_CHECKED,
        EventKind.TASK_REVIEWED,
        EventKind.TASK_TRY_FAILED,
        EventKind.TASK_STARTED,
    )
    assert (status.checks, status.checks_passed, status.checks_total) == ("", 0, 0)
    assert (status.review, status.phase) == ("", Phase.PROVISIONING)
    assert status.started_ms == 1


@pytest.mark.parametrize("kind", [k for k in EventKind if k.value.startswith("run.")])
def test_what_happens_to_the_run_changes_no_task(kind: EventKind) -> None:
    assert fold(NEW, Event(RUN, kind, 1)) == NEW


@given(st.lists(st.sampled_from(sorted(DATA)), max_size=30))
def test_phases_reasons_and_ends_always_fit_together(kinds: list[EventKind]) -> None:
    status = after(*kinds)
    if status.state.ended:
        assert status.reason is not None
        assert (status.phase, status.waiting_for) == (None, "")
        assert status.ended_ms > 0


def task(state: State, reason: Reason | None = None) -> TaskStatus:
    return TaskStatus(RUN, TASK, "", "1", 0, state=state, reason=reason)


PENDING, WORKING = task(State.PENDING), task(State.IN_PROGRESS)
MERGED, FAILED = task(State.COMPLETED, Reason.MERGED), task(State.FAILED, Reason.CHECKS)
DONE = task(State.SKIPPED, Reason.DONE_IN_PLAN)
LANDED_BEFORE = task(State.SKIPPED, Reason.LANDED_BEFORE)
LOST = task(State.SKIPPED, Reason.DEPENDENCY)
CANCELLED = task(State.CANCELLED, Reason.CANCELLED)


@pytest.mark.parametrize(
    ("tasks", "state"),
    [
        ([], State.COMPLETED),
        ([PENDING], State.PENDING),
        ([PENDING, DONE], State.PENDING),
        ([PENDING, MERGED], State.IN_PROGRESS),
        ([PENDING, FAILED], State.IN_PROGRESS),
        ([WORKING], State.IN_PROGRESS),
        ([WORKING, CANCELLED], State.IN_PROGRESS),
        ([MERGED], State.COMPLETED),
        ([MERGED, DONE], State.COMPLETED),
        ([MERGED, LANDED_BEFORE], State.COMPLETED),
        ([DONE], State.COMPLETED),
        ([MERGED, FAILED], State.FAILED),
        ([FAILED, LOST], State.FAILED),
        ([MERGED, LOST], State.FAILED),
        ([MERGED, CANCELLED], State.CANCELLED),
        ([FAILED, CANCELLED], State.CANCELLED),
    ],
)
def test_a_runs_state_follows_from_its_tasks(tasks: list[TaskStatus], state: State) -> None:
    assert overall(tasks) is state
    assert overall(reversed(tasks)) is state


def subtask(state: State, reason: Reason | None = None) -> TaskStatus:
    return replace(task(state, reason), id="1.1-1", parent=TASK)


@pytest.mark.parametrize(
    ("tasks", "state"),
    [
        ([WORKING, subtask(State.FAILED, Reason.CHECKS)], State.IN_PROGRESS),
        ([MERGED, subtask(State.FAILED, Reason.CHECKS)], State.COMPLETED),
        ([MERGED, subtask(State.CANCELLED, Reason.CANCELLED)], State.COMPLETED),
        ([FAILED, subtask(State.COMPLETED, Reason.MERGED)], State.FAILED),
        ([CANCELLED, subtask(State.IN_PROGRESS)], State.IN_PROGRESS),
    ],
)
def test_what_a_task_was_split_into_counts_through_that_task(
    tasks: list[TaskStatus], state: State
) -> None:
    assert overall(tasks) is state
    assert overall(reversed(tasks)) is state


def test_a_pattern_is_told_with_its_rounds_and_its_outcome() -> None:
    asked = after(EventKind.TASK_STARTED, EventKind.TASK_ROUND, EventKind.TASK_ANSWERED)
    assert (asked.pattern, asked.rounds, asked.outcome) == ("vote(3)", 2, "")
    assert (asked.input_tokens, asked.cost_usd) == (10, 0.5)
    ended = fold(asked, event(EventKind.TASK_CONCLUDED))
    assert (ended.rounds, ended.outcome) == (2, "accepted")
    # The next try goes on with what was accepted; only a round begins another play.
    following = fold(ended, event(EventKind.TASK_STARTED, attempt=2))
    assert following.outcome == "accepted"
    assert fold(following, event(EventKind.TASK_ROUND, attempt=2)).outcome == ""
    reopened = fold(ended, event(EventKind.TASK_REOPENED))
    assert (reopened.pattern, reopened.rounds, reopened.outcome) == ("vote(3)", 0, "")


def test_only_what_is_done_lets_others_begin() -> None:
    statuses = [PENDING, WORKING, MERGED, FAILED, DONE, LOST, CANCELLED]
    assert [each for each in statuses if satisfied(each)] == [MERGED, DONE]


def test_ended_states_are_those_that_nothing_happens_to() -> None:
    assert [state for state in State if not state.ended] == [State.PENDING, State.IN_PROGRESS]
