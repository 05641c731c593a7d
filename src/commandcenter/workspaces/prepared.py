"""Lays a commit's files out with a small `.git` of their own, ready for an agent."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import struct
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from commandcenter.core.errors import GitError, WorkspaceError
from commandcenter.system import removal, sandbox
from commandcenter.system.boot import BOOT, boot_id, noted_boot
from commandcenter.system.git import Git

KEPT_S = 7 * 24 * 3600
"""How long a base is kept after its last use."""
BRANCH = "task"
"""The branch that an agent finds itself on."""

_CONFIG = """\
[core]
	repositoryformatversion = {version}
	filemode = true
	bare = false
	logallrefupdates = true
	fsync = none
[user]
	name = CommandCenter agent
	email = agent@commandcenter.invalid
[gc]
	auto = 0
{extensions}"""
_SHA256 = "[extensions]\n\tobjectformat = sha256\n"
# What is in the vault is what an agent gets, byte for byte, and the capture takes it back as it is.
_ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding\n"
_BEFORE_NOW_S = 10


@dataclass(frozen=True)
class Base:
    """A commit's files, shared and read-only: the lower layers of many workspaces."""

    tree: Path
    gitlayer: Path
    """A folder that holds only `.git`."""


class Bases:
    """The prepared bases below one folder: each is made once and never changed.

    They are not synced, which would take as long as making them. So what an earlier start of the
    machine made is made anew: a power cut may have left half of it on the disk.
    """

    def __init__(self, folder: Path, git: Git) -> None:
        """Keep them in `folder`, which needs to exist only at the first `prepare`."""
        self._folder = folder
        self._git = git
        self._locks: defaultdict[Path, asyncio.Lock] = defaultdict(asyncio.Lock)

    def of(self, vault: Path, commit: str) -> Base:
        """Return where the base of `commit` is, or would be.

        Who writes this down before `prepare` keeps `remove` from taking it away.
        """
        final = self._folder / vault_id(vault) / commit
        return Base(final / "tree", final / "gitlayer")

    async def prepare(self, vault: Path, commit: str) -> Base:
        """Return the base of `commit`, made now if it is not there yet.

        Raises:
            WorkspaceError: `vault` has no such commit.
        """
        base = self.of(vault, commit)
        final = base.tree.parent
        async with self._locks[final]:
            if final.is_dir() and not _is_of_this_boot(final):
                await asyncio.to_thread(_remove, final)
            if not final.is_dir():
                await self._make(vault, commit, final)
            os.utime(final)
        return base

    async def _make(self, vault: Path, commit: str, final: Path) -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        unfinished = final.parent / f"new-{uuid.uuid4().hex}"
        unfinished.mkdir()
        owner = os.open(unfinished, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(owner, fcntl.LOCK_EX)
            git_folder = unfinished / "gitlayer" / ".git"
            await lay_out(self._git, vault, commit, unfinished / "tree", git_folder)
            (unfinished / BOOT).write_text(boot_id())
            # ENOTEMPTY: another process was faster, and made the same.
            with suppress(FileExistsError, OSError):
                unfinished.rename(final)
        finally:
            os.close(owner)
            await asyncio.to_thread(removal.remove, unfinished)

    def sweep(self, used: Collection[Path]) -> None:
        """Remove what is unfinished and nobody's, and bases unused for `KEPT_S`.

        `used` are the trees of the bases that workspaces lie on.
        """
        for unfinished in self._folder.glob("*/new-*"):
            if not _is_locked(unfinished):
                removal.remove(unfinished)
        for base in self.existing():
            unused_s = time.time() - base.stat().st_mtime
            if unused_s > KEPT_S and base / "tree" not in used:
                _remove(base)

    def existing(self) -> list[Path]:
        """Return the folders of the bases that are whole."""
        return sorted(path for path in self._folder.glob("*/*") if path.name[:4] != "new-")

    async def remove(self, base: Path, used: Callable[[], Collection[Path]]) -> bool:
        """Remove a base unless it is among those `used`, asked when nobody can begin to use it."""
        async with self._locks[base]:
            if base / "tree" in used():
                return False
            if base.is_dir():
                await asyncio.to_thread(_remove, base)
        return True


def _is_of_this_boot(base: Path) -> bool:
    return noted_boot(base) == boot_id()


def _remove(base: Path) -> None:
    # Half a base must never be found under its name.
    doomed = base.with_name(f"new-{uuid.uuid4().hex}")
    base.rename(doomed)
    removal.remove(doomed)


async def lay_out(
    git: Git,
    vault: Path,
    commit: str,
    tree: Path,
    git_folder: Path,
    *,
    agent_id: int = sandbox.AGENT_ID,
    objects: str = sandbox.VAULT_OBJECTS,
) -> None:
    """Check `commit` out into the new folder `tree`, with the new `git_folder` as its `.git`.

    `agent_id` is who an agent finds itself to be, `objects` is where it finds the vault's.

    Everything belongs to the sandbox's user, and the index already knows the files as they look
    from inside, so that the first `git status` reads none of them.

    Raises:
        WorkspaceError: `vault` has no such commit.
    """
    _write_git_folder(git_folder, commit)
    tree.mkdir(parents=True)
    here = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(vault / "objects")}

    async def run(*args: str) -> str:
        return (await git.run(*args, git_dir=git_folder, environment=here, timeout_s=1800)).text

    # Nothing of it is synced: see `Bases`.
    in_tree = (
        "-c",
        "core.fsync=none",
        "-c",
        "index.version=2",
        "-c",
        "index.skipHash=false",
        f"--work-tree={tree}",
    )
    try:
        committed = int(await run("show", "--no-patch", "--format=%ct", f"{commit}^{{commit}}"))
        await run(*in_tree, "read-tree", commit)
        await run(*in_tree, "checkout-index", "--all", "--force")
        await asyncio.to_thread(_hand_over, tree, _file_time(committed))
        await run(*in_tree, "update-index", "-q", "--refresh")
    except GitError as error:
        raise WorkspaceError(f"Commit {commit} cannot be checked out: {error.message}") from error
    index = git_folder / "index"
    index.write_bytes(seen_from_inside(index.read_bytes(), len(commit) // 2, agent_id))
    (git_folder / "objects/info/alternates").write_text(f"{objects}\n")
    await asyncio.to_thread(_hand_over, git_folder.parent, None)


def seen_from_inside(index: bytes, hash_bytes: int, agent_id: int = sandbox.AGENT_ID) -> bytes:
    """Return a version 2 index in which every file belongs to the agent's uid and gid.

    git compares the owner: with the host's ids in it, an agent's first `git status` would read
    every file again.
    """
    content = bytearray(index[:-hash_bytes])
    (entries,) = struct.unpack_from(">L", content, 8)
    offset, fixed = 12, 40 + hash_bytes + 2
    for _ in range(entries):
        struct.pack_into(">LL", content, offset + 28, agent_id, agent_id)
        flags = int.from_bytes(content[offset + fixed - 2 : offset + fixed], "big")
        # The length is capped there; an entry ends with at least one NUL, to a multiple of 8.
        end = content.index(0, offset + fixed + (flags & 0xFFF))
        offset += (end - offset) // 8 * 8 + 8
    algorithm = hashlib.sha1 if hash_bytes == 20 else hashlib.sha256
    return bytes(content) + algorithm(content).digest()


def _is_locked(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _write_git_folder(folder: Path, commit: str) -> None:
    for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info"):
        (folder / name).mkdir(parents=True)
    is_sha256 = len(commit) == 64
    config = _CONFIG.format(version=int(is_sha256), extensions=_SHA256 if is_sha256 else "")
    (folder / "config").write_text(config)
    (folder / "HEAD").write_text(f"ref: refs/heads/{BRANCH}\n")
    (folder / "refs/heads" / BRANCH).write_text(f"{commit}\n")
    (folder / "info/attributes").write_text(_ATTRIBUTES)


def _file_time(committed: int) -> int:
    """Return the time that the files get: never so new that git must doubt its index."""
    return min(committed, int(time.time()) - _BEFORE_NOW_S)


def _hand_over(folder: Path, file_time: int | None) -> None:
    """Give a tree that we made to the sandbox's user; with `file_time`, date its files."""
    owner = (sandbox.HOST_UID, sandbox.HOST_UID) if os.geteuid() == 0 else (-1, -1)

    def settle(name: str, at: int) -> None:
        if file_time is not None:
            os.utime(name, (file_time, file_time), dir_fd=at, follow_symlinks=False)
        os.chown(name, *owner, dir_fd=at, follow_symlinks=False)

    _each(folder, settle)


def give(folder: Path, owner: int) -> None:
    """Give a tree to a user. Nobody may write there meanwhile, and its top is given last."""
    _each(folder, lambda name, at: os.chown(name, owner, owner, dir_fd=at, follow_symlinks=False))


def _each(folder: Path, act: Callable[[str, int], None]) -> None:
    for _, folders, files, at in os.fwalk(folder, topdown=False):
        for name in (*folders, *files):
            act(name, at)
        act(".", at)


def vault_id(vault: Path) -> str:
    """Return the name of the folder that the bases of a vault's commits lie in."""
    return hashlib.sha256(os.fsencode(vault.resolve())).hexdigest()[:16]
