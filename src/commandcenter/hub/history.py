"""What git says about a repository of the hub, and how its branches are moved."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from commandcenter.core.errors import GitError
from commandcenter.core.publication import HEAD_TRAILER
from commandcenter.hub.records import HubRepository
from commandcenter.system import durable
from commandcenter.system.git import Git, GitResult

PATCH_CHARACTERS_MAX = 400_000
"""A longer patch of one file is left out of the list of files."""
COMMITS_MAX = 250
_OUTPUT_BYTES_MAX = 32 * 2**20
_KNOWN_MAX = 1000

R = TypeVar("R")
_Known = dict[tuple[str, str], R]

_COMMIT_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
# What git-check-ref-format(1) forbids in a branch name.
_NO_BRANCH = re.compile(
    r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|/\.|[/.]$|\.lock(/|$)|^@$|^HEAD$"
)
_COMMIT_FORMAT = "%H%x00%T%x00%P%x00%an%x00%ae%x00%at%x00%cn%x00%ce%x00%ct%x00%B"
_COMMIT_FIELDS = 10
_FILE_SECTION = re.compile(r"^diff --git ", re.MULTILINE)


@dataclass(frozen=True)
class Signature:
    """Who made a commit, and when (seconds since 1970)."""

    name: str
    email: str
    at_s: int

    @property
    def date(self) -> str:
        """Give the time as GitHub writes it."""
        return datetime.fromtimestamp(self.at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Commit:
    """One commit."""

    id: str
    tree: str
    parents: tuple[str, ...]
    author: Signature
    committer: Signature
    message: str


class FileChange(StrEnum):
    """What happened to a file, in GitHub's words."""

    ADDED = "added"
    REMOVED = "removed"
    MODIFIED = "modified"
    RENAMED = "renamed"
    COPIED = "copied"
    CHANGED = "changed"


_CHANGES = {
    "A": FileChange.ADDED,
    "D": FileChange.REMOVED,
    "M": FileChange.MODIFIED,
    "R": FileChange.RENAMED,
    "C": FileChange.COPIED,
    "T": FileChange.CHANGED,
}


@dataclass(frozen=True)
class ChangedFile:
    """One file of a diff."""

    path: str
    previous_path: str
    change: FileChange
    blob: str
    insertions: int
    deletions: int
    patch: str | None
    """The hunks; None when there are none, for binary files, and when they are too long."""


@dataclass(frozen=True)
class Size:
    """How large a change is."""

    commits: int
    insertions: int
    deletions: int
    files: int


class Method(StrEnum):
    """How a pull request lands."""

    MERGE = "merge"
    SQUASH = "squash"
    REBASE = "rebase"


@dataclass(frozen=True)
class Landing:
    """What is to land on what, as whom and with which words."""

    base: str
    head: str
    method: Method
    message: str
    name: str
    email: str


def is_commit_id(text: str) -> bool:
    """Say whether this is a full object id, so that git cannot take it for anything else."""
    return _COMMIT_ID.fullmatch(text) is not None


def is_branch_name(text: str) -> bool:
    """Say whether git allows this as a branch name."""
    return bool(text) and len(text) <= 250 and _NO_BRANCH.search(text) is None


@dataclass(frozen=True)
class History:
    """The git side of one repository. Reads at the time of the call.

    Every method raises `GitError` when git cannot read or write the repository.
    """

    repository: HubRepository
    git: Git
    _merge_bases: _Known[str | None] = field(default_factory=dict)
    _mergeable: _Known[bool] = field(default_factory=dict)
    _sizes: _Known[Size] = field(default_factory=dict)
    _named: _Known[dict[str, tuple[str, ...]]] = field(default_factory=dict)

    async def tips(self, branches: Iterable[str]) -> dict[str, str]:
        """Return the commit of each of these branches that exists."""
        names = {self._ref(branch): branch for branch in branches if is_branch_name(branch)}
        return {names[ref]: tip for ref, tip in await self._refs(*names) if ref in names}

    async def tip(self, branch: str) -> str | None:
        """Return the commit of a branch, if it exists."""
        return (await self.tips([branch])).get(branch)

    async def branches(self) -> dict[str, str]:
        """Return all branches with their commits, by name."""
        prefix = self.repository.heads
        return {ref.removeprefix(prefix): tip for ref, tip in await self._refs(prefix.rstrip("/"))}

    async def commit_of(self, name: str) -> str | None:
        """Return the commit that a branch or a full id names, if it exists."""
        if (tip := await self.tip(name)) is not None:
            return tip
        if not is_commit_id(name):
            return None
        result = await self._run("cat-file", "-t", name, check=False)
        return name if result.text == "commit" else None

    async def contains(self, descendant: str, ancestor: str) -> bool:
        """Say whether `ancestor` is reachable from `descendant`; false when it does not exist."""
        result = await self._run("merge-base", "--is-ancestor", ancestor, descendant, check=False)
        return result.exit_code == 0

    async def merge_base(self, one: str, other: str) -> str | None:
        """Return the best common ancestor, if the histories have one."""
        return await _remembered(self._merge_bases, (one, other), self._find_merge_base)

    async def arrival(self, commit: str, base: str) -> str:
        """Return the commit of the base's first-parent line that brought `commit` in."""
        line = await self._run(
            "rev-list", "--first-parent", "--ancestry-path", "--parents", "--reverse",
            f"{commit}..{base}",
        )  # fmt: skip
        if not line.text:
            return base
        first, *parents = line.text.partition("\n")[0].split()
        # Its first parent is the commit itself: a fast-forward, nothing merged it.
        return commit if parents[:1] == [commit] else first

    async def replay(self, head: str, old: str, new: str) -> str | None:
        """Return the commit of `new`, not in `old`, that stands for `head`: squashed or rebased.

        It names the head in a trailer, and has exactly the tree that the head gives on its parent:
        anybody can write the one, and who has the other has landed it.
        """
        for commit in (await _remembered(self._named, (old, new), self._heads_named)).get(head, ()):
            if await self._is_replay(commit, head):
                return commit
        return None

    async def commit(self, id_: str) -> Commit:
        """Return a commit that exists."""
        shown = await self._run(
            "-c", "log.showSignature=false", "log", "-z", "--no-color", "--max-count=1",
            f"--format=tformat:{_COMMIT_FORMAT}", id_,
        )  # fmt: skip
        (commit,) = _commits_in(shown.stdout)
        return commit

    async def commits(self, base: str, head: str) -> tuple[Commit, ...]:
        """Return the commits of `head` that `base` lacks, oldest first, at most `COMMITS_MAX`."""
        listed = await self._run(
            "-c", "log.showSignature=false", "log", "-z", "--topo-order", "--no-color",
            f"--format=tformat:{_COMMIT_FORMAT}", f"--max-count={COMMITS_MAX}", f"{base}..{head}",
        )  # fmt: skip
        return tuple(reversed(list(_commits_in(listed.stdout))))

    async def size(self, base: str, head: str) -> Size:
        """Return how much `head` changed since it left `base`."""
        return await _remembered(self._sizes, (base, head), self._measure)

    async def diff(self, base: str, head: str) -> str:
        """Return what `head` changed since it left `base`, as one unified diff."""
        return _text((await self._diff_tree("-p", base, head)).stdout)

    async def patch(self, base: str, head: str) -> str:
        """Return the commits of `head` that `base` lacks, as mails."""
        mails = await self._run(
            "format-patch", "--stdout", "--no-color", "--no-ext-diff", "--no-textconv",
            "--no-signature", f"{base}..{head}",
        )  # fmt: skip
        return _text(mails.stdout)

    async def files(self, base: str, head: str) -> tuple[ChangedFile, ...]:
        """Return the files that `head` changed since it left `base`."""
        listing = await self._diff_tree("--raw", "--numstat", "-z", "--abbrev=64", base, head)
        sections = iter(_sections(await self.diff(base, head)))
        return tuple(_files_in(_text(listing.stdout).split("\0"), sections))

    async def mergeable(self, base: str, head: str) -> bool:
        """Say whether `head` merges into `base` without conflict; writes nothing."""
        common = await self.merge_base(base, head)
        if common in (None, base):
            return common is not None
        return await _remembered(self._mergeable, (base, head), self._merges)

    async def landed(self, landing: Landing) -> str | None:
        """Write the commit that lands it, on no branch yet; None when there is a conflict."""
        match landing.method:
            case Method.MERGE:
                return await self._merged(landing, (landing.base, landing.head))
            case Method.SQUASH:
                return await self._merged(landing, (landing.base,))
            case Method.REBASE:
                return await self._rebased(landing)

    async def move(self, branch: str, *, old: str, new: str) -> bool:
        """Move a branch if it is still at `old`; say whether it was."""
        ref = self._ref(branch)
        done = await self._run(
            "update-ref", "-m", "hub: merge pull request", ref, new, old, check=False
        )
        if done.exit_code:
            return await self._not_at(branch, old, done)
        # What a person was told to be merged survives a power cut.
        await asyncio.to_thread(durable.sync_file_system, self.repository.git_dir)
        return True

    async def delete(self, branch: str, *, old: str) -> bool:
        """Delete a branch if it is still at `old`; say whether it was."""
        done = await self._run("update-ref", "-d", self._ref(branch), old, check=False)
        return done.exit_code == 0 or await self._not_at(branch, old, done)

    def _ref(self, branch: str) -> str:
        assert is_branch_name(branch), branch
        return self.repository.heads + branch

    async def _refs(self, *patterns: str) -> list[tuple[str, str]]:
        """Return refs with their commits. A pattern names a ref, or all below a folder."""
        if not patterns:
            return []
        listed = await self._run(
            "for-each-ref", "--format=%(refname) %(objectname) %(objecttype)", *patterns
        )
        rows = [line.rsplit(" ", 2) for line in _text(listed.stdout).splitlines()]
        return [(ref, tip) for ref, tip, kind in rows if kind == "commit"]

    async def _find_merge_base(self, one: str, other: str) -> str | None:
        result = await self._run("merge-base", one, other, check=False)
        if result.exit_code > 1:
            raise _failed("merge-base", result)
        return result.text.partition("\n")[0] or None

    async def _measure(self, base: str, head: str) -> Size:
        counted = await self._run("rev-list", "--count", f"{base}..{head}")
        lines = (await self._diff_tree("--numstat", base, head)).text.splitlines()
        changes = [line.split("\t", 2)[:2] for line in lines]
        return Size(
            commits=int(counted.text),
            insertions=sum(int(added) for added, _ in changes if added != "-"),
            deletions=sum(int(removed) for _, removed in changes if removed != "-"),
            files=len(changes),
        )

    async def _diff_tree(self, *args: str) -> GitResult:
        *options, base, head = args
        start = await self.merge_base(base, head) or base
        return await self._run(
            "diff-tree", "-r", "-M", "--no-color", "--no-ext-diff", "--no-textconv",
            "--src-prefix=a/", "--dst-prefix=b/", *options, start, head,
        )  # fmt: skip

    async def _heads_named(self, old: str, new: str) -> dict[str, tuple[str, ...]]:
        told = f"--format=%H %(trailers:key={HEAD_TRAILER},valueonly,separator=%x20)"
        listed = await self._run("-c", "log.showSignature=false", "log", told, f"{old}..{new}")
        names: dict[str, tuple[str, ...]] = {}
        for commit, *heads in (line.split() for line in _text(listed.stdout).splitlines()):
            names |= {head: (*names.get(head, ()), commit) for head in heads}
        return names

    async def _is_replay(self, commit: str, head: str) -> bool:
        known = await self.commit(commit)
        if not known.parents or await self.commit_of(head) != head:
            return False
        return await self._try_merge(known.parents[0], head) == known.tree

    async def _merges(self, base: str, head: str) -> bool:
        return await self._try_merge(base, head) is not None

    async def _try_merge(self, base: str, head: str) -> str | None:
        """Return the tree of a merge, made in a throw-away object store: a question writes nothing.

        None: there is a conflict.
        """
        with tempfile.TemporaryDirectory(prefix="cc-hub-") as scratch:
            objects = str(self.repository.git_dir / "objects")
            quoted = '"' + objects.replace("\\", "\\\\").replace('"', '\\"') + '"'
            result = await self.git.run(
                "merge-tree", "--write-tree", base, head,
                git_dir=self.repository.git_dir,
                environment={
                    "GIT_OBJECT_DIRECTORY": scratch,
                    "GIT_ALTERNATE_OBJECT_DIRECTORIES": quoted,
                },
                check=False,
                output_bytes_max=_OUTPUT_BYTES_MAX,
            )  # fmt: skip
        if result.exit_code > 1:
            raise _failed("merge-tree", result)
        return result.text.partition("\n")[0] if result.exit_code == 0 else None

    async def _merged(self, landing: Landing, parents: Sequence[str]) -> str | None:
        tree = await self._merge_tree(landing.base, landing.head)
        return None if tree is None else await self._commit(tree, parents, landing)

    async def _rebased(self, landing: Landing) -> str | None:
        """Replay the commits one by one; None as well when one of them is a merge."""
        tip = landing.base
        for commit in await self.commits(landing.base, landing.head):
            if len(commit.parents) != 1:
                return None
            # git < 2.40 cannot be told the merge base, so it gets one: our tree on their parent.
            tree = (await self._run("rev-parse", "--verify", f"{tip}^{{tree}}")).text
            ours = await self._commit(tree, commit.parents, landing)
            replayed = await self._merge_tree(ours, commit.id)
            if replayed is None:
                return None
            tip = await self._commit(replayed, (tip,), landing, like=commit)
        return tip

    async def _merge_tree(self, ours: str, theirs: str) -> str | None:
        result = await self._run("merge-tree", "--write-tree", ours, theirs, check=False)
        if result.exit_code > 1:
            raise _failed("merge-tree", result)
        return result.text.partition("\n")[0] if result.exit_code == 0 else None

    async def _commit(
        self, tree: str, parents: Sequence[str], landing: Landing, *, like: Commit | None = None
    ) -> str:
        environment = {
            "GIT_COMMITTER_NAME": landing.name,
            "GIT_COMMITTER_EMAIL": landing.email,
            # git refuses an empty name, but has always been able to read one.
            "GIT_AUTHOR_NAME": (like and like.author.name) or landing.name,
            "GIT_AUTHOR_EMAIL": (like and like.author.email) or landing.email,
        }
        if like:
            environment["GIT_AUTHOR_DATE"] = f"@{like.author.at_s} +0000"
        message = like.message if like else landing.message
        result = await self.git.run(
            "commit-tree", tree, *(part for parent in parents for part in ("-p", parent)),
            git_dir=self.repository.git_dir,
            stdin=message.encode(),
            environment=environment,
        )  # fmt: skip
        return result.text

    async def _not_at(self, branch: str, old: str, done: GitResult) -> bool:
        """Give False if the branch is elsewhere: that explains the failed update, else raise."""
        if await self.tip(branch) == old:
            raise _failed("update-ref", done)
        return False

    async def _run(self, *args: str, check: bool = True) -> GitResult:
        return await self.git.run(
            *args,
            git_dir=self.repository.git_dir,
            check=check,
            output_bytes_max=_OUTPUT_BYTES_MAX,
        )


async def _remembered(
    known: _Known[R], pair: tuple[str, str], find: Callable[[str, str], Awaitable[R]]
) -> R:
    """Return what is so of two commits, asking git once: it can never change."""
    if pair not in known:
        answer = await find(*pair)
        if len(known) >= _KNOWN_MAX:
            known.clear()
        known[pair] = answer
    return known[pair]


def open_history(repository: HubRepository, git: Git) -> History:
    """Return the git side of a repository.

    Raises:
        GitError: its directory is gone.
    """
    if not Path(repository.git_dir).is_dir():
        raise GitError(f"The git directory of {repository.owner}/{repository.name} is gone.")
    return History(repository, git)


def _failed(what: str, result: GitResult) -> GitError:
    words = _text(result.stderr[-2000:]).strip()
    return GitError(
        f"`git {what}` failed with exit code {result.exit_code}: {words}",
        exit_code=result.exit_code,
        stderr=words,
    )


def _text(output: bytes) -> str:
    """Decode for JSON and HTML, which cannot carry bytes outside UTF-8."""
    return output.decode(errors="replace")


def _commits_in(log: bytes) -> Iterator[Commit]:
    parts = _text(log).split("\0")
    for start in range(0, len(parts) - 1, _COMMIT_FIELDS):
        id_, tree, parents, an, ae, at, cn, ce, ct, message = parts[start : start + _COMMIT_FIELDS]
        yield Commit(
            id_,
            tree,
            tuple(parents.split()),
            Signature(an, ae, int(at)),
            Signature(cn, ce, int(ct)),
            message.rstrip("\n"),
        )


def _sections(diff: str) -> list[str]:
    starts = [found.start() for found in _FILE_SECTION.finditer(diff)]
    return [diff[start:end] for start, end in zip(starts, [*starts[1:], len(diff)], strict=True)]


def _files_in(words: list[str], sections: Iterator[str]) -> Iterator[ChangedFile]:
    """Read `diff-tree --raw --numstat -z`: all raw entries, then all counts, in one order."""
    raw: list[tuple[str, str, str, str]] = []
    at = 0
    while words[at].startswith(":"):
        _, _, old_blob, new_blob, letter = words[at].split(" ")
        paths = 2 if letter[0] in "RC" else 1
        blob = old_blob if letter[0] == "D" else new_blob
        raw.append((letter[0], blob, words[at + 1], words[at + paths]))
        at += 1 + paths
    for letter, blob, before, path in raw:
        insertions, deletions, counted = words[at].split("\t")
        at += 1 if counted else 3
        # A changed file type (a link became a file) is shown as a removal and an addition.
        shown = "".join(next(sections, "") for _ in range(2 if letter == "T" else 1))
        yield ChangedFile(
            path,
            before if letter in "RC" else "",
            _CHANGES[letter],
            blob,
            int(insertions) if insertions != "-" else 0,
            int(deletions) if deletions != "-" else 0,
            _hunks(shown),
        )


def _hunks(section: str) -> str | None:
    start = section.find("\n@@ ")
    if start < 0 or len(section) - start > PATCH_CHARACTERS_MAX:
        return None
    return section[start + 1 :].removesuffix("\n")
