"""What follows when a forge is to land a change itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandcenter.core.attempt import Attempt, Bounds, GiveUp, TryAgain, after_removal
from commandcenter.core.forge import Queued
from commandcenter.core.handover import (
    Enqueue,
    Handed,
    Late,
    Removed,
    Stay,
    late_words,
    merge_words,
    queue_step,
)
from commandcenter.core.run import Reason

WAIT_MS = 1000
Step = Enqueue | Stay | Removed | Late


def step(handed: Handed | None, queued: Queued, now_ms: int = 5) -> Step:
    return queue_step(handed, queued, "c1", now_ms=now_ms, wait_ms=WAIT_MS)


@pytest.mark.parametrize(
    "handed", [None, Handed("c0", 1, ""), Handed("c1", 1)], ids=["new", "another commit", "merge"]
)
def test_what_was_not_put_into_the_queue_is_put_there(handed: Handed | None) -> None:
    assert step(handed, Queued(False)) == Enqueue()


def test_what_is_in_the_queue_stays_there_for_a_bounded_time() -> None:
    handed = Handed("c1", 5, "")

    assert step(handed, Queued(True)) == Stay()
    assert step(handed, Queued(True), now_ms=5 + WAIT_MS) == Late()


def test_a_queue_that_does_not_show_it_yet_has_not_taken_it_out() -> None:
    assert step(Handed("c1", 5, "r1"), Queued(False, "r1", "an earlier one")) == Stay()


def test_what_the_forge_took_out_is_not_put_there_again() -> None:
    assert step(Handed("c1", 5, "r1"), Queued(False, "r2", "checks\x1b[31m failed")) == Removed(
        "checks[31m failed"
    )
    assert step(Handed("c1", 5, ""), Queued(False, "r1")) == Removed("no reason was given")


def test_a_removal_goes_back_to_the_agent_on_a_fresh_start_until_there_are_no_more_tries() -> None:
    bounds = Bounds(2, 2, 2)

    first = after_removal("``` failed_checks", Attempt(1), bounds)
    last = after_removal("failed_checks", Attempt(2, tries=2), bounds)

    assert isinstance(first, TryAgain)
    assert first.attempt.generation == 2
    assert "no instruction:\n\n````\n``` failed_checks\n````" in first.attempt.feedback
    assert last == GiveUp(
        Reason.EXTERNAL, "after 2 tries, the forge's merge queue took it out: failed_checks"
    )


def test_what_the_forge_says_is_told_on_one_short_line() -> None:
    told = merge_words("At least 1\napproving review\x07 is required" + "!" * 500)

    assert told.startswith("merge by the forge: At least 1 approving review is required!")
    assert len(told) < 350
    assert late_words("merge-queue of the forge", 3600) == (
        "the forge had not landed it after 1 h: merge-queue of the forge"
    )


@given(st.text(), st.integers(0, 2**40), st.none() | st.text())
def test_what_is_stored_is_read_back(head: str, since_ms: int, removal: str | None) -> None:
    handed = Handed(head, since_ms, removal)

    assert Handed.from_json(handed.to_json()) == handed
