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
from commandcenter.stages import Stages
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


class Border:
    """Wraps what workflows do to the world."""

    def __init__(self, engine: Engine, transitions: Transitions, stages: Stages) -> None:
        self._engine = engine
        self._transitions = transitions
        self._stages = stages

    async def persistently(self, effect: Effect) -> dict[str, Any]:
        """Run an idempotent effect; try it again a few times while the world refuses it.

        A full disk counts for nothing: it is waited for, and people are told.
        """
        for delay_s in (*DELAYS_S, None):
            try:
                return await self._with_room(effect)
            except WorldError as error:
                if delay_s is None:
                    raise
                log.warning("An effect failed and is tried again in %s s: %s", delay_s, error)
                await asyncio.sleep(delay_s)
        raise AssertionError

    async def _with_room(self, effect: Effect) -> dict[str, Any]:
        """Run an effect; when a disk is full, wait until there is room."""
        try:
            return await _weathered(effect)
        except DiskFull as error:
            log.warning("An effect waits for room on a disk: %s", error)
            words = f"A disk is full, and work waits for room: {error.message[:FULL_WORDS_MAX]}"
        with self._engine.stalls.noted(words):
            for _ in range(FULL_PAUSES_MAX):
                await asyncio.sleep(FULL_PAUSE_S)
                with contextlib.suppress(DiskFull):
                    return await _weathered(effect)
        return await _weathered(effect)

    async def interruptible(
        self, name: str, key: TryKey, effect: Effect, *, halt: Effect | None = None
    ) -> dict[str, Any]:
        """Run an effect `persistently`, as a step that a cancellation of the run interrupts.

        What an earlier life of the service left running is ended, too, so that no task is
        cancelled whose agent is at work: by `halt`, or whatever runs for the task. What `halt`
        returns becomes a part of the record.
        """

        async def unless_cancelled() -> dict[str, Any]:
            # Asked where `interrupt` can end it: a cancellation that comes before the step is
            # there to be interrupted is seen here instead.
            if await self._engine.transact("look", views.cancel_requested, key.run):
                return {"interrupted": True}
            return await self.persistently(effect)

        record = await self._engine.step(name, f"{key}/{name}", unless_cancelled)
        if "interrupted" in record:
            ending = halt or (lambda: self._halt(key))
            halted = await self._engine.step(
                "halt", f"halting/{key}/{name}", lambda: self.persistently(ending)
            )
            return {**record, **halted}
        return record

    async def _halt(self, key: TryKey) -> dict[str, Any]:
        await self._stages.halt(key.run, key.task)
        return {}

    async def finally_settled(self, effect: Effect) -> dict[str, Any]:
        """Run the clean-up; what cannot be is told, and never keeps a run from ending."""
        try:
            return await self.persistently(effect)
        except Exception as error:  # the border of a workflow
            log.exception("The clean-up behind a task failed.")
            words = error.message if isinstance(error, CommandCenterError) else repr(error)
            return {"problems": [f"it could not be cleaned up: {words}"]}

    @asynccontextmanager
    async def reported(self, key: TryKey) -> AsyncIterator[None]:
        """End the task as failed when something escapes its workflow, so that nothing is stuck."""
        try:
            yield
        except Exception as error:  # the border of a workflow
            log.exception("A workflow failed: %s", key)
            explanation = (
                error.message
                if isinstance(error, CommandCenterError)
                else f"CommandCenter has a defect: {type(error).__name__}: {error}"
            )
            await self._halt_if_possible(key)
            await self._transitions.transact(
                "failed", self._transitions.break_off, key, explanation
            )

    async def _halt_if_possible(self, key: TryKey) -> None:
        try:
            await self._halt(key)
        except Exception:  # the border of a workflow: to settle is what ends it then
            log.exception("What runs for a task could not be ended: %s", key)


async def _weathered(effect: Effect) -> dict[str, Any]:
    """Run an effect; what the machine refuses is the world's error."""
    try:
        return await effect()
    except (WorldError, OSError) as error:
        found = worlds(error)
        if found is None or found is error:
            raise
        raise found from error
