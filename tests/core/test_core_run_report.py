"""A run's report as a function of its status and its events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from commandcenter.core.rounds import Standing
from commandcenter.core.run import (
    AWAITS_APPROVAL,
    Event,
    EventKind,
    Phase,
    Reason,
    RunStatus,
    State,
    TaskStatus,
    fold,
    overall,
)
from commandcenter.core.run_report import Refused, RunReport, Span, report_of, task_commands

RUN, TASK = "exec_1", "1.1"
NEW = TaskStatus(RUN, TASK, "A task", "1", 0)
USED = {"profile": "claude", "input_tokens": 10, "output_tokens": 2, "cost_usd": 0.5}
CAPTURED: dict[str, Any] = {  # Any: JSON
    "branch": "b",
    "base": "0",
    "head": "h1",
    "tree": "t1",
    "files": ["a", "b"],
    "insertions": 3,
    "deletions": 1,
    "notes": ["a pipe"],
    "claim": "it works",
    **USED,
}
RECEIPT = {
    "check": "tests",
    "command": "make test",
    "tree": "t1",
    "duration_s": 1.5,
    "log_sha256": "d" * 64,
    "words": "2 failed",
    "found": "failed",
    "exit_code": 1,
}
ISSUE = {
    "problem": "No test",
    "severity": "major",
    "must_fix": True,
    "file": "a",
    "line": 3,
    "suggestion": "",
}
REVIEWED: dict[str, Any] = {  # Any: JSON
    "decision": "revise",
    "summary": "Nearly",
    "issues": [ISSUE],
    "reviewer": "strong",
    "commit": "h1",
    "problem": "",
    "published": "comment",
    **USED,
}


def event(kind: EventKind, at_s: float, attempt: int = 1, **data: Any) -> Event:  # Any: JSON
    return Event(RUN, kind, round(at_s * 1000), TASK, attempt, data)


def phase(phase: str, at_s: float, attempt: int = 1, waiting_for: str = "") -> Event:
    return event(EventKind.TASK_PHASE, at_s, attempt, phase=phase, waiting_for=waiting_for)


def told(
    events: Sequence[Event] = (),
    *,
    status: TaskStatus = NEW,
    ended_s: float = 0,
    now_s: float = 100,
) -> RunReport:
    for each in events:
        status = fold(status, each) if each.task else status
    run = RunStatus(
        *(RUN, overall([status]), None, "A plan", "plan.md", "/r", "/r.git", "main", "main"),
        *("local", True, "1", (status,), (), 1000, round(ended_s * 1000)),
    )
    return report_of(
        run,
        events,
        refused={TASK: {"example.org:443": 2}},
        salvaged={TASK: [f"{RUN}/{TASK}/1/capture"]},
        now_ms=round(now_s * 1000),
    )


LANDED = (
    event(EventKind.TASK_STARTED, 1),
    phase("working", 3),
    event(EventKind.TASK_CAPTURED, 10, **CAPTURED),
    phase("verifying", 10),
    event(EventKind.TASK_CHECKED, 14, tree="t1", judgement="failed", receipts=[RECEIPT]),
    event(EventKind.TASK_TRY_FAILED, 14, why="a check failed", next=2, feedback=""),
    phase("waiting", 14, 2, "its next try"),
    event(EventKind.TASK_STARTED, 15, 2),
    phase("working", 16, 2),
    event(EventKind.TASK_CAPTURED, 20, 2, **{**CAPTURED, "head": "h2", "tree": "t2"}),
    event(EventKind.TASK_PROPOSED, 21, 2, number=7, url="http://hub/7"),
    phase("reviewing", 21, 2),
    event(EventKind.TASK_REVIEWED, 25, 2, **REVIEWED),
    event(EventKind.TASK_COMPLETED, 30, 2, reason="merged", explanation="", merge_commit="m"),
)


def test_each_moment_of_a_task_counts_for_one_phase() -> None:
    task = told(LANDED, ended_s=31).tasks[0]
    assert task.seconds == {
        Phase.PROVISIONING: 3.0,
        Phase.WORKING: 12.0,
        Phase.VERIFYING: 4.0,
        Phase.REVIEWING: 9.0,
        Phase.WAITING: 1.0,
    }
    assert sum(task.seconds.values()) == 29.0
    assert task.spans[3] == Span(Phase.WAITING, 2, 14000, 15000, "its next try")


def test_what_goes_on_is_counted_until_now() -> None:
    report = told(LANDED[:2], now_s=63)
    assert report.going
    assert report.seconds == {Phase.PROVISIONING: 2.0, Phase.WORKING: 60.0}
    assert report.end_ms == 63000


def test_a_phase_that_is_told_twice_is_one_span() -> None:
    again = (*LANDED[:2], phase("working", 5), phase("working", 7, waiting_for="x"))
    spans = told(again, now_s=8).tasks[0].spans
    assert [(span.start_ms, span.end_ms) for span in spans] == [
        (1000, 3000),
        (3000, 7000),
        (7000, 8000),
    ]


def test_a_clock_that_was_put_back_makes_no_negative_time() -> None:
    spans = told((*LANDED[:2], phase("verifying", 2)), now_s=0).tasks[0].spans
    assert spans == (Span(Phase.PROVISIONING, 1, 1000, 3000),)


def test_what_a_stage_tells_after_the_end_counts_for_nothing() -> None:
    late = (*LANDED, phase("working", 40, 2))
    assert told(late, ended_s=50).tasks[0].spans == told(LANDED, ended_s=50).tasks[0].spans


def test_time_between_a_failure_and_the_retry_is_nobodys() -> None:
    failed = event(EventKind.TASK_FAILED, 4, reason="agent", explanation="it failed")
    reopened = event(EventKind.TASK_REOPENED, 500)
    again = event(EventKind.TASK_STARTED, 510, 2)
    report = told((*LANDED[:2], failed, reopened, again, phase("working", 511, 2)), now_s=512)
    assert sum(report.seconds.values()) == 5.0
    first, second = report.tasks[0].tries
    assert (first.ending, first.why, first.end_ms) == (State.FAILED, "it failed", 4000)
    assert (second.ending, second.why, second.end_ms) == (None, "", 0)


def test_every_try_says_what_it_made_and_what_became_of_it() -> None:
    first, second = told(LANDED, ended_s=31).tasks[0].tries
    assert (first.number, first.ending, first.why) == (1, None, "a check failed")
    assert (second.number, second.ending, second.why) == (2, State.COMPLETED, "merged")
    assert first.captured is not None
    assert (first.captured.commit, first.captured.files) == ("h1", 2)
    assert first.captured.notes == ("a pipe",)


def test_checks_reviews_and_pull_requests_are_told_with_their_evidence() -> None:
    task = told(LANDED, ended_s=31).tasks[0]
    assert [receipt.command for receipt in task.failures] == ["make test"]
    assert task.reviews[0].issues[0].problem == "No test"
    assert (task.reviews[0].commit, task.reviews[0].reviewer) == ("h1", "strong")
    assert [each.number for each in task.pull_requests] == [7]
    assert task.refused == (Refused("example.org:443", 2),)


@pytest.mark.parametrize(
    ("decision", "words"), [("none", "no reviewer is configured"), ("invalid", "no JSON")]
)
def test_a_review_without_a_verdict_has_none(decision: str, words: str) -> None:
    said: dict[str, Any] = {"decision": decision, "summary": "", "problem": words, **USED}
    review = told([LANDED[0], event(EventKind.TASK_REVIEWED, 2, **said)]).tasks[0].reviews[0]
    assert (review.decision, review.summary, review.commit) == (decision, words, "")


def test_what_was_used_is_told_by_profile() -> None:
    (used,) = told(LANDED, ended_s=31).used
    assert (used.profile, used.asked, used.input_tokens, used.cost_usd) == ("claude", 3, 30, 1.5)


def test_of_the_checks_of_others_the_last_word_on_each_commit_is_told() -> None:
    check = {"name": "ci", "state": "pending", "run": "1", "summary": "", "url": ""}
    seen: dict[str, Any] = {"schema": 1, "head": "h1", "failed": [], "again": [], "checks": [check]}
    events = [
        LANDED[0],
        event(EventKind.TASK_LOOKED_AT, 2, **seen),
        event(EventKind.TASK_LOOKED_AT, 3, **{**seen, "checks": [{**check, "state": "passed"}]}),
        event(EventKind.TASK_LOOKED_AT, 4, 2, **{**seen, "head": "h2", "failed": ["ci"]}),
        event(EventKind.TASK_HANDED_OVER, 5, 2, schema=1, head="h2", since_ms=5000),
    ]
    task = told(events).tasks[0]
    assert [(each.commit, each.checks[0].state.value) for each in task.external] == [
        ("h1", "passed"),
        ("h2", "pending"),
    ]
    assert task.external[1].failed == ("ci",)
    assert [(each.commit, each.at_ms) for each in task.handed_over] == [("h2", 5000)]


def test_a_task_that_failed_names_every_way_to_go_on() -> None:
    failed = event(EventKind.TASK_FAILED, 4, reason="checks", explanation="red")
    report = told((*LANDED[:2], failed), ended_s=5)
    assert report.lost == report.tasks
    assert report.tasks[0].commands == (
        "commandcenter logs exec_1 1.1",
        "commandcenter salvage restore exec_1/1.1/1/capture",
        "commandcenter retry exec_1 1.1",
    )
    assert report.commands == ("commandcenter retry exec_1",)


def test_a_sub_task_is_retried_with_the_task_that_was_split_into_it() -> None:
    parent = replace(NEW, state=State.FAILED, reason=Reason.REJECTED)
    subtask = replace(NEW, id="1.1-1", parent=TASK, state=State.FAILED, reason=Reason.CHECKS)
    assert task_commands(subtask, (), parent) == ("commandcenter retry exec_1 1.1",)
    going = replace(parent, state=State.IN_PROGRESS)
    assert task_commands(replace(subtask, attempt=2), (), going) == (
        "commandcenter logs exec_1 1.1-1",
    )


def test_a_sub_task_that_was_replaced_is_not_lost_and_leaves_nothing_to_do() -> None:
    parent = replace(NEW, state=State.COMPLETED, reason=Reason.JOINED)
    subtask = replace(NEW, id="1.1-1", parent=TASK, state=State.FAILED, reason=Reason.CHECKS)
    run = replace(told(status=parent, ended_s=5).run, tasks=(parent, subtask))
    report = report_of(run, (), refused={}, salvaged={}, now_ms=9000)
    assert (run.count(State.FAILED), report.lost, report.commands) == (0, (), ())
    assert report.tasks[1].commands == ()


def test_a_pattern_is_told_for_each_try_that_played_it() -> None:
    asks = [{"role": "work", "profile": "claude", "lane": 1, "text": "Do it"}]
    answer: dict[str, Any] = {
        "round": 1,
        "position": 1,
        "outcome": "done",
        "checks": "failed",
        **USED,
    }
    events = [
        event(EventKind.TASK_STARTED, 1),
        event(EventKind.TASK_ROUND, 2, pattern="vote(1)", round=1, until="all", asks=asks),
        event(EventKind.TASK_ANSWERED, 3, **answer, counts=False),
        event(EventKind.TASK_ANSWERED, 4, **answer, failing=["tests"]),
        event(EventKind.TASK_CONCLUDED, 5, result="accepted", words="It passes.", lane=1),
        event(EventKind.TASK_STARTED, 6, 2),
        event(EventKind.TASK_STARTED, 7, 3),
        event(EventKind.TASK_ROUND, 8, 3, pattern="vote(1)", round=1, until="all", asks=asks),
    ]
    first, third = told(events).tasks[0].played
    (asked,) = first.rounds[0].asks
    assert (first.attempt, first.pattern, third.attempt) == (1, "vote(1)", 3)
    assert asked.answered is not None
    assert (asked.answered.at_ms, asked.answered.failing, len(asked.uncounted)) == (
        *(4000, ("tests",)),
        1,
    )
    assert first.concluded is not None
    assert (first.concluded.result, first.standing(1)) == ("accepted", Standing.DECIDED)
    assert third.standing(1) is Standing.OPEN


def test_a_change_that_waits_for_approval_names_the_words_for_it() -> None:
    status = replace(
        NEW, state=State.IN_PROGRESS, phase=Phase.WAITING, waiting_for=f"{AWAITS_APPROVAL}: how"
    )
    report = told(status=status)
    assert report.commands == ("commandcenter approve exec_1",)
    assert report.tasks[0].commands[0] == "commandcenter approve exec_1 1.1"
    assert report.lost == ()


def test_a_run_that_landed_leaves_nothing_to_do() -> None:
    report = told(LANDED, ended_s=31)
    assert (report.commands, report.tasks[0].commands) == ((), ())
    assert report.landed == report.tasks
    assert not report.going


def test_what_the_plan_had_done_is_neither_landed_nor_lost() -> None:
    status = replace(NEW, state=State.SKIPPED, reason=Reason.DONE_IN_PLAN)
    report = told(status=status, ended_s=5)
    assert (report.landed, report.lost, report.commands) == ((), (), ())


def test_what_concerns_the_whole_run_is_told_in_order() -> None:
    whole = [
        Event(RUN, EventKind.RUN_SUBMITTED, 1, data={"tasks": 2}),
        Event(RUN, EventKind.RUN_LANDING_MOVED, 2, data={"branch": "b", "note": ""}),
        Event(RUN, EventKind.RUN_CANCEL_REQUESTED, 3),
        Event(RUN, EventKind.RUN_RETRIED, 4, data={"tasks": ["1.1", "1.2"]}),
        Event(RUN, EventKind.RUN_ENDED, 5),
    ]
    assert [each.words for each in told(whole).happened] == [
        "submitted, 2 tasks",
        "its result goes to b",
        "a person cancelled it",
        "tried again: 1.1, 1.2",
        "ended",
    ]
