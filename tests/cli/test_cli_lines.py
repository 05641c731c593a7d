"""Progress as plain lines."""

from __future__ import annotations

import io
from typing import Any

import pytest

from commandcenter.api.schema import EventAnswer
from commandcenter.cli.lines import Lines, line_of
from commandcenter.core.run import EventKind

TITLES = {"1.2": "Add the parser"}


def _event(kind: EventKind, task: str | None = "1.2", **data: Any) -> EventAnswer:
    return EventAnswer(
        seq=1,
        execution_id="exec_0badcafe",
        kind=kind,
        at="2026-01-01T10:02:03.000Z",
        task=task,
        attempt=2,
        data=data,
    )


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (_event(EventKind.RUN_ENDED, None), "The run has ended (run exec_0badcafe)"),
        (_event(EventKind.TASK_STARTED), "Add the parser: started, attempt 2 (task 1.2)"),
        (_event(EventKind.TASK_PHASE, phase="working"), "Add the parser: working (task 1.2)"),
        (
            _event(EventKind.TASK_PHASE, phase="waiting", waiting_for="a person"),
            "Add the parser: waiting for a person (task 1.2)",
        ),
        (
            _event(
                EventKind.TASK_CHECKED,
                judgement="failed",
                receipts=[{"check": "lint", "found": "failed"}, {"check": "x", "found": "passed"}],
            ),
            "Add the parser: checks failed (2 checks): lint (task 1.2)",
        ),
        (
            _event(EventKind.TASK_CHECKED, judgement="unverified", receipts=[]),
            "Add the parser: checks unverified: the task has none (task 1.2)",
        ),
        (
            _event(EventKind.TASK_LOOKED_AT, checks=[{"name": "ci\nbuild", "state": "failed"}]),
            "Add the parser: external checks: ci build failed (task 1.2)",
        ),
        (
            _event(EventKind.TASK_PROPOSED, number=7, url="http://h/7"),
            "Add the parser: pull request #7 is open, http://h/7 (task 1.2)",
        ),
        (
            _event(EventKind.TASK_FAILED, reason="agent", explanation="it gave up."),
            "Add the parser: failed, it gave up (task 1.2)",
        ),
        (
            _event(
                EventKind.TASK_ROUND,
                pattern="vote(2)",
                round=1,
                asks=[{"profile": "opus", "role": "work"}, {"profile": "codex", "role": "judge"}],
            ),
            "Add the parser: round 1 of vote(2) asks opus to work, codex to judge (task 1.2)",
        ),
        (
            _event(
                EventKind.TASK_ANSWERED,
                profile="opus",
                role="work",
                outcome="done",
                checks="failed",
                files=1,
                insertions=3,
                deletions=2,
                flags=["It deletes a test."],
                left=[],
            ),
            "Add the parser: opus (work) answered: done; checks failed; 1 file, +3 -2; It deletes "
            "a test (task 1.2)",
        ),
        (
            _event(
                EventKind.TASK_JOINED,
                children=[{"satisfied": True}, {"satisfied": False}],
                verdict=None,
            ),
            "Add the parser: 1 of 2 sub-tasks have landed (task 1.2)",
        ),
        (
            _event(EventKind.TASK_CONCLUDED, result="rejected", words="None passed."),
            "Add the parser: its pattern ended, rejected, None passed (task 1.2)",
        ),
        (
            _event(EventKind.TASK_SKIPPED, reason="dependency"),
            "Add the parser: skipped, dependency (task 1.2)",
        ),
    ],
)
def test_a_transition_is_a_line_with_the_subject_first_and_the_id_last(
    event: EventAnswer, words: str
) -> None:
    clock, _, rest = line_of(event, TITLES).partition(" ")
    assert len(clock) == len("10:02:03")
    assert rest == words


@pytest.mark.parametrize("kind", [kind for kind in EventKind if kind is not EventKind.AGENT])
def test_every_kind_of_transition_has_words(kind: EventKind) -> None:
    assert line_of(_event(kind), TITLES)


def test_a_sub_task_is_named_as_soon_as_its_task_is_split() -> None:
    out = io.StringIO()
    lines = Lines(out)
    tasks = [{"id": "1.2-1", "title": "Lexer"}]
    lines.happened(_event(EventKind.TASK_ROUND, pattern="plan", round=2, tasks=tasks))
    lines.happened(_event(EventKind.TASK_STARTED, "1.2-1"))
    first, second = out.getvalue().splitlines()
    assert first.endswith("round 2 of plan splits it into 1 task: 1.2-1 Lexer (task 1.2)")
    assert second.endswith("Lexer: started, attempt 2 (task 1.2-1)")


def test_an_agents_words_are_no_transition() -> None:
    out = io.StringIO()
    Lines(out).happened(_event(EventKind.AGENT, events=[{"text": "hello"}]))
    assert out.getvalue() == ""
