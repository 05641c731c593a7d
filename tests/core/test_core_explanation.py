"""Why the outcome of a task is what it is, told from its events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from commandcenter.core.explanation import KINDS, explain
from commandcenter.core.run import Event, EventKind, Phase, Reason, State, TaskStatus, fold

RUN, TASK = "exec_1", "1.1"
NEW = TaskStatus(RUN, TASK, "Rewrite the parser", "1", 0)
USED: dict[str, Any] = {
    "profile": "claude",
    "input_tokens": 10,
    "output_tokens": 2,
    "cost_usd": 0.5,
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
PASSED = {**RECEIPT, "found": "passed", "exit_code": 0}
LEDGER = {
    "schema": "cc.ledger/1",
    "facts": {"given": [], "lookup": [], "derive": [], "guess": []},
    "plan": ["look", "write"],
    "satisfied": {"answer": False, "reason": "not yet"},
    "in_loop": {"answer": True, "reason": "the same again"},
    "progress": {"answer": False, "reason": "none"},
    "next": {"profile": "docs", "instruction": "write it down", "reason": "it can"},
    "what_went_wrong": "it was too large",
}


def event(kind: EventKind, attempt: int = 1, **data: Any) -> Event:  # Any: JSON
    return Event(RUN, kind, 5, TASK, attempt, data)


def captured(attempt: int = 1, tree: str = "t1") -> Event:
    return event(
        EventKind.TASK_CAPTURED,
        attempt,
        branch="b",
        head="abcdef0123456789",
        tree=tree,
        files=["a", "b"],
        insertions=3,
        deletions=1,
        notes=["a pipe"],
        **USED,
    )


def checked(*receipts: dict[str, Any], tree: str = "t1", attempt: int = 1) -> Event:
    bad = any(each["found"] == "failed" for each in receipts)
    judgement = "failed" if bad else "passed" if receipts else "unverified"
    return event(
        EventKind.TASK_CHECKED, attempt, tree=tree, judgement=judgement, receipts=list(receipts)
    )


def round_(
    number: int, *asks: tuple[str, str, int], pattern: str = "vote(2)", **data: Any
) -> Event:
    told = [{"role": role, "profile": p, "lane": lane, "text": ""} for role, p, lane in asks]
    return event(EventKind.TASK_ROUND, pattern=pattern, round=number, asks=told, **data)


def answered(number: int, position: int = 1, **data: Any) -> Event:
    said = {"outcome": "done", "counts": True, "left": [], **USED, "profile": "", **data}
    return event(EventKind.TASK_ANSWERED, round=number, position=position, **said)


def left(number: int, position: int = 1, *, checks: str = "passed", **data: Any) -> Event:
    change = {"head": "c" * 40, "files": 2, "insertions": 3, "deletions": 1, "checks": checks}
    return answered(number, position, **{**change, **data})


def concluded(result: str, words: str, **facts: Any) -> Event:
    return event(
        EventKind.TASK_CONCLUDED, result=result, words=words, lane=1, feedback="", facts=facts
    )


def told(
    *events: Event,
    status: TaskStatus = NEW,
    subtasks: Sequence[TaskStatus] = (),
    commands: Sequence[str] = (),
) -> tuple[str, ...]:
    for each in events:
        status = fold(status, each)
    return explain(status, events, subtasks=subtasks, commands=commands)


STARTED = event(EventKind.TASK_STARTED)
FAILED = event(EventKind.TASK_FAILED, reason="rejected", explanation="Nothing passed.")


def test_a_task_that_has_not_begun_says_so() -> None:
    assert told() == (
        "Task 1.1, Rewrite the parser, has not begun: it waits for tasks before it, or for a free "
        "worker.",
    )


def test_a_task_that_goes_on_says_what_it_waits_for() -> None:
    waits = event(EventKind.TASK_PHASE, phase="waiting", waiting_for="a free worker")
    assert told(STARTED, waits) == (
        "Task 1.1, Rewrite the parser, is not over: it is waiting for a free worker, in try 1.",
        "Try 1 began.",
    )


def test_a_task_that_landed_in_its_second_try_tells_its_way() -> None:
    external = [{"name": "ci", "state": "pending"}]
    sentences = told(
        STARTED,
        captured(),
        checked(RECEIPT, PASSED),
        event(EventKind.TASK_TRY_FAILED, why="checks did not pass: `tests` (failed)", next=2),
        event(EventKind.TASK_STARTED, 2),
        captured(2, "t2"),
        checked(PASSED, tree="t2", attempt=2),
        event(EventKind.TASK_PROPOSED, 2, number=7, url="http://hub/7"),
        event(EventKind.TASK_PROPOSED, 2, number=7, url="http://hub/7"),
        event(EventKind.TASK_LOOKED_AT, 2, head="abc", checks=external, failed=[]),
        event(EventKind.TASK_LOOKED_AT, 2, head="abc", checks=[{"name": "ci", "state": "passed"}]),
        event(EventKind.TASK_REVIEWED, 2, decision="approve", summary="Good.", issues=[], **USED),
        checked(PASSED, tree="combined", attempt=2),
        event(EventKind.TASK_COMPLETED, 2, reason="merged", explanation="", merge_commit="m" * 40),
    )
    assert sentences == (
        "Task 1.1, Rewrite the parser, is completed: its change has landed, as commit "
        "mmmmmmmmmmmm.",
        "Try 1 began.",
        "claude left 2 files, +3 -1, as commit abcdef012345.",
        "Of that was left out: a pipe.",
        "Its checks did not pass (failed): `tests` (exit code 1).",
        "So try 2 was to follow: checks did not pass: `tests` (failed).",
        "Try 2 began.",
        "claude left 2 files, +3 -1, as commit abcdef012345.",
        "Of that was left out: a pipe.",
        "Its checks passed (1 check).",
        "It was proposed as pull request #7, http://hub/7.",
        "Checks of others on commit abc: ci passed.",
        'claude reviewed it and says approve, saying "Good."',
        "On the tree with what landed meanwhile, its checks passed (1 check).",
    )


def test_what_reviewers_and_people_said_is_told() -> None:
    issue = {"problem": "No test", "severity": "major", "must_fix": True, "file": "a", "line": 3}
    used: dict[str, Any] = {**USED, "profile": "strong"}
    sentences = told(
        STARTED,
        event(EventKind.TASK_REVIEWED, decision="revise", summary="No", issues=[issue], **used),
        event(EventKind.TASK_REVIEWED, decision="invalid", problem="no JSON", **used),
        event(EventKind.TASK_REVIEWED, decision="none", summary="no reviewer", **used),
        event(EventKind.TASK_DECIDED, decision="reject", words="Not so", by="ada", head="h"),
        event(EventKind.TASK_HANDED_OVER, head="abc", since_ms=5),
    )
    assert sentences[2:] == (
        'strong reviewed it and says revise, saying "No"',
        "It wants fixed in a: No test.",
        "strong reviewed it, and gave no valid verdict: no JSON.",
        "It was not reviewed: no reviewer.",
        'ada rejected it, saying "Not so"',
        "The forge was asked to land commit abc.",
    )


def test_a_task_without_checks_and_one_whose_checks_failed_before_are_told_apart() -> None:
    before = {**RECEIPT, "found": "failed_on_base"}
    flaky = event(
        EventKind.TASK_CHECKED, tree="t", judgement="passed", receipts=[PASSED], flaky=["tests"]
    )
    assert told(STARTED, checked(), checked(before), flaky)[2:] == (
        "Its result was not verified: the task has no check.",
        "Its checks passed (1 check).",
        "Not held against it, since they fail without its change, too: `tests`.",
        "Its checks passed (1 check).",
        "Of the checks some are flaky: tests.",
    )


def test_an_end_before_a_retry_is_told_as_well() -> None:
    sentences = told(
        STARTED,
        event(EventKind.TASK_USED, **USED),
        event(EventKind.TASK_FAILED, reason="agent", explanation="it gave up."),
        event(EventKind.TASK_REOPENED),
        event(EventKind.TASK_CANCELLED, reason="cancelled", explanation="a person cancelled it"),
        commands=["commandcenter retry exec_1 1.1"],
    )
    assert sentences == (
        "Task 1.1, Rewrite the parser, is cancelled (cancelled): a person cancelled it.",
        "Try 1 began.",
        "A run of claude left no result.",
        "It ended then, failed: it gave up.",
        "A person had it tried again.",
        'What you can do: "commandcenter retry exec_1 1.1"',
    )


def test_a_vote_tells_candidates_who_was_out_and_which_criterion_decided() -> None:
    choice = {"schema": "cc.choice/1", "ranking": ["B", "A"], "scores": {"A": 3, "B": 7.5}}
    out = [{"id": "A", "reason": "too long"}]
    sentences = told(
        STARTED,
        round_(1, ("work", "claude", 1), ("work", "codex", 2), ("work", "claude", 3)),
        left(1, 3),
        left(1, 1, checks="failed", failing=["tests"], flags=["It deletes tests/test_a.py."]),
        left(1, 2),
        round_(2, ("judge", "strong", 0)),
        answered(2, result={**choice, "reason": "short", "disqualified": out}, left=["a.txt"]),
        concluded(
            "accepted",
            "2 of 3 candidates passed the checks; a judge chose it.",
            candidates=[
                {"lane": 1, "out": "it weakens what it is judged by"},
                {"lane": 2, "out": ""},
            ],
            winner=3,
            labels={"A": 2, "B": 3},
            judge=choice,
        ),
        captured(),
    )
    assert sentences[1:] == (
        "The pattern vote(2) had the outcome accepted.",
        "Try 1 began.",
        "Round 1 asked claude to work in lane 1, codex to work in lane 2, claude to work in lane "
        "3.",
        "claude in lane 1 left 2 files, +3 -1, and checks did not pass: `tests`.",
        "claude in lane 1 is flagged: It deletes tests/test_a.py.",
        "codex in lane 2 left 2 files, +3 -1, and the checks passed.",
        "claude in lane 3 left 2 files, +3 -1, and the checks passed.",
        "Round 2 asked strong to judge.",
        'strong ranked B (7.5), A (3), the best first, saying "short"; it would disqualify A: '
        "too long.",
        "strong was only to read; what it changed was thrown away: a.txt.",
        "The pattern ended, accepted: 2 of 3 candidates passed the checks; a judge chose it.",
        "The candidate of lane 1 was out: it weakens what it is judged by.",
        "The judge was shown lane 2 as A, lane 3 as B, without names.",
        "The candidate of lane 3 was taken.",
        "Its result went on as commit abcdef012345 of this task.",
        "Of that was left out: a pipe.",
    )


def test_who_was_not_needed_and_who_was_interrupted_are_told_apart() -> None:
    sentences = told(
        STARTED,
        round_(1, ("work", "a", 1), ("work", "b", 2), ("work", "c", 3), until="green"),
        answered(1, 1, counts=False, outcome="rate_limit"),
        left(1, 1),
        answered(1, 2, counts=False, outcome="not needed"),
        answered(1, 3, outcome="stopped"),
        concluded("accepted", "It passes."),
    )
    assert sentences[3:7] == (
        "Round 1 asked a to work in lane 1, b to work in lane 2, c to work in lane 3, until one "
        "passes the checks.",
        "a in lane 1 was interrupted 1 time (rate_limit), which does not count.",
        "a in lane 1 left 2 files, +3 -1, and the checks passed.",
        "b in lane 2 was stopped, since it was not needed any more.",
    )
    assert sentences[7] == "c in lane 3 was stopped, since it was not needed any more."


def test_a_round_that_goes_on_says_who_has_not_answered() -> None:
    sentences = told(STARTED, round_(1, ("work", "a", 1), ("work", "b", 2)), left(1, 2))
    assert sentences[1:] == (
        "Agents work together on it by the pattern vote(2), in round 1.",
        "Try 1 began.",
        "Round 1 asked a to work in lane 1, b to work in lane 2.",
        "a in lane 1 has not answered yet.",
        "b in lane 2 left 2 files, +3 -1, and the checks passed.",
    )


def test_a_round_that_was_broken_off_is_not_said_to_go_on() -> None:
    sentences = told(
        STARTED,
        round_(1, ("work", "a", 1)),
        event(EventKind.TASK_TRY_FAILED, why="a workspace was lost", next=2),
        event(EventKind.TASK_STARTED, 2),
        event(EventKind.TASK_CANCELLED, 2, reason="cancelled", explanation="a person cancelled it"),
    )
    assert sentences[1:] == (
        "Try 1 began.",
        "Round 1 asked a to work in lane 1.",
        "a in lane 1 had not answered when the try ended.",
        "So try 2 was to follow: a workspace was lost.",
        "Try 2 began.",
    )


def test_a_route_tells_the_decision_and_a_handoff_who_passed_on_to_whom() -> None:
    route = {"schema": "cc.route/1", "profile": "docs", "reason": "It is a text."}
    handoff = {"schema": "cc.handoff/1", "to": "claude", "reason": "code is needed", "summary": "s"}
    sentences = told(
        STARTED,
        round_(1, ("route", "router", 0)),
        answered(1, result=route),
        round_(2, ("work", "docs", 1)),
        left(2, checks="", files=0, result=handoff),
        concluded(
            "stalled",
            "It goes in circles.",
            route={"profile": "docs", "by": "agent", "reason": "It is a text."},
            handoffs=[{"from": "docs", "to": "claude", "reason": "code is needed"}],
        ),
        event(EventKind.TASK_FAILED, reason="stalled", explanation="It goes in circles."),
    )
    assert sentences == (
        "Task 1.1, Rewrite the parser, has failed (stalled): It goes in circles.",
        "The pattern vote(2) had the outcome stalled.",
        "Try 1 began.",
        "Round 1 asked router to choose who does it.",
        'router chose docs, saying "It is a text."',
        "Round 2 asked docs to work in lane 1.",
        "docs in lane 1 left no change, which was not checked.",
        'docs in lane 1 passed the work on to claude, saying "code is needed"',
        "The pattern ended, stalled: It goes in circles.",
        "It went to docs, chosen by agent: It is a text.",
    )


def test_who_left_a_lane_as_it_was_is_told_so() -> None:
    worker = ("work", "a", 1)
    sentences = told(
        STARTED,
        round_(1, worker),
        left(1, tree="t1", checks="failed", failing=["tests"]),
        round_(2, worker),
        left(2, tree="t1", checks="failed", failing=["tests"]),
        round_(3, worker),
        left(3, tree="t2"),
    )
    assert [each for each in sentences if "left" in each] == [
        "a in lane 1 left 2 files, +3 -1, and checks did not pass: `tests`.",
        "a in lane 1 left 2 files, +3 -1, as it was before, and checks did not pass: `tests`.",
        "a in lane 1 left 2 files, +3 -1, and the checks passed.",
    ]


def test_a_router_that_gave_no_answer_leaves_the_fallback_told() -> None:
    sentences = told(
        STARTED,
        round_(1, ("route", "router", 0)),
        answered(1, problem="`profile` is missing."),
        concluded(
            "accepted",
            "It passes.",
            route={"profile": "docs", "by": "fallback", "reason": "no answer"},
        ),
    )
    assert "router gave an answer that could not be used: `profile` is missing." in sentences
    assert "It went to docs, chosen as the fallback: no answer." in sentences


def test_a_ledger_tells_its_course_its_stalls_and_the_bound_that_was_reached() -> None:
    satisfied = {**LEDGER, "satisfied": {"answer": True, "reason": "all is there"}}
    sentences = told(
        STARTED,
        round_(1, ("manage", "boss", 0), pattern="magentic(docs)"),
        answered(1, result=LEDGER),
        round_(2, ("work", "docs", 1), pattern="magentic(docs)"),
        answered(2, outcome="failed", reason="timeout", words="too slow", refused="a file is huge"),
        round_(3, ("manage", "boss", 0), pattern="magentic(docs)"),
        answered(3, result=satisfied),
        concluded(
            "exhausted",
            "Not done after 2 rounds.",
            ledger=LEDGER,
            rounds=2,
            resets=1,
            stalls=2,
            acted=["docs", "a"],
            best={"commit": "c" * 40, "tree": "t", "failing": ["tests"]},
        ),
    )
    assert sentences[3:] == (
        "Round 1 asked boss to manage.",
        'boss sees it going in circles; sees no progress; says what went wrong, saying "it was too '
        'large"; named docs as next, saying "write it down"',
        "Round 2 asked docs to work in lane 1.",
        'docs in lane 1 failed (timeout), saying "too slow"',
        "docs in lane 1 left what could not be taken: a file is huge.",
        "Round 3 asked boss to manage.",
        'boss is satisfied, saying "all is there"',
        "The pattern ended, exhausted, since a bound was reached: Not done after 2 rounds.",
        "The ledger was kept for 2 rounds; the plan was made anew 1 time; 2 stalls at the end.",
        "In this order acted: docs, a.",
        "The best that was made, commit cccccccccccc, fails `tests`.",
    )


SPLIT = event(
    EventKind.TASK_ROUND,
    pattern="plan",
    round=2,
    tasks=[{"id": "1.1-1", "title": "Lexer"}, {"id": "1.1-2", "title": "Grammar"}],
    reason="in two",
)


def joined(number: int = 2, **data: Any) -> Event:
    children = [
        {"id": "1.1-1", "title": "Lexer", "satisfied": True, "words": ""},
        {"id": "1.1-2", "title": "Grammar", "satisfied": False, "words": "checks failed"},
    ]
    given = {"children": children, "verdict": None, "commit": "", "problem": "", **data}
    return event(EventKind.TASK_JOINED, round=number, **given)


def test_a_split_tells_its_tasks_and_how_each_ended() -> None:
    answer = {"schema": "cc.subplan/1", "tasks": [{}, {}], "rationale": "in two"}
    asked = round_(1, ("plan", "planner", 0), pattern="plan")
    assert told(STARTED, asked, answered(1, result=answer), SPLIT, joined())[3:] == (
        "Round 1 asked planner to plan.",
        'planner answered with 2 tasks, saying "in two"',
        'Round 2 split it into 2 tasks: 1.1-1 Lexer, 1.1-2 Grammar, saying "in two"',
        "Task 1.1-1, Lexer, has landed.",
        "Task 1.1-2, Grammar, did not land: checks failed.",
        "So its own checks were not run on what had landed.",
    )


def test_a_split_that_could_not_be_used_is_told_from_one_that_was_made() -> None:
    answer = {"schema": "cc.subplan/1", "tasks": [{}], "rationale": "a cycle"}
    planner = ("plan", "planner", 0)
    sentences = told(
        STARTED,
        round_(0, planner, pattern="plan"),
        answered(0, result=answer),
        round_(1, planner, pattern="plan"),
        answered(1, result=answer),
        SPLIT,
    )
    assert sentences[3:8] == (
        "Round 0 asked planner to plan.",
        'planner answered with 1 task, saying "a cycle"',
        "No split was made of that, and another one was asked for.",
        "Round 1 asked planner to plan.",
        'planner answered with 1 task, saying "a cycle"',
    )
    assert sentences[8].startswith("Round 2 split it into 2 tasks")


def test_a_split_that_goes_on_tells_where_its_tasks_stand() -> None:
    working = replace(NEW, id="1.1-1", title="Lexer", parent=TASK, state=State.IN_PROGRESS)
    subtasks = [replace(working, phase=Phase.WORKING, attempt=2)]
    assert told(STARTED, SPLIT, subtasks=subtasks)[4:] == (
        "Task 1.1-1, Lexer, is not over: it is working, in try 2.",
        "Task 1.1-2 has not ended.",
    )


def test_the_checks_of_a_split_task_on_what_its_sub_tasks_made_are_told() -> None:
    verdict = {"tree": "t1", "judgement": "failed", "receipts": [RECEIPT]}
    sentences = told(STARTED, SPLIT, joined(verdict=verdict, commit="c" * 40))
    assert sentences[-1] == (
        "Then its own checks were run on commit cccccccccccc with what had landed, and checks did "
        "not pass: `tests`."
    )


def test_a_split_that_there_was_no_room_for_says_so() -> None:
    asked = round_(1, ("plan", "planner", 0), pattern="plan")
    sentences = told(STARTED, asked, joined(2, children=[], problem="at most 200 tasks"))
    assert sentences[-1] == "Nothing was split: at most 200 tasks."


def test_a_sub_task_says_of_what_task_it_is_one() -> None:
    subtask = replace(NEW, id="1.1-1", parent=TASK)
    assert explain(subtask, ())[1] == "It is a sub-task of task 1.1, which was split."


def test_a_sub_task_that_failed_and_was_replaced_counts_for_nothing() -> None:
    parent = replace(NEW, state=State.COMPLETED, reason=Reason.JOINED)
    subtask = replace(NEW, id="1.1-1", parent=TASK, state=State.FAILED, reason=Reason.CHECKS)
    assert explain(subtask, (), parent=parent)[2] == (
        "That it did not land counts for nothing: task 1.1 is completed all the same."
    )
    assert len(explain(subtask, (), parent=replace(parent, state=State.FAILED))) == 2


def test_a_pattern_that_ended_before_anybody_was_asked_is_told() -> None:
    sentences = told(STARTED, concluded("rejected", "Nobody was chosen."), FAILED)
    assert sentences[-1] == "The pattern ended, rejected: Nobody was chosen."


def test_what_others_wrote_stays_a_part_of_one_sentence() -> None:
    hostile = "\x1b[2Jone\n\ntwo " + "x" * 1000
    sentences = told(
        STARTED,
        round_(1, ("work", hostile, 1), pattern=hostile),
        left(1, problem=hostile, words=hostile, flags=[hostile]),
        concluded("rejected", hostile, candidates=[{"lane": 1, "out": hostile}]),
        event(EventKind.TASK_FAILED, reason="rejected", explanation=hostile),
        status=replace(NEW, title=hostile),
    )
    assert not [each for each in sentences if "\n" in each or "\x1b" in each]
    assert max(map(len, sentences)) < 2500


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_event_may_come_alone(kind: EventKind) -> None:
    alone: dict[EventKind, Event] = {
        EventKind.TASK_ROUND: round_(1, ("work", "a", 1)),
        EventKind.TASK_ANSWERED: left(1),
        EventKind.TASK_JOINED: joined(),
        EventKind.TASK_CONCLUDED: concluded("rejected", "why"),
        EventKind.TASK_CAPTURED: captured(),
        EventKind.TASK_USED: event(kind, **USED),
        EventKind.TASK_CHECKED: checked(PASSED),
        EventKind.TASK_LOOKED_AT: event(kind, head="h", checks=[]),
        EventKind.TASK_HANDED_OVER: event(kind, head="h"),
        EventKind.TASK_PROPOSED: event(kind, number=7, url="/7"),
        EventKind.TASK_REVIEWED: event(kind, decision="none", **USED),
        EventKind.TASK_DECIDED: event(kind, decision="approve", words="", by="ada", head="h"),
        EventKind.TASK_TRY_FAILED: event(kind, why="x", next=2),
    }
    status = replace(NEW, state=State.FAILED, reason=Reason.AGENT)
    one = alone.get(kind, event(kind, reason="agent", explanation=""))
    assert explain(status, [one])[0] == "Task 1.1, Rewrite the parser, has failed (agent)."
