"""One try at a task: work (provision, act, capture), prove (verify, propose), settle."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from commandcenter.core.agent import Outcome
from commandcenter.core.attempt import GiveUp, Worked, after_checks, after_work
from commandcenter.core.check import Verdict
from commandcenter.core.run import EventKind, Phase, Reason
from commandcenter.flow.border import Border
from commandcenter.flow.engine import Engine, Queue
from commandcenter.flow.pattern import Patterns
from commandcenter.flow.transitions import Transitions, TryKey
from commandcenter.stages import Stages
from commandcenter.store import facts

Record = dict[str, Any]  # Any: JSON, a step's recorded result
PATTERN = "pattern"
"""How a recorded `begin` says that a pattern is to be played."""


def register(engine: Engine, transitions: Transitions, stages: Stages, *, workers: int) -> None:
    """Register the workflows of a try."""
    flow = _TaskFlow(engine, transitions, stages)
    # More tries are prepared than can work at once, so that a free slot never waits for a queue.
    engine.register("work", Queue("agents", 2 * workers + 2), flow.work)
    engine.register("ask", Queue("agents", 2 * workers + 2), flow.patterns.ask)
    engine.register("join", Queue("checks", workers + 2), flow.patterns.join)
    engine.register("prove", Queue("checks", workers + 2), flow.prove)
    engine.register("settle", Queue("settling", 8), flow.settle)


class _TaskFlow:
    def __init__(self, engine: Engine, transitions: Transitions, stages: Stages) -> None:
        self._engine = engine
        self._transitions = transitions
        self._stages = stages
        self._border = Border(engine, transitions, stages)
        self.patterns = Patterns(engine, transitions, stages)

    async def work(self, run: str, task: str, number: int) -> None:
        key = TryKey(run, task, number)
        async with self._border.reported(key):
            room = not self._stages.shortage()
            begun = await self._transitions.transact("begin", self._begin, key, room=room)
            if not begun:
                return
            if begun == PATTERN:
                await self.patterns.begin(key)
                return
            worked = await self._border.interruptible(
                "work", key, lambda: self._stages.work(run, task, number)
            )
            await self._transitions.transact("worked", self._worked, key, worked)

    def _begin(self, session: Session, key: TryKey, *, room: bool) -> bool | str:
        """Begin a try if it can; say whether it did, or that it is `PATTERN`'s."""
        begun = self._transitions.begin(session, key, room=room)
        plays = begun and self._stages.plays(session, key.run, key.task, key.number)
        return PATTERN if plays else begun

    def _worked(self, session: Session, key: TryKey, record: Record) -> None:
        if self._transitions.outdated(session, key):
            return
        if "interrupted" in record:
            if self._transitions.cancel_if_requested(session, key):
                return
            record = {"outcome": Outcome.STOPPED.value, "reason": "stopped"}
        attempt = self._transitions.update(
            session, key, head=record.get("head", ""), tree=record.get("tree", "")
        )
        if "captured" in record:
            cost = record["session_cost_usd"]
            self._transitions.update(session, key, session_cost_usd=cost)
            captured = self._transitions.event(key, EventKind.TASK_CAPTURED, record["captured"])
            facts.append(session, captured)
        elif (used := record.get("used")) and used["requests"]:
            # What a run used that left no result was paid for as well.
            facts.append(session, self._transitions.event(key, EventKind.TASK_USED, used))
        if self._transitions.cancel_if_requested(session, key):
            return
        worked = Worked(
            Outcome(record["outcome"]),
            record.get("reason", ""),
            record.get("words", ""),
            record.get("refused", False),
            record.get("session", ""),
            record.get("problem", ""),
        )
        attempt = self._transitions.update(session, key)
        decision = after_work(worked, attempt, self._transitions.bounds(session, key))
        if self._transitions.follow(session, key, decision):
            self._transitions.enter(session, key, Phase.VERIFYING)
            self._engine.enqueue(session, "prove", f"{key}/prove", key.run, key.task, key.number)

    async def prove(self, run: str, task: str, number: int) -> None:
        key = TryKey(run, task, number)
        async with self._border.reported(key):
            verdict = await self._border.interruptible(
                "verify", key, lambda: self._stages.verify(run, task, number)
            )
            if not await self._transitions.transact("checked", self._checked, key, verdict):
                return
            proposed = await self._engine.step(
                "propose",
                f"proposing/{key}",
                lambda: self._border.persistently(lambda: self._stages.propose(run, task, number)),
            )
            await self._transitions.transact("proposed", self._proposed, key, proposed)

    def _checked(self, session: Session, key: TryKey, record: Record) -> bool:
        if self._transitions.outdated(session, key):
            return False
        if "interrupted" in record:
            return self._interrupted(session, key)
        verdict = Verdict.from_json(record)
        facts.append(session, self._transitions.event(key, EventKind.TASK_CHECKED, record))
        if self._transitions.cancel_if_requested(session, key):
            return False
        verified = verdict.tree if verdict.mergeable else ""
        attempt = self._transitions.update(session, key, verified_tree=verified)
        decision = after_checks(
            verdict,
            attempt,
            self._transitions.bounds(session, key),
            changed=record["changed"],
            evident=record["evident"],
        )
        if not self._transitions.follow(session, key, decision):
            return False
        self._transitions.enter(session, key, Phase.PUBLISHING)
        return True

    def _interrupted(self, session: Session, key: TryKey) -> bool:
        if not self._transitions.cancel_if_requested(session, key):
            give_up = GiveUp(Reason.INFRASTRUCTURE, "it was interrupted; retry it")
            self._transitions.follow(session, key, give_up)
        return False

    def _proposed(self, session: Session, key: TryKey, record: Record) -> None:
        if self._transitions.outdated(session, key):
            return
        if "interrupted" in record:
            self._interrupted(session, key)
            return
        facts.append(session, self._transitions.event(key, EventKind.TASK_PROPOSED, record))
        self._transitions.update(session, key, proposal=record["number"])
        if self._transitions.cancel_if_requested(session, key):
            return
        self._transitions.enter(session, key, Phase.REVIEWING)
        self._engine.enqueue(session, "review", f"{key}/review", key.run, key.task, key.number)

    async def settle(self, run: str, task: str, number: int) -> None:
        key = TryKey(run, task, number)
        record = await self._engine.step(
            "settle",
            f"settling/{key}",
            lambda: self._border.finally_settled(lambda: self._stages.settle(run, task, number)),
        )
        problems = record["problems"]
        await self._transitions.transact("settled", self._transitions.settled, key, problems)
