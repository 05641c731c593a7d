"""Verify: run the checks on exactly one captured tree, outside the agent's reach."""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
import shlex
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from commandcenter.core.check import Check, Found, Receipt, Verdict, judge
from commandcenter.core.errors import WorkspaceError
from commandcenter.core.plan import FileOp
from commandcenter.core.workspace import Command, Completed, Ended
from commandcenter.settings import ProjectCheck
from commandcenter.stages import holdings
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.job import Job, Record, load, workspaces
from commandcenter.stages.work import keep_captured
from commandcenter.store import receipts
from commandcenter.system.vault import Vault

WORDS_MAX = 4_000
COMMAND_NOT_FOUND = (126, 127)


@dataclass(frozen=True)
class Planned:
    """A check that is to be run."""

    check: Check
    own: bool
    """The task's own verification: it must pass, whatever it did on the base."""


async def verify(equipment: Equipment, run: str, task: str, number: int) -> Record:
    """Check the tree that a try captured; returns the verdict with {changed, evident}."""
    job = await load(equipment, run, task, number)
    vault = await equipment.vaults.open(job.run.upstream)
    await keep_captured(equipment, vault, job)
    files = await vault.diff_files(job.attempt.base, job.commit)
    # Where a pattern made it, this tree was checked when it was made.
    verdict = await check_tree(
        equipment, vault, job, job.commit, job.attempt.base, recall=bool(job.status.pattern)
    )
    return {
        **verdict.to_json(),
        "changed": bool(files),
        "evident": not files and await _evident(vault, job),
    }


async def check_tree(
    equipment: Equipment,
    vault: Vault,
    job: Job,
    commit: str,
    base: str,
    *,
    recall: bool = False,
    place: str = "",
) -> Verdict:
    """Return the verdict on a commit's tree; what failed on `base` too is told apart.

    `recall` and `place`: see `run_checks`.
    """
    files = await vault.changed_files(base, commit) if equipment.checks else ()
    checks = planned(job, equipment.checks, files)
    return await run_checks(equipment, vault, job, checks, commit, base, recall=recall, place=place)


async def run_checks(
    equipment: Equipment,
    vault: Vault,
    job: Job,
    checks: Sequence[Planned],
    commit: str,
    base: str,
    *,
    recall: bool = False,
    again: Set[str] = frozenset(),
    place: str = "",
) -> Verdict:
    """Return what these checks say of a commit's tree; what failed on `base` too is told apart.

    They run in workspaces of the job, whose purposes begin with `place` where the same commit may
    be checked twice at one time. With `recall`, what one found on the tree before counts,
    whichever task it was for; but those that `again` names run once more.
    """
    tree = await vault.tree_of(commit)
    found = []
    for index, each in enumerate(checks, 1):
        at = _Place(commit, tree, f"{place}check-{commit[:10]}-{index}", recall)
        if each.check.name in again:
            at = replace(at, purpose=f"{at.purpose}-again", recall=False)
        receipt = await _receipt(equipment, vault, job, each.check, at)
        if receipt.found is Found.FAILED and not each.own:
            before = await vault.tree_of(base)
            # Named after the commit, too: prefixes of one chain are compared at the same time.
            at = _Place(base, before, f"{place}check-{commit[:10]}-{index}-base", recall)
            receipt = await _compared(equipment, vault, job, each.check, receipt, at)
        found.append(receipt)
    return judge(tree, found)


@dataclass(frozen=True)
class _Place:
    """Where a check runs."""

    commit: str
    tree: str
    purpose: str
    recall: bool
    """Whether what it found there before counts."""


async def _receipt(
    equipment: Equipment, vault: Vault, job: Job, check: Check, at: _Place
) -> Receipt:
    digest = check.digest(job.mode)
    transact = equipment.database.transact
    if at.recall and (known := await transact(receipts.find, at.tree, digest)):
        return known
    receipt = await _run(equipment, vault, job, check, at.commit, at.tree, at.purpose)
    if receipt.found is not Found.NOT_RUN:
        await transact(receipts.save, digest, receipt, equipment.now_ms())
    return receipt


def planned(job: Job, project: Sequence[ProjectCheck], files: Sequence[str]) -> tuple[Planned, ...]:
    """Return the checks of a task that changed these files, in the order that they run in."""
    own = [Planned(Check(command, command), own=True) for command in job.task.commands]
    shared = [
        Planned(Check(command, command), own=False)
        for command in job.plan.defaults.verify
        if command not in job.task.commands
    ]
    configured = [
        Planned(Check(each.name, _scoped(each, matching), each.timeout_s), own=False)
        for each in project
        if (matching := _matching(each, files)) is not None
    ]
    return (*own, *shared, *configured)


def _matching(check: ProjectCheck, files: Sequence[str]) -> list[str] | None:
    """Return the changed files that a check is about; None when it has nothing to look at."""
    if not check.files:
        return list(files)
    matching = [
        path
        for path in files
        if fnmatch.fnmatchcase(path, check.files)
        or fnmatch.fnmatchcase(path, check.files.replace("**/", ""))
        or fnmatch.fnmatchcase(Path(path).name, check.files)
    ]
    return matching or None


def _scoped(check: ProjectCheck, files: Sequence[str]) -> str:
    # A name that begins with a dash would be read as an option.
    safe = [f"./{path}" if path.startswith("-") else path for path in files]
    return check.command.replace("{files}", shlex.join(safe))


async def _run(
    equipment: Equipment,
    vault: Vault,
    job: Job,
    check: Check,
    commit: str,
    tree: str,
    purpose: str,
) -> Receipt:
    key = job.workspace(purpose)
    await holdings.note(equipment, [holdings.workspace(job, key)])
    opened = workspaces(equipment, job).open(key, vault=vault.path, commit=commit)
    reach = await equipment.reach()
    command = Command(
        ("/bin/sh", "-c", check.command),
        environment=reach.variables,
        timeout_s=check.timeout_s,
        egress=reach.policy.allows,
        resources=equipment.resources,
    )
    async with opened as workspace:
        journal = equipment.logs.journal(job.run.id, job.task.id, job.attempt.number, purpose)
        async with equipment.proxy.socket(workspace.gateway, reach.policy, journal):
            completed = await workspace.run("check", command)
        if completed.ended is Ended.LOST:
            raise WorkspaceError(f"The check `{check.name}` was killed from outside.")
        digest = await asyncio.to_thread(_digest, completed.log)
        equipment.logs.keep(job.run.id, job.task.id, job.attempt.number, purpose, completed)
    return Receipt(
        check=check.name,
        command=check.command,
        tree=tree,
        found=_found(completed),
        exit_code=completed.exit_code,
        duration_s=round(completed.duration_s, 3),
        log_sha256=digest,
        words=_words(completed),
    )


def _found(completed: Completed) -> Found:
    if completed.ended is not Ended.EXITED or completed.exit_code in COMMAND_NOT_FOUND:
        return Found.NOT_RUN
    return Found.PASSED if completed.exit_code == 0 else Found.FAILED


def _words(completed: Completed) -> str:
    printed = (completed.stdout[-WORDS_MAX:] + b"\n" + completed.stderr[-WORDS_MAX:]).strip()
    words = printed.decode(errors="replace").replace("\0", "")
    if completed.ended is not Ended.EXITED:
        words += f"\n[ended: {completed.ended.value} after {completed.duration_s:.0f} s]"
    if completed.problem:
        words += f"\n[{completed.problem}]"
    return words[-WORDS_MAX:]


def _digest(log: Path) -> str:
    digest = hashlib.sha256()
    for name in ("stdout", "stderr"):
        with (log / name).open("rb") as stream:
            while chunk := stream.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()


async def _compared(
    equipment: Equipment, vault: Vault, job: Job, check: Check, receipt: Receipt, base: _Place
) -> Receipt:
    """Tell a check that failed before apart from one that this change broke."""
    before = await _receipt(equipment, vault, job, check, base)
    if before.found is not Found.FAILED:
        return receipt
    return replace(receipt, found=Found.FAILED_ON_BASE)


async def _evident(vault: Vault, job: Job) -> bool:
    """Say whether the files that the task is to create are all there."""
    wanted = [use.path for use in job.task.files if use.op in (FileOp.CREATE, FileOp.TEST)]
    found = [await vault.ref(f"{job.commit}:{path}") for path in wanted]
    return bool(found) and all(found)
