"""Where errors stop: the world's are tried again, ours end the task with a word, never silence."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from commandcenter.core.errors import CommandCenterError, DiskFull, WorldError, worlds
from commandcenter.flow.engine import Engine
from commandcenter.flow.transitions import Transitions, TryKey
from commandcenter.store import views

DELAYS_S = (0.2, 1.0, 3.0, 10.0, 30.0)
"""Waits before the further tries of an effect that the world refused."""
FULL_PAUSE_S = 2.0
"""Wait before the next try of an effect that a full disk refused."""
FULL_PAUSES_MAX = int(7 * 24 * 3600 / FULL_PAUSE_S)
"""Such waits, together a week: somebody has to make room, and may be on holiday."""
FULL_WORDS_MAX = 200

log = logging.getLogger(__name__)
Effect = Callable[[], Awaitable[dict[str, Any]]]  # Any: JSON, what the step records


async def persistently(engine: Engine, effect: Effect) -> dict[str, Any]:
    """Run an idempotent effect; try it again a few times while the world refuses it.

    A full disk counts for nothing: it is waited for, and people are told.
    """
    for delay_s in (*DELAYS_S, None):
        try:
            return await _with_room(engine, effect)
        except WorldError as error:
            if delay_s is None:
                raise
            log.warning("An effect failed and is tried again in %s s: %s", delay_s, error)
            await asyncio.sleep(delay_s)
    raise AssertionError


async def _with_room(engine: Engine, effect: Effect) -> dict[str, Any]:
    """Run an effect; when a disk is full, wait until there is room."""
    try:
        return await _weathered(effect)
    except DiskFull as error:
        log.warning("An effect waits for room on a disk: %s", error)
        words = f"A disk is full, and work waits for room: {error.message[:FULL_WORDS_MAX]}"
    with engine.stalls.noted(words):
        for _ in range(FULL_PAUSES_MAX):
            await asyncio.sleep(FULL_PAUSE_S)
            with contextlib.suppress(DiskFull):
                return await _weathered(effect)
    return await _weathered(effect)


async def _weathered(effect: Effect) -> dict[str, Any]:
    """Run an effect; what the machine refuses is the world's error."""
    try:
        return await effect()
    except (WorldError, OSError) as error:
        found = worlds(error)
        if found is None or found is error:
            raise
        raise found from error


async def unless_cancelled(engine: Engine, key: TryKey, effect: Effect) -> dict[str, Any]:
    """Run an effect, unless the run is to be cancelled: asked where `interrupt` can end it.

    A cancellation that comes before the step is there to be interrupted is seen here instead.
    """
    if await engine.transact("look", views.cancel_requested, key.run):
        return {"interrupted": True}
    return await effect()


async def finally_settled(engine: Engine, effect: Effect) -> dict[str, Any]:
    """Run the clean-up; what cannot be cleaned up is told, and never keeps a run from ending."""
    try:
        return await persistently(engine, effect)
    except Exception as error:  # the border of a workflow
        log.exception("The clean-up behind a task failed.")
        words = error.message if isinstance(error, CommandCenterError) else repr(error)
        return {"problems": [f"it could not be cleaned up: {words}"]}


@asynccontextmanager
async def reported(engine: Engine, transitions: Transitions, key: TryKey) -> AsyncIterator[None]:
    """End the task as failed when something escapes its workflow, so that nothing stays stuck."""
    try:
        yield
    except Exception as error:  # the border of a workflow
        log.exception("A workflow failed: %s", key)
        explanation = (
            error.message
            if isinstance(error, CommandCenterError)
            else f"CommandCenter has a defect: {type(error).__name__}: {error}"
        )
        await transitions.transact("failed", transitions.break_off, key, explanation)
