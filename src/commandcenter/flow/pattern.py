"""Plays the pattern of a task: one workflow an ask, and what follows decided in one transaction.

There is no parent workflow to replay. The transaction that stores the last answer of a round plays
the pattern again from its beginning, stores what it asks next, and enqueues that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, assert_never

from sqlalchemy.orm import Session

from commandcenter.core.agent import Outcome, Role
from commandcenter.core.attempt import OVER_BUDGET, GiveUp, TryAgain, after_stop
from commandcenter.core.pattern import (
    DELEGATED_MAX,
    Answer,
    Conclusion,
    Delegate,
    Goal,
    Joined,
    Reply,
    Result,
    Round,
    Step,
    Until,
)
from commandcenter.core.pattern_record import (
    answer_from_json,
    ask_to_json,
    delegate_to_json,
    joined_to_json,
    reply_to_json,
)
from commandcenter.core.plan import Plan
from commandcenter.core.plan.notation import pattern_text
from commandcenter.core.plan.record import to_json
from commandcenter.core.plan.subplan import grafted, subplan_edges
from commandcenter.core.prices import added
from commandcenter.core.run import WAITS_FOR_TASKS, EventKind, Phase, Reason, TaskStatus
from commandcenter.flow.border import Border
from commandcenter.flow.engine import Engine
from commandcenter.flow.transitions import Transitions, TryKey
from commandcenter.patterns import flow_of, replay, survives
from commandcenter.stages import Stages
from commandcenter.stages.job import Job
from commandcenter.stages.work import captured
from commandcenter.store import asks, facts, views
from commandcenter.store.asks import Asked

Record = dict[str, Any]  # Any: JSON, a step's recorded result
Rounds = Sequence[Sequence[Asked]]

TEXT_MAX = 300
"""So many characters of an ask's beginning, and of its end, an event tells."""
REASONS: Mapping[Result, Reason] = {
    Result.REJECTED: Reason.REJECTED,
    Result.EXHAUSTED: Reason.EXHAUSTED,
    Result.STALLED: Reason.STALLED,
    Result.BLOCKED: Reason.BLOCKED,
}


class Patterns:
    """The workflows of patterns, and the transitions between their rounds."""

    def __init__(self, engine: Engine, transitions: Transitions, stages: Stages) -> None:
        self._engine = engine
        self._transitions = transitions
        self._stages = stages
        self._border = Border(engine, transitions, stages)

    async def begin(self, key: TryKey) -> None:
        """Begin the pattern of a try that has begun."""
        record = await self._border.interruptible(
            "base", key, lambda: self._stages.base(key.run, key.task, key.number)
        )
        await self._transitions.transact("play", self._begin, key, record)

    def _begin(self, session: Session, key: TryKey, record: Record) -> None:
        if self._is_over(session, key):
            return
        if "interrupted" in record:
            self._give_up(session, key, "it was interrupted; retry it")
        elif not asks.rounds(session, key.run, key.task, key.number):
            self._advance(session, key)

    async def ask(self, run: str, task: str, number: int, round_: int, position: int) -> None:
        """Have one ask answered."""
        key, place = TryKey(run, task, number), (run, task, number, round_, position)
        async with self._border.reported(key):
            record = await self._border.interruptible(
                f"ask/{round_}/{position}/",
                key,
                lambda: self._stages.answer(*place),
                halt=lambda: self._stages.still(*place),
            )
            asked = Asked(number, round_, position, {})
            unneeded = await self._transitions.transact(
                "answered", self._answered, key, asked, record
            )
            for each in unneeded:
                self._engine.interrupt(f"{key}/ask/{round_}/{each}/")

    def _answered(self, session: Session, key: TryKey, place: Asked, record: Record) -> list[int]:
        """Store an answer; return whose answers of its round are not needed any more."""
        if self._transitions.outdated(session, key):
            return []
        asked = asks.read(session, key.run, key.task, place.attempt, place.round, place.position)
        counts = "reply" in record and asks.reply(
            session, key.run, key.task, asked, record["reply"]
        )
        self._tell(session, key, asked, record, counts=counts)
        if self._transitions.cancel_if_requested(session, key):
            return []
        if counts and record["reply"]["reason"] == OVER_BUDGET:
            words = "its budget is reached, so no further agent begins"
            return self._break_off(session, key, asked, GiveUp(Reason.EXHAUSTED, words))
        if counts:
            return self._round_grew(session, key, place.round)
        if asked.reply is None:
            return self._stopped(session, key, asked, record)
        return []

    def _break_off(
        self, session: Session, key: TryKey, asked: Asked, following: GiveUp | TryAgain
    ) -> list[int]:
        """End the try; return who of its round is still asked."""
        self._transitions.follow(session, key, following)
        rounds = asks.rounds(session, key.run, key.task, key.number)
        return [each.position for each in rounds[asked.round - 1] if each.reply is None]

    def _tell(
        self, session: Session, key: TryKey, asked: Asked, record: Record, *, counts: bool
    ) -> None:
        uses = record.get("used", [])
        if not counts and not any(each["requests"] or each["cost_usd"] for each in uses):
            return
        data = {**_told(asked, record, counts=counts), **_sum(uses)}
        facts.append(session, self._transitions.event(key, EventKind.TASK_ANSWERED, data))

    def _stopped(self, session: Session, key: TryKey, asked: Asked, record: Record) -> list[int]:
        """Ask again after the world ended an ask, in the same place or, if that is lost, anew."""
        attempt = self._transitions.update(session, key)
        stops = asks.stop(session, key.run, key.task, asked)
        reason = record.get("stopped", "stopped")
        following = after_stop(
            attempt,
            reason,
            stops,
            self._transitions.bounds(session, key),
            lost=record.get("lost", False),
        )
        if isinstance(following, GiveUp | TryAgain):
            return self._break_off(session, key, asked, following)
        waiting_for = f"the model provider ({reason})" if following else "its next try"
        self._transitions.enter(session, key, Phase.WAITING, waiting_for)
        self._enqueue(session, key, asked, delay_s=following, identity=f"/s{stops}")
        return []

    def _round_grew(self, session: Session, key: TryKey, number: int) -> list[int]:
        rounds = asks.rounds(session, key.run, key.task, key.number)
        open_ = [each for each in rounds[number - 1] if each.reply is None]
        if open_ and not self._enough(session, key, rounds[:number]):
            return []
        unneeded = reply_to_json(Reply(Outcome.STOPPED, "not needed"))
        for each in open_:
            asks.reply(session, key.run, key.task, each, unneeded)
        self._advance(session, key)
        return [each.position for each in open_]

    def _enough(self, session: Session, key: TryKey, rounds: Rounds) -> bool:
        """Say whether the answers of the last of these rounds are all that it needs."""
        job = self._stages.read(session, key.run, key.task, key.number)
        step = self._play(session, job, rounds[:-1])
        if not isinstance(step, Round) or step.until is Until.ALL:
            return False
        replies = [answer_from_json(each.reply) for each in rounds[-1] if each.reply]
        return any(isinstance(each, Reply) and survives(each) for each in replies)

    def _advance(self, session: Session, key: TryKey) -> None:
        """Do what the pattern says now, all its rounds so far being answered."""
        job = self._stages.read(session, key.run, key.task, key.number)
        rounds = asks.rounds(session, key.run, key.task, key.number)
        match self._play(session, job, rounds):
            case Round() as step:
                self._ask(session, key, job, step, len(rounds) + 1)
            case Delegate() as step:
                self._delegate(session, key, job, step, len(rounds) + 1)
            case Conclusion() as end:
                self._conclude(session, key, job, end)
            case other:
                assert_never(other)

    def _play(self, session: Session, job: Job, rounds: Rounds) -> Step | Conclusion:
        flow = flow_of(job.assignment.pattern, _goal(session, job))
        return replay(flow, map(_answer, rounds))

    def _ask(self, session: Session, key: TryKey, job: Job, step: Round, number: int) -> None:
        asked = [
            Asked(key.number, number, position, ask_to_json(ask))
            for position, ask in enumerate(step.asks, 1)
        ]
        asks.insert(session, key.run, key.task, asked)
        told = [
            {
                "role": ask.role.value,
                "profile": job.profile_of(ask.role, ask.profile).name,
                "lane": ask.lane,
                "text": _brief(ask.text),
            }
            for ask in step.asks
        ]
        self._tell_round(session, key, job, number, {"until": step.until.value, "asks": told})
        for each in asked:
            self._enqueue(session, key, each)

    def _tell_round(
        self, session: Session, key: TryKey, job: Job, number: int, data: Record
    ) -> None:
        told = {"pattern": pattern_text(job.assignment.pattern), "round": number, **data}
        facts.append(session, self._transitions.event(key, EventKind.TASK_ROUND, told))

    def _enqueue(
        self,
        session: Session,
        key: TryKey,
        asked: Asked,
        *,
        delay_s: float = 0.0,
        identity: str = "",
    ) -> None:
        ordinal = views.read_task(session, key.run, key.task).ordinal
        self._engine.enqueue(
            session,
            "ask",
            f"{key}/ask/{asked.round}/{asked.position}{identity}",
            *(key.run, key.task, key.number, asked.round, asked.position),
            priority=ordinal + 1,
            delay_s=delay_s,
        )

    # Tasks of their own

    def _delegate(
        self, session: Session, key: TryKey, job: Job, step: Delegate, number: int
    ) -> None:
        asked = Asked(key.number, number, 1, delegate_to_json(step))
        asks.insert(session, key.run, key.task, [asked])
        before = sum(bool(task.parent) for task in job.plan.tasks)
        if before + len(step.tasks) > DELEGATED_MAX:
            problem = f"the tasks of one run are split into {DELEGATED_MAX} at most"
            self._join(session, key, asked, Joined((), problem=problem))
            return
        plan = grafted(job.plan, step.tasks)
        told = [{"id": task.id, "title": task.title} for task in step.tasks]
        self._tell_round(session, key, job, number, {"tasks": told, "reason": step.reason})
        edges = [(edge.on, edge.task, edge.why.value) for edge in subplan_edges(step.tasks)]
        statuses = [_status(key.run, plan, task.id) for task in step.tasks]
        ready = facts.graft(session, key.run, to_json(plan), statuses, edges)
        self._transitions.enter(session, key, Phase.WAITING, WAITS_FOR_TASKS)
        self._transitions.schedule(session, key.run, ready)

    async def join(self, run: str, task: str, number: int, round_: int) -> None:
        """Check what the sub-tasks of a task have made of the target."""
        key = TryKey(run, task, number)
        async with self._border.reported(key):
            record = await self._border.interruptible(
                "join", key, lambda: self._stages.join(run, task, number, round_)
            )
            await self._transitions.transact("joined", self._joined, key, round_, record)

    def _joined(self, session: Session, key: TryKey, number: int, record: Record) -> None:
        if self._is_over(session, key):
            return
        if "interrupted" in record:
            self._give_up(session, key, "it was interrupted; retry it")
            return
        joined = answer_from_json(record)
        assert isinstance(joined, Joined)
        self._join(session, key, Asked(key.number, number, 1, {}), joined)

    def _join(self, session: Session, key: TryKey, asked: Asked, joined: Joined) -> None:
        record = joined_to_json(joined)
        if asks.reply(session, key.run, key.task, asked, record):
            data = {"round": asked.round, **record}
            facts.append(session, self._transitions.event(key, EventKind.TASK_JOINED, data))
            self._advance(session, key)

    # The end

    def _conclude(self, session: Session, key: TryKey, job: Job, end: Conclusion) -> None:
        data = {
            "result": end.result.value,
            "words": end.words,
            "lane": end.lane,
            "feedback": end.feedback,
            "facts": dict(end.facts),
        }
        facts.append(session, self._transitions.event(key, EventKind.TASK_CONCLUDED, data))
        if end.result is not Result.ACCEPTED:
            self._transitions.follow(session, key, GiveUp(REASONS[end.result], end.words))
        elif end.change is None:
            self._transitions.complete(session, key, Reason.JOINED, end.words)
        else:
            self._take(session, key, job, end)

    def _take(self, session: Session, key: TryKey, job: Job, end: Conclusion) -> None:
        """Go on with an accepted change as with that of a single agent."""
        change = end.change
        assert change is not None
        by = _by(asks.rounds(session, key.run, key.task, key.number), end.lane)
        self._transitions.update(
            session,
            key,
            head=change.head,
            tree=change.tree,
            lane=end.lane,
            session=by["session"],
            profile=by["profile"],
            session_cost_usd=by["session_cost_usd"],
        )
        nothing = {"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0, "requests": 0}
        data = {
            **captured(job, change),
            **nothing,
            "profile": by["profile"],
            "cost_usd": None,
            "turns": 0,
            "claim": end.words,
        }
        facts.append(session, self._transitions.event(key, EventKind.TASK_CAPTURED, data))
        self._transitions.enter(session, key, Phase.VERIFYING)
        self._engine.enqueue(session, "prove", f"{key}/prove", key.run, key.task, key.number)

    def _is_over(self, session: Session, key: TryKey) -> bool:
        return self._transitions.outdated(session, key) or self._transitions.cancel_if_requested(
            session, key
        )

    def _give_up(self, session: Session, key: TryKey, explanation: str) -> None:
        self._transitions.follow(session, key, GiveUp(Reason.INFRASTRUCTURE, explanation))


def _goal(session: Session, job: Job) -> Goal:
    return Goal(
        plan=_submitted(job.plan),
        task=job.task,
        profiles=tuple(profile.name for profile in job.options.used),
        work=job.profile_of(Role.WORK).name,
        handoff=job.assignment.handoff,
        feedback=job.attempt.feedback,
        delegated=_delegated(session, job),
    )


def _submitted(plan: Plan) -> Plan:
    return replace(plan, tasks=tuple(task for task in plan.tasks if not task.parent))


def _delegated(session: Session, job: Job) -> int:
    """Return how many tasks the earlier tries of a task delegated to."""
    asked = asks.of_task(session, job.run.id, job.task.id)
    earlier = [each for each in asked if each.attempt < job.attempt.number]
    return sum(len(each.record.get("tasks", ())) for each in earlier)


def _answer(asked: Sequence[Asked]) -> Answer:
    answers = [answer_from_json(each.reply) for each in asked if each.reply is not None]
    assert len(answers) == len(asked), "a round that is not over was played"
    if isinstance(answers[0], Joined):
        return answers[0]
    return tuple(each for each in answers if isinstance(each, Reply))


def _told(asked: Asked, record: Record, *, counts: bool) -> Record:
    """Return what an event tells of an answer."""
    told = {
        "round": asked.round,
        "position": asked.position,
        "role": asked.record["role"],
        "lane": asked.record["lane"],
        "counts": counts,
        "left": record.get("left", []),
    }
    if not counts:
        return {**told, "outcome": record.get("stopped", "not needed")}
    reply = answer_from_json(record["reply"])
    assert isinstance(reply, Reply)
    change, verdict = reply.change, reply.verdict
    return {
        **told,
        "outcome": reply.outcome.value,
        "reason": reply.reason,
        "problem": reply.problem,
        "refused": reply.refused,
        "result": None if reply.result is None else dict(reply.result),
        "words": reply.words[-TEXT_MAX:],
        "flags": list(reply.flags),
        "head": change.head if change else "",
        "tree": change.tree if change else "",
        "files": len(change.files) if change else 0,
        "insertions": change.insertions if change else 0,
        "deletions": change.deletions if change else 0,
        "checks": verdict.judgement.value if verdict else "",
        "failing": sorted(verdict.failed) if verdict else [],
    }


def _brief(text: str) -> str:
    """Return how a text begins, and how it ends: what was wrong with an answer stands there."""
    whole = len(text) <= 2 * TEXT_MAX
    return text if whole else f"{text[:TEXT_MAX]} … {text[-TEXT_MAX:]}"


def _sum(uses: Sequence[Record]) -> Record:
    """Return what an agent used that was asked once, or twice."""
    counts = ("input_tokens", "output_tokens", "cached_tokens", "requests")
    costs = [each["cost_usd"] for each in uses]
    return {
        "profile": uses[0]["profile"] if uses else "",
        **{name: sum(each[name] for each in uses) for name in counts},
        "cost_usd": reduce(added, costs) if costs else None,
    }


def _status(run: str, plan: Plan, task_id: str) -> TaskStatus:
    task = plan.task(task_id)
    ordinal = [each.id for each in plan.tasks].index(task_id)
    return TaskStatus(run, task.id, task.title, task.batch, ordinal, parent=task.parent)


def _by(rounds: Rounds, lane: int) -> Record:
    """Return whose conversation a lane has now."""
    said = [each for one in rounds for each in one if each.record.get("lane") == lane]
    replies = [each.reply for each in said if each.reply and "by" in each.reply]
    return dict(replies[-1]["by"])
