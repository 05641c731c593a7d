"""The ledger's fold: what is held, and whose a branch is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandcenter.core.ledger import (
    Entry,
    Fact,
    Holding,
    Kind,
    Standing,
    adds_nothing,
    holdings,
    standing,
)

A, B, C = "a" * 40, "b" * 40, "c" * 40


def entry(fact: Fact, commit: str = "", words: str = "", at_ms: int = 0) -> Entry:
    return Entry(Kind.BRANCH, "/up.git", "cc/1", fact, "exec_1", "1.1", commit, words, at_ms)


def fold(*entries: Entry) -> Holding:
    (holding,) = holdings(entries)
    return holding


def test_every_commit_that_we_put_there_stays_ours() -> None:
    holding = fold(entry(Fact.PUT, A), entry(Fact.PUT, B), entry(Fact.PUT, A))
    assert (holding.commits, holding.held) == ((A, B), True)
    assert [standing(holding, tip) for tip in (A, B)] == [Standing.OURS] * 2


def test_a_branch_of_our_name_at_a_commit_that_is_not_ours_is_foreign() -> None:
    assert standing(fold(entry(Fact.PUT, A)), C) is Standing.FOREIGN


def test_a_branch_that_we_never_made_is_foreign_whatever_it_holds() -> None:
    assert standing(None, A) is Standing.FOREIGN


def test_a_branch_that_was_made_again_after_ours_was_gone_is_foreign() -> None:
    holding = fold(entry(Fact.PUT, A), entry(Fact.GONE))
    assert standing(holding, A) is Standing.FOREIGN
    assert standing(holding, None) is Standing.FREE


def test_what_is_put_back_is_held_again_from_then_on() -> None:
    holding = fold(
        entry(Fact.PUT, A, at_ms=1),
        entry(Fact.GONE, at_ms=2),
        entry(Fact.PUT, B, at_ms=3),
        entry(Fact.PUT, C, at_ms=4),
    )
    assert (holding.held, holding.commits, holding.since_ms) == (True, (A, B, C), 3)


def test_why_something_is_kept_is_told_until_it_is_gone() -> None:
    kept = (entry(Fact.PUT, A), entry(Fact.KEPT, words="a person's"))
    assert (fold(*kept).words, fold(*kept).held) == ("a person's", True)
    assert fold(*kept, entry(Fact.GONE)).words == ""


def test_things_of_one_name_in_two_places_are_two() -> None:
    there = Entry(Kind.BRANCH, "/other.git", "cc/1", Fact.PUT, "exec_1")
    assert len(holdings([entry(Fact.PUT, A), there, entry(Fact.GONE)])) == 2


@pytest.mark.parametrize(
    ("told", "again"),
    [
        ((entry(Fact.PUT, A),), entry(Fact.PUT, A)),
        ((entry(Fact.PUT, A),), entry(Fact.PUT)),
        ((entry(Fact.PUT, A), entry(Fact.KEPT, words="w")), entry(Fact.KEPT, words="w")),
        ((entry(Fact.PUT, A), entry(Fact.GONE)), entry(Fact.GONE)),
    ],
)
def test_what_is_known_already_adds_nothing(told: tuple[Entry, ...], again: Entry) -> None:
    assert adds_nothing(fold(*told), again)


@pytest.mark.parametrize(
    ("told", "news"),
    [
        ((entry(Fact.PUT, A),), entry(Fact.PUT, B)),
        ((entry(Fact.PUT, A), entry(Fact.GONE)), entry(Fact.PUT, A)),
        ((entry(Fact.PUT, A),), entry(Fact.KEPT, words="w")),
        ((entry(Fact.PUT, A),), entry(Fact.GONE)),
    ],
)
def test_what_is_new_is_noted(told: tuple[Entry, ...], news: Entry) -> None:
    assert not adds_nothing(fold(*told), news)


_ENTRIES = st.builds(
    entry, st.sampled_from(Fact), st.sampled_from(["", A, B]), st.sampled_from(["", "why"])
)


@given(st.lists(_ENTRIES, max_size=8))
def test_leaving_out_what_adds_nothing_leaves_what_is_known(entries: list[Entry]) -> None:
    told: list[Entry] = []
    for each in entries:
        before = holdings(told)
        if not adds_nothing(before[0] if before else None, each):
            told.append(each)
    whole = [one for one in holdings(entries) if one.held]
    assert [one for one in holdings(told) if one.held] == whole
