"""`gc`: looks at all that we own, frees what is held elsewhere, and says of the rest why not."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from sqlalchemy.orm import Session

from commandcenter.core.errors import CommandCenterError, GitError
from commandcenter.core.ledger import Holding, Kind, standing
from commandcenter.core.upkeep import (
    Item,
    Known,
    Ruling,
    Thing,
    explain,
    is_container,
    of_base,
    of_branch,
    of_capture,
    of_image,
    of_logs,
    of_objects,
    of_pin,
    of_salvage,
    of_workspace,
)
from commandcenter.core.workspace import WorkspaceKey, Workspaces, folder_name
from commandcenter.service.gate import Gate
from commandcenter.service.salvage import capture_key
from commandcenter.settings import Settings
from commandcenter.stages import holdings
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.salvage import (
    bundle_path,
    drop_salvage,
    is_whole,
    reclaim_branch,
    ref_of,
    salvage_bytes,
)
from commandcenter.stages.settle import name_of, sweep_workspace
from commandcenter.store import ledger, views
from commandcenter.store.views import RunRecord
from commandcenter.system import removal
from commandcenter.system.prune import prune, unreachable_bytes
from commandcenter.system.repository import advertised
from commandcenter.system.usage import size_bytes
from commandcenter.system.vault import RefUpdate, Vault, task_ref, vault_folder
from commandcenter.workspaces.prepared import vault_id

log = logging.getLogger(__name__)
_UPSTREAM = "refs/upstream/heads/"


@dataclass(frozen=True)
class _Facts:
    """What the database says, read once for a look at everything."""

    runs: Mapping[str, RunRecord]
    held: Sequence[Holding]
    unsettled: frozenset[tuple[str, str]]
    """(run, task) of the tasks that have something to clean up, now or later."""
    landings: Mapping[tuple[str, str], str]
    """The commit by which a capture, of this upstream and ref, landed."""

    def of(self, kind: Kind) -> list[Holding]:
        return [each for each in self.held if each.kind is kind]

    def ended(self, run: str) -> bool | None:
        """Say whether a run has ended; None when none of this id was stored."""
        return self.runs[run].ended_ms > 0 if run in self.runs else None

    def active(self, upstream: str) -> int:
        return sum(not r.ended_ms for r in self.runs.values() if r.upstream == upstream)

    @property
    def running(self) -> int:
        return sum(not run.ended_ms for run in self.runs.values())


@dataclass(frozen=True)
class _Candidate:
    """Something to rule on, with what it takes to free it."""

    item: Item
    act: Callable[[], Awaitable[str]] | None = None
    """Frees it; returns why it stayed after all, or nothing."""


class Upkeep:
    """Everything that is owned outside the database, looked at whole."""

    def __init__(self, settings: Settings, equipment: Equipment, gate: Gate) -> None:
        self._data_dir = settings.data_dir
        self._keep = settings.keep
        self._equipment = equipment
        self._gate = gate
        self._sections = (
            self._branches,
            self._workspaces,
            self._bases,
            self._images,
            self._vaults,
            self._salvage,
            self._logs,
            self._objects,
            self._unknown,
        )

    async def look(self) -> tuple[Item, ...]:
        """Return what a collection would free, and why; and what it would not, and why not."""
        return await self._go(act=False)

    async def collect(self) -> tuple[Item, ...]:
        """Free what may go; return what has gone, and what has not, each with the reason."""
        return await self._go(act=True)

    async def _go(self, *, act: bool) -> tuple[Item, ...]:
        items: list[Item] = []
        for section in self._sections:
            # Read anew for each, since runs go on meanwhile, and freeing changes the ledger.
            facts = await self._equipment.database.transact(_read)
            for candidate in await section(facts, items):
                items.append(await _freed(candidate) if act else candidate.item)
        return tuple(items)

    # Branches upstream

    async def _branches(self, facts: _Facts, _: Sequence[Item]) -> list[_Candidate]:
        found: list[_Candidate] = []
        held = facts.of(Kind.BRANCH)
        for upstream in sorted({each.place for each in held}):
            found += await self._of_upstream(
                facts, upstream, [each for each in held if each.place == upstream]
            )
        return found

    async def _of_upstream(
        self, facts: _Facts, upstream: str, held: Sequence[Holding]
    ) -> list[_Candidate]:
        try:
            heads = (await advertised(self._equipment.git, upstream)).heads
            vault = await self._vault(upstream)
            targets = await self._targets(facts, upstream, vault)
        except CommandCenterError as error:
            ruling = Ruling(False, f"its upstream cannot be asked: {error.message}")
            return [_candidate(Thing.BRANCH, each.name, ruling) for each in held]
        return [
            await self._branch(facts, vault, targets, each, heads.get(each.name)) for each in held
        ]

    async def _branch(
        self,
        facts: _Facts,
        vault: Vault,
        targets: Sequence[str],
        holding: Holding,
        tip: str | None,
    ) -> _Candidate:
        run = facts.runs.get(holding.run)
        ruling = of_branch(
            standing(holding, tip),
            run_ended=facts.ended(holding.run),
            result=not holding.task,
            landed=tip is not None and await _reached(vault, tip, targets),
            age_ms=self._equipment.now_ms() - holding.since_ms,
        )
        target = run.target if run else targets[0].removeprefix(_UPSTREAM) if targets else ""
        act = partial(self._drop_branch, vault, holding, target)
        return _candidate(Thing.BRANCH, holding.name, ruling, act=act)

    async def _drop_branch(self, vault: Vault, holding: Holding, target: str) -> str:
        await reclaim_branch(self._equipment, vault, holding, target)
        now = await holdings.branch_of(self._equipment, holding.place, holding.name)
        return now.words if now and now.held else ""

    # Workspaces and bases

    async def _workspaces(self, facts: _Facts, _: Sequence[Item]) -> list[_Candidate]:
        found = []
        for kind in self._equipment.workspaces.values():
            for each in await kind.existing():
                key = await name_of(self._equipment, each)
                ruling = _rule_on_workspace(key, facts)
                size = await _measured(each.path)
                act = partial(self._drop_workspace, kind, key)
                name = key or str(each.path)
                found.append(_candidate(Thing.WORKSPACE, name, ruling, size, act))
        return found

    async def _drop_workspace(self, kind: Workspaces, key: str) -> str:
        await sweep_workspace(self._equipment, kind, key)
        return ""

    async def _bases(self, _: _Facts, before: Sequence[Item]) -> list[_Candidate]:
        found = []
        going = {item.name for item in before if item.what is Thing.WORKSPACE and item.free}
        for kind in self._equipment.workspaces.values():
            gone = {folder_name(name) for name in going}
            for each in await kind.bases():
                ruling = of_base(used=bool(each.used_by - gone))
                act = partial(_drop_base, kind, each.path)
                found.append(
                    _candidate(Thing.BASE, str(each.path), ruling, await _measured(each.path), act)
                )
        return found

    async def _images(self, facts: _Facts, _: Sequence[Item]) -> list[_Candidate]:
        found = []
        for name, kind in self._equipment.workspaces.items():
            try:
                images = await kind.images()
            except CommandCenterError as error:
                ruling = Ruling(False, f"its engine cannot be asked: {error.message}")
                found.append(_candidate(Thing.IMAGE, f"all of {name}", ruling))
                continue
            for each in images:
                ruling = of_image(
                    current=each.current,
                    running=facts.running,
                    used_ms=each.used_ms,
                    now_ms=self._equipment.now_ms(),
                    kept_days=self._keep.images_days,
                )
                act = partial(kind.remove_image, each)
                size = each.size_bytes
                found.append(_candidate(Thing.IMAGE, each.name, ruling, size, act))
        return found

    # Vaults: refs and objects

    async def _vault(self, upstream: str) -> Vault:
        if not (vault_folder(self._data_dir, upstream) / "repository.git").is_dir():
            raise GitError(f"There is no vault of {upstream}.")
        return await self._equipment.vaults.open(upstream)

    def _upstreams(self, facts: _Facts) -> list[str]:
        """Return the upstreams that have a vault."""
        known = {run.upstream for run in facts.runs.values()} | {
            each.place for each in facts.held if each.kind is not Kind.WORKSPACE
        }
        return sorted(
            each
            for each in known
            if (vault_folder(self._data_dir, each) / "repository.git").is_dir()
        )

    async def _targets(self, facts: _Facts, upstream: str, vault: Vault) -> list[str]:
        """Return the refs of the branches that runs land on, as they are upstream now.

        Raises:
            GitError: the upstream does not answer.
        """
        there = await advertised(self._equipment.git, upstream)
        of_runs = [run for run in facts.runs.values() if run.upstream == upstream]
        ours = {each.name for each in facts.of(Kind.BRANCH) if each.place == upstream}
        names = dict.fromkeys([run.target for run in of_runs] + [there.default_branch])
        found = [name for name in names if name in there.heads and name not in ours]
        for name in found:
            await vault.fetch(name)
        return [_UPSTREAM + name for name in found]

    async def _vaults(self, facts: _Facts, _: Sequence[Item]) -> list[_Candidate]:
        found = []
        for upstream in self._upstreams(facts):
            folder = vault_folder(self._data_dir, upstream)
            ruling = Ruling(False, f"the private copy of {upstream}, from which runs land")
            found.append(_candidate(Thing.VAULT, folder.name, ruling, await _measured(folder)))
            try:
                found += await self._refs(facts, upstream, await self._vault(upstream))
            except CommandCenterError as error:
                ruling = Ruling(False, f"its vault cannot be used: {error.message}")
                found.append(_candidate(Thing.REF, f"all of {folder.name}", ruling))
        return found

    async def _refs(self, facts: _Facts, upstream: str, vault: Vault) -> list[_Candidate]:
        held = {each.name: each for each in facts.of(Kind.REF) if each.place == upstream}
        landed = await self._landed(facts, upstream, vault)
        found = []
        refs = await vault.refs("refs/cc/keep/", "refs/cc/task/")
        for name, commit in refs.items():
            holding = held.get(name)
            ruling = _rule_on_ref(name, holding, facts, landed)
            act = partial(self._drop_ref, vault, holding, name, commit) if holding else None
            what, name = _named(name, holding)
            found.append(_candidate(what, name, ruling, act=act))
        return found

    async def _landed(self, facts: _Facts, upstream: str, vault: Vault) -> frozenset[str] | None:
        """Return our refs whose work the targets hold; None when the upstream does not answer."""
        try:
            targets = await self._targets(facts, upstream, vault)
        except GitError:
            return None
        reached = await asyncio.gather(*(vault.reached_by(each, "refs/cc/") for each in targets))
        landings = {ref: it for (place, ref), it in facts.landings.items() if place == upstream}
        return await _replayed(vault, landings, targets) | frozenset().union(*reached)

    async def _drop_ref(self, vault: Vault, holding: Holding, name: str, commit: str) -> str:
        if not await vault.update_refs([RefUpdate(name, None, commit)]):
            return "it was moved meanwhile"
        await holdings.note(self._equipment, [holdings.gone(holding)])
        return ""

    async def _objects(self, facts: _Facts, before: Sequence[Item]) -> list[_Candidate]:
        found = []
        for upstream in self._upstreams(facts):
            try:
                vault = await self._vault(upstream)
                size = await unreachable_bytes(vault)
            except CommandCenterError:
                continue  # told with the vault's refs
            ruling = of_objects(
                runs=facts.active(upstream), borrowers=_borrowers(upstream, vault, facts, before)
            )
            if size > 0:
                name = f"unreachable in {vault.path.parent.name}"
                act = partial(self._prune, upstream, vault)
                found.append(_candidate(Thing.OBJECTS, name, ruling, size, act))
        return found

    async def _prune(self, upstream: str, vault: Vault) -> str:
        async with self._gate.closed(upstream) as alone:
            facts = await self._equipment.database.transact(_read)
            if not alone or facts.active(upstream):
                return "a run is about to use its vault"
            await prune(vault)
        return ""

    # Salvage and logs

    async def _salvage(self, facts: _Facts, _: Sequence[Item]) -> list[_Candidate]:
        held = [each for each in facts.of(Kind.SALVAGE) if is_whole(each)]
        landed = {
            upstream: await self._landed_or_none(facts, upstream)
            for upstream in {each.place for each in held}
        }
        return [await self._salvaged(each, landed[each.place]) for each in held]

    async def _landed_or_none(self, facts: _Facts, upstream: str) -> frozenset[str] | None:
        try:
            return await self._landed(facts, upstream, await self._vault(upstream))
        except CommandCenterError:
            return None

    async def _salvaged(self, holding: Holding, landed: frozenset[str] | None) -> _Candidate:
        ref = ref_of(holding)
        ruling = of_salvage(
            folder=not holding.commit,
            landed=None if landed is None else ref in landed,
            age_ms=self._equipment.now_ms() - holding.since_ms,
            kept_days=self._keep.salvage_days,
        )
        size = await salvage_bytes(self._equipment, holding)
        act = partial(self._drop_salvage, holding)
        return _candidate(Thing.SALVAGE, holding.name, ruling, size, act)

    async def _drop_salvage(self, holding: Holding) -> str:
        await drop_salvage(self._equipment, await self._vault(holding.place), holding)
        return ""

    async def _logs(self, facts: _Facts, _: Sequence[Item]) -> list[_Candidate]:
        found = []
        for folder in sorted((self._data_dir / "logs").glob("*")):
            if folder.name in facts.runs:
                ruling = of_logs(
                    ended_ms=facts.runs[folder.name].ended_ms,
                    now_ms=self._equipment.now_ms(),
                    kept_days=self._keep.logs_days,
                )
                act = partial(_drop_logs, folder)
                size = await _measured(folder)
                found.append(_candidate(Thing.LOGS, f"of {folder.name}", ruling, size, act))
        return found

    # What nothing explains

    async def _unknown(self, facts: _Facts, _: Sequence[Item]) -> list[_Candidate]:
        told = known(self._data_dir, tuple(facts.runs.values()), facts.held)
        ruling = Ruling(False, "nothing of CommandCenter's explains it; it is not touched")
        return [
            _candidate(Thing.UNKNOWN, str(path), ruling, await _measured(self._data_dir / path))
            for path in await asyncio.to_thread(
                lambda: list(_unexplained(self._data_dir, PurePosixPath("."), told))
            )
        ]


def known(data_dir: Path, runs: Sequence[RunRecord], held: Sequence[Holding]) -> Known:
    """Return what explains a data folder: all its runs, and all that its ledger holds."""
    upstreams = {run.upstream for run in runs} | {
        each.place for each in held if each.kind is not Kind.WORKSPACE
    }
    salvage = [each for each in held if each.kind is Kind.SALVAGE]
    workspaces = [each.name for each in held if each.kind is Kind.WORKSPACE]
    return Known(
        vaults={vault_folder(data_dir, each).name: each for each in upstreams},
        workspaces={folder_name(name): name for name in workspaces},
        aside={folder_name(each.name): each.name for each in salvage if not each.commit},
        runs=frozenset(run.id for run in runs),
        bundles={bundle_path(Path(), ref_of(e)).as_posix(): e.name for e in salvage},
    )


def _read(session: Session) -> _Facts:
    runs = {run.id: run for run in views.runs(session)}
    return _Facts(
        runs=runs,
        held=ledger.held(session, *Kind),
        unsettled=frozenset(views.unsettled(session)),
        landings={
            (runs[run].upstream, task_ref(run, task, number)): commit
            for run, task, number, commit in views.merged_tasks(session)
        },
    )


async def _measured(path: Path) -> int:
    return await asyncio.to_thread(size_bytes, path)


async def _freed(candidate: _Candidate) -> Item:
    """Free what may go; what stays after all says why."""
    item = candidate.item
    if not item.free or candidate.act is None:
        return item
    try:
        problem = await candidate.act()
    except (CommandCenterError, OSError) as error:
        log.exception("It could not be freed: %s %s", item.what, item.name)
        problem = f"{error}"
    return replace(item, free=False, why=f"it could not be freed: {problem}") if problem else item


def _candidate(
    what: Thing,
    name: str,
    ruling: Ruling,
    size: int = 0,
    act: Callable[[], Awaitable[str]] | None = None,
) -> _Candidate:
    return _Candidate(Item(what, name, size, ruling.free, ruling.why), act)


async def _reached(vault: Vault, tip: str, refs: Sequence[str]) -> bool:
    return bool(refs) and await vault.holds(tip, *refs)


async def _replayed(
    vault: Vault, landings: Mapping[str, str], targets: Sequence[str]
) -> frozenset[str]:
    """Return the captures that were squashed or rebased onto a target that still has that."""
    there = await vault.refs("refs/cc/task/")
    return frozenset(
        [
            ref
            for ref, landing in landings.items()
            if ref in there
            and await _reached(vault, landing, targets)
            and await vault.is_replay(landing, there[ref])
        ]
    )


def _rule_on_workspace(key: str, facts: _Facts) -> Ruling:
    parsed = WorkspaceKey.parse(key)
    if parsed is None:
        return of_workspace(known=False, used=False)
    used = (parsed.run, parsed.task) in facts.unsettled
    return of_workspace(known=parsed.run in facts.runs, used=used)


def _named(ref: str, holding: Holding | None) -> tuple[Thing, str]:
    """Return what a ref is, and the name by which a person restores or drops it."""
    if holding is None or ref.startswith("refs/cc/keep/"):
        return Thing.REF, ref
    name = ref.rpartition("/")[2]
    return Thing.CAPTURE, str(capture_key(holding.run, holding.task, name))


def _rule_on_ref(
    name: str, holding: Holding | None, facts: _Facts, landed: frozenset[str] | None
) -> Ruling:
    if holding is None:
        return of_capture(known=False, run_ended=False, landed=None)
    if name.startswith("refs/cc/keep/"):
        return of_pin(used=(holding.run, holding.task) in facts.unsettled)
    return of_capture(
        known=True,
        run_ended=facts.ended(holding.run) is not False,
        landed=None if landed is None else name in landed,
    )


async def _drop_base(kind: Workspaces, path: Path) -> str:
    return "" if await kind.remove_base(path) else "a workspace lies on it by now"


async def _drop_logs(folder: Path) -> str:
    await asyncio.to_thread(removal.remove, folder)
    return ""


def _borrowers(upstream: str, vault: Vault, facts: _Facts, before: Sequence[Item]) -> int:
    """Return how many workspaces and bases that stay need objects of a vault."""
    staying = [item for item in before if not item.free]
    bases = [Path(item.name).parent.name for item in staying if item.what is Thing.BASE]
    keys = [WorkspaceKey.parse(i.name) for i in staying if i.what is Thing.WORKSPACE]
    # One that nobody knows may borrow from any vault.
    runs = [facts.runs.get(key.run) if key else None for key in keys]
    return bases.count(vault_id(vault.path)) + sum(
        run is None or run.upstream == upstream for run in runs
    )


def _unexplained(data_dir: Path, folder: PurePosixPath, told: Known) -> Iterator[PurePosixPath]:
    with os.scandir(data_dir / folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in found:
        path = folder / name
        if not explain(path, told):
            yield path
        elif is_folder and is_container(path):
            yield from _unexplained(data_dir, path, told)
