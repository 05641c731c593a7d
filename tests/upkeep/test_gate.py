"""The gate: no run starts on a vault while what nobody reaches is removed from it."""

from __future__ import annotations

import asyncio

from commandcenter.service.gate import Gate


async def test_while_somebody_starts_work_an_upstream_is_not_closed() -> None:
    gate = Gate()
    async with gate.entered("one"), gate.closed("one") as alone:
        assert not alone
    async with gate.closed("one") as alone:
        assert alone


async def test_whoever_comes_while_it_is_closed_waits_for_the_end() -> None:
    gate, entered = Gate(), asyncio.Event()

    async def enter() -> None:
        async with gate.entered("one"):
            entered.set()

    async with gate.closed("one") as alone:
        coming = asyncio.create_task(enter())
        async with gate.entered("other"):
            await asyncio.sleep(0)
        assert (alone, entered.is_set()) == (True, False)
    await coming
    assert entered.is_set()


async def test_an_error_inside_opens_it_again() -> None:
    gate = Gate()
    for _ in range(2):
        try:
            async with gate.closed("one") as alone:
                assert alone
                raise ValueError
        except ValueError:
            pass
    async with gate.entered("one"):
        pass
