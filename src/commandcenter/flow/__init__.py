"""When things happen: durable workflows; the only importer of the durable engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from commandcenter.core.attempt import Bounds
from commandcenter.core.disk import WAITS_FOR_DISK
from commandcenter.core.errors import InputError, NotYet
from commandcenter.core.retry import to_retry
from commandcenter.core.run import (
    WAITS_FOR_A_PERSON,
    WAITS_FOR_TASKS,
    WAITS_OUTSIDE,
    TaskStatus,
)
from commandcenter.flow import merge_queue, review, task
from commandcenter.flow.approval import Word, decide
from commandcenter.flow.engine import Engine
from commandcenter.flow.sweep import PERIOD_S, Sweep
from commandcenter.flow.transitions import Transitions, TryKey
from commandcenter.stages import Stages
from commandcenter.store import facts, views

__all__ = ["Flow", "NewRun", "Word"]


_NOTHING_RUNS = (WAITS_FOR_A_PERSON, WAITS_FOR_DISK, WAITS_FOR_TASKS, *WAITS_OUTSIDE)
"""What is waited for without a workflow, so that nothing else hears of a cancellation."""


@dataclass(frozen=True)
class NewRun:
    """A run to start: what is stored, its tasks in reading order, and the edges between them."""

    record: facts.NewRun
    tasks: Sequence[TaskStatus]
    edges: Sequence[tuple[str, str, str]]
    """(task before, task after, why)."""


class Flow:
    """All workflows on one engine."""

    def __init__(
        self,
        database: sa.Engine,
        stages: Stages,
        *,
        now_ms: Callable[[], int],
        bounds: Bounds,
        workers: int,
        poll_s: float,
        forge_poll_s: float = PERIOD_S,
    ) -> None:
        self._engine = Engine(database, poll_s=poll_s)
        self._transitions = Transitions(
            self._engine,
            now_ms,
            lambda session, key: stages.bounds(session, key.run, key.task, key.number, bounds),
        )
        self._stages = stages
        self._now_ms = now_ms
        self._workers = workers
        self._sweep = Sweep(self._engine, self._transitions, stages, forge_poll_s=forge_poll_s)
        self._sweeping: asyncio.Task[None] | None = None
        self.started = False
        """Whether it takes orders: between `start` and `stop`."""

    async def start(self) -> None:
        """Launch the engine; whatever a former owner left goes on by itself."""
        self._engine.create()
        task.register(self._engine, self._transitions, self._stages, workers=self._workers)
        review.register(self._engine, self._transitions, self._stages, workers=self._workers)
        merge_queue.register(self._engine, self._transitions, self._stages)
        await self._stages.sweep()
        await self._engine.launch()
        self._sweeping = asyncio.create_task(self._sweep.run())

        self.started = True

    async def stop(self) -> None:
        """Stop working. Runs go on when a flow starts again on the same database."""
        self.started = False
        if self._sweeping is not None:
            self._sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeping
        await self._engine.stop()

    def look_now(self) -> None:
        """Ask forges now about what waits for them, and not only when it is time."""
        self._sweep.look_now()

    def stalls(self) -> tuple[str, ...]:
        """Return in sentences what work waits for that people have to mend."""
        return self._engine.stalls.words()

    async def submit(self, run: NewRun) -> None:
        """Store a run and start the tasks that wait for nothing, in one transaction.

        A run that is there already stays as it is.
        """
        await self._engine.transact("submit", self._submit, run)

    def _submit(self, session: Session, run: NewRun) -> None:
        if views.has_run(session, run.record.id):
            return
        now = self._now_ms()
        ready = facts.insert_run(session, run.record, run.tasks, run.edges, now)
        self._transitions.schedule(session, run.record.id, ready)
        facts.end_run_if_over(session, run.record.id, now)

    async def cancel(self, run: str) -> None:
        """Cancel what has not ended; agents are stopped, landed work stays landed."""
        await self._engine.transact("cancel", self._cancel, run)
        self._engine.interrupt(f"{run}/")

    def _cancel(self, session: Session, run: str) -> None:
        facts.lock(session, run)
        facts.request_cancel(session, run, self._now_ms())
        self._transitions.cancel_waiting(session, run)
        for status in views.tasks(session, run):
            if status.waiting_for.startswith(_NOTHING_RUNS):
                key = TryKey(run, status.id, status.attempt)
                self._transitions.cancel_if_requested(session, key)

    async def decide(self, run: str, task_id: str, word: Word, head: str) -> None:
        """Carry out what a person said of a task's commit `head`, which waits for that.

        Raises:
            InputError: it does not wait for it.
        """
        await self._engine.transact("decide", self._decide, run, task_id, word, head)

    def _decide(self, session: Session, run: str, task_id: str, word: Word, head: str) -> None:
        facts.lock(session, run)
        key = TryKey(run, task_id, views.read_task(session, run, task_id).attempt)
        decide(session, key, self._transitions, word, head)

    async def retry(self, run: str, task_id: str | None) -> None:
        """Open ended tasks again, with a fresh budget: one, or all that did not make it.

        Raises:
            InputError: there is nothing to retry.
            NotYet: their last tries are still being stopped or cleaned up.
        """
        await self._engine.transact("retry", self._retry, run, task_id)

    def _retry(self, session: Session, run: str, task_id: str | None) -> None:
        facts.lock(session, run)
        settling = views.settling_tasks(session, run)
        # To reopen is to withdraw the cancellation of what is still being stopped, too.
        if settling and views.cancel_requested(session, run):
            raise _not_yet()
        statuses = views.tasks(session, run)
        parent = next((each.parent for each in statuses if each.id == task_id), "")
        if parent:
            raise InputError(
                f"Task {task_id} is a part of task {parent}, which splits itself anew.",
                hint=f"retry that one: commandcenter retry {run} {parent}",
            )
        chosen = to_retry(statuses, views.edges(session, run), task_id)
        if not chosen:
            raise InputError(
                "There is nothing to retry: "
                + (f"task {task_id} did not fail." if task_id else "no task failed."),
                hint=f"look at it: commandcenter status {run}",
            )
        if not settling.isdisjoint(chosen):
            raise _not_yet()
        ready = facts.reopen(session, run, chosen, self._now_ms())
        self._transitions.schedule(session, run, ready)


def _not_yet() -> NotYet:
    message = "The last tries are still being stopped or cleaned up."
    return NotYet(message, hint="try again later")
