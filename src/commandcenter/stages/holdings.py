"""What a try puts outside the database: noted in the ledger before it is made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from commandcenter.core.ledger import Entry, Fact, Holding, Kind
from commandcenter.core.publication import landing_branch
from commandcenter.core.workspace import WorkspaceKey
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.job import Job
from commandcenter.store import ledger


def branch(job: Job, name: str, commit: str) -> Entry:
    """Return the entry of a branch of the upstream that is about to stand at a commit."""
    return _put(job, Kind.BRANCH, name, commit)


def result(job: Job, commit: str) -> Entry:
    """Return the entry of the branch that holds the run's result, at a commit."""
    return replace(branch(job, landing_branch(job.run.id), commit), task="")


def workspace(job: Job, key: WorkspaceKey) -> Entry:
    """Return the entry of a workspace that is about to be made."""
    return replace(_put(job, Kind.WORKSPACE, str(key)), place=job.mode)


def ref(job: Job, name: str, commit: str = "") -> Entry:
    """Return the entry of a ref of the vault; at which commit is told when it is known."""
    return _put(job, Kind.REF, name, commit)


def _put(job: Job, kind: Kind, name: str, commit: str = "") -> Entry:
    return Entry(kind, job.run.upstream, name, Fact.PUT, job.run.id, job.task.id, commit)


def gone(holding: Holding) -> Entry:
    """Return the entry of something that is not there any more."""
    return _of(holding, Fact.GONE)


def kept(holding: Holding, words: str) -> Entry:
    """Return the entry of something that was left where it is, and why."""
    return replace(_of(holding, Fact.KEPT), words=words)


def _of(holding: Holding, fact: Fact) -> Entry:
    return Entry(holding.kind, holding.place, holding.name, fact, holding.run, holding.task)


async def note(equipment: Equipment, entries: Iterable[Entry]) -> None:
    """Note these in one transaction; what is known already is noted once."""
    dated = [replace(entry, at_ms=equipment.now_ms()) for entry in entries]
    if dated:
        await equipment.database.transact(ledger.note, dated)


async def branch_of(equipment: Equipment, upstream: str, name: str) -> Holding | None:
    """Return what is known of a branch of an upstream; None when it was never ours."""
    return await equipment.database.transact(ledger.holding, Kind.BRANCH, upstream, name)
