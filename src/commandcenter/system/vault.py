"""The vault: our private bare copy of a repository. One writer, durable, never seen by an agent.

What lands, lands from here by push: the user's own repository is only ever fetched from and
pushed to.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import re
import select
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from commandcenter.core.errors import CaptureRefused, GitError, InputError
from commandcenter.system import durable, mending
from commandcenter.system.boot import boot_id
from commandcenter.system.git import Git, GitResult
from commandcenter.system.repository import Repository, advertised, inspect_repository
from commandcenter.system.upstream import Landed, Moved, Refused, Upstream, refusal

log = logging.getLogger(__name__)

__all__ = [
    "Conflict",
    "FileChange",
    "Identity",
    "Landed",
    "Merged",
    "Moved",
    "RefUpdate",
    "Refused",
    "Repository",
    "Touch",
    "Vault",
    "inspect_repository",
    "pin_ref",
    "salvage_ref",
    "task_ref",
    "vault_folder",
]

PACK_BYTES_MAX = 1024 * 2**20
"""Largest pack that is admitted."""

_KNOWN_MAX = 1000
_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HEAD = "ref: refs/heads/main\n"
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_CONFIG = """\
[core]
\trepositoryformatversion = {version}
\tbare = true
\tlogAllRefUpdates = false
\tfsync = all
\tfsyncMethod = fsync
[fetch]
\tunpackLimit = 1
[gc]
\tauto = 0
[maintenance]
\tauto = false
[repack]
\twriteBitmaps = false
"""
# Files are bytes: what an agent left is what is committed, and what is checked out again.
_ATTRIBUTES = "* -text !eol -ident -filter -working-tree-encoding\n"
_IN_USE = "The data folder {folder} is in use by another CommandCenter (process {process})."


@dataclass(frozen=True)
class Identity:
    """Who a commit names as its author or committer."""

    name: str
    email: str

    def __post_init__(self) -> None:
        if not self.name.strip() or re.search(r"[<>\n\0]", self.name + self.email):
            raise InputError(f"`{self.name} <{self.email}>` cannot be written into a commit.")


@dataclass(frozen=True)
class RefUpdate:
    """One step of a transaction on refs."""

    ref: str
    new: str | None
    """A commit id; None deletes the ref."""
    old: str | None
    """What it must be now; None: it must not exist."""


@dataclass(frozen=True)
class Merged:
    """The commit that holds both sides. It is on no branch yet."""

    commit: str
    tree: str
    fast_forward: bool


@dataclass(frozen=True)
class Conflict:
    """Both sides changed the same lines."""

    files: tuple[str, ...]
    tree: str
    """The merged tree with conflict markers in those files."""


@dataclass(frozen=True)
class FileChange:
    """How many lines of a file changed."""

    path: str
    insertions: int
    """0 for a binary file."""
    deletions: int
    binary: bool


@dataclass(frozen=True)
class Touch:
    """A commit that touches a path."""

    commit: str
    subject: str
    trailers: tuple[str, ...]
    """What it says in the trailers that were asked for; empty where it says nothing."""


def task_ref(run: str, task: str, n: int | str) -> str:
    """Return the ref that keeps capture `n` of a task; any text is fine as id.

    `n` is a try, or a try, round and position of its pattern: `1-2-3`.
    """
    return f"refs/cc/task/{_component(run)}/{_component(task)}/{n}"


def pin_ref(key: str) -> str:
    """Return the ref that keeps what was pinned under a key."""
    return f"refs/cc/keep/{_path(key)}"


def salvage_ref(run: str, task: str, what: str) -> str:
    """Return the ref that keeps work of a task that nothing else holds."""
    return f"refs/cc/salvage/{_component(run)}/{_component(task)}/{_component(what)}"


def vault_folder(data_dir: Path, upstream: str) -> Path:
    """Return the folder of an upstream's vault, whether or not it is there."""
    return data_dir.resolve() / "vaults" / _folder_name(upstream)


class Vault:
    """The bare copy of one upstream. Make it by `Vault.open`, give it back by `close`."""

    def __init__(self, git: Git, folder: Path, upstream: str, lock: int) -> None:
        self.git = git
        self.path = folder / "repository.git"
        """The bare repository. Lend its `objects` read-only; pin what was lent."""
        self.upstream = upstream
        self._upstream = Upstream(git, upstream, self.path)
        self.lost: set[str] = set()
        """Commits that were here, and were not to be had again: see `restore`."""
        self._quarantines = folder / "quarantine"
        self._attic = folder / "attic"
        """Packs that were broken and could not be read whole; there is none as a rule."""
        self._lock = lock
        self._writing = asyncio.Lock()
        # What never changes is asked of git once: a process costs more than the answer.
        self._fit_names: set[str] = set()
        self._trees: dict[str, str] = {}
        self._contains: dict[tuple[str, str], bool] = {}

    @classmethod
    async def open(cls, git: Git, data_dir: Path, upstream: str) -> Vault:
        """Open the vault of an upstream below `data_dir`, or make it by a fetch.

        What an earlier process left behind when it was killed is put in order first.

        Raises:
            InputError: another process has it open.
            GitError: the upstream did not answer, or the vault is damaged.
        """
        folder = vault_folder(data_dir, upstream)
        await asyncio.to_thread(_make_folder, folder)
        lock = _take_lock(folder / "lock")
        vault = cls(git, folder, upstream, lock.descriptor)
        try:
            await vault._put_in_order(thorough=lock.unsynced)
            if not vault.path.exists():
                await vault._create()
            if lock.unsynced:
                await vault._upstream.unlock()
            _sign(lock.descriptor, boot_id())
        except BaseException:
            os.close(lock.descriptor)
            raise
        return vault

    def close(self) -> None:
        """Let another process open it. The second time it does nothing."""
        if self._lock >= 0:
            # Left in order, which is what an empty lock says.
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = -1

    # Refs

    async def fetch(self, branch: str) -> str:
        """Bring the upstream's branch into `refs/upstream/heads/` and return its tip.

        Raises:
            GitError: the upstream did not answer, or has no such branch.
        """
        await self.check_branch(branch)
        ref = f"refs/upstream/heads/{branch}"
        async with self._alone(), self._synced(ref):
            try:
                await self._upstream.fetch(f"+refs/heads/{branch}:{ref}")
            except GitError as error:
                if "cannot lock ref" not in error.stderr:
                    raise
                # A branch `a` upstream became `a/b`: the old one must go first.
                await self._upstream.fetch("+refs/heads/*:refs/upstream/heads/*", "--prune")
        return await self._need(ref)

    async def upstream_tip(self, branch: str) -> str | None:
        """Ask the upstream where a branch is now; None when it has none of this name.

        Raises:
            GitError: the upstream did not answer.
        """
        return await self._upstream.tip(branch)

    async def pin(self, key: str, commit: str) -> None:
        """Keep a commit and all it reaches, until `unpin`."""
        await self._set(pin_ref(key), commit)

    async def unpin(self, key: str) -> None:
        """Keep it no longer; a key without a pin is fine."""
        async with self._alone(), self._synced(pin_ref(key)):
            await self._run("update-ref", "-d", pin_ref(key))

    async def update_refs(self, updates: Sequence[RefUpdate]) -> bool:
        """Make all updates in one transaction; say no, and make none, if one expectation fails."""
        script = b"".join([b"start\0", *map(_instruction, updates), b"prepare\0", b"commit\0"])
        async with self._alone(), self._synced(*(update.ref for update in updates)):
            result = await self._run("update-ref", "-z", "--stdin", stdin=script, check=False)
            if result.exit_code == 0:
                return True
            for update in updates:
                if await self.ref(update.ref) != update.old:
                    return False
        raise GitError(f"Refs cannot be written: {result.complaint}", stderr=result.complaint)

    async def secure(self, ref: str) -> None:
        """Make a ref that was found survive a power cut: who wrote it may have been cut off."""
        await asyncio.to_thread(self._sync_names, {self.path / ref: self.path})

    async def restore(self, known: Mapping[str, str]) -> None:
        """Give commits of which somebody else has a record their refs back; note which are gone.

        A ref is on the disk before it is recorded anywhere. So this finds something to do only
        after a disk has lost what it confirmed.
        """
        there = await self._refs("refs/cc")
        wanted = {ref: commit for ref, commit in known.items() if ref not in there}
        if gone := await self._absent(wanted.values()):
            await self._upstream.fetch("+refs/heads/*:refs/upstream/heads/*")
            gone = await self._absent(gone)
        self.lost |= gone
        updates = [RefUpdate(ref, it, None) for ref, it in wanted.items() if it not in gone]
        if updates:
            await self.update_refs(updates)

    async def ref(self, name: str, *, at: Path | None = None) -> str | None:
        """Return the object id that a full ref name stands at."""
        found = await self._run("rev-parse", "--verify", "--quiet", name, check=False, at=at)
        return found.text or None

    async def refs(self, *prefixes: str) -> dict[str, str]:
        """Return the refs below these prefixes, each with the object that it stands at."""
        listed = await self._run("for-each-ref", "--format=%(refname) %(objectname)", *prefixes)
        lines = listed.text.splitlines()
        return {name: value for name, _, value in (line.partition(" ") for line in lines)}

    async def holds(self, commit: str, *prefixes: str) -> bool:
        """Say whether a ref below one of these prefixes reaches a commit."""
        asked = ("for-each-ref", "--count=1", "--format=%(refname)", "--contains", commit)
        found = await self._run(*asked, *prefixes, check=False)
        return bool(found.exit_code == 0 and found.text)

    async def reached_by(self, ref: str, prefix: str) -> frozenset[str]:
        """Return the refs below a prefix whose commits a ref contains."""
        options = (f"--merged={ref}", "--format=%(refname)")
        return frozenset((await self._run("for-each-ref", *options, prefix)).text.splitlines())

    @contextlib.asynccontextmanager
    async def unwritten(self) -> AsyncIterator[None]:
        """Keep refs as they are, and let nothing be fetched, until the block ends."""
        async with self._alone():
            yield

    # Changes in

    @contextlib.asynccontextmanager
    async def quarantine(self) -> AsyncIterator[Path]:
        """Give a private folder on the vault's file system; it is removed afterwards."""
        self._quarantines.mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self._quarantines))
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, True)

    def make_annex(self, folder: Path) -> Path:
        """Make a bare repository that sees the vault's objects and cannot write to them."""
        for name in ("objects/pack", "objects/info", "refs/heads"):
            (folder / name).mkdir(parents=True)
        (folder / "HEAD").write_text("ref: refs/heads/main\n")
        (folder / "config").write_text((self.path / "config").read_text())
        (folder / "objects/info/alternates").write_bytes(os.fsencode(self.path / "objects") + b"\n")
        return folder

    async def admit(self, packs: Sequence[Path]) -> None:
        """Take packs in, in this order, after a full check in a second quarantine.

        A check in place would leave a rejected pack behind: git checks after the pack is final.

        Raises:
            CaptureRefused: an object is malformed, dangerous or incomplete.
        """
        async with self.quarantine() as folder:
            annex = self.make_annex(folder / "admitted")
            for pack in packs:
                content = await asyncio.to_thread(pack.read_bytes)
                checked = await self.git.run(
                    *("index-pack", "--stdin", "--strict", "--fsck-objects"),
                    f"--max-input-size={PACK_BYTES_MAX}",
                    git_dir=annex,
                    stdin=content,
                    check=False,
                )
                if checked.exit_code != 0:
                    raise CaptureRefused(f"git's own check refuses it: {checked.complaint}")
            await asyncio.to_thread(_move_packs, annex, self.path)

    # Changes out

    async def publish(self, branch: str, commit: str, expected: str | None) -> None:
        """Push one commit to the upstream's branch if that is at `expected` (None: is not there).

        Being there already is success.

        Raises:
            GitError: the branch is elsewhere, the upstream refused, or it did not answer.
        """
        await self.check_branch(branch)
        await self._upstream.publish(branch, commit, expected)

    async def delete_branch(self, branch: str, expected: str) -> bool:
        """Delete the upstream's branch if it is still at `expected`; say whether it is gone."""
        await self.check_branch(branch)
        return await self._upstream.delete_branch(branch, expected)

    async def land(self, branch: str, old: str, new: str) -> Landed | Moved | Refused:
        """Move the upstream's branch from `old` to `new`, a descendant, by compare-and-swap.

        Where the branch is checked out in the upstream itself, its work tree moves along if it is
        clean; else nothing changes. Hooks of the upstream run, as at any push. A second call finds
        what the first one did; after a broken connection the upstream is asked what is so.

        Raises:
            GitError: the upstream did not answer.
        """
        await self.check_branch(branch)
        assert await self.is_ancestor(old, new)
        if await self._upstream.is_being_rebased(branch):
            return Refused(f"a rebase or bisection of `{branch}` is under way in the checkout")
        pushed = await self._upstream.advance(branch, old, new)
        if isinstance(pushed, GitResult) and pushed.exit_code == 0:
            return Landed()
        tip = await self.upstream_tip(branch)
        if tip == old:
            return refusal(branch, pushed, tip)
        if tip is None:
            return Moved(None)
        tip = await self.fetch(branch)
        if not await self.is_ancestor(new, tip):
            return Moved(tip)
        await self.secure_upstream()
        return Landed()

    async def secure_upstream(self) -> None:
        """Make what the upstream shows now survive a power cut, if it is on this machine."""
        await self._upstream.secure()

    async def merge(
        self,
        target: str,
        head: str,
        *,
        message: str,
        author: Identity,
        committer: Identity,
        date: int,
        apart: bool = False,
    ) -> Merged | Conflict:
        """Merge two commits without a checkout; `date` is in seconds since 1970.

        The same values give the same commit. A side that contains the other one is the result;
        `apart` says that it is known that none does.
        """
        for behind, ahead in () if apart else ((target, head), (head, target)):
            if await self.is_ancestor(behind, ahead):
                return Merged(ahead, await self.tree_of(ahead), fast_forward=True)
        tree = await self._merged_tree(target, head)
        if isinstance(tree, Conflict):
            return tree
        commit = await self._commit(tree, (target, head), message, author, committer, date)
        return Merged(commit, tree, fast_forward=False)

    async def replay(
        self, target: str, head: str, *, message: str, committer: Identity, date: int
    ) -> Merged | Conflict:
        """Put what `head` changes onto `target`, without a checkout, as one commit of one parent.

        Its author, and when it was written, are those of `head`; the tree is that of `merge`. What
        changes nothing is no commit: the result is `target`.
        """
        tree = await self._merged_tree(target, head)
        if isinstance(tree, Conflict):
            return tree
        if tree == await self.tree_of(target):
            return Merged(target, tree, fast_forward=True)
        shown = await self._run("log", "-1", "--date=raw", "--format=%an%n%ae%n%ad", head)
        name, email, written = shown.text.split("\n")
        author = Identity(name, email)
        commit = await self._commit(
            tree, (target,), message, author, committer, date, written=f"@{written}"
        )
        return Merged(commit, tree, fast_forward=False)

    async def _merged_tree(self, target: str, head: str) -> str | Conflict:
        result = await self._run(
            *("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", target, head),
            check=False,
        )
        tree, *files = os.fsdecode(result.stdout).split("\0")
        if result.exit_code == 1:
            return Conflict(tuple(sorted({name for name in files if name})), tree)
        if result.exit_code != 0:
            raise GitError(f"The merge failed: {result.complaint}", stderr=result.complaint)
        return tree

    # Readers

    async def resolve(self, revision: str) -> str | None:
        """Return the id of the commit that a name stands for, if there is one."""
        return await self.ref(f"{revision}^{{commit}}") if not revision.startswith("-") else None

    async def tree_of(self, commit: str, *, at: Path | None = None) -> str:
        """Return the id of a commit's tree; `at` is an annex that has the commit."""
        if commit not in self._trees:
            tree = await self._need(f"{commit}^{{tree}}", at=at)
            if not _ID.fullmatch(commit):
                return tree
            _remember(self._trees, commit, tree)
        return self._trees[commit]

    async def is_ancestor(self, older: str, newer: str) -> bool:
        """Say whether `newer` contains `older`; a commit contains itself."""
        if older == newer and _ID.fullmatch(older):
            return True
        if (older, newer) not in self._contains:
            result = await self._run("merge-base", "--is-ancestor", older, newer, check=False)
            if result.exit_code not in (0, 1):
                raise GitError(f"Commits cannot be compared: {result.complaint}")
            if not (_ID.fullmatch(older) and _ID.fullmatch(newer)):
                return result.exit_code == 0
            _remember(self._contains, (older, newer), result.exit_code == 0)
        return self._contains[older, newer]

    async def outside(self, commits: Sequence[str], newer: str) -> frozenset[str]:
        """Return those of some commits that another one does not contain."""
        if not commits:
            return frozenset()
        asked = "".join(f"{commit}\n" for commit in (*commits, f"^{newer}")).encode()
        listed = await self._run("rev-list", "--stdin", stdin=asked)
        return frozenset(listed.text.splitlines()).intersection(commits)

    async def diff_files(self, old: str, new: str) -> tuple[str, ...]:
        """Return the paths that differ, sorted; a renamed file is two paths."""
        return tuple(change.path for change in await self.numstat(old, new))

    async def changed_files(self, old: str, new: str) -> tuple[str, ...]:
        """Return the paths that differ and are there in `new`, sorted."""
        options = ("-r", "-z", "--name-only", "--no-renames", "--diff-filter=d")
        result = await self._run("diff-tree", *options, old, new)
        return tuple(sorted(filter(None, os.fsdecode(result.stdout).split("\0"))))

    async def statuses(self, old: str, new: str) -> tuple[tuple[str, str], ...]:
        """Return (letter, path) of every file that differs: A, D, M, T; a renamed one is two."""
        options = ("-r", "-z", "--name-status", "--no-renames")
        result = await self._run("diff-tree", *options, old, new)
        words = os.fsdecode(result.stdout).split("\0")
        return tuple(zip(words[::2], words[1::2], strict=False))

    async def numstat(
        self, old: str, new: str, *, at: Path | None = None
    ) -> tuple[FileChange, ...]:
        """Return how much every differing file changed, sorted by path."""
        result = await self._run(
            *("diff-tree", "-r", "-z", "--numstat", "--no-renames", old, new), at=at
        )
        lines = os.fsdecode(result.stdout).split("\0")
        return tuple(sorted(map(_file_change, filter(None, lines)), key=lambda one: one.path))

    async def diff_text(self, old: str, new: str, *, bytes_max: int) -> str:
        """Return the patch, cut after `bytes_max` bytes with a last line that says so."""
        result = await self._run(
            *("diff-tree", "-r", "-p", "-M", "--no-ext-diff", "--no-textconv", old, new)
        )
        text = result.stdout[:bytes_max].decode(errors="replace")
        left_out = len(result.stdout) - bytes_max
        return text if left_out <= 0 else f"{text}\n[{left_out} more bytes are not shown]\n"

    async def read_blob(
        self, commit: str, path: str, *, bytes_max: int = 16 * 2**20
    ) -> bytes | None:
        """Return the content of a file in a commit, if it is there and not larger."""
        name = f"{commit}:{path}"
        kind = await self._run("cat-file", "--batch-check", "-z", stdin=_z(name))
        words = kind.stdout.split()
        if len(words) != 3 or words[1] != b"blob" or int(words[2]) > bytes_max:
            return None
        return (await self._run("cat-file", "blob", words[0])).stdout

    async def log_messages(self, old: str, new: str) -> tuple[str, ...]:
        """Return the messages of the commits in `new` and not in `old`, newest first."""
        result = await self._run("log", "-z", "--format=%B", f"{old}..{new}")
        return tuple(filter(None, (text.strip() for text in result.text.split("\0"))))

    async def touching(
        self, old: str, new: str, paths: Sequence[str], keys: Sequence[str]
    ) -> tuple[Touch, ...]:
        """Return the commits of `new`, not in `old`, that touch paths, newest first.

        Each with what it says in these trailers.
        """
        asked = [f"%(trailers:key={key},valueonly,separator=%x2C)" for key in keys]
        form = "%x1f".join(["%H", "%s", *asked])
        literal = [f":(top,literal){path}" for path in paths]
        result = await self._run("log", "-z", f"--format={form}", f"{old}..{new}", "--", *literal)
        told = result.stdout.decode(errors="replace").split("\0")
        lines = [line.split("\x1f") for line in told if line]
        return tuple(
            Touch(commit, subject, tuple(values))
            for commit, subject, *values in lines
            if len(values) == len(keys)  # a subject may hold whatever somebody wrote
        )

    async def named(self, key: str, olds: Iterable[str], new: str) -> dict[str, tuple[str, ...]]:
        """Return what a trailer names in the commits that `new` has and one of `olds` has not.

        With each, the commits that name it, newest first. Anybody can write a trailer: it says
        where to look, and proves nothing.
        """
        first, *others = sorted(set(olds))
        if others:
            found = await self._run("merge-base", "--octopus", first, *others, check=False)
            first = found.text
        span = f"{first}..{new}" if first else new
        told = f"--format=%H %(trailers:key={key},valueonly,separator=%x20)"
        lines = (await self._run("log", told, span)).text.splitlines()
        names: dict[str, tuple[str, ...]] = {}
        for commit, *values in (line.split() for line in lines):
            names |= {value: (*names.get(value, ()), commit) for value in values}
        return names

    async def is_replay(self, commit: str, head: str) -> bool:
        """Say whether a commit has exactly the tree that `head` gives on the commit's parent."""
        parent = await self.resolve(f"{commit}^")
        if parent is None:
            return False
        return await self._merged_tree(parent, head) == await self.tree_of(commit)

    # Upkeep

    async def fsck(self) -> tuple[str, ...]:
        """Check every object and link, strictly; return what is wrong: nothing is healthy."""
        result = await self._run(
            *("fsck", "--full", "--strict", "--no-dangling", "--no-progress"),
            check=False,
            timeout_s=3600,
        )
        if result.exit_code == 0:
            return ()
        return tuple((result.stdout + result.stderr).decode(errors="replace").splitlines())

    async def maintain(self) -> None:
        """Keep it fast. It never prunes: a workspace may read what no ref holds."""
        async with self._alone():
            await self._run("commit-graph", "write", "--reachable", "--no-progress", timeout_s=3600)
            await self._run(
                *("repack", "--geometric=2", "-d", "-q", "--write-midx"), timeout_s=3600
            )

    async def index_packs(self) -> None:
        """Have one index for all packs: with a hundred of them, every git takes twice as long."""
        async with self._alone():
            # Nothing but speed depends on it.
            await self._run("multi-pack-index", "write", check=False)

    async def check_branch(self, name: str) -> None:
        """Make sure that a text can be the name of a branch.

        Raises:
            InputError: it cannot.
        """
        if name in self._fit_names:
            return
        fit = not name.startswith("-") and name != "HEAD" and "\0" not in name
        if fit:
            asked = await self._run("check-ref-format", f"refs/heads/{name}", check=False)
            fit = asked.exit_code == 0
        if not fit:
            raise InputError(f"`{name}` cannot be the name of a branch.")
        self._fit_names.add(name)

    # Inside

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Let nobody else write refs meanwhile."""
        async with self._writing:
            try:
                yield
            except GitError:
                # A git that was killed leaves its locks, and no other one is at work here.
                await asyncio.to_thread(mending.remove_locks, self.path)
                raise

    async def _run(
        self,
        *args: str | bytes,
        stdin: bytes = b"",
        check: bool = True,
        timeout_s: float = 120,
        at: Path | None = None,
    ) -> GitResult:
        return await self.git.run(
            *args, git_dir=at or self.path, stdin=stdin, check=check, timeout_s=timeout_s
        )

    async def _need(self, revision: str, *, at: Path | None = None) -> str:
        found = await self.ref(revision, at=at)
        if found is None:
            raise GitError(f"The vault has no {revision}.")
        return found

    async def _set(self, ref: str, commit: str) -> None:
        async with self._alone(), self._synced(ref):
            await self._run("update-ref", ref, commit)

    @contextlib.asynccontextmanager
    async def _synced(self, *refs: str) -> AsyncIterator[None]:
        """Have the names of new packs on the disk, and then those of refs, that the block writes.

        Git syncs what is in the files, and leaves their names to the file system.
        """
        # One of several refs in a folder stands for all.
        paths = {path.parent: path for path in (self.path / ref for ref in refs)}.values()
        tops = {path: durable.deepest(path) for path in paths}
        yield
        await asyncio.to_thread(self._sync_names, tops)

    def _sync_names(self, tops: Mapping[Path, Path]) -> None:
        durable.sync_folder(self.path / "objects/pack")
        for path, top in tops.items():
            durable.sync_names(path, top)

    async def _create(self) -> None:
        draft = await self._draft()
        await self._run(
            "commit-graph", "write", "--reachable", "--no-progress", timeout_s=3600, at=draft
        )
        await asyncio.to_thread(_move_in, draft, self.path)

    async def _draft(self) -> Path:
        """Return a new bare repository beside ours with all that the upstream has."""
        draft = self.path.with_name("new.git")
        there = await advertised(self.git, self.upstream)
        ids = "sha256" if any(len(tip) == 64 for tip in there.heads.values()) else "sha1"
        await self.git.run(
            *("init", "--bare", "--quiet", "--template=", f"--object-format={ids}", str(draft)),
            git_dir=None,
        )
        _configure(draft, ids)
        await self._upstream.fetch("+refs/heads/*:refs/upstream/heads/*", into=draft)
        return draft

    async def _commit(
        self,
        tree: str,
        parents: Sequence[str],
        message: str,
        author: Identity,
        committer: Identity,
        date: int,
        *,
        written: str = "",
    ) -> str:
        result = await self.git.run(
            *("commit-tree", tree, "-F", "-"),
            *(word for parent in parents for word in ("-p", parent)),
            git_dir=self.path,
            stdin=message.encode(errors="surrogateescape"),
            environment={
                "GIT_AUTHOR_NAME": author.name,
                "GIT_AUTHOR_EMAIL": author.email,
                "GIT_AUTHOR_DATE": written or f"@{date} +0000",
                "GIT_COMMITTER_NAME": committer.name,
                "GIT_COMMITTER_EMAIL": committer.email,
                "GIT_COMMITTER_DATE": f"@{date} +0000",
            },
        )
        return result.text

    async def _put_in_order(self, *, thorough: bool) -> None:
        """Mend what a killed process left; `thorough`: the machine went down meanwhile, too."""
        damage = await asyncio.to_thread(self._mend, thorough=thorough)
        whole = await mending.take_back(self.git, self.path, damage)
        if damage.broken or not whole:
            log.warning("The vault %s was damaged: %s", self.path, damage)
            # Whoever opens it next goes on with this, if it cannot be brought to its end now.
            _sign(self._lock, "damaged")
        if self.path.exists() and (thorough or damage.broken or not whole):
            await self._complete()
        if damage:
            await asyncio.to_thread(self._clear_attic)

    def _mend(self, *, thorough: bool) -> mending.Damage:
        _end_orphans(self.path)
        shutil.rmtree(self._quarantines, ignore_errors=True)
        shutil.rmtree(self.path.with_name("new.git"), ignore_errors=True)
        damage = mending.mend(self.path, self._attic, thorough=thorough)
        if self.path.exists():
            _configure(self.path, mending.ids_of(self.path))
        return damage

    async def _complete(self) -> None:
        """Make sure that every ref has all that it reaches: what is missing, the upstream has."""
        if not await self._missing():
            return
        await asyncio.to_thread(mending.forget_derived, self.path)
        # Fetched apart: here git would first look at what it has, and stumble over it. All that is
        # fetched comes as packs, by our configuration.
        fresh = await self._draft()
        await asyncio.to_thread(_move_packs, fresh, self.path)
        await self._follow(await self._refs("refs/upstream", at=fresh))
        await asyncio.to_thread(shutil.rmtree, fresh)
        await self._drop(await self._incomplete())
        if missing := await self._missing():
            raise GitError(
                f"The vault {self.path} is damaged: {missing}",
                stderr=missing,
                hint="Move it away; it is made again from the upstream.",
            )

    async def _follow(self, upstream: Mapping[str, str]) -> None:
        """Put the refs of the upstream where they are there."""
        async with self._synced(*upstream):
            for ref in (await self._refs("refs/upstream")).keys() - upstream.keys():
                await self._run("update-ref", "-d", ref)
            for ref, commit in upstream.items():
                await self._run("update-ref", ref, commit)

    async def _missing(self) -> str:
        result = await self._run(
            *("fsck", "--connectivity-only", "--no-dangling", "--no-progress"),
            check=False,
            timeout_s=3600,
        )
        return result.complaint or f"{result.exit_code}" if result.exit_code else ""

    async def _absent(self, objects: Iterable[str]) -> set[str]:
        asked = "".join(f"{name}\n" for name in objects).encode()
        answer = await self._run("cat-file", "--batch-check", stdin=asked)
        lines = [line.split(" ") for line in answer.text.splitlines()]
        return {name for name, kind, *_ in lines if kind == "missing"}

    async def _incomplete(self) -> list[str]:
        """Return our own refs that do not have all that they reach."""
        refs = await self._refs("refs/cc")
        gone = await self._absent(refs.values())
        return [ref for ref, it in refs.items() if it in gone or not await self._is_whole(it)]

    async def _is_whole(self, commit: str) -> bool:
        walked = await self._run(
            *("rev-list", "--objects", "--quiet", commit, "--not", "--glob=refs/upstream"),
            check=False,
            timeout_s=3600,
        )
        return walked.exit_code == 0

    async def _refs(self, *below: str, at: Path | None = None) -> dict[str, str]:
        listed = await self._run("for-each-ref", "--format=%(refname) %(objectname)", *below, at=at)
        refs = (line.split(" ") for line in listed.text.splitlines())
        return {ref: commit for ref, commit in refs}  # noqa: C416 - the pairs are lists

    async def _drop(self, refs: Sequence[str]) -> None:
        for ref in refs:
            log.warning("The ref %s of the vault %s is lost.", ref, self.path)
            await self._run("update-ref", "-d", ref)

    def _clear_attic(self) -> None:
        # What could not be read is kept: nobody else may have it.
        with contextlib.suppress(OSError):
            self._attic.rmdir()


def _remember(known: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Keep a fact, and no more than so many: the oldest one goes."""
    if len(known) >= _KNOWN_MAX:
        del known[next(iter(known))]
    known[key] = value


def _component(text: str) -> str:
    """Return the text as one component of a ref name; different texts stay different."""
    quoted = quote(text, safe="").replace("~", "%7E")
    if quoted.startswith(".") or quoted.endswith((".", ".lock")) or ".." in quoted:
        quoted = quoted.replace(".", "%2E")
    return quoted


def _path(key: str) -> str:
    return "/".join(map(_component, key.split("/")))


def _folder_name(upstream: str) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "-", upstream.removesuffix(".git")).strip("-")
    return f"{words[-40:].lstrip('-')}-{hashlib.sha256(upstream.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class _Lock:
    descriptor: int
    unsynced: bool
    """The machine went down while somebody had it: what was not synced then is lost."""


def _take_lock(path: Path) -> _Lock:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        process = os.read(lock, 20).decode().partition(" ")[0] or "unknown"
        os.close(lock)
        raise InputError(
            _IN_USE.format(folder=path.parent, process=process),
            hint="Wait for it, end it, or use another data folder.",
        ) from error
    boot = os.read(lock, 100).decode(errors="replace").partition(" ")[2]
    unsynced = boot != boot_id() and os.fstat(lock).st_size > 0
    _sign(lock, boot)
    return _Lock(lock, unsynced)


def _sign(lock: int, boot: str) -> None:
    """Say who has it, and since which start of the machine it is in order."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {boot}".encode(), 0)
    os.fsync(lock)


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        top = durable.deepest(folder)
        folder.mkdir(parents=True, exist_ok=True)
        durable.sync_names(folder, top)


def _move_in(draft: Path, repository: Path) -> None:
    """Give a new repository its name once all of it is on the disk."""
    durable.sync_tree(draft)
    draft.rename(repository)
    durable.sync_folder(repository.parent)


def _configure(repository: Path, ids: str) -> None:
    """Write what this version wants of a vault, unless it is so."""
    version = 0 if ids == "sha1" else 1
    text = _CONFIG.format(version=version)
    if version:
        text += f"[extensions]\n\tobjectFormat = {ids}\n"
    (repository / "info").mkdir(exist_ok=True)
    for name, content in (("config", text), ("info/attributes", _ATTRIBUTES), ("HEAD", _HEAD)):
        path = repository / name
        if not path.exists() or path.read_bytes() != content.encode():
            durable.write(path, content.encode())


def _end_orphans(repository: Path) -> None:
    """End git processes that a killed predecessor started on this vault, and wait for it."""
    mark = os.fsencode(f"--git-dir={repository}")
    for entry in Path("/proc").glob("[0-9]*"):
        # It may end while we look.
        with contextlib.suppress(OSError):
            if mark in (entry / "cmdline").read_bytes().split(b"\0"):
                _end_group(int(entry.name))


def _end_group(process: int) -> None:
    pidfd = os.pidfd_open(process)
    try:
        # `system.process` makes everything that it starts the leader of its group.
        os.killpg(process, signal.SIGKILL)
        select.select([pidfd], [], [], 10)
    finally:
        os.close(pidfd)


def _move_packs(annex: Path, vault: Path) -> None:
    source, target = annex / "objects/pack", vault / "objects/pack"
    # The index last: with it the pack is there.
    for path in sorted(source.iterdir(), key=lambda path: path.suffix == ".idx"):
        path.rename(target / path.name)
    durable.sync_folder(target)


def _z(text: str) -> bytes:
    return os.fsencode(text) + b"\0"


def _instruction(update: RefUpdate) -> bytes:
    match update:
        case RefUpdate(ref, str(new), None):
            return b"create " + _z(ref) + _z(new)
        case RefUpdate(ref, str(new), str(old)):
            return b"update " + _z(ref) + _z(new) + _z(old)
        case RefUpdate(ref, None, str(old)):
            return b"delete " + _z(ref) + _z(old)
    raise AssertionError("an update that neither writes nor deletes")


def _file_change(line: str) -> FileChange:
    insertions, deletions, path = line.split("\t", 2)
    if insertions == "-":
        return FileChange(path, 0, 0, binary=True)
    return FileChange(path, int(insertions), int(deletions), binary=False)
