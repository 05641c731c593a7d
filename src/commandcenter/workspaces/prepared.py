"""Bases: the files of commits, prepared once and shared read-only by many workspaces."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import os
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from commandcenter.core.errors import GitError
from commandcenter.system import removal
from commandcenter.system.boot import BOOT, boot_id, noted_boot
from commandcenter.system.git import Git
from commandcenter.workspaces.layout import derive, lay_out

KEPT_S = 7 * 24 * 3600
"""How long a base is kept after its last use."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Base:
    """A commit's files, shared and read-only: the lower layers of many workspaces."""

    tree: Path
    gitlayer: Path
    """A folder that holds only `.git`."""


class Bases:
    """The prepared bases below one folder: each is made once and never changed.

    What is the same in the base that was used last is shared with it, by hard links: so one takes
    as long, and as much of the disk, as what is not the same.

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
            if not await self._derive(vault, commit, unfinished):
                git_folder = unfinished / "gitlayer" / ".git"
                await lay_out(self._git, vault, commit, unfinished / "tree", git_folder)
            (unfinished / BOOT).write_text(boot_id())
            # ENOTEMPTY: another process was faster, and made the same.
            with suppress(FileExistsError, OSError):
                unfinished.rename(final)
        finally:
            os.close(owner)
            await asyncio.to_thread(removal.remove, unfinished)

    async def _derive(self, vault: Path, commit: str, unfinished: Path) -> bool:
        """Make a base from the one that was used last, if that pays and can be done here."""
        others = [each for each in self.existing() if each.parent == unfinished.parent]
        last = max(others, key=_used_s, default=None)
        if last is None:
            return False
        async with self._locks[last]:
            if not last.is_dir() or not _is_of_this_boot(last):
                return False
            try:
                return await derive(self._git, vault, last, commit, unfinished)
            except (GitError, OSError) as error:
                log.info("The files of %s are laid out anew: %s", commit, error)
                await asyncio.to_thread(removal.empty, unfinished)
                return False

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


def _used_s(base: Path) -> float:
    try:
        return base.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _is_of_this_boot(base: Path) -> bool:
    return noted_boot(base) == boot_id()


def _remove(base: Path) -> None:
    # Half a base must never be found under its name.
    doomed = base.with_name(f"new-{uuid.uuid4().hex}")
    base.rename(doomed)
    removal.remove(doomed)


def _is_locked(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def vault_id(vault: Path) -> str:
    """Return the name of the folder that the bases of a vault's commits lie in."""
    return hashlib.sha256(os.fsencode(vault.resolve())).hexdigest()[:16]
