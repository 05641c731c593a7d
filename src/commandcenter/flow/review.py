"""Ask a second agent for a review, and decide what follows."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from commandcenter.core.attempt import GiveUp, after_review
from commandcenter.core.forge import Review
from commandcenter.core.run import EventKind, Phase, Reason
from commandcenter.flow.border import Border
from commandcenter.flow.engine import Engine, Queue
from commandcenter.flow.merge_queue import enqueue_merge
from commandcenter.flow.transitions import Transitions, TryKey
from commandcenter.stages import Stages
from commandcenter.store import facts

Record = dict[str, Any]  # Any: JSON, a step's recorded result


def register(engine: Engine, transitions: Transitions, stages: Stages, *, workers: int) -> None:
    """Register the review workflow."""
    flow = _ReviewFlow(engine, transitions, stages)
    engine.register("review", Queue("reviews", workers + 2), flow.review)


class _ReviewFlow:
    def __init__(self, engine: Engine, transitions: Transitions, stages: Stages) -> None:
        self._engine = engine
        self._transitions = transitions
        self._stages = stages
        self._border = Border(engine, transitions, stages)

    async def review(self, run: str, task: str, number: int) -> None:
        key = TryKey(run, task, number)
        async with self._border.reported(key):
            reviewed = await self._border.interruptible(
                "review", key, lambda: self._stages.review(run, task, number)
            )
            await self._transitions.transact("reviewed", self._reviewed, key, reviewed)

    def _reviewed(self, session: Session, key: TryKey, record: Record) -> None:
        if self._transitions.outdated(session, key):
            return
        if "interrupted" in record:
            if not self._transitions.cancel_if_requested(session, key):
                stopped = GiveUp(Reason.INFRASTRUCTURE, "its review was interrupted; retry it")
                self._transitions.follow(session, key, stopped)
            return
        facts.append(session, self._transitions.event(key, EventKind.TASK_REVIEWED, record))
        if self._transitions.cancel_if_requested(session, key):
            return
        if record.get("over_budget"):
            stopped = GiveUp(Reason.EXHAUSTED, f"its review did not end: {record['problem']}")
            self._transitions.follow(session, key, stopped)
            return
        attempt = self._transitions.update(session, key)
        if record["decision"] != "none":
            review = None if record["decision"] == "invalid" else Review.from_json(record)
            decision = after_review(
                review, record["problem"], attempt, self._transitions.bounds(session, key)
            )
            if not self._transitions.follow(session, key, decision):
                return
        self._transitions.enter(session, key, Phase.MERGING)
        enqueue_merge(session, self._engine, key)
