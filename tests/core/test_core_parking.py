"""When a model provider is left alone, and until when."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandcenter.core.parking import (
    FIRST_S,
    PAUSE_MAX_S,
    TOLD_MAX_S,
    Parked,
    after_answer,
    from_record,
    to_record,
)

NOW = 1_800_000_000_000


@pytest.mark.parametrize("status", [429, 529])
def test_a_provider_that_says_so_is_left_alone_for_as_long_as_it_says(status: int) -> None:
    parked = after_answer(None, status, 30, asked_ms=NOW - 5, now_ms=NOW)

    assert parked == Parked(status, NOW, NOW + 30_000)
    assert parked.holds(NOW)
    assert parked.holds(NOW + 29_999)
    assert not parked.holds(NOW + 30_000)


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500, 502, 503])
def test_no_other_answer_parks_it(status: int) -> None:
    assert after_answer(None, status, 30, asked_ms=NOW - 5, now_ms=NOW) is None


def test_without_a_time_each_pause_is_twice_as_long_up_to_a_bound() -> None:
    pauses, parked, now = [], None, NOW
    for _ in range(9):
        parked = after_answer(parked, 529, None, asked_ms=now, now_ms=now)
        assert parked is not None
        pauses.append((parked.until_ms - now) / 1000)
        now = parked.until_ms

    assert pauses[:4] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S]
    assert pauses[-1] == PAUSE_MAX_S


def test_many_that_are_refused_together_count_once() -> None:
    parked = None
    for each in range(20):
        parked = after_answer(parked, 429, None, asked_ms=NOW - 1, now_ms=NOW + each)

    assert parked is not None
    assert parked.strikes == 1
    assert parked.until_ms <= NOW + 20 + FIRST_S * 1000


def test_the_newest_time_that_it_told_counts() -> None:
    parked = after_answer(None, 429, 3600, asked_ms=NOW, now_ms=NOW)
    parked = after_answer(parked, 429, 10, asked_ms=NOW, now_ms=NOW + 1000)

    assert parked is not None
    assert parked.until_ms == NOW + 11_000


def test_a_good_answer_to_what_was_asked_since_then_ends_it() -> None:
    parked = after_answer(None, 429, 3600, asked_ms=NOW, now_ms=NOW)

    assert after_answer(parked, 200, None, asked_ms=NOW - 1, now_ms=NOW + 1) == parked
    assert after_answer(parked, 400, None, asked_ms=NOW + 1, now_ms=NOW + 2) == parked
    assert after_answer(parked, 200, None, asked_ms=NOW + 1, now_ms=NOW + 2) is None


@given(st.floats(min_value=0), st.integers(0, 40))
def test_no_pause_is_without_an_end(told_s: float, strikes: int) -> None:
    before = Parked(529, NOW - 1, NOW - 1, strikes=strikes + 1)

    told = after_answer(before, 429, told_s, asked_ms=NOW, now_ms=NOW)
    untold = after_answer(before, 429, None, asked_ms=NOW, now_ms=NOW)

    assert told is not None
    assert untold is not None
    assert told.until_ms - NOW <= TOLD_MAX_S * 1000
    assert untold.until_ms - NOW <= PAUSE_MAX_S * 1000


def test_a_clock_that_is_put_back_does_not_prolong_it() -> None:
    parked = Parked(429, NOW, NOW + 60_000)

    assert not parked.holds(NOW - 400 * 24 * 3600 * 1000)


def test_people_are_told_what_it_said_and_until_when() -> None:
    words = Parked(429, NOW, NOW + 60_000).words("anthropic")

    assert words == "the model provider anthropic (429, rate limit) until 08:01:00 UTC"


def test_it_is_stored_and_read_back() -> None:
    parked = {"anthropic": Parked(529, NOW, NOW + 5, 3)}

    assert from_record(json.loads(json.dumps(to_record(parked)))) == parked


@pytest.mark.parametrize("record", [None, [], {}, {"schema": 2, "providers": {"a": 1}}])
def test_what_another_version_stored_is_nothing(record: object) -> None:
    assert from_record(record) == {}
