"""Lays a commit's files out with a small `.git` of their own, ready for an agent."""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from commandcenter.core.errors import GitError, WorkspaceError
from commandcenter.system import sandbox
from commandcenter.system.git import Git

BRANCH = "task"
"""The branch that an agent finds itself on."""

# The ctime of a file changes when another base comes to share it, and nothing else of it does.
_CONFIG = """\
[core]
	repositoryformatversion = {version}
	filemode = true
	bare = false
	logallrefupdates = true
	fsync = none
	trustctime = false
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
_SHARED_LEAST = 0.5
"""The part of a base's files that must be the same for another to be derived from it."""


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
    run = _runner(git, vault, tree, git_folder)
    try:
        file_time = await _file_time(git, vault, commit)
        await run("read-tree", commit)
        await run("checkout-index", "--all", "--force")
        await asyncio.to_thread(_hand_over, tree, file_time)
        await run("update-index", "-q", "--refresh")
    except GitError as error:
        raise WorkspaceError(f"Commit {commit} cannot be checked out: {error.message}") from error
    await asyncio.to_thread(_finish, git_folder, commit, agent_id, objects)


async def derive(git: Git, vault: Path, source: Path, commit: str, target: Path) -> bool:
    """Lay the base of `commit` out in the folder `target`, from `source`, the base of another.

    Files that are the same are linked, and keep the time that they have. Returns whether it was
    done; nothing is done when too few are the same.

    Raises:
        GitError: git failed, as when `vault` has one of the commits no more, or the source is not
            what it was made as.
        OSError: it cannot be done here, as where no file can have so many names.
    """
    git_folder, tree = target / "gitlayer" / ".git", target / "tree"
    known = (source / "gitlayer" / ".git" / "index").read_bytes()
    gone, new = await _differences(git, vault, source.name, commit)
    if len(gone) + len(new) > (1 - _SHARED_LEAST) * _entries(known):
        return False
    run = _runner(git, vault, tree, git_folder)
    file_time = await _file_time(git, vault, commit)
    _write_git_folder(git_folder, commit)
    # It holds the files as they look from inside; here it is to be compared with what is here.
    (git_folder / "index").write_bytes(owned_by(known, len(commit) // 2, *_owner()))
    folders = await asyncio.to_thread(_link, source / "tree", tree, gone | new)
    await run("read-tree", "-m", "-i", commit)
    await run("checkout-index", "--force", "-z", "--stdin", stdin=b"\0".join(sorted(new)))
    await asyncio.to_thread(_settle_all, tree, folders | _above(new) | new, file_time)
    # It fails if a file is not what the index knows: the source is damaged.
    await run("update-index", "--refresh")
    await asyncio.to_thread(_finish, git_folder, commit, sandbox.AGENT_ID, sandbox.VAULT_OBJECTS)
    return True


async def _differences(
    git: Git, vault: Path, before: str, after: str
) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Return the paths that only the first commit has, and those that the second has otherwise."""
    words = ("diff-tree", "-r", "-z", "--no-renames", "--name-status", before, after)
    told = (await git.run(*words, git_dir=vault)).stdout.split(b"\0")
    paths = dict(zip(told[1::2], told[::2], strict=False))
    gone = frozenset(path for path, status in paths.items() if status == b"D")
    return gone, frozenset(paths) - gone


def _link(source: Path, target: Path, without: Collection[bytes]) -> frozenset[bytes]:
    """Give the files of one folder a second name in another; return the folders made for them.

    A folder is made only where something comes to lie in it, or where there is an empty one.
    """
    made, waiting = {b""}, [b""]
    os.mkdir(target)
    while waiting:
        at = waiting.pop()
        with os.scandir(os.path.join(os.fsencode(source), at)) as entries:
            found = [
                (os.path.join(at, os.fsencode(e.name)), e.is_dir(follow_symlinks=False))
                for e in entries
            ]
        kept = [each for each in found if each[0] not in without]
        waiting += [path for path, is_folder in kept if is_folder]
        files = [path for path, is_folder in kept if not is_folder]
        if files or not found:
            _make_folder(target, at, made)
        for path in files:
            os.link(
                os.path.join(os.fsencode(source), path),
                os.path.join(os.fsencode(target), path),
                follow_symlinks=False,
            )
    return frozenset(made)


def _make_folder(top: Path, path: bytes, made: set[bytes]) -> None:
    missing = []
    while path not in made:
        missing.append(path)
        path = os.path.dirname(path)
    for each in reversed(missing):
        os.mkdir(os.path.join(os.fsencode(top), each))
        made.add(each)


def _above(paths: Collection[bytes]) -> frozenset[bytes]:
    """Return the folders that some files lie in, down from the top."""
    found = {b""}
    for path in paths:
        while (path := os.path.dirname(path)) not in found:
            found.add(path)
    return frozenset(found)


def _settle_all(top: Path, paths: Collection[bytes], file_time: int) -> None:
    for path in paths:
        _settle(os.path.join(os.fsencode(top), path), file_time)


def _runner(git: Git, vault: Path, tree: Path, git_folder: Path) -> Callable[..., Awaitable[None]]:
    """Return what runs git on a tree that is being laid out, with the objects of a vault."""
    here = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(vault / "objects")}
    # Nothing of it is synced: see `Bases`.
    options = ("core.fsync=none", "index.version=2", "index.skipHash=false")
    words = (*(word for option in options for word in ("-c", option)), f"--work-tree={tree}")

    async def run(*args: str, stdin: bytes = b"") -> None:
        await git.run(
            *words, *args, git_dir=git_folder, environment=here, stdin=stdin, timeout_s=1800
        )

    return run


async def _file_time(git: Git, vault: Path, commit: str) -> int:
    """Return the time that files get: never so new that git must doubt its index."""
    words = ("show", "--no-patch", "--format=%ct", f"{commit}^{{commit}}")
    committed = int((await git.run(*words, git_dir=vault)).text)
    return min(committed, int(time.time()) - _BEFORE_NOW_S)


def _finish(git_folder: Path, commit: str, agent_id: int, objects: str) -> None:
    """Make a `.git` what it is to be from inside."""
    index = git_folder / "index"
    index.write_bytes(owned_by(index.read_bytes(), len(commit) // 2, agent_id, agent_id))
    (git_folder / "objects/info/alternates").write_text(f"{objects}\n")
    _hand_over(git_folder.parent, None)


def owned_by(index: bytes, hash_bytes: int, uid: int, gid: int) -> bytes:
    """Return a version 2 index in which every file belongs to this user and group.

    git compares the owner: with other ids in it than it finds, `git status` would read every file
    again.
    """
    content = bytearray(index[:-hash_bytes])
    entries = _entries(index)
    offset, fixed = 12, 40 + hash_bytes + 2
    for _ in range(entries):
        struct.pack_into(">LL", content, offset + 28, uid, gid)
        flags = int.from_bytes(content[offset + fixed - 2 : offset + fixed], "big")
        # The length is capped there; an entry ends with at least one NUL, to a multiple of 8.
        end = content.index(0, offset + fixed + (flags & 0xFFF))
        offset += (end - offset) // 8 * 8 + 8
    algorithm = hashlib.sha1 if hash_bytes == 20 else hashlib.sha256
    return bytes(content) + algorithm(content).digest()


def _entries(index: bytes) -> int:
    (entries,) = struct.unpack_from(">L", index, 8)
    return int(entries)


def _write_git_folder(folder: Path, commit: str) -> None:
    for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info"):
        (folder / name).mkdir(parents=True)
    is_sha256 = len(commit) == 64
    config = _CONFIG.format(version=int(is_sha256), extensions=_SHA256 if is_sha256 else "")
    (folder / "config").write_text(config)
    (folder / "HEAD").write_text(f"ref: refs/heads/{BRANCH}\n")
    (folder / "refs/heads" / BRANCH).write_text(f"{commit}\n")
    (folder / "info/attributes").write_text(_ATTRIBUTES)


def _hand_over(folder: Path, file_time: int | None) -> None:
    """Give a tree that we made to the sandbox's user; with `file_time`, date its files."""
    _each(folder, lambda name, at: _settle(name, file_time, at))


def _settle(path: str | bytes, file_time: int | None, at: int | None = None) -> None:
    if file_time is not None:
        os.utime(path, (file_time, file_time), dir_fd=at, follow_symlinks=False)
    os.chown(path, *_owner(), dir_fd=at, follow_symlinks=False)


def _owner() -> tuple[int, int]:
    """Return the user and group that what we lay out belongs to."""
    if os.geteuid() == 0:
        return sandbox.HOST_UID, sandbox.HOST_UID
    return os.geteuid(), os.getegid()


def give(folder: Path, owner: int) -> None:
    """Give a tree to a user. Nobody may write there meanwhile, and its top is given last."""
    _each(folder, lambda name, at: os.chown(name, owner, owner, dir_fd=at, follow_symlinks=False))


def _each(folder: Path, act: Callable[[str, int], None]) -> None:
    for _, folders, files, at in os.fwalk(folder, topdown=False):
        for name in (*folders, *files):
            act(name, at)
        act(".", at)
