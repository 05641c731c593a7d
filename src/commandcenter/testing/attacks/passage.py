"""Takes planted attacks through the whole way: provision, act, capture, merge, land, remove."""

from __future__ import annotations

import asyncio
import atexit
import functools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from commandcenter.core.change import Change
from commandcenter.core.errors import CaptureRefused
from commandcenter.core.workspace import Command, Contents, Workspace, WorkspaceKey, Workspaces
from commandcenter.system.capture import capture
from commandcenter.system.git import Git
from commandcenter.system.vault import Identity, Landed, Merged, Vault, task_ref
from commandcenter.testing.attacks.ground import BRANCHES, Ground, digest, with_work
from commandcenter.testing.attacks.planted import PLANTED, Party, Planted

BOT = Identity("CommandCenter", "commandcenter@example.org")
DATE = 1_700_000_000
_OTHERS_WORK = "echo other >> f5; echo staged > new; git add new"
_HOW_OTHERS_ARE = (
    "git status --porcelain; git log -1 --format=%H; git fsck --no-dangling 2>&1; cat f5 new"
)


@dataclass(frozen=True)
class Passage:
    """How one attack went with protection."""

    harmed: frozenset[Party]
    """Whoever is not to the byte as before, but for what we write ourselves."""
    refused: str
    """Why the result was not taken; empty when it was."""
    files: tuple[str, ...]
    """What was taken."""
    landed: bool


@dataclass(frozen=True)
class Passages:
    """How all went, and how everybody is afterwards."""

    each: Mapping[str, Passage]
    """By the id of the attack."""
    before: Mapping[Party, str]
    """How everybody was, as they see it themselves."""
    after: Mapping[Party, str]
    faults: tuple[str, ...]
    """What `git fsck` says of the vault."""
    authors: frozenset[str]
    """Who wrote and committed what landed."""
    left: frozenset[str]
    """Files of workspaces that were not removed."""


@functools.cache
def succeeds_without_protection(planted: Planted) -> bool:
    """Say whether an attack harms whom it aims at when nobody protects them."""
    with _folder() as folder:
        return asyncio.run(_template().copy(folder / "ground").harmed_by(planted))


async def pass_through(workspaces: Workspaces, attacks: Sequence[Planted]) -> Passages:
    """Take attacks through, one after another, while another task is under way."""
    with _folder() as folder:
        (folder / "ground").mkdir()
        ground = await Ground.make(folder / "ground")
        async with _world(workspaces, ground, folder) as world:
            before = await world.reports("before")
            each = {planted.id: await world.passage(planted) for planted in attacks}
            return Passages(
                each,
                before,
                await world.reports("after"),
                await world.vault.fsck(),
                await world.authors(),
                world.left(),
            )


@asynccontextmanager
async def _world(workspaces: Workspaces, ground: Ground, folder: Path) -> AsyncIterator[_World]:
    git = Git(user={"HOME": f"{ground.folder}/home", "PATH": "/usr/bin:/bin"})
    vault = await Vault.open(git, folder / "data", str(ground.folder / "origin.git"))
    try:
        bases = {branch: await vault.fetch(branch) for branch in BRANCHES}
        key = WorkspaceKey("run", "other", 1)
        opened = workspaces.open(key, vault=vault.path, commit=bases["main"])
        async with opened as other:
            await other.run("work", Command(("sh", "-c", _OTHERS_WORK)))
            await _make_targets(ground, bases)
            yield _World(workspaces, ground, vault, bases, other)
    finally:
        vault.close()


async def _make_targets(ground: Ground, bases: Mapping[str, str]) -> None:
    """Give every attack a branch of its own to land on."""
    refs = [f"create refs/heads/land/{each.id} {bases[each.branch]}" for each in PLANTED]
    lines = " ".join(f"'{ref}'" for ref in refs)
    made = await ground.run(f"printf '%s\\n' {lines} | git update-ref --stdin", "origin.git")
    assert made.exit_code == 0, made


@dataclass(frozen=True)
class _World:
    workspaces: Workspaces
    ground: Ground
    vault: Vault
    bases: Mapping[str, str]
    other: Workspace

    async def passage(self, planted: Planted) -> Passage:
        base = self.bases[planted.branch]
        before = self._state()
        change, refused = await self._taken(planted, base)
        landed = change is not None and await self._landed(f"land/{planted.id}", base, change)
        after = self._state()
        harmed = frozenset(party for party in Party if before[party] != after[party])
        return Passage(harmed, refused, change.files if change else (), landed)

    async def _taken(self, planted: Planted, base: str) -> tuple[Change | None, str]:
        key = WorkspaceKey("run", planted.id, 1)
        async with self.workspaces.open(key, vault=self.vault.path, commit=base) as workspace:
            await workspace.run("attack", self._attack(planted))
            try:
                return await self._captured(workspace.contents(), planted.id, base), ""
            except CaptureRefused as refusal:
                return None, refusal.message

    def _attack(self, planted: Planted) -> Command:
        known = {"VAULT": str(self.vault.path), "OTHER": str(_files(self.other.contents()))}
        return Command(
            ("bash", "-c", with_work(planted)),
            environment={**self.ground.variables(), **known},
            timeout_s=120,
        )

    async def _captured(self, contents: Contents, name: str, base: str) -> Change:
        return await capture(
            self.vault.git,
            self.vault,
            contents,
            base,
            ref=task_ref("run", name, 1),
            message=f"Task {name}\n",
            author=BOT,
            committer=BOT,
            date=DATE,
        )

    async def _landed(self, branch: str, base: str, change: Change) -> bool:
        merged = await self.vault.merge(
            base, change.head, message="m", author=BOT, committer=BOT, date=DATE
        )
        assert isinstance(merged, Merged)
        return isinstance(await self.vault.land(branch, base, merged.commit), Landed)

    def _state(self) -> Mapping[Party, str]:
        """Return everybody's state to the byte, but for what we write ourselves."""
        folder = self.ground.folder
        return {
            Party.USER: digest(folder / "user"),
            Party.OTHER: digest(_files(self.other.contents())),
            Party.HOME: digest(folder / "home"),
            Party.CANARY: digest(folder / "canary"),
            Party.ORIGIN: _of_bare(folder / "origin.git"),
            Party.VAULT: _of_bare(self.vault.path),
        }

    async def reports(self, when: str) -> Mapping[Party, str]:
        """Return how everybody is, as they see it themselves."""
        seen = await self.other.run(f"look-{when}", Command(("sh", "-c", _HOW_OTHERS_ARE)))
        others = Party.OTHER, Party.VAULT
        reports = {party: await self.ground.report(party) for party in Party if party not in others}
        reports[Party.OTHER] = (seen.stdout + seen.stderr).decode()
        reports[Party.VAULT] = await self.ground.of_bare(self.vault.path)
        return reports

    async def authors(self) -> frozenset[str]:
        script = "git log --format='%an%n%cn' --glob='refs/heads/land/*' --not main linked"
        listed = await self.ground.run(script, "origin.git")
        return frozenset(listed.stdout.decode().split("\n")) - {""}

    def left(self) -> frozenset[str]:
        kept = _files(self.other.contents()).parent
        return frozenset(path.name for path in kept.parent.iterdir() if path != kept)


def _of_bare(repository: Path) -> str:
    ours = ("refs/heads/land", "refs/cc", "refs/upstream")
    names = ("HEAD", "config", "packed-refs", "hooks", "refs", "info", "objects/info")
    return digest(repository, only=names, without=ours)


def _files(contents: Contents) -> Path:
    place = contents.upper or contents.tree
    assert place is not None
    return place


@functools.cache
def _template() -> Ground:
    """Return a ground that is only copied, and is there until we end."""
    folder = Path(tempfile.mkdtemp(prefix="commandcenter-ground-", dir="/var/tmp"))
    atexit.register(shutil.rmtree, folder)
    return asyncio.run(Ground.make(folder))


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="commandcenter-attacks-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
