"""Reclaims what a task made, and first keeps what nothing else holds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from commandcenter.core.attempt import Attempt, uncaptured
from commandcenter.core.errors import CaptureRefused
from commandcenter.core.ledger import Entry, Fact, Holding, Kind, Standing, standing
from commandcenter.core.publication import salvage_message
from commandcenter.core.workspace import Contents, WorkspaceKey, Workspaces
from commandcenter.stages import holdings
from commandcenter.stages.equipment import BOT, Equipment
from commandcenter.stages.job import Job, is_lane, lane_key
from commandcenter.store import asks, views
from commandcenter.store.asks import Asked
from commandcenter.system.capture import capture
from commandcenter.system.salvage import write_bundle
from commandcenter.system.usage import size_bytes
from commandcenter.system.vault import RefUpdate, Vault, salvage_ref, task_ref

RESULT = "result"
"""Stands for the task of a branch that holds a whole run's result."""


async def reclaim_workspace(equipment: Equipment, job: Job, holding: Holding) -> None:
    """Remove a workspace, after keeping what only it holds.

    A second call finds what the first one kept.
    """
    key = key_of(holding)
    await _keep(equipment, job, key)
    await equipment.workspaces[holding.place].remove(key)
    await holdings.note(equipment, [holdings.gone(holding)])


async def reclaim_derived(equipment: Equipment, held: Sequence[Holding]) -> None:
    """Remove workspaces that hold nothing but what is made again: of checks and reviews."""
    for holding in held:
        await equipment.workspaces[holding.place].remove(key_of(holding))
    await holdings.note(equipment, map(holdings.gone, held))


def is_derived(holding: Holding) -> bool:
    """Say whether this is a workspace in which no agent's work lies."""
    return holding.kind is Kind.WORKSPACE and not is_lane(key_of(holding))


async def _keep(equipment: Equipment, job: Job, key: WorkspaceKey) -> None:
    asked = await equipment.database.transact(asks.of_task, job.run.id, job.task.id)
    last = _unkept(job, key, asked)
    contents = await equipment.workspaces[job.mode].still(key) if last else None
    if last is None or contents is None:
        return
    kept = _salvaged(job, key)
    await holdings.note(equipment, [kept])
    vault = await equipment.vaults.open(job.run.upstream)
    try:
        head = await _capture(equipment, vault, job, last, contents, ref_of(kept))
    except (CaptureRefused, PermissionError) as refusal:
        # The reason first: a folder that was put aside must never be one that nobody tells of.
        await holdings.note(equipment, [replace(kept, fact=Fact.KEPT, words=f"{refusal}")])
        await equipment.workspaces[job.mode].put_aside(key)
        return
    if head is None or await _captured_before(vault, job, asked, head):
        await _forget(equipment, vault, kept, head)
        return
    ref = ref_of(kept)
    await write_bundle(vault, ref, last.base, bundle_path(equipment.salvage_dir, ref))
    why = f"try {last.number} had not been captured when the task {_ended(job)}"
    await holdings.note(equipment, [replace(kept, commit=head, words=why)])


def _unkept(job: Job, key: WorkspaceKey, asked: Sequence[Asked]) -> Attempt | None:
    """Return the try whose work in a workspace was never captured, if there is one."""
    tries = [each for each in job.tries if each.generation == key.attempt]
    last = uncaptured(job.tries, key.attempt)
    numbers = {each.number for each in tries}
    played = [
        each
        for each in asked
        if each.attempt in numbers and lane_key(*_of(key), each.record.get("lane", 0)) == key
    ]
    if not played or (last and last.number > played[-1].attempt):
        return last if last and lane_key(*_of(key), last.lane) == key else None
    reply = played[-1].reply
    if reply and reply["change"]:
        return None
    return next(each for each in tries if each.number == played[-1].attempt)


def _of(key: WorkspaceKey) -> tuple[str, str, int]:
    return key.run, key.task, key.attempt


async def _forget(equipment: Equipment, vault: Vault, kept: Entry, head: str | None) -> None:
    """Keep nothing of a workspace that holds nothing new."""
    if head is not None:
        await vault.update_refs([RefUpdate(ref_of(kept), None, head)])
    await holdings.note(equipment, [replace(kept, fact=Fact.GONE)])


def _salvaged(job: Job, key: WorkspaceKey) -> Entry:
    """Return the entry of work that is about to be kept."""
    return Entry(Kind.SALVAGE, job.run.upstream, str(key), Fact.PUT, job.run.id, job.task.id)


def is_whole(holding: Holding) -> bool:
    """Say whether salvaged work is kept by now; before, it is about to be."""
    return holding.kind is Kind.SALVAGE and bool(holding.commit or holding.words)


def told(holding: Holding) -> str:
    """Return in a sentence that work was kept, and how it comes back."""
    restore = f"commandcenter salvage restore {holding.name}"
    if holding.commit:
        return f"work that did not land is kept, since {holding.words}: {restore}"
    reason = holding.words.rstrip(".")
    return (
        f"what it left cannot be taken ({reason}), so its workspace is kept: {restore} --to FOLDER"
    )


def key_of(holding: Holding | Entry) -> WorkspaceKey:
    """Return the key that a workspace or salvaged work is named by."""
    key = WorkspaceKey.parse(holding.name)
    assert key is not None, holding.name
    return key


def ref_of(holding: Holding | Entry) -> str:
    """Return the ref that keeps salvaged work."""
    key = key_of(holding)
    return salvage_ref(key.run, key.task, f"{key.purpose}-{key.attempt}")


def bundle_path(salvage_dir: Path, ref: str) -> Path:
    """Return where the bundle of a salvage ref lies."""
    return salvage_dir / f"{ref.removeprefix('refs/cc/salvage/')}.bundle"


async def _capture(
    equipment: Equipment, vault: Vault, job: Job, last: Attempt, contents: Contents, ref: str
) -> str | None:
    """Return the commit of what the workspace holds; None when that is its base."""
    change = await capture(
        equipment.git,
        vault,
        contents,
        last.base,
        ref=ref,
        message=salvage_message(job.run.id, job.task, last.number),
        author=BOT,
        committer=BOT,
        date=job.date,
    )
    return None if change.empty else change.head


async def _captured_before(vault: Vault, job: Job, asked: Sequence[Asked], head: str) -> bool:
    """Say whether the same files are a recorded capture, which people are told of."""
    known = [each.head for each in job.tries]
    known += [each.head for each in asked]
    recorded = [each for each in dict.fromkeys(known) if each and await vault.resolve(each)]
    return await vault.tree_of(head) in {await vault.tree_of(each) for each in recorded}


def _ended(job: Job) -> str:
    words = {"failed": "failed", "cancelled": "was cancelled", "completed": "was completed"}
    return words.get(job.status.state, "ended")


async def reclaim_branch(equipment: Equipment, vault: Vault, holding: Holding, target: str) -> None:
    """Delete our branch upstream where it stands at a commit of ours; else leave it, noting why.

    What it holds must be held elsewhere first: by a capture, or by the target.
    """
    tip = await _after_deleting(equipment, vault, holding, target)
    if tip is None:
        await holdings.note(equipment, [holdings.gone(holding)])
        return
    words = (
        f"the branch {holding.name} was left alone: it holds a commit that is not "
        f"CommandCenter's ({tip[:12]})"
    )
    await holdings.note(equipment, [holdings.kept(holding, words)])


async def _after_deleting(
    equipment: Equipment, vault: Vault, holding: Holding, target: str
) -> str | None:
    """Delete a branch if it is ours; return where it stands all the same, None when it is gone."""
    if await _delete(vault, holding, holding.commit, target):
        return None
    tip = await vault.upstream_tip(holding.name)
    if tip is None or standing(holding, tip) is not Standing.OURS:
        return tip
    await _hold(equipment, vault, holding, tip, target)
    if await _delete(vault, holding, tip, target):
        return None
    return await vault.upstream_tip(holding.name)


async def _delete(vault: Vault, holding: Holding, commit: str, target: str) -> bool:
    """Delete a branch if it is at a commit that is held elsewhere; say whether it is gone."""
    held = bool(commit) and await _is_held(vault, holding, commit, target)
    return held and await vault.delete_branch(holding.name, commit)


async def _is_held(vault: Vault, holding: Holding, commit: str, target: str) -> bool:
    """Say whether a capture or salvage of the task, or the target, holds a commit."""
    kept = (
        task_ref(holding.run, holding.task, 0).removesuffix("0"),
        salvage_ref(holding.run, holding.task or RESULT, "").removesuffix("/"),
    )
    return await vault.holds(commit, *kept, f"refs/upstream/heads/{target}")


async def _hold(
    equipment: Equipment, vault: Vault, holding: Holding, tip: str, target: str
) -> None:
    """Make sure that something besides a branch holds its commit.

    A vault that was moved away and made again from the upstream has lost its captures.
    """
    if await _is_held(vault, holding, tip, target):
        return
    await vault.fetch(holding.name)
    at = await vault.fetch(target)
    key = WorkspaceKey(holding.run, holding.task or RESULT, 1, "branch")
    kept = Entry(Kind.SALVAGE, holding.place, str(key), Fact.PUT, holding.run, holding.task)
    await holdings.note(equipment, [kept])
    ref = ref_of(kept)
    await vault.update_refs([RefUpdate(ref, tip, await vault.ref(ref))])
    if not await vault.is_ancestor(tip, at):
        await write_bundle(vault, ref, at, bundle_path(equipment.salvage_dir, ref))
    why = f"only the branch {holding.name} held it"
    await holdings.note(equipment, [replace(kept, commit=tip, words=why)])


async def drop_salvage(equipment: Equipment, vault: Vault, holding: Holding) -> None:
    """Remove salvaged work for good: its ref and bundle, or its folder."""
    ref = ref_of(holding)
    commit = await vault.ref(ref)
    if commit is not None:
        await vault.update_refs([RefUpdate(ref, None, commit)])
    bundle_path(equipment.salvage_dir, ref).unlink(missing_ok=True)
    if not holding.commit:
        kind, key = await _aside_of(equipment, holding)
        await kind.remove_aside(key)
    await holdings.note(equipment, [holdings.gone(holding)])


async def folder_of(equipment: Equipment, holding: Holding) -> Path | None:
    """Return the folder of files that could not be captured, if this is one that is there."""
    kind, key = await _aside_of(equipment, holding)
    contents = await kind.aside(key)
    return (contents.upper or contents.tree) if contents else None


async def _aside_of(equipment: Equipment, holding: Holding) -> tuple[Workspaces, WorkspaceKey]:
    run = await equipment.database.transact(views.read_run, holding.run)
    return equipment.workspaces[run.mode], key_of(holding)


async def salvage_bytes(equipment: Equipment, holding: Holding) -> int:
    """Return how much of the disk salvaged work takes besides the vault."""
    if holding.commit:
        place: Path | None = bundle_path(equipment.salvage_dir, ref_of(holding))
    else:
        place = await folder_of(equipment, holding)
    return await asyncio.to_thread(size_bytes, place) if place else 0
