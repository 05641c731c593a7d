"""Where errors stop: the world's are tried again, ours end the task with a word, never silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from commandcenter.core.errors import CommandCenterError, WorldError
from commandcenter.flow.engine import Engine
from commandcenter.flow.transitions import Transitions, TryKey
from commandcenter.store import views

DELAYS_S = (0.2, 1.0, 3.0, 10.0, 30.0)
"""Waits before the further tries of an effect that the world refused."""

log = logging.getLogger(__name__)
Effect = Callable[[], Awaitable[dict[str, Any]]]  # Any: JSON, what the step records


async def persistently(effect: Effect) -> dict[str, Any]:
    """Run an idempotent effect; try it again a few times while the world refuses it."""
    for delay_s in DELAYS_S:
        try:
            return await effect()
        except WorldError as error:
            log.warning("An effect failed and is tried again in %s s: %s", delay_s, error)
            await asyncio.sleep(delay_s)
    return await effect()


async def unless_cancelled(engine: Engine, key: TryKey, effect: Effect) -> dict[str, Any]:
    """Run an effect, unless the run is to be cancelled: asked where `interrupt` can end it.

    A cancellation that comes before the step is there to be interrupted is seen here instead.
    """
    if await engine.transact("look", views.cancel_requested, key.run):
        return {"interrupted": True}
    return await effect()


async def finally_settled(effect: Effect) -> dict[str, Any]:
    """Run the clean-up; what cannot be cleaned up is told, and never keeps a run from ending."""
    try:
        return await persistently(effect)
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
