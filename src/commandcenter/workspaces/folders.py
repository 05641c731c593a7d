"""Workspaces that are folders of this machine: all of a kind but how it isolates its commands."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Generic, TypeVar

from commandcenter.core.errors import WorkspaceError
from commandcenter.core.workspace import (
    CHANNEL,
    HOME,
    RESULT,
    Command,
    Completed,
    Contents,
    Ended,
    Found,
    Laid,
    MadeImage,
    Strength,
    WorkspaceKey,
    folder_name,
)
from commandcenter.system import beneath, footprint, removal, sandbox
from commandcenter.system.boot import BOOT, boot_id, noted_boot
from commandcenter.system.git import Git
from commandcenter.system.sandbox import Bind, Overlay, Sandbox
from commandcenter.workspaces.layout import lay_out
from commandcenter.workspaces.prepared import Bases
from commandcenter.workspaces.run_folder import OnLine, RunFolder

RESULT_BYTES_MAX = 256 * 2**10
_RUN_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
MeansT = TypeVar("MeansT")
"""What a probe found to work on this machine."""


class Folders(ABC, Generic[MeansT]):
    """Workspaces below one folder of this machine."""

    kind: str
    agent_id = sandbox.AGENT_ID
    """The uid and gid that an agent sees itself and its files as."""

    def __init__(
        self,
        root: Path,
        git: Git,
        *,
        extra_read_only: tuple[Path, ...] = (),
        extra_path: tuple[str, ...] = (),
        grace_s: float = sandbox.GRACE_S,
    ) -> None:
        """Keep everything below `root`, which must not be an overlay itself.

        Args:
            root: made when needed; nothing else may live there.
            git: makes the checkouts.
            extra_read_only: host folders that every command finds at their own place.
            extra_path: folders inside that come first on the PATH.
            grace_s: how long a command may take to end after TERM.
        """
        self._root = root
        self._git = git
        self._owner = hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:12]
        self._grace_s = grace_s
        self._extra = tuple(Bind(path, str(path)) for path in extra_read_only)
        self._path = extra_path
        self._bases = Bases(root / "bases", git)
        self._means: MeansT | None = None
        self._probing = asyncio.Lock()
        self._detached = False
        self._token = uuid.uuid4().hex

    @abstractmethod
    async def probe(self) -> Strength:
        """Say what this machine can do, by really trying it once; sets `_means` if it can."""

    async def look(self) -> Strength:
        """Say the same for whoever only looks: what costs much to start is not tried."""
        return await self.probe()

    @abstractmethod
    async def _provide(
        self, key: WorkspaceKey, vault: Path, commit: str, *, lasting: bool
    ) -> FolderWorkspace:
        """Make the workspace, or find what is there of it."""

    @abstractmethod
    async def _run_probe(self, means: MeansT, folder: Path) -> str | None:
        """Run a trial command below `folder`; return why it does not work, or None."""

    @abstractmethod
    async def _tidy(self) -> None:
        """Remove what killed shims left outside of their folders."""

    async def require(self, vault: Path, commit: str) -> None:
        """Make sure that what the files of a commit say can be done; they mostly say nothing."""

    def detach(self) -> None:
        """Leave alone what runs from now on: the service is stopping, its next start goes on.

        A cancelled `run` then no longer stops its command, and leaving keeps the workspace.
        """
        self._detached = True

    @asynccontextmanager
    async def open(
        self, key: WorkspaceKey, *, vault: Path, commit: str, keep: bool = False
    ) -> AsyncIterator[FolderWorkspace]:
        """Give a checkout of `commit`; see `core.workspace.Workspaces`."""
        workspace = await self._provide(key, vault, commit, lasting=keep)
        try:
            yield workspace
        finally:
            if not keep and not self._detached:
                await self.remove(key)

    async def cut_off(self, key: WorkspaceKey) -> bool:
        """Say whether a power cut ended what ran there: its files may be half on the disk."""
        return any(run.cut_off() for run in _runs(self._folder(key)))

    async def remove(self, key: WorkspaceKey) -> None:
        """Stop what runs there and remove it; removing nothing is fine."""
        await self._remove(self._folder(key))

    async def sweep(self, alive: frozenset[str]) -> tuple[str, ...]:
        """Remove workspaces whose key (as a string) is not in `alive`; return their keys."""
        removed = []
        names = {folder_name(key) for key in alive}
        for folder in self._existing():
            key = _key_of(folder)
            # One that holds files and has lost its key may be anybody's.
            if folder.name not in names and (key or left_in(folder) is None):
                await self._remove(folder)
                removed.append(key)
        await asyncio.to_thread(self._bases.sweep, self._used_bases())
        await asyncio.to_thread(self._remove_scratch_of_others)
        await self._tidy()
        return tuple(key for key in removed if key)

    async def existing(self) -> tuple[Found, ...]:
        """Return the workspaces that are there."""
        return tuple(Found(folder, _key_of(folder)) for folder in self._existing())

    async def still(self, key: WorkspaceKey) -> Contents | None:
        """Stop what runs there and return where its files lie; None when there are none."""
        folder = self._folder(key)
        await _end_runs(folder)
        return left_in(folder)

    async def put_aside(self, key: WorkspaceKey) -> None:
        """Stop what runs there and move it, as it is, to where it is neither opened nor swept."""
        folder = self._folder(key)
        await _end_runs(folder)
        if folder.is_dir():
            aside = self._aside(key)
            aside.parent.mkdir(mode=0o700, exist_ok=True)
            folder.rename(aside)

    async def aside(self, key: WorkspaceKey) -> Contents | None:
        """Return where the files lie of a workspace that was put aside, if there is one."""
        return left_in(self._aside(key))

    async def remove_aside(self, key: WorkspaceKey) -> None:
        """Remove a workspace that was put aside; removing nothing is fine."""
        await asyncio.to_thread(self._discard, self._aside(key))

    async def bases(self) -> tuple[Laid, ...]:
        """Return the bases that are there."""
        lying = [(each.name, _base_of(each)) for each in self._all()]
        return tuple(
            Laid(path, frozenset(name for name, base in lying if base == path / "tree"))
            for path in self._bases.existing()
        )

    async def remove_base(self, path: Path) -> bool:
        """Remove a base unless a workspace lies on it, also one that is just being opened."""
        return await self._bases.remove(path, self._used_bases)

    async def images(self) -> tuple[MadeImage, ...]:
        """Return the images that were made for commands here; mostly there are none."""
        return ()

    async def remove_image(self, image: MadeImage) -> str:
        """Remove one; see `core.workspace.Workspaces`."""
        return f"mode {self.kind} makes no images, so that {image.name} is not of it"

    def _folder(self, key: WorkspaceKey) -> Path:
        # Its file `key` has the words.
        return self._root / "ws" / folder_name(str(key))

    def _aside(self, key: WorkspaceKey) -> Path:
        return self._root / "aside" / folder_name(str(key))

    def _existing(self) -> list[Path]:
        return sorted((self._root / "ws").glob("*"))

    def _used_bases(self) -> set[Path]:
        return {_base_of(each) for each in self._all()}

    def _all(self) -> list[Path]:
        """Return the folders of all workspaces; what was put aside needs its base, too."""
        return [*self._existing(), *sorted((self._root / "aside").glob("*"))]

    def _keeps(self) -> bool:
        return self._detached

    async def _probed(self) -> MeansT:
        async with self._probing:
            if self._means is None:
                strength = await self.probe()
                if self._means is None:
                    raise WorkspaceError(
                        f"Commands cannot be isolated here. {' '.join(strength.problems)}",
                        hint=strength.hint,
                    )
        return self._means

    async def _try(self, means: MeansT) -> str | None:
        """Return why these means do not work here, or None when they do."""
        folder = self._scratch()
        try:
            return await self._run_probe(means, folder)
        except (OSError, WorkspaceError) as error:
            return f"{error}"
        finally:
            await asyncio.to_thread(removal.remove, folder)

    async def _made_folder(self, key: WorkspaceKey, *, lasting: bool) -> Path:
        """Return the folder of a workspace, made anew unless all of it is there."""
        folder = self._folder(key)
        if lasting and await self.cut_off(key):
            raise WorkspaceError(f"A power cut ended what ran in workspace {key}.")
        if not _is_whole(folder, lasting=lasting):
            await self._remove(folder)
        make_folders(folder, key)
        return folder

    async def _lay_out(
        self,
        folder: Path,
        vault: Path,
        commit: str,
        *,
        agent_id: int | None = None,
        objects: str = sandbox.VAULT_OBJECTS,
    ) -> None:
        """Make a plain checkout, whole or not at all; see `prepared.lay_out`."""
        unfinished = folder / "unfinished"
        await asyncio.to_thread(removal.remove, unfinished)
        tree, git_folder = unfinished / "tree", unfinished / "git" / ".git"
        who = self.agent_id if agent_id is None else agent_id
        await lay_out(self._git, vault, commit, tree, git_folder, agent_id=who, objects=objects)
        git_folder.rename(tree / ".git")
        size = await asyncio.to_thread(footprint.disk, [str(unfinished / "tree")], [])
        (folder / "laid-out-bytes").write_text(str(size))
        (unfinished / "tree").rename(folder / "tree")
        await asyncio.to_thread(removal.remove, unfinished)

    def _sandbox(self, folder: Path, checkout: Path | Overlay, vault: Path) -> Sandbox:
        return Sandbox(
            checkout=checkout,
            binds=(
                *self._extra,
                Bind(vault / "objects", sandbox.VAULT_OBJECTS),
                Bind(folder / "home", HOME, writable=True),
                Bind(folder / "channel", CHANNEL, writable=True),
            ),
            fixed=self._root / "fixed",
            gateway=folder / "gateway",
            path=self._path,
            laid_out_bytes=_laid_out_bytes(folder),
        )

    async def _remove(self, folder: Path) -> None:
        if folder.is_dir():
            await _end_runs(folder)
            await asyncio.to_thread(self._discard, folder)

    def _discard(self, folder: Path) -> None:
        """Take the folder out of sight first, so that half of one is never opened again."""
        grave = self._scratch()
        with suppress(FileNotFoundError):
            folder.rename(grave / "workspace")
        removal.remove(grave)

    def _scratch(self) -> Path:
        """Make a folder in which no workspace is looked for; a later service's sweep removes it."""
        scratch = self._root / "scratch"
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=self._token, dir=scratch))

    def _remove_scratch_of_others(self) -> None:
        for path in (self._root / "scratch").glob("*"):
            if not path.name.startswith(self._token):
                removal.remove(path)


class FolderWorkspace:
    """One isolated checkout on this machine."""

    def __init__(
        self,
        folder: Path,
        contents: Contents,
        spec: Callable[[str, Command], bytes],
        keeps: Callable[[], bool],
        *,
        lasting: bool = False,
        degraded: str = "",
    ) -> None:
        """Use the folders that its kind made.

        Args:
            folder: of this workspace.
            contents: what `contents` returns.
            spec: phrases the run of a command, with its name, for the shim.
            keeps: says whether cancelling leaves a run alone.
            lasting: what a run leaves is to survive a power cut.
            degraded: what a run must be told of its isolation.
        """
        self._folder = folder
        self._contents = contents
        self._spec = spec
        self._keeps = keeps
        self._lasting = lasting
        self.degraded = degraded

    @property
    def gateway(self) -> Path:
        """Host folder in which commands with model access find `model.sock`."""
        return self._folder / "gateway"

    @property
    def pristine(self) -> bool:
        """Whether no command has run in it yet."""
        return not any((self._folder / "runs").iterdir())

    async def run(self, name: str, command: Command, *, on_line: OnLine | None = None) -> Completed:
        """Run, attach or return the recorded end; see `core.workspace.Workspace`.

        An exit code above 128 counts as the end by a signal, as shells say it.
        """
        assert _RUN_NAME.fullmatch(name), name
        run = RunFolder(self._folder / "runs" / name)
        pidfd = await run.attach()
        if pidfd is None:
            done = run.recorded()
            if done and done.ended is not Ended.STOPPED:
                run.keep(self._left, lasting=self._lasting)
                run.replay(on_line)
                return done
            pidfd = await self._start(run, command)
        try:
            completed = await self._follow(run, pidfd, on_line)
        finally:
            os.close(pidfd)
        run.keep(self._left, lasting=self._lasting)
        return completed

    def result(self, name: str) -> bytes | None:
        """Return what the run of this name answered; see `core.workspace.Workspace`."""
        return RunFolder(self._folder / "runs" / name).kept()

    def _left(self) -> bytes | None:
        """Return the answer that is in the channel now: the last run's."""
        channel = os.open(self._folder / "channel", os.O_PATH | os.O_DIRECTORY)
        try:
            return beneath.read_beneath(channel, os.fsencode(RESULT), bytes_max=RESULT_BYTES_MAX)
        except OSError:
            return None
        finally:
            os.close(channel)

    def contents(self) -> Contents:
        """Return where the files lie. Only valid while no command runs."""
        return self._contents

    async def _start(self, run: RunFolder, command: Command) -> int:
        for other in run.path.parent.glob("*"):
            await _stop(RunFolder(other))
        # It holds the mark of a volatile overlay, which forbids the next mount. The mark says
        # "perhaps not synced", and that matters only after a power cut.
        removal.empty(self._folder / "work")
        _fill_channel(self._folder / "channel", command)
        spec = self._spec(run.path.name, command)
        return run.start(spec, command.stdin, lasting=self._lasting)

    async def _follow(self, run: RunFolder, pidfd: int, on_line: OnLine | None) -> Completed:
        try:
            return await run.follow(pidfd, on_line)
        except asyncio.CancelledError:
            if not self._keeps():
                await _to_the_end(run.stop(pidfd))
            raise


async def _end_runs(folder: Path) -> None:
    for run in (folder / "runs").glob("*"):
        await _stop(RunFolder(run), at_once=True)


async def end_runs_gracefully(folder: Path) -> None:
    """Let what runs there end as a command does that is asked to."""
    for run in (folder / "runs").glob("*"):
        await _stop(RunFolder(run))


async def _stop(run: RunFolder, *, at_once: bool = False) -> None:
    """End what an earlier try left running there."""
    pidfd = await run.attach()
    if pidfd is not None:
        try:
            await run.stop(pidfd, at_once=at_once)
        finally:
            os.close(pidfd)


async def _to_the_end(work: Coroutine[None, None, None]) -> None:
    """Finish `work`, however often we are cancelled meanwhile; it has a time limit of its own."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()


def _fill_channel(channel: Path, command: Command) -> None:
    """Leave only the command's files there; the folder was an agent's until now."""
    removal.empty(channel)
    at = os.open(channel, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name, content in command.files.items():
            _write_new(at, name, content)
    finally:
        os.close(at)


def _write_new(at: int, name: str, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o644, dir_fd=at), "wb") as file:
        owner = os.fstat(at)
        os.chown(file.fileno(), owner.st_uid, owner.st_gid)
        file.write(content)


def _is_whole(folder: Path, *, lasting: bool) -> bool:
    """Say whether all of a workspace is there, although the machine may have been down.

    One that lasts, and was not cut off, is on the disk since a command ended in it.
    """
    made_now = noted_boot(folder) == boot_id()
    return made_now or (lasting and any(run.synced() for run in _runs(folder)))


def _runs(folder: Path) -> list[RunFolder]:
    return [RunFolder(run) for run in (folder / "runs").glob("*")]


def make_folders(folder: Path, key: WorkspaceKey) -> None:
    """Make what every workspace has; leave what is there as it is."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True)
        (folder / BOOT).write_text(boot_id())
    (folder / "key").write_text(f"{key}")
    for name in ("upper", "work", "home", "channel"):
        owned(folder / name)
    for name in ("gateway", "runs"):
        made(folder / name)


def made(folder: Path) -> Path:
    """Make a folder that belongs to us."""
    folder.mkdir(mode=0o755, exist_ok=True)
    return folder


def owned(folder: Path, uid: int | None = None) -> Path:
    """Make a folder that belongs to a command's user, also when a crash left it half made.

    By default that is whose it is already, or else the sandbox's user.
    """
    folder.mkdir(mode=0o755, exist_ok=True)
    owner = folder.stat().st_uid
    wanted = owner or sandbox.HOST_UID if uid is None else uid
    if os.geteuid() == 0 and owner != wanted:
        os.chown(folder, wanted, wanted)
    return folder


def _key_of(folder: Path) -> str:
    try:
        return (folder / "key").read_text()
    except FileNotFoundError:
        return ""


def _base_of(folder: Path) -> Path:
    try:
        return Path((folder / "base").read_text())
    except FileNotFoundError:
        return folder


def left_in(folder: Path) -> Contents | None:
    """Return where the files lie; None where an agent has left none."""
    if (folder / "tree").is_dir():
        return Contents(None, folder / "tree")
    upper = folder / "upper"
    with suppress(PermissionError):  # whoever locks us out has something there
        if not upper.is_dir() or not os.listdir(upper):
            return None
    base = _base_of(folder)
    return Contents(upper, None, base if base != folder else None)


def _laid_out_bytes(folder: Path) -> int:
    try:
        return int((folder / "laid-out-bytes").read_text())
    except FileNotFoundError:
        return 0
