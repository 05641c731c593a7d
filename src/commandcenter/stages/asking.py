"""Runs an agent in a workspace, watches it live, and reads what it claims."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from commandcenter import plugins
from commandcenter.core.agent import (
    Agent,
    AgentEvent,
    Outcome,
    Profile,
    Prompt,
    Report,
    Usage,
)
from commandcenter.core.attempt import OVER_BUDGET
from commandcenter.core.budget import KINDS, Allowance, allowance, family
from commandcenter.core.errors import WorkspaceError
from commandcenter.core.parking import WAITS_FOR_MODEL
from commandcenter.core.run import Event, EventKind, Phase, State
from commandcenter.core.workspace import Command, Workspace
from commandcenter.gateway.meter import Facts
from commandcenter.stages.equipment import Equipment, Reach
from commandcenter.stages.job import Job, enter
from commandcenter.store import facts, views

FLUSH_S = 0.3
EVENTS_PER_FLUSH = 25
LINES_PER_FLUSH = 4_000
EVENTS_PER_TRY = 4_000
TEXT_MAX = 600
NO_SCHEMA = "no_schema"
"""How runs fail whose program cannot be held to a schema."""
GAVE_UP = ("exit", "no_result", "api", "timeout", "idle")
"""How runs fail that wait in vain for their model."""


IN_WORDS = "-words"
"""How the run of an agent is named that is asked without a schema, after it refused one."""


@dataclass(frozen=True)
class Question:
    """What an agent is asked, and where its run is recorded."""

    name: str
    """Name of the run in its workspace."""
    phase: Phase
    """What the task is doing while the agent works."""
    profile: Profile
    prompt: Prompt
    details: Mapping[str, Any]  # Any: JSON, the rest of `cc.input/1`
    cost_before_usd: float = 0.0
    """What the agent said that the conversation had cost when it last ended."""


async def ask(equipment: Equipment, job: Job, workspace: Workspace, question: Question) -> Report:
    """Return what the agent claims. At most `equipment.slots` agents work at one time.

    A program that refuses to be held to a schema has not begun: it is asked without one.
    """
    report = await _ask(equipment, job, workspace, question)
    if report.reason != NO_SCHEMA or question.prompt.schema is None:
        return report
    in_words = replace(question.prompt, schema=None)
    question = replace(question, name=f"{question.name}{IN_WORDS}", prompt=in_words)
    return await _ask(equipment, job, workspace, question)


async def _ask(equipment: Equipment, job: Job, workspace: Workspace, question: Question) -> Report:
    if workspace.degraded:
        # The machine may not be as it was when the run was submitted.
        await equipment.database.transact(facts.add_note, job.run.id, workspace.degraded)
    agent = plugins.agent(question.profile.agent)
    reach = await equipment.reach(question.profile)
    command = _command(equipment, job, agent, question, reach)
    key = usage_key(job, question.name)
    before, told = equipment.gateway.usage(key), equipment.gateway.facts(key)
    journal = equipment.logs.journal(job.run.id, job.task.id, job.attempt.number, question.name)
    async with (
        _slot(equipment, job, question, begun=_has_begun(job, workspace, question)),
        _model(equipment, job, workspace, question) as refusal,
        equipment.proxy.socket(workspace.gateway, reach.policy, journal),
        _live(equipment, job, agent, question) as live,
    ):
        if refusal:
            return Report(Outcome.FAILED, OVER_BUDGET, problem=refusal)
        completed = await workspace.run(question.name, command, on_line=live.line)
    # Asked when the socket is closed: an answer that was cut off is counted as its handler ends.
    metered = _difference(equipment.gateway.usage(key), before)
    equipment.logs.keep(job.run.id, job.task.id, job.attempt.number, question.name, completed)
    claimed = agent.report(completed, workspace.result(question.name))
    report = _excused(claimed, told, equipment.gateway.facts(key))
    said_before = question.cost_before_usd if report.session else 0.0
    return replace(
        report,
        usage=_merged(report.usage, metered, said_before),
        problem=report.problem or completed.problem,
        session_cost_usd=(report.usage.cost_usd or 0.0) if report.session else 0.0,
    )


def usage_key(job: Job, name: str) -> str:
    """Return the key under which the gateway counts what an agent's run uses."""
    return f"{job.run.id}/{job.task.id}/{job.attempt.number}/{name}"


@contextlib.asynccontextmanager
async def _model(
    equipment: Equipment, job: Job, workspace: Workspace, question: Question
) -> AsyncIterator[str]:
    """Let the agent reach its model, as far as the budget of its task goes.

    Gives why it must not begin, if nothing is left of that.
    """
    allowed = await _allowance(equipment, job)
    if allowed and equipment.gateway.left_usd(allowed) <= 0:
        yield f"{allowed.words}; no further agent begins"
        return
    async with equipment.gateway.socket(
        workspace.gateway,
        key=usage_key(job, question.name),
        models=question.profile.models,
        provider=question.profile.provider,
        allowance=allowed,
    ):
        yield ""


async def _allowance(equipment: Equipment, job: Job) -> Allowance | None:
    budget_usd = job.assignment.budget_usd
    if budget_usd is None:
        return None
    tasks, run = family(job.plan, job.task), job.run.id

    def read(session: Session) -> tuple[Event, ...]:
        return views.events_of(session, run, KINDS, tasks)

    events = await equipment.database.transact(read)
    return allowance(run, tasks, budget_usd, events)


def _command(
    equipment: Equipment, job: Job, agent: Agent, question: Question, reach: Reach
) -> Command:
    command = agent.command(question.prompt, question.profile)
    details = {
        "schema": "cc.input/1",
        "run": job.run.id,
        "task": {
            "id": job.task.id,
            "title": job.task.title,
            "instructions": job.task.instructions,
            "files": [{"path": use.path, "op": use.op.value} for use in job.task.files],
            "verification": list(job.plan.commands_of(job.task)),
        },
        "role": question.prompt.role.value,
        "attempt": job.attempt.number,
        **question.details,
    }
    names = [name for name in (agent.program, *question.profile.programs) if name]
    paths = []
    for name in names:
        path = equipment.program(name)
        if path is None:
            raise WorkspaceError(f"The program `{name}` of agent {agent.name} is gone.")
        paths.append(path)
    files = {**command.files, "input.json": json.dumps(details).encode()}
    return replace(
        command,
        files=files,
        environment={**reach.variables, **command.environment},
        private=frozenset(question.profile.environment),
        programs=(*command.programs, *paths),
        egress=reach.policy.allows,
        resources=equipment.resources,
    )


def _has_begun(job: Job, workspace: Workspace, question: Question) -> bool:
    """Say whether an earlier life of the service began this: then it only goes on."""
    return not workspace.pristine and job.status.phase is question.phase


@contextlib.asynccontextmanager
async def _slot(
    equipment: Equipment, job: Job, question: Question, *, begun: bool
) -> AsyncIterator[None]:
    """Have a worker, and a provider that takes questions, before an agent begins."""
    pauses, provider = equipment.gateway.pauses, equipment.gateway.named(question.profile.provider)
    while True:
        if not begun and pauses.of(provider):
            async with _waiting(equipment, job, f"{WAITS_FOR_MODEL} {provider}"):
                await pauses.over(provider)
        async with _worker(equipment, job):
            # Asked once more: it may have been a long wait for the worker.
            if begun or not pauses.of(provider):
                async with _working(equipment, job, question.phase):
                    yield
                return


@contextlib.asynccontextmanager
async def _worker(equipment: Equipment, job: Job) -> AsyncIterator[None]:
    if equipment.slots.locked():
        async with _waiting(equipment, job, "a free worker"):
            await equipment.slots.acquire()
    else:
        await equipment.slots.acquire()
    try:
        yield
    finally:
        equipment.slots.release()


@contextlib.asynccontextmanager
async def _waiting(equipment: Equipment, job: Job, words: str) -> AsyncIterator[None]:
    """Tell what is waited for, unless another agent of the task is at work meanwhile."""
    crew = equipment.crews.of(job.run.id, job.task.id)
    crew.waiting.append(words)
    try:
        async with crew.telling:
            if not crew.working:
                await enter(equipment, job, Phase.WAITING, words)
        yield
    finally:
        crew.waiting.remove(words)


@contextlib.asynccontextmanager
async def _working(equipment: Equipment, job: Job, phase: Phase) -> AsyncIterator[None]:
    """Tell that an agent is at work, and at its end what the others of the task wait for."""
    crew = equipment.crews.of(job.run.id, job.task.id)
    crew.working += 1
    try:
        async with crew.telling:
            await enter(equipment, job, phase)
        yield
    finally:
        crew.working -= 1
    async with crew.telling:
        if crew.waiting and not crew.working:
            await enter(equipment, job, Phase.WAITING, crew.waiting[-1])


def _excused(report: Report, before: Facts, after: Facts) -> Report:
    """Return the report; who gave up when the provider last refused to answer did not fail."""
    if report.outcome is not Outcome.FAILED or report.reason not in GAVE_UP:
        return report
    if after.over_budget > before.over_budget:
        return replace(report, reason=OVER_BUDGET, problem="the budget of its task is reached")
    if after.last_status == 429 and after.rate_limited > before.rate_limited:
        return replace(report, outcome=Outcome.TRY_AGAIN, reason="rate_limit")
    if after.last_status >= 500 and after.overloaded > before.overloaded:
        return replace(report, outcome=Outcome.TRY_AGAIN, reason="overloaded")
    return report


def _difference(after: Usage, before: Usage) -> Usage:
    return Usage(
        after.input_tokens - before.input_tokens,
        after.output_tokens - before.output_tokens,
        after.cached_tokens - before.cached_tokens,
        after.requests - before.requests,
        after.cost_usd if before.cost_usd is None else _since(after.cost_usd, before.cost_usd),
    )


def _merged(claimed: Usage, metered: Usage, said_before: float) -> Usage:
    """Prefer what the gateway counted; the agent's own numbers stand in for what passed it by."""
    claimed = replace(claimed, cost_usd=_since(claimed.cost_usd, said_before))
    if metered.requests == 0:
        return claimed
    return metered if metered.cost_usd is not None else replace(metered, cost_usd=claimed.cost_usd)


def _since(cost: float | None, before: float) -> float | None:
    """Return what this run cost: newer CLIs report a resumed conversation's whole cost."""
    if cost is None:
        return None
    return cost - before if cost >= before else cost


class _Live:
    """Turns an agent's lines into events, in bounded numbers, each line once even after a crash."""

    def __init__(self, agent: Agent, question: Question, told: int) -> None:
        self._agent = agent
        self._question = question
        self._told = told
        self._seen = 0
        self._read = 0
        self._kept = 0
        self._events: list[AgentEvent] = []
        self._left_out = 0

    def line(self, line: bytes) -> None:
        self._seen += 1
        if self._seen <= self._told:
            return
        self._read += 1
        if self._read > LINES_PER_FLUSH or self._kept >= EVENTS_PER_TRY:
            self._left_out += 1
            return
        self._events += self._agent.read(line)

    def take(self) -> dict[str, Any] | None:  # Any: JSON, the event's data
        """Return what to tell since the last time, or None when there is nothing."""
        self._read = 0
        shown = self._events[-EVENTS_PER_FLUSH:]
        left_out = self._left_out + len(self._events) - len(shown)
        self._events, self._left_out = [], 0
        if not shown:
            return None
        self._kept += len(shown)
        return {
            "role": self._question.prompt.role.value,
            "name": self._question.name,
            "line": self._seen,
            "left_out": left_out,
            "events": [
                {"kind": e.kind.value, "text": e.text[:TEXT_MAX], "tool": e.tool, "ok": e.ok}
                for e in shown
            ],
        }


@contextlib.asynccontextmanager
async def _live(
    equipment: Equipment, job: Job, agent: Agent, question: Question
) -> AsyncIterator[_Live]:
    told = await equipment.database.transact(_lines_told, job, question.name)
    live = _Live(agent, question, told)
    teller = asyncio.create_task(_tell(equipment, job, live))
    try:
        yield live
    finally:
        teller.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await teller
        await _flush(equipment, job, live)


async def _tell(equipment: Equipment, job: Job, live: _Live) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        await asyncio.shield(_flush(equipment, job, live))


async def _flush(equipment: Equipment, job: Job, live: _Live) -> None:
    data = live.take()
    if data is not None:
        await equipment.database.transact(_append, equipment.now_ms(), job, data)


def _append(session: Session, now_ms: int, job: Job, data: dict[str, Any]) -> None:
    # A person may have cancelled the run: what has ended is told of no more.
    facts.lock(session, job.run.id)
    if views.read_task(session, job.run.id, job.task.id).state is not State.IN_PROGRESS:
        return
    number = job.attempt.number
    facts.append(session, Event(job.run.id, EventKind.AGENT, now_ms, job.task.id, number, data))


def _lines_told(session: Session, job: Job, name: str) -> int:
    key = (job.run.id, job.task.id, job.attempt.number)
    last = views.last_words_of(session, *key, name)
    return int(last.data["line"]) if last else 0
