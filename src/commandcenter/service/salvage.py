"""Work that did not land: listed, given back as a branch or as files, dropped when asked to."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from sqlalchemy.orm import Session

from commandcenter.core.errors import InputError, NotFound
from commandcenter.core.ledger import Holding, Kind
from commandcenter.core.publication import salvage_branch
from commandcenter.core.run import State
from commandcenter.core.upkeep import Files, Restored, Salvaged
from commandcenter.core.workspace import WorkspaceKey
from commandcenter.settings import Settings
from commandcenter.stages import holdings
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.salvage import (
    bundle_path,
    drop_salvage,
    folder_of,
    is_whole,
    ref_of,
    salvage_bytes,
)
from commandcenter.store import asks, ledger, views
from commandcenter.system.salvage import offer, pack_commit, pack_folder, read_bundle
from commandcenter.system.vault import RefUpdate, Vault, task_ref

CAPTURE = "capture"


@dataclass(frozen=True)
class _Kept:
    """Where a piece of such work is held."""

    id: str
    run: str
    task: str
    holding: Holding
    commit: str
    ref: str


class Salvage:
    """All work of tasks that did not land."""

    def __init__(self, settings: Settings, equipment: Equipment) -> None:
        self._data_dir = settings.data_dir
        self._equipment = equipment

    async def list(self) -> Sequence[Salvaged]:
        """Return what was salvaged, and the captured tries of tasks that did not land."""
        transact = self._equipment.database.transact
        salvaged = [await self._salvaged(each) for each in await transact(_salvage)]
        captured = await transact(_captured)
        return sorted([*salvaged, *captured], key=lambda one: (one.since_ms, one.id))

    async def _salvaged(self, holding: Holding) -> Salvaged:
        return Salvaged(
            id=holding.name,
            run=holding.run,
            task=holding.task,
            commit=holding.commit,
            size_bytes=await salvage_bytes(self._equipment, holding),
            why=holding.words,
            since_ms=holding.since_ms,
        )

    async def restore(self, id_: str, repository: str | None, branch: str | None) -> Restored:
        """Make a branch of it in a repository, by default the run's own; no checkout is touched.

        Raises:
            NotFound: there is no such work.
            InputError: it is no commit, or the repository has such a branch already.
        """
        kept = await self._find(id_)
        if not kept.commit:
            raise InputError(
                f"{id_} cannot be a branch, since git does not take it: {kept.holding.words}",
                hint=f"take its files: commandcenter salvage restore {id_} --to FOLDER",
            )
        run = await self._equipment.database.transact(views.read_run, kept.run)
        vault = await self._with_commit(run.upstream, kept)
        where, name = repository or run.repository, branch or _branch(kept.id)
        await offer(vault, kept.commit, where, name)
        return Restored(id_, where, name, kept.commit)

    async def files(self, id_: str) -> Files:
        """Return its files as an archive.

        Raises:
            NotFound: there is no such work.
        """
        kept = await self._find(id_)
        # It has no name, so no crash leaves it behind.
        archive = tempfile.TemporaryFile(dir=self._data_dir)  # noqa: SIM115 - the caller closes it
        try:
            left_out = await self._pack(kept, archive)
        except BaseException:
            archive.close()
            raise
        archive.seek(0)
        return Files(archive, left_out)

    async def _pack(self, kept: _Kept, archive: IO[bytes]) -> tuple[str, ...]:
        if kept.commit:
            run = await self._equipment.database.transact(views.read_run, kept.run)
            vault = await self._with_commit(run.upstream, kept)
            await pack_commit(vault, kept.commit, archive)
            return ()
        folder = await folder_of(self._equipment, kept.holding)
        if folder is None:
            raise NotFound(f"The folder of {kept.id} is gone.")
        return await asyncio.to_thread(pack_folder, folder, archive)

    async def drop(self, id_: str) -> None:
        """Remove it for good.

        Raises:
            NotFound: there is no such work.
            InputError: its run has not ended.
        """
        kept = await self._find(id_)
        run = await self._equipment.database.transact(views.read_run, kept.run)
        if not run.ended_ms:
            raise InputError(
                f"The run of {id_} has not ended.", hint=f"cancel it: commandcenter cancel {run.id}"
            )
        vault = await self._equipment.vaults.open(run.upstream)
        if kept.holding.kind is Kind.SALVAGE:
            await drop_salvage(self._equipment, vault, kept.holding)
            return
        if await vault.ref(kept.ref) is not None:
            await vault.update_refs([RefUpdate(kept.ref, None, kept.commit)])
        await holdings.note(self._equipment, [holdings.gone(kept.holding)])

    async def _find(self, id_: str) -> _Kept:
        key = WorkspaceKey.parse(id_)
        kept = await self._equipment.database.transact(_kept, key) if key else None
        if kept is None:
            raise NotFound(
                f"There is no salvaged work {id_}.", hint="list it: commandcenter salvage list"
            )
        return kept

    async def _with_commit(self, upstream: str, kept: _Kept) -> Vault:
        """Return the vault with the commit in it, brought back from the bundle if need be."""
        vault = await self._equipment.vaults.open(upstream)
        if await vault.resolve(kept.commit) is None:
            bundle = bundle_path(self._equipment.salvage_dir, kept.ref)
            if not bundle.exists():
                raise NotFound(f"The vault has lost {kept.id}, and there is no bundle of it.")
            await read_bundle(vault, bundle, kept.ref)
        return vault


def _branch(id_: str) -> str:
    key = WorkspaceKey.parse(id_)
    assert key is not None, id_
    return salvage_branch(key)


def _salvage(session: Session) -> tuple[Holding, ...]:
    return tuple(filter(is_whole, ledger.held(session, Kind.SALVAGE)))


def capture_key(run: str, task: str, name: str) -> WorkspaceKey:
    """Return the id of a capture, whose ref ends with `name`: a try, or an ask of its pattern."""
    number, _, asked = name.partition("-")
    return WorkspaceKey(run, task, int(number), f"{CAPTURE}-{asked}" if asked else CAPTURE)


def _capture_name(key: WorkspaceKey) -> str:
    """Return what the ref of a capture ends with; empty when it is no capture's id."""
    if key.purpose == CAPTURE:
        return str(key.attempt)
    asked = key.purpose.removeprefix(f"{CAPTURE}-")
    return f"{key.attempt}-{asked}" if asked != key.purpose else ""


def _captured(session: Session) -> tuple[Salvaged, ...]:
    """Return the captures of tasks that ended without landing, while the vault has them."""
    held = {(each.place, each.name) for each in ledger.held(session, Kind.REF)}
    return tuple(
        Salvaged(
            id=str(capture_key(lost.run, lost.task, lost.name)),
            run=lost.run,
            task=lost.task,
            commit=lost.head,
            size_bytes=0,
            why=f"{lost.what} of a task that {_WORDS[lost.state]}",
            since_ms=lost.ended_ms,
        )
        for lost in (*views.captures_not_landed(session), *asks.not_landed(session))
        if (lost.upstream, task_ref(lost.run, lost.task, lost.name)) in held
    )


_WORDS = {State.FAILED: "failed", State.CANCELLED: "was cancelled", State.SKIPPED: "was skipped"}


def _kept(session: Session, key: WorkspaceKey) -> _Kept | None:
    if name := _capture_name(key):
        return _kept_capture(session, key, name)
    for holding in _salvage(session):
        if holding.name == str(key):
            return _Kept(str(key), key.run, holding.task, holding, holding.commit, ref_of(holding))
    return None


def _kept_capture(session: Session, key: WorkspaceKey, name: str) -> _Kept | None:
    if not 1 <= key.attempt <= views.last_attempt(session, key.run, key.task):
        return None
    run = views.read_run(session, key.run)
    if key.purpose == CAPTURE:
        head = views.read_attempt(session, key.run, key.task, key.attempt).head
    else:
        asked = asks.of_task(session, key.run, key.task)
        head = next((each.head for each in asked if each.name == name), "")
    ref = task_ref(key.run, key.task, name)
    holding = ledger.holding(session, Kind.REF, run.upstream, ref)
    if not head or holding is None or not holding.held:
        return None
    return _Kept(str(key), key.run, key.task, holding, head, ref)
