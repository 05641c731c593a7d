"""Land a reviewed change: combine, check again if need be, and move the target by swap."""

from __future__ import annotations

from sqlalchemy.orm import Session

from commandcenter.core.check import Verdict
from commandcenter.core.errors import GitError
from commandcenter.core.forge import ProposalState
from commandcenter.core.ledger import Standing, standing
from commandcenter.core.publication import branch_name, landing_branch, merge_message
from commandcenter.core.run import Event, EventKind, State
from commandcenter.stages import holdings
from commandcenter.stages.equipment import BOT, Equipment
from commandcenter.stages.job import Job, Record, load
from commandcenter.stages.verify import check_tree
from commandcenter.stages.work import keep_captured
from commandcenter.store import facts, views
from commandcenter.system.vault import Conflict, Landed, Merged, Moved, Refused, Vault

MOVES_MAX = 20
"""Times that the target may move under one landing."""


async def land(equipment: Equipment, run: str, task: str, number: int) -> Record:
    """Bring a change onto the branch that the run lands on.

    Returns {outcome} with: `landed` {commit, landed_on, moved_note?}, `waiting`, `closed`,
    `conflict` {files}, `combined` (the verdict on the combined tree), `refused` {explanation}.
    A second call finds what the first one landed.
    """
    job = await load(equipment, run, task, number)
    vault = await equipment.vaults.open(job.run.upstream)
    await keep_captured(equipment, vault, job)
    for _ in range(MOVES_MAX):
        tip = await vault.fetch(job.run.landed_on)
        if await vault.is_ancestor(job.attempt.head, tip):
            await vault.secure_upstream()
            return _landed(job.attempt.head, job.run.landed_on)
        forge = equipment.forge(job.run.upstream, job.run.target)
        match (await forge.proposal(job.status.proposal)).state:
            case ProposalState.MERGED:
                # By a person who squashed it or rebased it, so that its own commit is nowhere.
                return _landed(tip, job.run.landed_on)
            case ProposalState.CLOSED:
                # By us, if a call that was cut off had kept the result on a branch of its own.
                found = await _found_aside(equipment, vault, job)
                return found or {"outcome": "closed"}
            case ProposalState.OPEN:
                pass
        if not job.options.auto_merge:
            return {"outcome": "waiting"}
        done = await _attempt(equipment, vault, job, tip)
        if done is not None:
            return done
    return _refused(f"`{job.run.landed_on}` moved {MOVES_MAX} times during the landing")


async def _attempt(equipment: Equipment, vault: Vault, job: Job, tip: str) -> Record | None:
    """Try to land on this tip; None when the target moved meanwhile."""
    merged = await vault.merge(
        tip,
        job.attempt.head,
        message=merge_message(job.task, job.status.proposal, branch_name(job.run.id, job.task)),
        author=BOT,
        committer=BOT,
        date=job.date,
    )
    if isinstance(merged, Conflict):
        return {"outcome": "conflict", "files": list(merged.files)}
    if merged.tree != job.attempt.verified_tree:
        # What lands must be what was checked, and the target has moved since.
        verdict = await _combined(equipment, vault, job, merged, tip)
        if not verdict.mergeable:
            return {"outcome": "combined", **verdict.to_json()}
    return await _move(equipment, vault, job, tip, merged)


async def _combined(
    equipment: Equipment, vault: Vault, job: Job, merged: Merged, tip: str
) -> Verdict:
    """Check the merged tree, once, and record what was found before anything lands."""
    key = (job.run.id, job.task.id, job.attempt.number)
    last = await equipment.database.transact(views.last_event_of, *key, EventKind.TASK_CHECKED)
    if last is not None and last.data["tree"] == merged.tree:
        return Verdict.from_json(last.data)
    verdict = await check_tree(equipment, vault, job, merged.commit, tip)
    await equipment.database.transact(_record, equipment.now_ms(), job, verdict)
    return verdict


def _record(session: Session, now_ms: int, job: Job, verdict: Verdict) -> None:
    if views.read_task(session, job.run.id, job.task.id).state is State.IN_PROGRESS:
        key = (job.task.id, job.attempt.number)
        data = verdict.to_json()
        facts.append(session, Event(job.run.id, EventKind.TASK_CHECKED, now_ms, *key, data))


async def _move(
    equipment: Equipment, vault: Vault, job: Job, tip: str, merged: Merged
) -> Record | None:
    if job.run.landed_on == landing_branch(job.run.id):
        await holdings.note(equipment, [holdings.result(job, merged.commit)])
    match await vault.land(job.run.landed_on, tip, merged.commit):
        case Landed():
            return _landed(merged.commit, job.run.landed_on)
        case Moved(None):
            return _refused(f"the branch `{job.run.landed_on}` was deleted")
        case Moved():
            return None
        case Refused(reason) if job.run.upstream == job.run.repository:
            return await _aside(equipment, vault, job, merged, reason)
        case Refused(reason):
            return _refused(f"the upstream refused the push: {reason}")


async def _aside(
    equipment: Equipment, vault: Vault, job: Job, merged: Merged, reason: str
) -> Record:
    """Keep the result on a branch of its own, where the checked-out one cannot move along."""
    branch = landing_branch(job.run.id)
    if branch == job.run.landed_on:
        return _refused(f"the repository refused the push: {reason}")
    landed = await _found_aside(equipment, vault, job)
    if landed is None:
        problem = await _publish_aside(equipment, vault, job, merged.commit)
        if problem:
            return _refused(problem)
        landed = _landed_aside(job, merged.commit, f", since {reason}")
    forge = equipment.forge(job.run.upstream, job.run.target)
    await forge.comment(job.status.proposal, f"Landed on `{branch}`, since {reason}.")
    await forge.close(job.status.proposal)
    return landed


async def _publish_aside(equipment: Equipment, vault: Vault, job: Job, commit: str) -> str:
    """Move the result's branch forward to a commit, or make it; return why that cannot be."""
    branch = landing_branch(job.run.id)
    tip = await vault.upstream_tip(branch)
    holding = await holdings.branch_of(equipment, job.run.upstream, branch)
    if standing(holding, tip) is Standing.FOREIGN:
        return f"`{branch}`, which is to hold the result, is there and is not CommandCenter's"
    if tip is not None and not await vault.is_ancestor(tip, commit):
        return f"`{branch}` holds another result"
    await holdings.note(equipment, [holdings.result(job, commit)])
    try:
        await vault.publish(branch, commit, tip)
    except GitError as error:
        return f"the repository refused the push: {error.message}"
    return ""


async def _found_aside(equipment: Equipment, vault: Vault, job: Job) -> Record | None:
    """Return the landing aside that an earlier call was cut off from telling."""
    branch = landing_branch(job.run.id)
    holding = await holdings.branch_of(equipment, job.run.upstream, branch)
    if branch == job.run.landed_on or holding is None or not holding.held:
        return None
    if await vault.upstream_tip(branch) is None:
        return None
    # A person's commits on top of it change nothing about what it holds.
    tip = await vault.fetch(branch)
    return _landed_aside(job, tip) if await vault.is_ancestor(job.attempt.head, tip) else None


def _landed_aside(job: Job, commit: str, why: str = "") -> Record:
    branch = landing_branch(job.run.id)
    note = (
        f"`{job.run.target}` was left alone{why}. The result is on `{branch}`: git merge {branch}"
    )
    return {**_landed(commit, branch), "moved_note": note}


def _landed(commit: str, branch: str) -> Record:
    return {"outcome": "landed", "commit": commit, "landed_on": branch}


def _refused(explanation: str) -> Record:
    return {"outcome": "refused", "explanation": explanation}
