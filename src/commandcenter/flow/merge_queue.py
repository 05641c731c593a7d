"""The merge queue: one landing at a time per repository and target, of many changes at once."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from commandcenter.core.attempt import after_combined_checks, after_conflict
from commandcenter.core.check import Verdict
from commandcenter.core.conflict import Clash
from commandcenter.core.run import WAITS_FOR_A_PERSON, Phase, Reason
from commandcenter.flow import external
from commandcenter.flow.border import Border
from commandcenter.flow.engine import Engine, Queue
from commandcenter.flow.transitions import Transitions, TryKey
from commandcenter.stages import Stages
from commandcenter.store import facts, views

Record = dict[str, Any]  # Any: JSON, a step's recorded result


def register(engine: Engine, transitions: Transitions, stages: Stages) -> None:
    """Register the merge workflow."""
    flow = _MergeFlow(engine, transitions, stages)
    engine.register("merge", Queue("merges", partitioned=True), flow.merge)


def enqueue_merge(session: Session, engine: Engine, key: TryKey, round_: int = 0) -> None:
    """Put a change into the merge queue of its repository and target."""
    run = views.read_run(session, key.run)
    engine.enqueue(
        session,
        "merge",
        f"{key}/merge{f'/{round_}' if round_ else ''}",
        key.run,
        key.task,
        key.number,
        partition=f"{run.upstream}@{run.target}",
    )


class _MergeFlow:
    """The workflow of one change. At its turn, it lands what is in the queue with it, too.

    So the others find at their turns that they have ended. Who is in the queue is in the store:
    the phase of its task, set by the transaction that enqueues its workflow.
    """

    def __init__(self, engine: Engine, transitions: Transitions, stages: Stages) -> None:
        self._engine = engine
        self._transitions = transitions
        self._stages = stages
        self._border = Border(engine, transitions, stages)

    async def merge(self, run: str, task: str, number: int) -> None:
        key = TryKey(run, task, number)
        async with self._border.reported(key):
            over = False
            while not over:
                if await self._transitions.transact("admit", self._turn_away, key):
                    return
                landed = await self._engine.step(
                    "land",
                    f"landing/{key}",
                    lambda: self._border.persistently(lambda: self._stages.land(run, task, number)),
                )
                over = await self._transitions.transact("landed", self._landed, key, landed)

    def _turn_away(self, session: Session, key: TryKey) -> bool:
        return self._transitions.cancel_if_requested(session, key)

    def _landed(self, session: Session, key: TryKey, record: Record) -> bool:
        """Conclude for all whose turn it was; say whether this one was among them."""
        mine = {**record, "run": key.run, "task": key.task, "number": key.number}
        for end in record.get("ends", [mine]):
            self._conclude_one(session, TryKey(end["run"], end["task"], end["number"]), end)
        for words in record.get("flaky", ()):
            for run in {key.run, *(end["run"] for end in record.get("ends", ()))}:
                facts.add_note(session, run, words)
        return bool(record["outcome"] != "later")

    def _conclude_one(self, session: Session, key: TryKey, record: Record) -> None:
        facts.lock(session, key.run)
        if self._transitions.outdated(session, key):
            return
        if note := record.get("moved_note"):
            now = self._transitions.now_ms()
            facts.move_landing(session, key.run, record["landed_on"], note, now)
        self._conclude(session, key, record)

    def _conclude(self, session: Session, key: TryKey, record: Record) -> None:
        attempt = self._transitions.update(session, key)
        match record["outcome"]:
            case "landed":
                commit = record["commit"]
                explanation = f"merged into {record['landed_on']} as {commit[:12]}"
                tip = record.get("tip", "")
                self._transitions.complete(session, key, Reason.MERGED, explanation, commit, tip)
            case "external":
                external.conclude(session, key, self._transitions, record)
            case "waiting":
                why = record.get("why")
                since = f", since {why}" if why else ""
                self._transitions.enter(session, key, Phase.WAITING, WAITS_FOR_A_PERSON + since)
                if why:
                    note = f"task {key.task} waits for a person, since {why}"
                    facts.add_note(session, key.run, note)
            case "conflict":
                bounds = self._transitions.bounds(session, key)
                decision = after_conflict(Clash.from_json(record), attempt, bounds)
                self._transitions.follow(session, key, decision)
            case "combined":
                bounds = self._transitions.bounds(session, key)
                decision = after_combined_checks(Verdict.from_json(record), attempt, bounds)
                self._transitions.follow(session, key, decision)
            case "closed":
                explanation = record.get("explanation", "its pull request was closed by a person")
                self._transitions.fail(session, key, Reason.CLOSED, explanation)
            case _:
                reason = Reason.LANDING
                self._transitions.fail(session, key, reason, record["explanation"])
