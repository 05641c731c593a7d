"""Work: provision a workspace, let the agent act in it, capture what it made."""

from __future__ import annotations

import uuid
from dataclasses import replace

from sqlalchemy.orm import Session

from commandcenter.core.agent import Outcome, Profile, Prompt, Report, Role, Usage
from commandcenter.core.attempt import WORKSPACE_LOST, Attempt
from commandcenter.core.change import Change
from commandcenter.core.errors import CaptureRefused, InputError
from commandcenter.core.prompt import continued_prompt, work_prompt
from commandcenter.core.publication import branch_name, commit_message, landed_line
from commandcenter.core.run import Phase, Reason, State
from commandcenter.core.workspace import Contents
from commandcenter.stages import holdings
from commandcenter.stages.asking import Question, ask
from commandcenter.stages.equipment import BOT, Equipment
from commandcenter.stages.job import Job, Record, load, workspaces
from commandcenter.store import facts, ledger, views
from commandcenter.system.capture import capture
from commandcenter.system.vault import RefUpdate, Vault, pin_ref, task_ref

LANDED_MAX = 40


async def work(equipment: Equipment, run: str, task: str, number: int) -> Record:
    """Run the agent of one try and capture its result.

    Returns {outcome, reason, words, problem, refused, head, tree, captured?}. A second call
    attaches to the first one's agent, or finds its result.
    """
    job = await load(equipment, run, task, number)
    vault = await equipment.vaults.open(job.run.upstream)
    job = await based(equipment, vault, job)
    await vault.pin(job.pin, job.attempt.base)
    if await workspaces(equipment, job).cut_off(job.work_key):
        return lost()
    opened = workspaces(equipment, job).open(
        job.work_key, vault=vault.path, commit=job.attempt.base, keep=True
    )
    async with opened as workspace:
        if job.attempt.resume and workspace.pristine:
            return lost()
        report = await ask(equipment, job, workspace, await _question(equipment, job))
        return await _capture(equipment, vault, job, report, workspace.contents())


def lost() -> Record:
    """Return the record of a try whose workspace is not there, or not whole, any more.

    What is there of it is kept when the task is settled.
    """
    return {
        "outcome": Outcome.TRY_AGAIN.value,
        "reason": WORKSPACE_LOST,
        "words": "",
        "refused": False,
        "session": "",
    }


async def based(equipment: Equipment, vault: Vault, job: Job) -> Job:
    """Choose base and conversation, and store them before anything is made from them."""
    attempt = replace(
        job.attempt,
        base=job.attempt.base or await vault.fetch(job.run.landed_on),
        session=job.attempt.session or str(uuid.uuid4()),
    )
    await equipment.database.transact(_store, job, attempt, equipment.now_ms())
    return replace(job, tries=(*job.tries[:-1], attempt))


def _store(session: Session, job: Job, attempt: Attempt, now_ms: int) -> None:
    if attempt != job.attempt:
        facts.save_attempt(session, job.run.id, job.task.id, attempt)
    made = (
        holdings.ref(job, pin_ref(job.pin), attempt.base),
        holdings.workspace(job, job.work_key),
        holdings.ref(job, ref_of_try(job)),
    )
    ledger.note(session, [replace(entry, at_ms=now_ms) for entry in made])


def ref_of_try(job: Job) -> str:
    """Return the ref that keeps what a try made."""
    return task_ref(job.run.id, job.task.id, job.attempt.number)


async def _question(equipment: Equipment, job: Job) -> Question:
    attempt = job.attempt
    if attempt.resume:
        text = continued_prompt(attempt.feedback)
    else:
        landed = await landed_before(equipment, job)
        text = work_prompt(job.plan, job.task, landed=landed, feedback=attempt.feedback)
    return Question(
        name=f"try-{attempt.number}",
        phase=Phase.WORKING,
        profile=worker(job),
        prompt=Prompt(text, Role.WORK, attempt.session, attempt.resume),
        details={
            "round": attempt.review_rounds + 1,
            "feedback": attempt.feedback,
        },
        cost_before_usd=attempt.session_cost_usd,
    )


async def landed_before(equipment: Equipment, job: Job) -> tuple[str, ...]:
    """Return a line for each task of the run whose change its base may hold."""
    return await equipment.database.transact(_landed, job)


def worker(job: Job) -> Profile:
    """Return the profile that goes on with a try: whoever began its conversation."""
    return job.profile_of(Role.WORK, job.attempt.profile)


def _landed(session: Session, job: Job) -> tuple[str, ...]:
    merged = [
        status.id
        for status in views.tasks(session, job.run.id)
        if status.state is State.COMPLETED and status.reason is Reason.MERGED
    ]
    tasks = [job.plan.task(each) for each in merged[-LANDED_MAX:]]
    return tuple(landed_line(task, [use.path for use in task.files]) for task in tasks)


async def keep_captured(equipment: Equipment, vault: Vault, job: Job) -> None:
    """Make sure that the vault keeps a try's commit: what a disk lost is captured again.

    Raises:
        InputError: the workspace does not give the same commit any more.
    """
    head = job.attempt.head
    if head not in vault.lost:
        await _keep_chosen(vault, job)
        return
    opened = workspaces(equipment, job).open(
        job.work_key, vault=vault.path, commit=job.attempt.base, keep=True
    )
    async with opened as workspace:
        change = await take(equipment, vault, job, workspace.contents(), ref_of_try(job))
    if change.head != head:
        raise InputError(
            f"Commit {head[:12]} of this task is lost: the disk did not keep what it confirmed.",
            hint="check the disk, and retry the task",
        )
    vault.lost.discard(head)


async def _keep_chosen(vault: Vault, job: Job) -> None:
    """Keep what a pattern chose under the try's own name, as if one agent had made it."""
    head, ref = job.attempt.head, ref_of_try(job)
    if job.status.pattern and head != job.attempt.base and await vault.ref(ref) is None:
        await vault.update_refs([RefUpdate(ref, head, None)])


async def take(
    equipment: Equipment, vault: Vault, job: Job, contents: Contents, ref: str
) -> Change:
    """Return what a workspace made of the try's base, as a commit that a ref keeps.

    Raises:
        CaptureRefused: something in it cannot be taken.
    """
    return await capture(
        equipment.git,
        vault,
        contents,
        job.attempt.base,
        ref=ref,
        message=commit_message(job.run.id, job.task, job.attempt.number),
        author=BOT,
        committer=BOT,
        date=job.date,
    )


async def _capture(
    equipment: Equipment, vault: Vault, job: Job, report: Report, contents: Contents
) -> Record:
    record: Record = {
        "outcome": report.outcome.value,
        "reason": report.reason,
        "words": report.text[-4000:],
        "problem": report.problem,
        "refused": False,
        "session": report.session,
        "used": used(worker(job).name, report.usage),
    }
    if report.outcome in (Outcome.STOPPED, Outcome.TRY_AGAIN):
        return record
    try:
        change = await take(equipment, vault, job, contents, ref_of_try(job))
    except CaptureRefused as refusal:
        return {**record, "refused": True, "words": refusal.message}
    return {
        **record,
        "head": change.head,
        "tree": change.tree,
        "session_cost_usd": report.session_cost_usd,
        "captured": {
            **captured(job, change),
            **used(worker(job).name, report.usage),
            "turns": report.turns,
            "claim": report.text[-2000:],
        },
    }


def captured(job: Job, change: Change) -> Record:
    """Return what is told of a capture, besides who made it."""
    return {
        "branch": branch_name(job.run.id, job.task),
        "base": change.base,
        "head": change.head,
        "tree": change.tree,
        "files": list(change.files),
        "insertions": change.insertions,
        "deletions": change.deletions,
        "notes": list(change.notes),
    }


def used(profile: str, usage: Usage) -> Record:
    """Return what is told of what an agent used."""
    return {
        "profile": profile,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "requests": usage.requests,
        "cost_usd": usage.cost_usd,
    }
