"""What a pattern asked and was answered survives being stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from commandcenter.core.agent import Outcome, Role
from commandcenter.core.change import Change
from commandcenter.core.check import Found, Receipt, judge
from commandcenter.core.errors import InputError
from commandcenter.core.pattern import Ask, Child, Joined, Reply, Shown
from commandcenter.core.pattern_record import (
    answer_from_json,
    ask_from_json,
    ask_to_json,
    joined_to_json,
    reply_to_json,
)

VERDICT = judge("t1", [Receipt("lint", "ruff .", "t1", Found.PASSED, 0, 0.5, "abc", "fine")])
CHANGE = Change("b1", "h1", "t1", ("a.txt", "\udcff.txt"), 3, 1, ("a pipe was left out",))


def stored(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as the database gives it back."""
    found: dict[str, Any] = json.loads(json.dumps(record))
    return found


def test_an_ask_comes_back_as_it_was() -> None:
    ask = Ask(
        Role.JUDGE,
        "Rank them.",
        "opus",
        lane=0,
        commit="c1",
        shown=(Shown("A", "c2"), Shown("B", "c3")),
        answers=("cc.choice/1",),
        options=("A", "B"),
        fresh=True,
        gate=False,
    )

    assert ask_from_json(stored(ask_to_json(ask))) == ask


@pytest.mark.parametrize(
    "reply",
    [
        Reply(Outcome.STOPPED, "not needed"),
        Reply(Outcome.FAILED, "exit", "I give up", refused="a device"),
        Reply(
            Outcome.DONE,
            words="done",
            result={"schema": "cc.result/1", "outcome": "done", "summary": "s"},
            change=CHANGE,
            verdict=VERDICT,
            flags=("it deletes a test",),
        ),
    ],
)
def test_a_reply_comes_back_as_it_was_whoever_gave_it(reply: Reply) -> None:
    record = {**reply_to_json(reply), "by": {"profile": "claude", "session": "s"}}

    assert answer_from_json(stored(record)) == reply


@pytest.mark.parametrize(
    "joined",
    [
        Joined((), problem="there is no room"),
        Joined((Child("1-1", "A", True), Child("1-2", "B", False, "it failed")), commit="c1"),
        Joined((Child("1-1", "A", True),), VERDICT, "c1"),
    ],
)
def test_what_came_of_a_delegation_comes_back_as_it_was(joined: Joined) -> None:
    assert answer_from_json(stored(joined_to_json(joined))) == joined


def test_what_a_newer_version_stored_is_not_guessed_at() -> None:
    record = {**reply_to_json(Reply(Outcome.DONE)), "schema": 2}

    with pytest.raises(InputError):
        answer_from_json(record)
