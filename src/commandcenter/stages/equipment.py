"""What stages work with: made once by the composition root, passed to every stage."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

from sqlalchemy.orm import Session

from commandcenter.core.agent import Profile
from commandcenter.core.disk import Space, shortage, waiting_words
from commandcenter.core.egress import Policy
from commandcenter.core.external_checks import Demand
from commandcenter.core.forge import Forge
from commandcenter.core.ledger import Kind
from commandcenter.core.merge_queue import Strategy
from commandcenter.core.registries import Registries
from commandcenter.core.workspace import Resources, Workspaces
from commandcenter.gateway.egress import EgressProxy
from commandcenter.gateway.model import ModelGateway
from commandcenter.settings import ProjectCheck
from commandcenter.stages.logs import Logs
from commandcenter.stages.plans import Plans
from commandcenter.store import asks, ledger, views
from commandcenter.store.database import Database
from commandcenter.system.git import Git
from commandcenter.system.vault import Identity, Vault, pin_ref, task_ref

SETTLED_BETWEEN_MAINTENANCE = 50
BOT = Identity("CommandCenter", "commandcenter@localhost")


class Vaults:
    """Opens each upstream's vault once."""

    def __init__(self, git: Git, data_dir: Path, database: Database) -> None:
        self._git = git
        self._data_dir = data_dir
        self._database = database
        self._open: dict[str, Vault] = {}
        self._opening = asyncio.Lock()
        self._settled: Counter[str] = Counter()

    async def open(self, upstream: str) -> Vault:
        """Return the vault of an upstream; the first time it is fetched."""
        async with self._opening:
            if upstream not in self._open:
                self._open[upstream] = await self._opened(upstream)
            return self._open[upstream]

    async def _opened(self, upstream: str) -> Vault:
        vault = await Vault.open(self._git, self._data_dir, upstream)
        try:
            await vault.restore(await self._database.transact(_recorded_refs, upstream))
        except BaseException:
            vault.close()
            raise
        return vault

    async def tend(self, vault: Vault) -> None:
        """Keep a vault fast, every so many settled tasks."""
        self._settled[vault.upstream] += 1
        if self._settled[vault.upstream] % SETTLED_BETWEEN_MAINTENANCE == 0:
            await vault.maintain()

    def close(self) -> None:
        """Give all vaults back."""
        for vault in self._open.values():
            vault.close()
        self._open.clear()


def _recorded_refs(session: Session, upstream: str) -> dict[str, str]:
    """Return the refs that open tasks need and still hold: captures and pins, by the database."""
    refs = {}
    for run, task, attempt in views.unsettled_attempts(session, upstream):
        if attempt.base:
            refs[pin_ref(f"{run}/{task}")] = attempt.base
        if attempt.head not in ("", attempt.base):
            refs[task_ref(run, task, attempt.number)] = attempt.head
    for run, task, asked in asks.captured(session, upstream):
        refs[task_ref(run, task, asked.name)] = asked.head
    held = {each.name for each in ledger.held(session, Kind.REF) if each.place == upstream}
    return {ref: commit for ref, commit in refs.items() if ref in held}


@dataclass
class Crew:
    """The agents of one task: several may work on it side by side, while others wait."""

    working: int = 0
    waiting: list[str] = field(default_factory=list)
    """What each of those that wait waits for."""
    telling: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it is told what the task does now, so that the last word is true."""


class Crews:
    """The crews of the tasks that have agents now."""

    def __init__(self) -> None:
        self._crews: WeakValueDictionary[tuple[str, str], Crew] = WeakValueDictionary()

    def of(self, run: str, task: str) -> Crew:
        """Return a task's crew; it lasts as long as somebody holds it."""
        return self._crews.setdefault((run, task), Crew())


@dataclass(frozen=True)
class Reach:
    """What a command may reach of the network, and by which variables it asks there."""

    policy: Policy
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Equipment:
    """Everything a stage needs of the world."""

    git: Git
    database: Database
    vaults: Vaults
    workspaces: Mapping[str, Workspaces]
    gateway: ModelGateway
    proxy: EgressProxy
    egress: Policy
    """What commands in a workspace may reach of the network."""
    registries: Callable[[], Awaitable[Registries]]
    """Asks the package managers of this machine what they are configured for."""
    forge: Callable[[str, str], Forge]
    """Returns the forge that holds the pull requests of an upstream and target branch."""
    slots: asyncio.Semaphore
    """Agent runs at one time."""
    crews: Crews
    checks: tuple[ProjectCheck, ...]
    resources: Resources
    """What every command in a workspace may use of the machine."""
    logs: Logs
    plans: Plans
    base_url: str
    """Where this service answers now; empty when it does not. It may be another one next time."""
    now_ms: Callable[[], int]
    program: Callable[[str], Path | None]
    """Finds a program of the host by name or path."""
    salvage_dir: Path
    """Where work that nothing else holds is kept in bundles."""
    disk: Callable[[], Space]
    """Reads how much room the data folder has."""
    disk_free_min_bytes: int | None = None
    """Below this no new try begins; None: see `core.disk.floor_bytes`."""
    lanes: int = 1
    """How many prefixes of a chain are checked at the same time."""
    changes_max: int = 100
    """How many changes are chained at most."""
    strategy: Strategy = Strategy.MERGE
    """How a change lands whose plan does not say it."""
    labels: tuple[str, ...] = ()
    """What every pull request is labelled with."""
    draft: bool = False
    """Whether a pull request is a draft until it is reviewed."""
    external_checks: Demand = Demand.REQUIRED
    """Which checks of others a change waits for."""
    external_checks_wait_s: float = 6 * 3600.0
    """For how long."""

    async def reach(self, profile: Profile | None = None) -> Reach:
        """Return what the agent of this profile, or a check, may reach of the network."""
        own = None if profile is None else profile.egress
        policy = self.egress if own is None else self.egress.allowing(own)
        if not policy.registries:
            return Reach(policy, {})
        found = await self.registries()
        return Reach(policy.asked(found.rules), found.variables)

    def shortage(self) -> str:
        """Return what a new try must wait for, in words; empty when there is room."""
        return shortage(self.disk(), self.disk_free_min_bytes)

    def disk_words(self) -> str:
        """Return what a try waits for that waits for the disk, with how much room there is now."""
        return waiting_words(self.disk(), self.disk_free_min_bytes)
