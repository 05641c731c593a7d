"""Puts a bare repository of ours in order: after a killed git, a power cut, a disk that lied.

What git can make again is removed; what may hold somebody's work is set aside, and all that can
still be read of it is taken back in. Nobody else may use the repository meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from commandcenter.core.errors import GitError
from commandcenter.system import durable
from commandcenter.system.git import Git

SALVAGED_BYTES_MAX = 64 * 2**20
"""A larger broken pack came from the upstream, which still has it."""

_CHUNK_BYTES = 2**20
_REF = re.compile(rb"(ref: .+|[0-9a-f]{40}|[0-9a-f]{64})\n")
_PACKED_REF = re.compile(rb"(#.*|(\^|[0-9a-f]{40} |[0-9a-f]{64} )\S+)\n")
_LEFTOVERS = (
    *("*.lock", "gc.pid", ".*", "info/.*"),
    *("objects/**/*.lock", "objects/**/tmp_*", "objects/**/.tmp-*", "objects/**/*.keep"),
    "refs/**/*.lock",
)
# What git computes from the rest, each with a checksum of itself at its end.
_DERIVED = ("objects/info/commit-graph", "objects/pack/multi-pack-index")


@dataclass
class Damage:
    """What was not as it must be. Everything of it is mended, as far as that can be done here."""

    broken: list[str] = field(default_factory=list)
    """Files of which something may be lost, by their path in the repository."""
    incomplete: list[Path] = field(default_factory=list)
    """Packs set aside in the attic, to be taken in again: see `take_back`."""

    def __bool__(self) -> bool:
        return bool(self.broken or self.incomplete)


def mend(repository: Path, attic: Path, *, thorough: bool) -> Damage:
    """Remove what is broken, set packs aside into the folder `attic`, and say what it was.

    `thorough` reads every byte; else a file that is neither empty nor cut off passes.
    """
    damage = Damage()
    if repository.is_dir():
        for pattern in _LEFTOVERS:
            for path in repository.glob(pattern):
                path.unlink(missing_ok=True)
        mender = _Mender(repository, attic, damage)
        mender.mend_refs()
        mender.mend_derived()
        mender.mend_loose(thorough=thorough)
        mender.mend_packs(thorough=thorough)
    return damage


def forget_derived(repository: Path) -> None:
    """Remove what git is quicker with: it names objects that may be gone."""
    for name in _DERIVED:
        (repository / name).unlink(missing_ok=True)


async def take_back(git: Git, repository: Path, damage: Damage) -> bool:
    """Take in again what can be read of the packs that were set aside; say whether that is all."""
    whole = [await _reindexed(git, repository, pack) for pack in damage.incomplete]
    broken = [pack for pack in damage.incomplete if pack.exists()]
    for pack in broken:
        await _unpacked(git, repository, pack)
    return all(whole)


async def _reindexed(git: Git, repository: Path, pack: Path) -> bool:
    """Make the pack's index anew, and say whether the pack was whole."""
    index = pack.with_suffix(".idx")
    done = await git.run(
        *("index-pack", "--strict", "-o", str(index), str(pack)),
        git_dir=repository,
        check=False,
        timeout_s=3600,
    )
    if done.exit_code:
        return False
    await asyncio.to_thread(_move_in, pack, repository / "objects/pack")
    return True


def _move_in(pack: Path, folder: Path) -> None:
    for path in (pack, pack.with_suffix(".rev"), pack.with_suffix(".idx")):
        with contextlib.suppress(FileNotFoundError):
            path.rename(folder / path.name)
    durable.sync_folder(folder)


async def _unpacked(git: Git, repository: Path, pack: Path) -> None:
    if pack.stat().st_size > SALVAGED_BYTES_MAX:
        return
    content = await asyncio.to_thread(pack.read_bytes)
    # It ends with an error whatever it saved; nothing of a pack that is cut off at its head.
    with contextlib.suppress(GitError):
        await git.run("unpack-objects", "-r", "-q", git_dir=repository, stdin=content, check=False)


class _Mender:
    def __init__(self, repository: Path, attic: Path, damage: Damage) -> None:
        self._repository = repository
        self._objects = repository / "objects"
        self._attic = attic
        self._damage = damage

    def mend_refs(self) -> None:
        """Remove refs that say nothing, and the lines of packed refs that do not."""
        for path in _files(self._repository / "refs"):
            if not _REF.fullmatch(path.read_bytes()):
                self._remove(path)
        packed = self._repository / "packed-refs"
        lines = packed.read_bytes().splitlines(keepends=True) if packed.exists() else []
        kept = [line for line in lines if _PACKED_REF.fullmatch(line)]
        if not lines and packed.exists():
            self._remove(packed)
        elif kept != lines:
            self._note(packed)
            durable.write(packed, b"".join(kept))

    def mend_derived(self) -> None:
        """Remove what git is quicker with, and can do without."""
        for name in _DERIVED:
            path = self._repository / name
            if path.exists() and not _is_sealed(path, self._hash()):
                path.unlink()

    def mend_loose(self, *, thorough: bool) -> None:
        """Remove loose objects that are empty; thorough: all that are not what they are called."""
        for folder in self._objects.glob("[0-9a-f][0-9a-f]"):
            for path in _files(folder):
                whole = path.stat().st_size > 0 and (not thorough or self._is_named_rightly(path))
                if not whole:
                    self._remove(path)

    def _is_named_rightly(self, path: Path) -> bool:
        digest = self._hash()()
        try:
            for piece in _expanded(path):
                digest.update(piece)
        except zlib.error:
            return False
        return digest.hexdigest() == path.parent.name + path.name

    def mend_packs(self, *, thorough: bool) -> None:
        """Set packs aside that are not whole, or whose index is not theirs."""
        folder = self._objects / "pack"
        for index in sorted(folder.glob("*.idx")):
            if not index.with_suffix(".pack").exists():
                self._remove(index)
        for pack in sorted(folder.glob("*.pack")):
            if not self._is_whole(pack, thorough=thorough):
                self._set_aside(pack)

    def _is_whole(self, pack: Path, *, thorough: bool) -> bool:
        index, size = pack.with_suffix(".idx"), self._hash()().digest_size
        if not index.exists():
            return False
        named, told = _tail(pack, size), _tail(index, 2 * size)[:size]
        if len(told) < size or named != told:
            return False
        return not thorough or all(_is_sealed(path, self._hash()) for path in (index, pack))

    def _set_aside(self, pack: Path) -> None:
        self._attic.mkdir(exist_ok=True)
        # It names packs that it must have all of.
        (pack.parent / "multi-pack-index").unlink(missing_ok=True)
        kept = self._attic / pack.name
        pack.rename(kept)
        for suffix in (".idx", ".rev", ".bitmap", ".mtimes"):
            pack.with_suffix(suffix).unlink(missing_ok=True)
        durable.sync_folder(self._attic)
        durable.sync_folder(pack.parent)
        self._damage.incomplete.append(kept)

    def _hash(self) -> Callable[[], hashlib._Hash]:
        return hashlib.sha256 if ids_of(self._repository) == "sha256" else hashlib.sha1

    def _remove(self, path: Path) -> None:
        self._note(path)
        path.unlink()
        durable.sync_folder(path.parent)

    def _note(self, path: Path) -> None:
        self._damage.broken.append(str(path.relative_to(self._repository)))


def ids_of(repository: Path) -> str:
    """Return the kind of ids that a repository has, even if its configuration is gone."""
    with contextlib.suppress(FileNotFoundError):
        if "sha256" in (repository / "config").read_text(errors="replace"):
            return "sha256"
    names = (path.stem for path in (repository / "objects/pack").glob("pack-*"))
    longest = max(map(len, names), default=0)
    return "sha256" if longest > len("pack-") + 40 else "sha1"


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)


def _expanded(path: Path) -> Iterator[bytes]:
    expander = zlib.decompressobj()
    for chunk in _chunks(path):
        rest = chunk
        while rest and not expander.eof:
            yield expander.decompress(rest, _CHUNK_BYTES)
            rest = expander.unconsumed_tail


def _is_sealed(path: Path, make: Callable[[], hashlib._Hash]) -> bool:
    """Say whether a file ends with the checksum of what goes before, as git writes them."""
    digest = make()
    left = path.stat().st_size - digest.digest_size
    if left <= 0:
        return False
    for chunk in _chunks(path):
        digest.update(chunk[: max(left, 0)])
        left -= len(chunk)
    return _tail(path, digest.digest_size) == digest.digest()


def _tail(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read(size)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def remove_locks(repository: Path, *, before_s: float = math.inf) -> None:
    """Remove the locks that were made before a time, in seconds since 1970."""
    for lock in list(_locks(repository)):
        with contextlib.suppress(FileNotFoundError):
            if lock.lstat().st_mtime < before_s:
                lock.unlink()


def _locks(repository: Path) -> Iterator[Path]:
    yield from repository.glob("*.lock")
    for folder in ("objects", "refs"):
        yield from (repository / folder).rglob("*.lock")
