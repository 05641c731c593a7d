"""Propose a verified change as a pull request, and have it reviewed."""

from __future__ import annotations

import asyncio
import uuid
from functools import reduce

from sqlalchemy.orm import Session

from commandcenter.core.agent import Outcome, Prompt, Report, Role, Usage
from commandcenter.core.attempt import OVER_BUDGET
from commandcenter.core.change import Change
from commandcenter.core.check import Judgement, Verdict
from commandcenter.core.contract import plain
from commandcenter.core.errors import (
    ForgeError,
    GitError,
    InputError,
    WorkspaceError,
    WorldError,
)
from commandcenter.core.forge import Forge, Proposal, ProposalState, Review, StatusState
from commandcenter.core.ledger import Standing, standing
from commandcenter.core.prices import added
from commandcenter.core.prompt import DIFF_MAX, review_prompt
from commandcenter.core.publication import (
    branch_name,
    proposal_body,
    proposal_title,
    renewed_body,
)
from commandcenter.core.run import EventKind, Phase
from commandcenter.core.verdict import VERDICT_SCHEMA, InvalidVerdict, parse_verdict
from commandcenter.core.workspace import Workspace
from commandcenter.stages import holdings
from commandcenter.stages.asking import Question, ask
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.job import Job, Record, load, workspaces
from commandcenter.stages.proposal import find
from commandcenter.stages.work import keep_captured
from commandcenter.store import facts, views
from commandcenter.system.vault import Vault

CHECKS_CONTEXT = "commandcenter/checks"


async def propose(equipment: Equipment, run: str, task: str, number: int) -> Record:
    """Push a try's commit to its branch and open or update its pull request: {number, url}."""
    job = await load(equipment, run, task, number)
    vault = await equipment.vaults.open(job.run.upstream)
    await keep_captured(equipment, vault, job)
    shown = await find(equipment, job, job.attempt.proposal) if job.attempt.proposal else None
    if shown and shown.state is not ProposalState.OPEN:
        # A person has merged or closed it meanwhile: the merge queue tells what that means.
        return _proposed(equipment, shown)
    branch = branch_name(run, job.task)
    expected = await _expected(equipment, vault, job, branch)
    await holdings.note(equipment, [holdings.branch(job, branch, job.attempt.head)])
    await vault.publish(branch, job.attempt.head, expected)
    verdict, change, usage = await equipment.database.transact(_evidence, job)
    forge = equipment.forge(job.run.upstream, job.run.target)
    refused = await asyncio.to_thread(equipment.logs.refusals, run, task)
    body = proposal_body(
        job.plan, job.task, change, verdict, usage, run=run, number=number, refused=refused
    )
    try:
        proposal = await forge.propose(
            head_branch=branch,
            base_branch=_base(job, shown),
            title=shown.title if shown else proposal_title(job.task),
            body=renewed_body(shown.body, body, job.task, run) if shown else body,
            draft=equipment.draft,
        )
    except ForgeError:
        await _require_target(vault, job)
        raise
    if proposal.head != job.attempt.head:
        raise WorldError(f"Pull request #{proposal.number} does not show {job.attempt.head} yet.")
    await _label(equipment, forge, run, proposal.number)
    if verdict.judgement is Judgement.PASSED:  # nothing is claimed of what was not checked
        await forge.set_status(
            job.attempt.head,
            context=CHECKS_CONTEXT,
            state=StatusState.SUCCESS,
            description=f"{len(verdict.receipts)} checks passed on tree {verdict.tree[:12]}.",
        )
    return _proposed(equipment, proposal)


def _base(job: Job, shown: Proposal | None) -> str:
    """Return where the pull request is to lead: where a person pointed it, if one did."""
    own = (job.run.target, job.run.landed_on)
    return shown.base_branch if shown and shown.base_branch not in own else job.run.landed_on


def _proposed(equipment: Equipment, proposal: Proposal) -> Record:
    url = proposal.url
    if equipment.base_url and url.startswith(f"{equipment.base_url}/"):
        url = url.removeprefix(equipment.base_url)  # the hub answers elsewhere after a restart
    return {"number": proposal.number, "url": url}


async def _label(equipment: Equipment, forge: Forge, run: str, number: int) -> None:
    """Label a pull request; that it cannot be is told, and keeps nothing from landing."""
    try:
        await forge.label(number, equipment.labels)
    except ForgeError as error:
        words = f"Pull requests could not be labelled: {error.message}"
        await equipment.database.transact(facts.add_note, run, words)


async def _require_target(vault: Vault, job: Job) -> None:
    """Make sure that the target is still there: forges say it in words of their own."""
    if await vault.upstream_tip(job.run.landed_on) is None:
        raise InputError(f"The branch `{job.run.landed_on}` was deleted in the upstream.")


async def _expected(equipment: Equipment, vault: Vault, job: Job, branch: str) -> str | None:
    """Return where the branch may be now: nowhere, or at a commit that we put there."""
    holding = await holdings.branch_of(equipment, job.run.upstream, branch)
    if holding is None or not holding.held:
        return None
    tip = await vault.upstream_tip(branch)
    if standing(holding, tip) is not Standing.FOREIGN:
        return tip
    raise GitError(
        f"The branch {branch} holds a commit that is not CommandCenter's ({str(tip)[:12]}).",
        hint="Somebody pushed to it: move that work elsewhere, and retry the task.",
    )


def _evidence(session: Session, job: Job) -> tuple[Verdict, Change, Usage]:
    key = (job.run.id, job.task.id, job.attempt.number)
    checked = views.last_event_of(session, *key, EventKind.TASK_CHECKED)
    captured = views.last_event_of(session, *key, EventKind.TASK_CAPTURED)
    assert checked is not None
    assert captured is not None
    data = captured.data
    change = Change(
        base=data["base"],
        head=data["head"],
        tree=data["tree"],
        files=tuple(data["files"]),
        insertions=data["insertions"],
        deletions=data["deletions"],
        notes=tuple(data["notes"]),
    )
    usage = Usage(data["input_tokens"], data["output_tokens"], cost_usd=data["cost_usd"])
    return Verdict.from_json(checked.data), change, _with_pattern(session, job, usage)


def _with_pattern(session: Session, job: Job, usage: Usage) -> Usage:
    """Return what a try used, with all that the agents of its pattern did."""
    told = views.events_of(session, job.run.id, [EventKind.TASK_ANSWERED], (job.task.id,))
    answered = [event.data for event in told if event.attempt == job.attempt.number]
    if not answered:
        return usage
    return Usage(
        usage.input_tokens + sum(each["input_tokens"] for each in answered),
        usage.output_tokens + sum(each["output_tokens"] for each in answered),
        cost_usd=reduce(added, [each["cost_usd"] for each in answered]),
    )


async def review(equipment: Equipment, run: str, task: str, number: int) -> Record:
    """Have a second agent review the pull request; publish its verdict.

    Returns the review's JSON with {decision, problem, published, tokens and cost}; `decision` is
    `none` without a reviewer and `invalid` when it gave no valid verdict twice.
    """
    job = await load(equipment, run, task, number)
    profile = job.reviewer
    if profile is None:
        return _reviewed({"decision": "none", "summary": "no reviewer is configured"}, "", ())
    vault = await equipment.vaults.open(job.run.upstream)
    key = job.workspace(f"review-{number}")
    await holdings.note(equipment, [holdings.workspace(job, key)])
    opened = workspaces(equipment, job).open(key, vault=vault.path, commit=job.attempt.head)
    async with opened as workspace:
        found, reports = await _verdict(equipment, vault, job, workspace)
    usages = tuple(report.usage for report in reports)
    if isinstance(found, InvalidVerdict):
        invalid = {
            "decision": "invalid",
            "problem": found.problem,
            "over_budget": reports[-1].reason == OVER_BUDGET,
        }
        return _reviewed(invalid, profile.name, usages)
    published = await equipment.forge(job.run.upstream, job.run.target).review(
        job.status.proposal, found
    )
    return _reviewed({**found.to_json(), "published": published}, profile.name, usages)


def _reviewed(record: Record, profile: str, usages: tuple[Usage, ...]) -> Record:
    costs = [usage.cost_usd for usage in usages]
    return {
        "problem": "",
        "summary": "",
        **record,
        "profile": profile,
        "input_tokens": sum(usage.input_tokens for usage in usages),
        "output_tokens": sum(usage.output_tokens for usage in usages),
        "cached_tokens": sum(usage.cached_tokens for usage in usages),
        "cost_usd": reduce(added, costs) if costs else None,
    }


async def _verdict(
    equipment: Equipment, vault: Vault, job: Job, workspace: Workspace
) -> tuple[Review | InvalidVerdict, tuple[Report, ...]]:
    """Ask, and ask once more when the answer is no verdict."""
    profile = job.reviewer
    assert profile is not None
    verdict, _, _ = await equipment.database.transact(_evidence, job)
    diff = await vault.diff_text(job.attempt.base, job.attempt.head, bytes_max=DIFF_MAX)
    problem, reports = "", []
    for turn in (1, 2):
        text = review_prompt(
            job.plan, job.task, diff=diff, receipts=verdict.receipts, problem=problem
        )
        session = uuid.uuid5(uuid.NAMESPACE_URL, f"{job.workspace('review')}/{turn}")
        question = Question(
            name=f"review-{turn}",
            phase=Phase.REVIEWING,
            profile=profile,
            prompt=Prompt(text, Role.REVIEW, str(session), schema=plain(VERDICT_SCHEMA)),
            details={
                "round": job.attempt.review_rounds + 1,
                "feedback": problem,
                "diff": diff,
            },
        )
        report = await ask(equipment, job, workspace, question)
        reports.append(report)
        if report.outcome in (Outcome.TRY_AGAIN, Outcome.STOPPED):
            raise WorkspaceError(f"The reviewer was interrupted ({report.reason}).")
        found = _judged(report, job, profile.name)
        if isinstance(found, Review) or report.reason == OVER_BUDGET:
            return found, tuple(reports)
        problem = found.problem
    return InvalidVerdict(problem), tuple(reports)


def _judged(report: Report, job: Job, reviewer: str) -> Review | InvalidVerdict:
    if report.outcome is not Outcome.DONE:
        words = report.problem or report.text[-300:]
        return InvalidVerdict(f"the reviewer failed ({report.reason}): {words}")
    return parse_verdict(report.result, commit=job.attempt.head, reviewer=reviewer)
