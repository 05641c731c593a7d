"""Keeps a commit in a file beside its ref, and gives it back: as a branch, or as files."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from commandcenter.core.errors import GitError, InputError
from commandcenter.system.beneath import open_beneath
from commandcenter.system.repository import advertised
from commandcenter.system.vault import Vault

_PATH_BYTES_MAX = 4000
"""Longer paths the kernel does not take in one piece."""
_FILES_MAX = 1_000_000
_LONG_S = 3600.0


async def write_bundle(vault: Vault, ref: str, base: str, path: Path) -> None:
    """Write what `ref` has beyond `base` into a bundle, whole and on the disk, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.with_suffix(".new.lock").unlink(missing_ok=True)
    await vault.git.run(
        *("bundle", "create", "--quiet", str(fresh), ref, f"^{base}"),
        git_dir=vault.path,
        timeout_s=_LONG_S,
    )
    for each in (fresh, path.parent):
        _sync(each)
    fresh.replace(path)
    _sync(path.parent)


async def read_bundle(vault: Vault, path: Path, ref: str) -> None:
    """Bring what a bundle holds back to its ref in the vault.

    Raises:
        GitError: it is damaged, or the vault has not what it builds on.
    """
    async with vault.unwritten():
        await vault.git.run(
            *("-c", "fetch.fsckObjects=true", "fetch", "--quiet", "--no-write-fetch-head"),
            *("--no-tags", "--no-auto-maintenance", "--", str(path), f"{ref}:{ref}"),
            git_dir=vault.path,
            environment={"GIT_ALLOW_PROTOCOL": "file"},
            timeout_s=_LONG_S,
        )


async def offer(vault: Vault, commit: str, repository: str, branch: str) -> None:
    """Make a new branch at a commit in any repository, by push: no checkout is touched.

    Raises:
        InputError: it has a branch of this name, or is no repository.
        GitError: it took nothing.
    """
    await vault.check_branch(branch)
    try:
        place = await _place(vault, repository)
        there = await advertised(vault.git, place)
    except GitError as error:
        raise InputError(
            f"{repository} does not answer as a git repository: {error.stderr or error.message}",
            hint="name a repository by its folder or its URL: --repo",
        ) from error
    if branch in there.heads:
        raise InputError(
            f"{repository} has a branch `{branch}` already; it was left as it is.",
            hint="choose another name: --branch",
        )
    await vault.git.run(
        *("push", "--quiet", "--no-verify", "--no-follow-tags", "--recurse-submodules=no"),
        *("--no-signed", f"--force-with-lease=refs/heads/{branch}:"),
        *("--", place, f"{commit}:refs/heads/{branch}"),
        git_dir=vault.path,
        network=True,
        timeout_s=_LONG_S,
    )


async def _place(vault: Vault, repository: str) -> str:
    """Return where to push to: for a folder inside a work tree, its repository."""
    if not Path(repository).is_dir():
        return repository
    found = await vault.git.run(
        *("-C", repository, "rev-parse", "--path-format=absolute", "--git-common-dir"),
        git_dir=None,
        network=True,
    )
    return found.text


async def pack_commit(vault: Vault, commit: str, out: IO[bytes]) -> None:
    """Write the files of a commit as a tar archive; what is in submodules is not among them."""
    async with vault.quarantine() as folder:
        files, index = folder / "files", {"GIT_INDEX_FILE": str(folder / "index")}
        files.mkdir()
        for command in (("read-tree", commit), ("checkout-index", "--all", "--force")):
            await vault.git.run(
                f"--work-tree={files}",
                *command,
                git_dir=vault.path,
                environment=index,
                timeout_s=_LONG_S,
            )
        pack_folder(files, out)


def pack_folder(folder: Path, out: IO[bytes]) -> tuple[str, ...]:
    """Write the files and links below a folder as a tar archive; return what was left out.

    Somebody hostile may have written it: no link is followed, and nothing named `.git` is taken.
    """
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    left_out = []
    try:
        with tarfile.open(fileobj=out, mode="w|") as archive:
            for number, path in enumerate(_below(root)):
                if number >= _FILES_MAX or not _add(archive, root, path):
                    left_out.append(os.fsdecode(path))
                    if number >= _FILES_MAX:
                        break
    finally:
        os.close(root)
    return tuple(left_out)


def _below(root: int) -> Iterator[bytes]:
    """Give the path of everything below a folder that is none itself, or cannot be entered."""
    waiting = [b"."]
    while waiting:
        parent = waiting.pop()
        try:
            at = open_beneath(root, parent, directory=True)
        except OSError:
            yield parent
            continue
        try:
            with os.scandir(at) as entries:
                found = sorted(
                    (os.fsencode(each.name), each.is_dir(follow_symlinks=False)) for each in entries
                )
        finally:
            os.close(at)
        for name, is_folder in found:
            path = name if parent == b"." else parent + b"/" + name
            if is_folder and len(path) <= _PATH_BYTES_MAX and name.lower() != b".git":
                waiting.append(path)
            else:
                yield path


def _add(archive: tarfile.TarFile, root: int, path: bytes) -> bool:
    """Add a plain file or a link; say no to anything else."""
    parent, _, name = path.rpartition(b"/")
    if len(path) > _PATH_BYTES_MAX or name.lower() == b".git":
        return False
    try:
        folder = open_beneath(root, parent or b".", directory=True)
    except OSError:
        return False
    try:
        return _add_at(archive, folder, name, os.fsdecode(path))
    except OSError:
        return False
    finally:
        os.close(folder)


def _add_at(archive: tarfile.TarFile, folder: int, name: bytes, path: str) -> bool:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    entry = tarfile.TarInfo(path)
    entry.mtime = int(found.st_mtime)
    if stat.S_ISLNK(found.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.fsdecode(os.readlink(name, dir_fd=folder))
        archive.addfile(entry)
        return True
    if not stat.S_ISREG(found.st_mode):
        return False
    with os.fdopen(open_beneath(folder, name), "rb") as file:
        entry.size = os.fstat(file.fileno()).st_size
        entry.mode = 0o755 if found.st_mode & 0o100 else 0o644
        archive.addfile(entry, file)
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
