"""Money that requests take from: what they could cost is set aside before they are made."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandcenter.core.prices import Price
from commandcenter.gateway.purse import Asked, Purse, asked

PRICES = (Price("priced*", input=3, output=15, cache_read=0.3, cache_write=3.75),)


async def test_money_is_enough_until_it_is_not() -> None:
    purse = Purse(1.0)

    assert await purse.set_aside(0.6)
    purse.pay(0.5)
    purse.give_back(0.6)

    assert purse.left_usd == 0.5
    assert not await purse.set_aside(0.6)
    assert purse.left_usd == 0.0


async def test_after_a_refusal_nothing_is_given_out_any_more() -> None:
    purse = Purse(1.0)

    assert not await purse.set_aside(2.0)
    assert not await purse.set_aside(0.1)


async def test_a_request_without_a_price_needs_something_to_be_left() -> None:
    assert await Purse(0.01).set_aside(0.0)
    assert not await Purse(0.0).set_aside(0.0)


async def test_who_finds_all_money_set_aside_waits_for_what_comes_back() -> None:
    purse = Purse(1.0)
    assert await purse.set_aside(0.8)
    second = asyncio.create_task(purse.set_aside(0.8))
    await asyncio.sleep(0)

    waited = not second.done()
    purse.pay(0.1)
    purse.give_back(0.8)

    assert waited
    assert await second
    assert purse.left_usd == pytest.approx(0.9)


async def test_who_waits_is_refused_when_too_little_comes_back() -> None:
    purse = Purse(1.0)
    assert await purse.set_aside(0.8)
    second = asyncio.create_task(purse.set_aside(0.8))
    await asyncio.sleep(0)
    purse.pay(0.8)
    purse.give_back(0.8)

    assert not await second


async def test_who_leaves_while_waiting_is_in_nobodys_way() -> None:
    purse = Purse(1.0)
    assert await purse.set_aside(0.8)
    second = asyncio.create_task(purse.set_aside(0.8))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    purse.give_back(0.8)

    assert await purse.set_aside(0.9)


def test_what_is_stored_lowers_what_is_left_and_never_raises_it() -> None:
    purse = Purse(1.0)

    purse.lower(0.4)
    purse.lower(0.7)

    assert purse.left_usd == 0.4


def test_the_longest_answer_is_what_a_request_could_cost() -> None:
    assert Asked("priced-1", 1_000_000).cost_usd(PRICES) == 15
    assert Asked("other", 1_000_000).cost_usd(PRICES) == 0


@pytest.mark.parametrize(
    ("body", "encoding", "found"),
    [
        (json.dumps({"model": "m", "max_tokens": 5}), "", Asked("m", 5)),
        (json.dumps({"model": "m", "max_tokens": 5}), "identity", Asked("m", 5)),
        (json.dumps({"model": "m", "max_tokens": 5}), "gzip", None),
        (json.dumps({"model": "m"}), "", None),
        (json.dumps({"max_tokens": 5}), "", None),
        (json.dumps({"model": "m", "max_tokens": -1}), "", None),
        (json.dumps({"model": "m", "max_tokens": True}), "", None),
        (json.dumps({"model": "m", "max_tokens": 10**12}), "", None),
        ('{"model": "m", "max_tokens": 5, "max_tokens": 1}', "", None),
        ("[]", "", None),
        ("no JSON", "", None),
    ],
)
def test_what_a_request_asks_for_is_read_or_not_believed(
    body: str, encoding: str, found: Asked | None
) -> None:
    assert asked(body.encode(), encoding) == found


REQUESTS = st.lists(
    st.tuples(st.floats(0.01, 2.0), st.floats(0.0, 1.0)).map(lambda two: (two[0], two[0] * two[1])),
    max_size=12,
)


@given(st.floats(0.0, 5.0), REQUESTS)
async def test_no_more_is_paid_than_there_was_whoever_asks_at_the_same_time(
    budget: float, requests: list[tuple[float, float]]
) -> None:
    purse, paid = Purse(budget), [0.0]

    async def ask(most: float, cost: float) -> None:
        if await purse.set_aside(most):
            await asyncio.sleep(0)
            purse.pay(cost)
            paid.append(cost)
            purse.give_back(most)

    async with asyncio.timeout(60):
        await asyncio.gather(*(ask(most, cost) for most, cost in requests))

    assert sum(paid) <= budget + 1e-6
