"""The merge queue's decisions: what lands was checked, all that is good lands, within a bound."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandcenter.core.merge_queue import (
    Again,
    Eject,
    Land,
    Look,
    Probe,
    batch_size,
    flaky,
    next_move,
)

GREEN = Look()
RED = Look(frozenset({"unit"}))
Answer = Callable[[tuple[int, ...]], frozenset[str]]
"""Says which checks fail on a tree, which is named by the changes that it holds."""


@dataclass
class Queue:
    """Plays the moves for a queue of numbered changes, and keeps the book."""

    answer: Answer
    lanes: int = 1
    target: tuple[int, ...] = ()
    tips: list[tuple[int, ...]] = field(default_factory=list)
    ejected: list[int] = field(default_factory=list)
    looks: dict[tuple[int, ...], list[Look]] = field(default_factory=lambda: defaultdict(list))

    @property
    def runs(self) -> int:
        return sum(map(len, self.looks.values()))

    def drain(self, waiting: tuple[int, ...]) -> None:
        while waiting:
            waiting = self._batch(waiting)

    def _batch(self, chain: tuple[int, ...]) -> tuple[int, ...]:
        seen: dict[int, list[Look]] = defaultdict(list)
        while True:
            match next_move(len(chain), seen, self.lanes):
                case Probe(prefixes):
                    assert len(prefixes) <= self.lanes
                    for prefix in prefixes:
                        assert prefix not in seen
                        self._look(chain, prefix, seen)
                case Again(prefix):
                    self._look(chain, prefix, seen)
                case Land(prefix):
                    self._land(chain[:prefix])
                    return chain[prefix:]
                case Eject(position):
                    self._land(chain[: position - 1])
                    self.ejected.append(chain[position - 1])
                    return chain[position:]

    def _look(self, chain: tuple[int, ...], prefix: int, seen: dict[int, list[Look]]) -> None:
        tree = (*self.target, *chain[:prefix])
        look = Look(self.answer(tree))
        self.looks[tree].append(look)
        seen[prefix].append(look)

    def _land(self, changes: tuple[int, ...]) -> None:
        if changes:
            self.target += changes
            self.tips.append(self.target)


def breaking(bad: frozenset[int]) -> Answer:
    return lambda tree: frozenset(f"check {n}" for n in bad.intersection(tree))


@st.composite
def queues(draw: st.DrawFn) -> tuple[int, frozenset[int]]:
    size = draw(st.integers(1, 70))
    return size, frozenset(draw(st.lists(st.integers(0, size - 1), max_size=6)))


@given(queues(), st.integers(1, 5))
def test_all_good_changes_land_in_order_and_no_bad_one_does(
    queue: tuple[int, frozenset[int]], lanes: int
) -> None:
    size, bad = queue
    played = Queue(breaking(bad), lanes)
    played.drain(tuple(range(size)))
    assert played.target == tuple(n for n in range(size) if n not in bad)
    assert played.ejected == sorted(bad)


@given(queues())
def test_one_lane_needs_no_more_runs_of_the_checks_than_promised(
    queue: tuple[int, frozenset[int]],
) -> None:
    size, bad = queue
    played = Queue(breaking(bad))
    played.drain(tuple(range(size)))
    assert played.runs <= len(bad) * math.ceil(math.log2(size)) + len(bad) + 1


@given(st.integers(1, 40), st.integers(1, 4), st.data())
def test_every_tip_was_green_and_every_change_has_an_end_however_flaky_the_checks_are(
    size: int, lanes: int, data: st.DataObject
) -> None:
    def at_random(_: tuple[int, ...]) -> frozenset[str]:
        return data.draw(st.frozensets(st.sampled_from(["lint", "unit", "slow"]), max_size=2))

    played = Queue(at_random, lanes)
    played.drain(tuple(range(size)))
    assert all(not played.looks[tip][-1].failed for tip in played.tips)
    assert sorted((*played.target, *played.ejected)) == list(range(size))
    assert list(played.target) == sorted(played.target)


@given(st.integers(1, 40), st.integers(0, 60))
def test_a_check_that_fails_once_without_a_cause_ejects_nobody(size: int, when: int) -> None:
    runs = iter(range(10_000))
    played = Queue(lambda _: RED.failed if next(runs) == when else frozenset())
    played.drain(tuple(range(size)))
    assert played.ejected == []
    assert played.target == tuple(range(size))


@pytest.mark.parametrize("size", [1, 30, 100])
def test_a_queue_without_a_bad_change_needs_one_run(size: int) -> None:
    played = Queue(breaking(frozenset()))
    played.drain(tuple(range(size)))
    assert (played.runs, len(played.tips)) == (1, 1)


def test_a_change_that_breaks_the_check_of_an_earlier_one_is_the_one_that_goes() -> None:
    played = Queue(lambda tree: frozenset({"of 1"}) if {1, 3} <= set(tree) else frozenset())
    played.drain((1, 2, 3, 4))
    assert (played.target, played.ejected) == ((1, 2, 4), [3])


def test_lanes_look_at_several_prefixes_at_once() -> None:
    assert next_move(9, {}, lanes=3) == Probe((3, 6, 9))
    assert next_move(9, {3: [GREEN], 6: [RED], 9: [RED]}, lanes=3) == Probe((4, 5))


def test_a_red_prefix_before_a_green_one_keeps_nobody_from_landing() -> None:
    assert next_move(4, {2: [RED], 4: [GREEN]}) == Land(4)


def test_who_is_red_alone_is_looked_at_once_more_and_then_goes() -> None:
    assert next_move(1, {1: [RED]}) == Again(1)
    assert next_move(1, {1: [RED, Look(frozenset({"lint"}))]}) == Eject(1)


def test_who_was_red_in_a_longer_chain_too_goes_at_once() -> None:
    assert next_move(2, {2: [RED], 1: [RED]}) == Eject(1)
    assert next_move(2, {2: [Look(frozenset({"lint"}))], 1: [RED]}) == Again(1)


def test_a_check_is_flaky_that_failed_and_passed_on_one_tree() -> None:
    assert flaky([RED, GREEN]) == {"unit"}
    assert flaky([GREEN]) == flaky([RED, RED]) == frozenset()


def test_a_chain_is_as_long_as_a_run_of_the_checks_tells_most() -> None:
    assert batch_size([], 100) == 100
    assert batch_size([], 8) == 8
    assert 8 <= batch_size([True] * 45 + [False] * 5, 100) <= 16
    assert batch_size([False] * 50, 100) == 1


@given(st.lists(st.booleans(), max_size=50), st.integers(1, 200))
def test_a_chain_is_never_empty_nor_longer_than_allowed(ended: list[bool], most: int) -> None:
    assert 1 <= batch_size(ended, most) <= most
