"""When what waits for others is looked at again."""

from __future__ import annotations

import itertools
from dataclasses import replace

from commandcenter.core.run import TaskStatus
from commandcenter.flow.external import AT_ONCE, FORGOTTEN_S, Turns
from commandcenter.flow.transitions import TryKey

ONE, TWO = (TaskStatus("exec_1", name, "A task", "1", 0, attempt=1) for name in ("1.1", "1.2"))


def key(task: TaskStatus) -> TryKey:
    return TryKey(task.run, task.id, task.attempt)


def test_what_waits_is_looked_at_at_once_and_then_every_two_seconds() -> None:
    turns = Turns(2.0)

    assert turns.due([ONE], 100.0) == [key(ONE)]
    assert turns.due([ONE, TWO], 101.9) == [key(TWO)]
    assert turns.due([ONE, TWO], 102.0) == [key(ONE)]


def test_of_many_some_are_looked_at_and_nobody_is_left_out() -> None:
    turns = Turns(2.0)
    many = [replace(ONE, id=f"1.{n}") for n in range(AT_ONCE + 3)]

    first, second = turns.due(many, 100.0), turns.due(many, 102.0)

    assert len(first) == len(second) == AT_ONCE
    assert {*first, *second} == {key(each) for each in many}


def test_what_has_waited_long_is_looked_at_seldom_also_if_it_was_gone_for_a_moment() -> None:
    turns = Turns(2.0)
    looks = [at for at in range(7200) if turns.due([ONE], float(at))]

    turns.due([], 7200.0)

    assert looks[:3] == [0, 2, 4]
    assert 60 in [later - earlier for earlier, later in itertools.pairwise(looks)]
    assert len(looks) < 250
    assert turns.due([ONE], 7201.0) == []


def test_what_waits_no_more_is_forgotten_after_a_while() -> None:
    turns = Turns(2.0)
    turns.due([ONE], 0.0)
    turns.due([], FORGOTTEN_S + 1)

    assert turns.due([ONE], FORGOTTEN_S + 2) == [key(ONE)]
    assert turns.due([ONE], FORGOTTEN_S + 4) == [key(ONE)]


def test_what_somebody_says_has_changed_is_looked_at_at_once_and_all_of_it() -> None:
    turns = Turns(60.0)
    many = [replace(ONE, id=f"1.{n}") for n in range(AT_ONCE + 3)]
    for at in (100.0, 101.0):
        turns.due(many, at)

    before = turns.due(many, 110.0)
    turns.hurry(many)
    first, second, third = (turns.due(many, at) for at in (111.0, 112.0, 113.0))

    assert (before, third) == ([], [])
    assert {*first, *second} == {key(each) for each in many}


def test_a_forge_is_not_asked_more_often_than_is_configured() -> None:
    turns = Turns(60.0)

    looks = [at for at in range(300) if turns.due([ONE], float(at))]

    assert looks == [0, 60, 120, 180, 240]
