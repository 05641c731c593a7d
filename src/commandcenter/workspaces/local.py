"""Workspaces on this machine: an overlay of the base, and bubblewrap around every command.

Where bubblewrap is refused, and the settings allow it, the fallback: a checkout, and Landlock.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from commandcenter.core.errors import WorkspaceError
from commandcenter.core.workspace import WORK, Command, Contents, Hold, Strength, WorkspaceKey
from commandcenter.system import controllers, fallback, landlock, removal, sandbox, seccomp
from commandcenter.system.controllers import Controller
from commandcenter.system.fallback import Place
from commandcenter.system.git import Git
from commandcenter.system.sandbox import Bind, Bubblewrap, Group, Overlay, Sandbox
from commandcenter.workspaces.folders import (
    Folders,
    FolderWorkspace,
    left_in,
    made,
    make_folders,
    owned,
)
from commandcenter.workspaces.layout import give
from commandcenter.workspaces.prepared import Base
from commandcenter.workspaces.run_folder import RunFolder

Rung = Literal["overlay", "checkout"]

_PROBE = Command(
    ("sh", "-c", f'echo it works > {WORK}/probe && [ "$(id -u)" = 1000 ]'),
    timeout_s=20,
)
_HINT = (
    "Run `make setup`, which installs the bubblewrap wheel, or `apt install bubblewrap`; in a "
    "container, user namespaces must be allowed; or use mode container"
)
_HINT_ALLOW = '; or put up with the weaker fallback: isolation = "best-effort" in [sandbox]'
_USER = "uid"
"""The file in a workspace's folder that names the user of commands that the fallback isolates."""
_TRIAL = Command(("sh", "-c", 'echo it works > "$PLACE/probe"'), timeout_s=20)


@dataclass(frozen=True)
class _Means:
    """What the probe found to work on this machine."""

    bubblewrap: Bubblewrap | None
    """None: the fallback."""
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
        best_effort: bool = False,
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
            best_effort: whether the fallback will do where bubblewrap is refused.
            grace_s: how long a command may take to end after TERM.
        """
        super().__init__(
            root, git, extra_read_only=extra_read_only, extra_path=extra_path, grace_s=grace_s
        )
        self._rungs = rungs
        self._groups = groups
        self._best_effort = best_effort

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
            tried = means.bubblewrap.executable if means.bubblewrap else _name(means)
            words = f"{tried}, {means.rung}: {problem}"
            problems += [] if words in problems else [words]
        return _unfit(*problems, hint=_HINT if self._best_effort else _HINT + _HINT_ALLOW)

    def _choices(self, installed: tuple[Bubblewrap, ...]) -> Iterator[_Means]:
        """Give what may work here, best first."""
        for rung in self._rungs:
            for bubblewrap in installed:
                if self._controllers:
                    yield _Means(bubblewrap, rung, self._controllers)
                yield _Means(bubblewrap, rung, ())
        if self._best_effort:
            if self._controllers:
                yield _Means(None, "checkout", self._controllers)
            yield _Means(None, "checkout", ())

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
        self._require_its_own_way(folder, key, means)
        if means.bubblewrap is None:
            place = await self._settled(folder, vault, commit)
            phrase = self._phrase_confined(means, place, folder, lasting=lasting)
            contents = Contents(None, place.checkout)
            degraded = _strength(means, []).degraded
        else:
            checkout, contents = await self._checkout(means.rung, folder, vault, commit)
            within = self._sandbox(folder, checkout, vault)
            phrase = self._phrase(means.bubblewrap, means, within, folder, lasting=lasting)
            degraded = ""
        return FolderWorkspace(
            *(folder, contents, phrase, self._keeps), lasting=lasting, degraded=degraded
        )

    def _require_its_own_way(self, folder: Path, key: WorkspaceKey, means: _Means) -> None:
        """Make sure that what is there was made for the way in which commands are isolated now.

        Raises:
            WorkspaceError: it was not, so that the files would not be found, or not be theirs.
        """
        confined = (folder / _USER).exists()
        other = left_in(folder) is not None and not confined
        if confined if means.bubblewrap else other:
            made_by = "the fallback" if confined else "bubblewrap"
            raise WorkspaceError(
                f"The files of workspace {key} are for commands that {made_by} isolates, which "
                f"is not how they are isolated now ({_name(means)}).",
                hint=f"let {made_by} be used again, or cancel the run: its files are kept",
            )

    def _phrase(
        self,
        bubblewrap: Bubblewrap,
        means: _Means,
        place: Sandbox,
        folder: Path,
        *,
        lasting: bool = False,
    ) -> Callable[[str, Command], bytes]:
        def phrase(name: str, command: Command) -> bytes:
            group = controllers.group_name(self._owner, folder.name, name)
            return sandbox.spec(
                bubblewrap,
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

    async def _settled(self, folder: Path, vault: Path, commit: str) -> Place:
        """Return the place of a workspace that is a plain checkout of a user of its own."""
        tree, uid = folder / "tree", self._user_of(folder)
        if not tree.exists():
            who = os.geteuid() if uid is None else uid
            objects = str(vault / "objects")
            await self._lay_out(folder, vault, commit, agent_id=who, objects=objects)
        return await asyncio.to_thread(self._place, folder, tree, vault, uid)

    def _place(self, folder: Path, tree: Path, vault: Path, uid: int | None) -> Place:
        if uid is not None:
            for way in (self._root.parent, self._root, folder.parent, vault.parent, vault):
                fallback.let_in(way)
            fallback.let_in(folder, uid)
            if tree.stat().st_uid != uid:
                give(tree, uid)
        for name in ("home", "channel", "tmp"):
            owned(folder / name, uid)
        found = self._sandbox(folder, tree, vault)
        tmp = Bind(folder / "tmp", fallback.TMP, writable=True)
        found = replace(found, binds=(*found.binds, tmp))
        return Place(tree, found, made(folder / "programs"), uid)

    def _user_of(self, folder: Path) -> int | None:
        """Return the user whom a workspace's commands run as, chosen now if it has none yet."""
        note = folder / _USER
        if not note.exists():
            sandbox.replace_file(note, f"{self._free_user()}".encode())
        uid = int(note.read_text())
        return uid if os.geteuid() == 0 else None

    def _free_user(self) -> int:
        if os.geteuid() != 0:
            return os.geteuid()
        taken = []
        for note in self._root.glob(f"*/*/{_USER}"):
            # It may just be removed, and a power cut may have left it empty.
            with suppress(FileNotFoundError, ValueError):
                taken.append(int(note.read_text()))
        return fallback.free_uid(taken, int(self._owner, 16))

    def _phrase_confined(
        self, means: _Means, place: Place, folder: Path, *, lasting: bool = False
    ) -> Callable[[str, Command], bytes]:
        def phrase(name: str, command: Command) -> bytes:
            # Asked every time, since another program may change the machine's network.
            if problem := fallback.lacking():
                raise WorkspaceError(f"Commands cannot be isolated here any more. {problem}")
            removal.empty(folder / "tmp")
            fallback.link(place.programs, command.programs)
            group = controllers.group_name(self._owner, folder.name, name)
            return fallback.spec(
                place,
                command,
                Group(means.controllers, group),
                grace_s=self._grace_s,
                lasting=lasting,
            )

        return phrase

    async def _run_trial(self, means: _Means, folder: Path) -> str | None:
        """Show that the fallback works here, and that it refuses what it must."""
        if problem := fallback.lacking() or fallback.out_of_reach(self._root.parent):
            return problem
        fallback.write_fixed(self._root / "fixed")
        make_folders(folder, WorkspaceKey("probe", "probe", 0))
        made(folder / "objects")
        tree, uid = owned(folder / "tree"), self._user_of(folder)
        place = await asyncio.to_thread(self._place, folder, tree, folder, uid)
        confined = self._phrase_confined(means, place, folder)
        with fallback.trial(folder / "aims") as aims:

            def phrase(name: str, command: Command) -> bytes:
                return json.dumps({**json.loads(confined(name, command)), "trial": aims}).encode()

            workspace = FolderWorkspace(folder, Contents(None, None), phrase, self._keeps)
            done = await workspace.run("probe", replace(_TRIAL, environment={"PLACE": WORK}))
        said = done.stderr.decode(errors="replace").strip()
        return None if done.ok else said or f"a trial command {done.ended.value}"

    async def _run_probe(self, means: _Means, folder: Path) -> str | None:
        if means.bubblewrap is None:
            return await self._run_trial(means, folder)
        make_folders(folder, WorkspaceKey("probe", "probe", 0))
        base = Base(made(folder / "lower"), made(folder / "gitlayer"))
        checkout = _overlay(folder, base) if means.rung == "overlay" else owned(folder / "tree")
        place = self._sandbox(folder, checkout, vault=folder)
        made(folder / "objects")
        phrase = self._phrase(means.bubblewrap, means, place, folder)
        workspace = FolderWorkspace(folder, Contents(None, None), phrase, self._keeps)
        done = await workspace.run("probe", _PROBE)
        said = done.stderr.decode(errors="replace").strip()
        return None if done.ok else said or f"a trial command {done.ended.value}"


def _overlay(folder: Path, base: Base) -> Overlay:
    return Overlay((base.gitlayer, base.tree), folder)


def _unfit(*problems: str, hint: str = "") -> Strength:
    return Strength(False, "none", "none", problems, hint)


def _strength(means: _Means, problems: list[str]) -> Strength:
    own = sandbox.HOST_UID if os.geteuid() == 0 else os.geteuid()
    if means.bubblewrap is None:
        users = "a uid for every workspace" if os.geteuid() == 0 else f"uid {own}"
        described = f"{_name(means)}, {users}, seccomp"
    else:
        described = f"{_name(means)}, uid {own}, seccomp"
    opened = () if means.bubblewrap else fallback.open_ways()
    return Strength(
        *(True, means.rung, described, tuple(problems)), limits=_limits(means), open=opened
    )


def _name(means: _Means) -> str:
    if means.bubblewrap is None:
        return f"Landlock {landlock.version()}"
    return f"bubblewrap {means.bubblewrap.version}"


def _limits(means: _Means) -> dict[str, Hold]:
    hard = {controller.name for controller in means.controllers}
    return {
        "memory": Hold.HARD if "memory" in hard else Hold.WATCHED,
        "processes": Hold.HARD,
        "cpus": Hold.HARD if "cpu" in hard else Hold.NONE,
        "disk": Hold.WATCHED,
    }
