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


def test_an_agents_words_are_no_transition() -> None:
    out = io.StringIO()
    Lines(out).happened(_event(EventKind.AGENT, events=[{"text": "hello"}]))
    assert out.getvalue() == ""
