"""Carries out what a pattern asks: an agent in a lane or aside, its answer, and what was measured.

What a lane holds is captured and checked; who only reads works in a throw-away checkout, and what
that one changes is told and thrown away.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from commandcenter.core.agent import Outcome, Profile, Prompt, Report
from commandcenter.core.contract import HANDOFF, SCHEMAS, Invalid, parse, plain
from commandcenter.core.errors import CaptureRefused
from commandcenter.core.pattern import READ_ONLY, Ask, Child, Joined, Reply
from commandcenter.core.pattern_record import ask_from_json, joined_to_json, reply_to_json
from commandcenter.core.prompt import DIFF_MAX, continued_pattern_prompt, pattern_prompt
from commandcenter.core.protected import weakened
from commandcenter.core.run import Phase, TaskStatus, satisfied
from commandcenter.core.workspace import Contents, Workspace
from commandcenter.stages import holdings
from commandcenter.stages.asking import IN_WORDS, Question, ask, usage_key
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.job import Job, Record, read, workspaces
from commandcenter.stages.verify import check_tree
from commandcenter.stages.work import based, landed_before, lost, take, used
from commandcenter.store import asks, views
from commandcenter.store.asks import Asked
from commandcenter.system.vault import RefUpdate, Vault, task_ref

WORDS_MAX = 4_000
AGAIN = "-again"
"""How the run of an agent is named that is asked once more, since its answer was none."""
LEFT_MAX = 20
"""Most files that are named of those that somebody changed who was only to read."""


@dataclass(frozen=True)
class _Asking:
    """An ask of a try that is to be carried out."""

    equipment: Equipment
    vault: Vault
    job: Job
    asked: Asked
    before: tuple[Asked, ...]
    """What was asked before in this try."""
    over: bool
    """Whether nothing that it can answer is needed any more."""

    @property
    def ask(self) -> Ask:
        return ask_from_json(self.asked.record)

    @property
    def profile(self) -> Profile:
        return self.job.profile_of(self.ask.role, self.ask.profile)

    @property
    def name(self) -> str:
        """Return the name of its run in a workspace."""
        stops = f"-s{self.asked.stops}" if self.asked.stops else ""
        return f"ask-{self.asked.name}{stops}"

    @property
    def ref(self) -> str:
        """Return the ref that keeps what it left."""
        return task_ref(self.job.run.id, self.job.task.id, self.asked.name)

    @property
    def in_lane(self) -> tuple[Asked, ...]:
        """Return what was asked before in the same lane."""
        return tuple(each for each in self.before if each.record.get("lane") == self.ask.lane)


async def base(equipment: Equipment, run: str, task: str, number: int) -> Record:
    """Choose what a try of a pattern starts from, and keep it, before anything is asked."""
    job = await equipment.database.transact(read, equipment.plans, run, task, number)
    vault = await equipment.vaults.open(job.run.upstream)
    job = await based(equipment, vault, job)
    await vault.pin(job.pin, job.attempt.base)
    return {}


async def answer(
    equipment: Equipment, run: str, task: str, number: int, round_: int, position: int
) -> Record:
    """Carry out one ask.

    Returns {reply, used, left}, or {stopped: what the world did, lost, used}; as `still` when its
    answer is not needed any more. A second call attaches to the first one's agent.
    """
    asking = await _asking(equipment, run, task, number, round_, position)
    if asking.over:
        return await still(equipment, run, task, number, round_, position)
    return await (_aside(asking) if asking.ask.lane == READ_ONLY else _in_lane(asking))


async def _asking(
    equipment: Equipment, run: str, task: str, number: int, round_: int, position: int
) -> _Asking:
    def found(session: Session) -> tuple[Job, Asked, tuple[Asked, ...], bool]:
        job = read(session, equipment.plans, run, task, number)
        before = asks.rounds(session, run, task, number)[: round_ - 1]
        asked = asks.read(session, run, task, number, round_, position)
        ended = job.status.state.ended or views.last_attempt(session, run, task) != number
        over = ended or asked.reply is not None
        return job, asked, tuple(each for one in before for each in one), over

    job, asked, before, over = await equipment.database.transact(found)
    vault = await equipment.vaults.open(job.run.upstream)
    return _Asking(equipment, vault, job, asked, before, over)


async def still(
    equipment: Equipment, run: str, task: str, number: int, round_: int, position: int
) -> Record:
    """End what runs for an ask whose answer is not needed; its files stay. Returns {used}."""
    asking = await _asking(equipment, run, task, number, round_, position)
    job, lane = asking.job, asking.ask.lane
    aside = job.workspace(aside_purpose(asking.asked))
    await workspaces(equipment, job).still(aside if lane == READ_ONLY else job.lane_key(lane))
    names = [f"{asking.name}{again}{words}" for again in ("", AGAIN) for words in ("", IN_WORDS)]
    metered = [equipment.gateway.usage(usage_key(job, name)) for name in names]
    return {"used": [used(asking.profile.name, each) for each in metered if each.requests]}


async def join(equipment: Equipment, run: str, task: str, number: int, round_: int) -> Record:
    """Return, as a record, what came of a delegation: its tasks, and the checks on the target."""

    def found(session: Session) -> tuple[Job, Asked, tuple[TaskStatus, ...]]:
        job = read(session, equipment.plans, run, task, number)
        return job, asks.read(session, run, task, number, round_, 1), views.tasks(session, run)

    job, asked, statuses = await equipment.database.transact(found)
    mine = [status for status in statuses if status.id in asked.record["tasks"]]
    children = tuple(Child(each.id, each.title, satisfied(each), each.explanation) for each in mine)
    vault = await equipment.vaults.open(job.run.upstream)
    tip = await vault.fetch(job.run.landed_on)
    if not all(child.satisfied for child in children):
        return joined_to_json(Joined(children, commit=tip))
    verdict = await check_tree(
        equipment, vault, job, tip, job.attempt.base, recall=True, place="join-"
    )
    return joined_to_json(Joined(children, verdict, tip))


# Who works


async def _in_lane(asking: _Asking) -> Record:
    equipment, job = asking.equipment, asking.job
    key = job.lane_key(asking.ask.lane)
    if await workspaces(equipment, job).cut_off(key):
        return _lost()
    await holdings.note(equipment, [holdings.workspace(job, key), holdings.ref(job, asking.ref)])
    opened = workspaces(equipment, job).open(
        key, vault=asking.vault.path, commit=job.attempt.base, keep=True
    )
    async with opened as workspace:
        if asking.in_lane and workspace.pristine:
            return _lost()
        said = await _said(asking, workspace, {})
        if said.stopped:
            return said.record()
        contents = workspace.contents()
        reply = await _taken(asking, said.reply, contents)
    return said.record(await _checked(asking, reply))


def _lost() -> Record:
    return {"stopped": lost()["reason"], "lost": True, "used": []}


async def _taken(asking: _Asking, reply: Reply, contents: Contents) -> Reply:
    try:
        change = await take(asking.equipment, asking.vault, asking.job, contents, asking.ref)
    except CaptureRefused as refusal:
        return replace(reply, refused=refusal.message)
    changed = await asking.vault.statuses(change.base, change.head)
    return replace(reply, change=change, flags=weakened(changed, asking.job.task))


async def _checked(asking: _Asking, reply: Reply) -> Reply:
    if reply.change is None or not asking.ask.gate:
        return reply
    change = reply.change
    verdict = await check_tree(
        asking.equipment,
        asking.vault,
        asking.job,
        change.head,
        change.base,
        recall=True,
        place=f"lane-{asking.ask.lane}-",
    )
    return replace(reply, verdict=verdict)


# Who only reads


def aside_purpose(asked: Asked) -> str:
    """Return the purpose of the throw-away checkout of an ask."""
    return f"aside-{asked.round}-{asked.position}"


async def _aside(asking: _Asking) -> Record:
    equipment, job = asking.equipment, asking.job
    key = job.workspace(aside_purpose(asking.asked))
    at = asking.ask.commit or job.attempt.base
    await holdings.note(equipment, [holdings.workspace(job, key)])
    opened = workspaces(equipment, job).open(key, vault=asking.vault.path, commit=at)
    async with opened as workspace:
        said = await _said(asking, workspace, await _diffs(asking))
        left = () if said.stopped else await _left(asking, workspace.contents(), at)
    return said.record(left=left)


async def _diffs(asking: _Asking) -> dict[str, str]:
    shown, start = asking.ask.shown, asking.job.attempt.base
    return {
        each.label: await asking.vault.diff_text(
            start, each.commit, bytes_max=DIFF_MAX // len(shown)
        )
        for each in shown
    }


async def _left(asking: _Asking, contents: Contents, at: str) -> tuple[str, ...]:
    """Return what was changed by who was only to read; it is looked at, and not kept."""
    equipment = asking.equipment
    await holdings.note(equipment, [holdings.ref(asking.job, asking.ref)])
    job = asking.job
    seen = replace(job, tries=(*job.tries[:-1], replace(job.attempt, base=at)))
    try:
        change = await take(equipment, asking.vault, seen, contents, asking.ref)
    except CaptureRefused as refusal:
        return (refusal.message,)
    if not change.empty:
        await asking.vault.update_refs([RefUpdate(asking.ref, None, change.head)])
    return change.files[:LEFT_MAX]


# What was said


@dataclass(frozen=True)
class _Said:
    """What an agent answered, asked once more if its first answer could not be used."""

    reply: Reply
    profile: str
    session: str
    reports: tuple[Report, ...]

    @property
    def stopped(self) -> bool:
        """Say whether the world ended it."""
        return self.reports[-1].outcome in (Outcome.TRY_AGAIN, Outcome.STOPPED)

    def record(self, reply: Reply | None = None, left: Sequence[str] = ()) -> Record:
        """Return what the flow stores."""
        usages = [used(self.profile, report.usage) for report in self.reports]
        if self.stopped:
            return {"stopped": self.reports[-1].reason, "lost": False, "used": usages}
        by = {
            "profile": self.profile,
            "session": self.session,
            "session_cost_usd": self.reports[-1].session_cost_usd,
        }
        told = {**reply_to_json(reply or self.reply), "by": by}
        return {"reply": told, "used": usages, "left": list(left)}


async def _said(asking: _Asking, workspace: Workspace, diffs: Mapping[str, str]) -> _Said:
    reports: list[Report] = []
    problem = ""
    conversation = _conversation(asking)
    for again in (False, True):
        if again:
            conversation = replace(conversation, resume=True, cost_usd=reports[-1].session_cost_usd)
        question = await _question(asking, conversation, diffs, problem, again=again)
        report = await ask(asking.equipment, asking.job, workspace, question)
        reports.append(report)
        reply, problem = _read(asking.ask, report)
        if not problem:
            break
    reply = replace(reply, problem=problem)
    return _Said(reply, asking.profile.name, conversation.session, tuple(reports))


def _read(asked: Ask, report: Report) -> tuple[Reply, str]:
    """Return what an agent claims, and what is wrong with its structured answer."""
    reply = Reply(report.outcome, report.reason, report.text[-WORDS_MAX:])
    needed = asked.lane == READ_ONLY
    if report.outcome is not Outcome.DONE or not asked.answers:
        return reply, ""
    if report.result is None and not needed:
        return reply, ""
    found = parse(report.result, asked.answers, asked.options)
    if isinstance(found, Invalid):
        # What only claims something decides nothing: it is not worth another run.
        return reply, found.problem if needed or found.schema == HANDOFF else ""
    return replace(reply, result=found.value), ""


async def _question(
    asking: _Asking,
    conversation: _Conversation,
    diffs: Mapping[str, str],
    problem: str,
    *,
    again: bool,
) -> Question:
    asked, job = asking.ask, asking.job
    if conversation.resume:
        text = continued_pattern_prompt(asked, problem)
    else:
        text = pattern_prompt(
            job.plan,
            job.task,
            asked,
            diffs=diffs,
            landed=await landed_before(asking.equipment, job),
            feedback=_feedback(asking),
            problem=problem,
        )
    return Question(
        name=f"{asking.name}{AGAIN}" if again else asking.name,
        phase=Phase.WORKING,
        profile=asking.profile,
        prompt=Prompt(
            text,
            asked.role,
            conversation.session,
            conversation.resume,
            schema=plain(SCHEMAS[asked.schema]) if asked.schema else None,
        ),
        details=_details(asking, diffs, problem),
        cost_before_usd=conversation.cost_usd,
    )


def _feedback(asking: _Asking) -> str:
    if asking.asked.stops:
        return "An earlier run of this was interrupted. What it left is in the folder: go on."
    return asking.job.attempt.feedback


def _details(
    asking: _Asking, diffs: Mapping[str, str], problem: str
) -> dict[str, Any]:  # Any: JSON
    asked = asking.ask
    return {
        "round": asking.asked.round,
        "feedback": problem or _feedback(asking),
        "text": asked.text,
        "profile": asking.profile.name,
        "lane": asked.lane,
        "answers": list(asked.answers),
        "options": list(asked.options),
        "changes": dict(diffs),
    }


@dataclass(frozen=True)
class _Conversation:
    """A conversation of an agent."""

    session: str
    """Its UUID."""
    resume: bool = False
    """Whether an earlier ask began it."""
    cost_usd: float = 0.0
    """What the agent said that it had cost so far."""


def _conversation(asking: _Asking) -> _Conversation:
    """Return the conversation that an ask belongs to.

    A lane has one for each profile, until a fresh one is asked for. Who only reads, and whom the
    world interrupted, begins a new one.
    """
    asked, whose = asking.ask, asking.profile.name
    said = [each.reply["by"] for each in asking.in_lane if each.reply and "by" in each.reply]
    mine = [by for by in said if by["profile"] == whose]
    if asked.lane == READ_ONLY or asked.fresh or asking.asked.stops or not mine:
        return _Conversation(_uuid(f"{asking.job.lane_key(asked.lane)}/{asking.name}"))
    return _Conversation(mine[-1]["session"], True, mine[-1]["session_cost_usd"])


def _uuid(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))
