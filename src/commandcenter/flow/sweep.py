"""Looks, now and then, at what no workflow waits for: people, CI, room on the disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from sqlalchemy.orm import Session

from commandcenter.core.disk import WAITS_FOR_DISK
from commandcenter.core.errors import CommandCenterError
from commandcenter.core.run import WAITS_FOR_A_PERSON, WAITS_OUTSIDE, TaskStatus
from commandcenter.flow.approval import wake
from commandcenter.flow.engine import Engine
from commandcenter.flow.external import Turns
from commandcenter.flow.transitions import Transitions, TryKey
from commandcenter.stages import Stages
from commandcenter.store import views

PERIOD_S = 2.0
GAP_S = 0.25
"""Between two sweeps, however often one is asked for."""
log = logging.getLogger(__name__)


class Sweep:
    """A loop beside the workflows. What it finds, it enqueues; it changes nothing itself."""

    def __init__(
        self, engine: Engine, transitions: Transitions, stages: Stages, *, forge_poll_s: float
    ) -> None:
        self._forge_poll_s = forge_poll_s
        self._forges_due_s = 0.0
        """By the loop's clock."""
        self._wanted = asyncio.Event()
        self._engine = engine
        self._transitions = transitions
        self._stages = stages
        self._turns = Turns(forge_poll_s)

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            try:
                at_once = self._wanted.is_set()
                if self._forges_are_due():
                    await self._what_people_did()
                await self._looked_at_by_others(at_once=at_once)
                await self._room_again()
            except Exception:  # the border of a loop that must go on
                log.exception("The sweep failed and will try again.")
            await asyncio.sleep(GAP_S)
            with contextlib.suppress(TimeoutError):
                rest_s = max(0.0, min(PERIOD_S, self._forge_poll_s) - GAP_S)
                await asyncio.wait_for(self._wanted.wait(), rest_s)

    def look_now(self) -> None:
        """Ask forges as soon as possible: something may have changed there."""
        self._wanted.set()

    def _forges_are_due(self) -> bool:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._forges_due_s and not self._wanted.is_set():
            return False
        # Before they are asked: who wants it meanwhile wants it once more.
        self._wanted.clear()
        self._forges_due_s = now_s + self._forge_poll_s
        return True

    async def _what_people_did(self) -> None:
        waiting = await self._engine.transact("waiting", views.waiting_tasks, WAITS_FOR_A_PERSON)
        for status in waiting:
            try:
                found = await self._stages.needs_a_turn(status.run, status.id, status.attempt)
            except CommandCenterError as error:
                log.warning("A pull request cannot be looked at: %s: %s", status.id, error)
                continue
            if found:
                key = TryKey(status.run, status.id, status.attempt)
                await self._transitions.transact("wake", self._wake, key, (WAITS_FOR_A_PERSON,))

    async def _looked_at_by_others(self, *, at_once: bool) -> None:
        waiting: list[TaskStatus] = []
        for what in WAITS_OUTSIDE:
            waiting += await self._engine.transact("waiting", views.waiting_tasks, what)
        if at_once:
            self._turns.hurry(waiting)
        for key in self._turns.due(waiting, time.monotonic()):
            try:
                same = await self._stages.still_waits(key.run, key.task, key.number)
            except CommandCenterError as error:
                log.warning("What others do with a change cannot be seen: %s: %s", key, error)
                continue
            if not same:
                await self._transitions.transact("wake", self._wake, key, WAITS_OUTSIDE)

    async def _room_again(self) -> None:
        waiting = await self._engine.transact("waiting", views.waiting_tasks, WAITS_FOR_DISK)
        if not waiting or self._stages.shortage():
            return
        for status in waiting:
            key = TryKey(status.run, status.id, status.attempt)
            await self._transitions.transact("resume", self._transitions.resume, key)

    def _wake(self, session: Session, key: TryKey, waits_for: tuple[str, ...]) -> None:
        status = views.read_task(session, key.run, key.task)
        waits = status.waiting_for.startswith(waits_for)
        if not waits or self._transitions.outdated(session, key):
            return
        wake(session, key, self._transitions)
