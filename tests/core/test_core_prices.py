"""What an answer costs, by a table that a person wrote."""

from __future__ import annotations

import pytest

from commandcenter.core.prices import Price, Tokens, added, cost_usd

SONNET = Price("claude-sonnet-*", input=3, output=15, cache_read=0.3, cache_write=3.75)
ANY_CLAUDE = Price("claude-*", input=1, output=1, cache_read=1, cache_write=1)
TOKENS = Tokens(input=1_000_000, output=100_000, cache_read=2_000_000, cache_write=400_000)


def test_each_kind_of_token_has_its_own_price() -> None:
    assert cost_usd([SONNET], "claude-sonnet-4-5", TOKENS) == pytest.approx(3 + 1.5 + 0.6 + 1.5)


def test_the_first_price_that_fits_counts() -> None:
    tokens = Tokens(input=1_000_000)

    assert cost_usd([SONNET, ANY_CLAUDE], "claude-sonnet-4-5", tokens) == 3
    assert cost_usd([SONNET, ANY_CLAUDE], "claude-opus-5", tokens) == 1


@pytest.mark.parametrize("model", ["gpt-9", "", "Claude-Sonnet-4"])
def test_what_a_model_costs_of_which_nothing_is_said_is_unknown(model: str) -> None:
    assert cost_usd([SONNET], model, TOKENS) is None
    assert cost_usd([], "claude-sonnet-4-5", TOKENS) is None


@pytest.mark.parametrize(("one", "two"), [(None, 1.0), (1.0, None), (None, None)])
def test_with_something_unknown_the_sum_is_unknown(one: float | None, two: float | None) -> None:
    assert added(one, two) is None


def test_what_is_known_adds_up() -> None:
    assert added(1.0, 0.5) == 1.5
