"""Reclaims what a task made, and first keeps what nothing else holds."""

from __future__ import annotations

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
from commandcenter.stages.job import Job
from commandcenter.store import views
from commandcenter.system.capture import capture
from commandcenter.system.salvage import write_bundle
from commandcenter.system.usage import size_bytes
from commandcenter.system.vault import RefUpdate, Vault, salvage_ref, task_ref

WORK = "work"
"""Purpose of the workspace that holds an agent's work; others hold what is made again."""
RESULT = "result"
"""Stands for the task of a branch that holds a whole run's result."""


async def reclaim_workspace(equipment: Equipment, job: Job, holding: Holding) -> tuple[str, ...]:
    """Remove a workspace, after keeping what only it holds; return in sentences what was kept.

    A second call finds what the first one kept.
    """
    key = key_of(holding)
    told = await _keep(equipment, job, key)
    await equipment.workspaces[holding.place].remove(key)
    await holdings.note(equipment, [holdings.gone(holding)])
    return told


async def reclaim_derived(equipment: Equipment, held: Sequence[Holding]) -> tuple[str, ...]:
    """Remove workspaces that hold nothing but what is made again: of checks and reviews."""
    for holding in held:
        await equipment.workspaces[holding.place].remove(key_of(holding))
    await holdings.note(equipment, map(holdings.gone, held))
    return ()


def is_derived(holding: Holding) -> bool:
    """Say whether this is a workspace in which no agent's work lies."""
    return holding.kind is Kind.WORKSPACE and not holding.name.endswith(f"/{WORK}")


async def _keep(equipment: Equipment, job: Job, key: WorkspaceKey) -> tuple[str, ...]:
    last = uncaptured(job.tries, key.attempt)
    contents = await equipment.workspaces[job.mode].still(key) if last else None
    if last is None or contents is None:
        return ()
    kept = _salvaged(job, key)
    await holdings.note(equipment, [kept])
    vault = await equipment.vaults.open(job.run.upstream)
    try:
        head = await _capture(equipment, vault, job, last, contents)
    except (CaptureRefused, PermissionError) as refusal:
        return await _put_aside(equipment, job, kept, key, f"{refusal}")
    ref = salvage_ref(job.run.id, job.task.id, f"{WORK}-{key.attempt}")
    if head is None or await _held_already(vault, job, head):
        if head is not None:
            await vault.update_refs([RefUpdate(ref, None, head)])
        await holdings.note(equipment, [replace(kept, fact=Fact.GONE)])
        return ()
    await write_bundle(vault, ref, last.base, bundle_path(equipment.salvage_dir, ref))
    why = f"try {last.number} had not been captured when the task {_ended(job)}"
    await holdings.note(equipment, [replace(kept, commit=head, words=why)])
    return (
        f"what try {last.number} had not finished is kept: "
        f"commandcenter salvage restore {kept.name}",
    )


def _salvaged(job: Job, key: WorkspaceKey) -> Entry:
    """Return the entry of work that is about to be kept."""
    return Entry(Kind.SALVAGE, job.run.upstream, str(key), Fact.PUT, job.run.id, job.task.id)


def key_of(holding: Holding) -> WorkspaceKey:
    """Return the key that a workspace or salvaged work is named by."""
    key = WorkspaceKey.parse(holding.name)
    assert key is not None, holding.name
    return key


def ref_of(holding: Holding) -> str:
    """Return the ref that keeps salvaged work."""
    key = key_of(holding)
    return salvage_ref(key.run, key.task, f"{key.purpose}-{key.attempt}")


def bundle_path(salvage_dir: Path, ref: str) -> Path:
    """Return where the bundle of a salvage ref lies."""
    return salvage_dir / f"{ref.removeprefix('refs/cc/salvage/')}.bundle"


async def _capture(
    equipment: Equipment, vault: Vault, job: Job, last: Attempt, contents: Contents
) -> str | None:
    """Return the commit of what the workspace holds; None when that is its base."""
    change = await capture(
        equipment.git,
        vault,
        contents,
        last.base,
        ref=salvage_ref(job.run.id, job.task.id, f"{WORK}-{last.generation}"),
        message=salvage_message(job.run.id, job.task, last.number),
        author=BOT,
        committer=BOT,
        date=job.date,
    )
    return None if change.empty else change.head


async def _held_already(vault: Vault, job: Job, head: str) -> bool:
    """Say whether the same files were captured by a try of this task."""
    captured = await vault.refs(task_ref(job.run.id, job.task.id, 0).removesuffix("0"))
    trees = {await vault.tree_of(commit) for commit in captured.values()}
    return await vault.tree_of(head) in trees


async def _put_aside(
    equipment: Equipment, job: Job, kept: Entry, key: WorkspaceKey, reason: str
) -> tuple[str, ...]:
    """Keep a workspace as it is, since what is in it cannot be taken."""
    await equipment.workspaces[job.mode].put_aside(key)
    await holdings.note(equipment, [replace(kept, fact=Fact.KEPT, words=reason)])
    return (
        f"what it left cannot be taken ({reason.rstrip('.')}), so its workspace is kept: "
        f"commandcenter salvage restore {kept.name} --to FOLDER",
    )


def _ended(job: Job) -> str:
    words = {"failed": "failed", "cancelled": "was cancelled", "completed": "was completed"}
    return words.get(job.status.state, "ended")


async def reclaim_branch(
    equipment: Equipment, vault: Vault, holding: Holding, target: str
) -> tuple[str, ...]:
    """Delete our branch upstream where it stands at a commit of ours; else leave it, and say so.

    What it holds must be held elsewhere first: by a capture, or by the target.
    """
    if not await _delete(vault, holding, holding.commit, target):
        tip = await vault.upstream_tip(holding.name)
        if standing(holding, tip) is Standing.OURS:
            await _hold(equipment, vault, holding, str(tip), target)
            gone = await _delete(vault, holding, str(tip), target)
            tip = None if gone else await vault.upstream_tip(holding.name)
        if tip is not None:
            words = (
                f"the branch {holding.name} was left alone: it holds a commit that is not "
                f"CommandCenter's ({tip[:12]})"
            )
            await holdings.note(equipment, [holdings.kept(holding, words)])
            return (words,)
    await holdings.note(equipment, [holdings.gone(holding)])
    return ()


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
    ref = salvage_ref(key.run, key.task, f"{key.purpose}-{key.attempt}")
    await vault.update_refs([RefUpdate(ref, tip, await vault.ref(ref))])
    if not await vault.is_ancestor(tip, at):
        await write_bundle(vault, ref, at, bundle_path(equipment.salvage_dir, ref))
    why = f"the branch {holding.name} was the only place that held it"
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
        return size_bytes(bundle_path(equipment.salvage_dir, ref_of(holding)))
    folder = await folder_of(equipment, holding)
    return size_bytes(folder) if folder else 0
