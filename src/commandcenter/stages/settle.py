"""Settle: clean up behind an ended task. Nothing goes that is the only copy of somebody's work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from itertools import filterfalse

from sqlalchemy.orm import Session

from commandcenter.core.egress import refused_words
from commandcenter.core.errors import CommandCenterError, NotFound, WorldError
from commandcenter.core.forge import ProposalState
from commandcenter.core.ledger import Holding, Kind
from commandcenter.core.pattern import READ_ONLY
from commandcenter.core.run import Reason
from commandcenter.core.workspace import Found, WorkspaceKey, Workspaces, folder_name
from commandcenter.stages import holdings
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.job import Job, Record, lane_key, load
from commandcenter.stages.pattern import aside_purpose
from commandcenter.stages.proposal import changed, find
from commandcenter.stages.salvage import (
    is_derived,
    is_whole,
    key_of,
    reclaim_branch,
    reclaim_derived,
    reclaim_workspace,
    told,
)
from commandcenter.store import asks, ledger, views
from commandcenter.system.vault import Vault, pin_ref, task_ref

log = logging.getLogger(__name__)


async def settle(equipment: Equipment, run: str, task: str, number: int) -> Record:
    """Remove what an ended task leaves: branch, open pull request, workspaces, pin.

    Its commits stay in the vault. Returns {problems}: what could not be removed, what was kept,
    and which connections were refused, in sentences.
    """
    job = await load(equipment, run, task, number)
    vault = await equipment.vaults.open(job.run.upstream)
    problems = await _tried("its pull request", _close(equipment, vault, job))
    held = await equipment.database.transact(ledger.of_task, run, task)
    for holding in filterfalse(is_derived, held):
        problems += await _reclaim(equipment, vault, job, holding)
    derived = [holding for holding in held if is_derived(holding)]
    problems += await _tried("its workspaces", reclaim_derived(equipment, derived))
    problems += await _tried("its refs", _forget_unmade(equipment, vault, job, held))
    problems += await _tried("the vault", equipment.vaults.tend(vault))
    left = await equipment.database.transact(ledger.of_task, run, task)
    kept = [told(holding) for holding in left if is_whole(holding)]
    refused = await _refused(equipment, run, task)
    return {"problems": [*problems, *_left_alone(left), *kept, *refused]}


async def _refused(equipment: Equipment, run: str, task: str) -> list[str]:
    words = refused_words(await asyncio.to_thread(equipment.logs.refusals, run, task))
    return [f"connections were refused to {words}; see: commandcenter logs {run}"] if words else []


async def halt(equipment: Equipment, run: str, task: str) -> None:
    """End what runs in the task's workspaces; they stay."""
    for holding in await equipment.database.transact(ledger.of_task, run, task):
        if holding.kind is Kind.WORKSPACE:
            await equipment.workspaces[holding.place].still(key_of(holding))


async def _reclaim(equipment: Equipment, vault: Vault, job: Job, holding: Holding) -> list[str]:
    match holding.kind:
        case Kind.BRANCH:
            branch = reclaim_branch(equipment, vault, holding, job.run.landed_on)
            return await _tried("its branch", branch)
        case Kind.WORKSPACE:
            return await _tried("its workspaces", reclaim_workspace(equipment, job, holding))
        case Kind.REF if holding.name == pin_ref(job.pin):
            return await _tried("its pin", _unpin(equipment, vault, job, holding))
        case Kind.REF | Kind.SALVAGE:
            return []


async def _tried(what: str, removal: Awaitable[None]) -> list[str]:
    try:
        await removal
    except WorldError as error:
        return [f"{what} could not be cleaned up: {error.message}"]
    return []


def _left_alone(held: Sequence[Holding]) -> list[str]:
    return [each.words for each in held if each.kind is Kind.BRANCH and each.words]


async def _close(equipment: Equipment, vault: Vault, job: Job) -> None:
    status = job.status
    if not status.proposal or await _shows_as_merged(vault, job):
        return
    proposal = await find(equipment, job, status.proposal)
    if proposal is None or proposal.state is not ProposalState.OPEN:
        return
    forge = equipment.forge(job.run.upstream, job.run.target)
    await forge.comment(status.proposal, _last_words(job))
    if not changed(job, proposal):
        await forge.close(status.proposal)  # else a person goes on with it


async def _shows_as_merged(vault: Vault, job: Job) -> bool:
    """Say whether every forge sees by itself that the change landed: its own commit is there."""
    landed = job.status.reason is Reason.MERGED
    return landed and await vault.is_ancestor(job.attempt.head, job.status.merge_commit)


def _last_words(job: Job) -> str:
    status = job.status
    if status.reason is Reason.MERGED:
        return f"Landed on `{job.run.landed_on}` as {status.merge_commit}."
    return f"Not merged: {(status.explanation or status.state.value).rstrip('.')}."


async def _unpin(equipment: Equipment, vault: Vault, job: Job, holding: Holding) -> None:
    await vault.unpin(job.pin)
    await holdings.note(equipment, [holdings.gone(holding)])


async def _forget_unmade(
    equipment: Equipment, vault: Vault, job: Job, held: Sequence[Holding]
) -> None:
    """Note the captures gone that never came to be: of tries that changed nothing, or ended."""
    made = await vault.refs(task_ref(job.run.id, job.task.id, 0).removesuffix("/0"))
    refs = [each for each in held if each.kind is Kind.REF and each.name != pin_ref(job.pin)]
    await holdings.note(equipment, [holdings.gone(e) for e in refs if e.name not in made])


async def sweep(equipment: Equipment) -> None:
    """Reclaim the workspaces of tasks that have ended: what a crash kept from being reclaimed."""
    alive = await equipment.database.transact(workspaces_in_use)
    for kind in equipment.workspaces.values():
        kept = set(alive)
        for found in await kind.existing():
            key = await name_of(equipment, found)
            if key not in alive and not await _swept(equipment, kind, key):
                kept.add(key)
        await kind.sweep(frozenset(kept))


def workspaces_in_use(session: Session) -> frozenset[str]:
    """Return the keys of the workspaces that tasks go on with after a start."""
    keys: set[str] = set()
    for run, task in views.unsettled(session):
        number = views.last_attempt(session, run, task)
        generation = views.read_attempt(session, run, task, number).generation
        played = [each for each in asks.of_task(session, run, task) if "lane" in each.record]
        lanes = {1, *(each.record["lane"] for each in played)} - {READ_ONLY}
        keys |= {
            str(lane_key(run, task, each, lane))
            for each in range(1, generation + 1)
            for lane in lanes
        }
        keys.add(str(WorkspaceKey(run, task, number, f"review-{number}")))
        keys |= {
            str(WorkspaceKey(run, task, number, aside_purpose(each)))
            for each in played
            if each.attempt == number and each.record["lane"] == READ_ONLY and each.reply is None
        }
    return frozenset(keys)


async def name_of(equipment: Equipment, found: Found) -> str:
    """Return the key of a workspace, also of one that a power cut took its own from.

    Empty: neither it nor the ledger tells.
    """
    if found.key:
        return found.key
    held = await equipment.database.transact(ledger.held, Kind.WORKSPACE)
    return next((one.name for one in held if folder_name(one.name) == found.path.name), "")


async def _swept(equipment: Equipment, kind: Workspaces, key: str) -> bool:
    """Reclaim a workspace; say no when it is not ours to judge, or cannot be kept safe now."""
    try:
        await sweep_workspace(equipment, kind, key)
    except NotFound:
        log.warning("A workspace that no run of this data folder made was left alone: %s", key)
        return False
    except (CommandCenterError, OSError):
        log.exception("A workspace could not be reclaimed, and was left alone: %s", key)
        return False
    return True


async def sweep_workspace(equipment: Equipment, kind: Workspaces, key: str) -> None:
    """Reclaim the workspace of a task that has ended.

    Raises:
        NotFound: no task of ours has it.
    """
    parsed = WorkspaceKey.parse(key)
    if parsed is None:
        raise NotFound(f"{key or 'It'} names no workspace of ours.")
    number = await equipment.database.transact(views.last_attempt, parsed.run, parsed.task)
    if not number:
        raise NotFound(f"{key} belongs to no task of this data folder.")
    holding = Holding(Kind.WORKSPACE, kind.kind, key, parsed.run, parsed.task, held=True)
    if is_derived(holding):
        await reclaim_derived(equipment, [holding])
        return
    job = await load(equipment, parsed.run, parsed.task, number)
    await reclaim_workspace(equipment, job, holding)
