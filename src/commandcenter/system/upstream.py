"""The upstream of a vault: what is asked of it, pushed to it, and put in order there.

It may be a server, or a repository on this machine, perhaps with its branch checked out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from commandcenter.core.errors import GitError
from commandcenter.system import durable, mending
from commandcenter.system.boot import booted_s
from commandcenter.system.git import Git, GitResult
from commandcenter.system.repository import advertised

_NETWORK_TIMEOUT_S = 600.0
# On our own machine we say how the upstream writes: git's default is not on the disk yet when it
# is told to us.
_RECEIVING = "git -c core.fsync=all -c core.fsyncMethod=fsync"
# Advances a checked-out branch together with its work tree, if that is clean.
_ADVANCING = f"{_RECEIVING} -c receive.denyCurrentBranch=updateInstead"
# Moves the branch alone, where its work tree is there already.
_FOLLOWING = f"{_RECEIVING} -c receive.denyCurrentBranch=ignore"
_UNCLEAN = re.compile(r"unstaged changes|staged changes|Could not update working tree", re.I)
_REJECTED = re.compile(r"^!\t[^\t]*\t\[[^\]]*\] \((?P<reason>.*)\)$", re.MULTILINE)


@dataclass(frozen=True)
class Landed:
    """The upstream's branch contains the commit."""


@dataclass(frozen=True)
class Moved:
    """Somebody else moved the branch first; nothing was written."""

    tip: str | None
    """Where the branch is now, fetched into the vault; None: it is gone."""


@dataclass(frozen=True)
class Refused:
    """The upstream took nothing, and would not another time either."""

    reason: str


class Upstream:
    """Where a repository of ours fetches from and pushes to."""

    def __init__(self, git: Git, url: str, repository: Path) -> None:
        self._git = git
        self._url = url
        self._repository = repository
        self._place: Path | None = None

    async def tip(self, branch: str) -> str | None:
        """Return where a branch is now; None when it has none of this name.

        Raises:
            GitError: it did not answer.
        """
        return (await advertised(self._git, self._url)).heads.get(branch)

    async def fetch(self, refspec: str, *options: str, into: Path | None = None) -> None:
        """Bring branches into our repository, or into another one."""
        await self._git.run(
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"),
            *("--no-recurse-submodules", "--refmap=", *options, "--", self._url, refspec),
            git_dir=into or self._repository,
            network=True,
            timeout_s=_NETWORK_TIMEOUT_S,
        )

    async def publish(self, branch: str, commit: str, expected: str | None) -> None:
        """Push a commit to a branch that is at `expected` (None: is not there).

        Raises:
            GitError: the branch is elsewhere, it refused, or it did not answer.
        """
        pushed = await self._push(f"{commit}:refs/heads/{branch}", branch, expected)
        if isinstance(pushed, GitResult) and pushed.exit_code == 0:
            return
        tip = await self.tip(branch)
        if tip != commit:
            raise _push_error(branch, pushed, tip)
        await self.secure()

    async def delete_branch(self, branch: str, expected: str) -> bool:
        """Delete a branch if it is still at `expected`; say whether it is gone."""
        pushed = await self._push(f":refs/heads/{branch}", branch, expected)
        if isinstance(pushed, GitResult) and pushed.exit_code == 0:
            return True
        tip = await self.tip(branch)
        if tip == expected:
            raise _push_error(branch, pushed, tip)
        return tip is None

    async def advance(self, branch: str, old: str, new: str) -> GitResult | GitError:
        """Push to a branch that may be checked out; then its files are on the disk, too."""
        refspec = f"{new}:refs/heads/{branch}"
        pushed = await self._push(refspec, branch, old, receiver=_ADVANCING)
        checkout = await self._checkout_of(branch)
        if checkout is None or isinstance(pushed, GitError):
            return pushed
        if pushed.exit_code and await self._is_half_advanced(checkout, new):
            pushed = await self._push(refspec, branch, old, receiver=_FOLLOWING)
        if not pushed.exit_code:
            changed = await self._changed(old, new)
            await asyncio.to_thread(durable.sync_files, checkout, changed)
        return pushed

    async def is_being_rebased(self, branch: str) -> bool:
        """Say whether a work tree of it is on its way through this branch.

        git counts the branch as checked out there, so a push would write our files over the
        half-done rebase.
        """
        place = await self._find_place()
        return place is not None and branch in _branches_under_way(place)

    async def secure(self) -> None:
        """Make what it shows now survive a power cut, where it is on this machine.

        For what was found there: whoever brought it may have been cut off before it was synced.
        A server of somebody else's keeps what it confirmed in its own way.
        """
        if place := await self._find_place():
            await asyncio.to_thread(durable.sync_file_system, place)

    async def unlock(self) -> None:
        """Remove the locks in one on this machine that went down with the machine.

        Git never does, and nobody could land there any more. One that is older than this start of
        the machine is nobody's, whoever made it.
        """
        try:
            place = await self._find_place()
        except GitError:
            return
        if place is not None:
            await asyncio.to_thread(mending.remove_locks, place, before_s=booted_s())

    # Inside

    async def _find_place(self) -> Path | None:
        """Return the folder in which the upstream keeps refs and objects, if it is on this machine.

        Raises:
            GitError: there is no repository any more.
        """
        if self._place is not None and (self._place / "objects").is_dir():
            return self._place
        path = self._url.removeprefix("file://")
        if not path.startswith("/"):
            return None
        found = await self._git.run(
            *("-C", path, "rev-parse", "--path-format=absolute", "--git-common-dir"),
            git_dir=None,
            network=True,
        )
        self._place = Path(found.text)
        return self._place

    async def _is_half_advanced(self, checkout: Path, new: str) -> bool:
        """Say whether the files are those of `new`, and only the branch has to follow.

        Git moves the files first: what a landing that was cut off left would pass for somebody's
        uncommitted work.
        """
        found = await self._git.run(
            *("-C", str(checkout), "rev-parse", "--absolute-git-dir"),
            git_dir=None,
            network=True,
            check=False,
        )
        if found.exit_code:
            return False
        differences = [
            await self._git.run(
                *(f"--work-tree={checkout}", "diff-index", "--quiet", *cached, new, "--"),
                git_dir=Path(found.text),
                check=False,
            )
            for cached in (("--cached",), ())
        ]
        return not any(each.exit_code for each in differences)

    async def _checkout_of(self, branch: str) -> Path | None:
        """Return the work tree on this machine in which the upstream's branch is checked out."""
        place = await self._find_place()
        if place is None:
            return None
        listed = await self._git.run("worktree", "list", "--porcelain", "-z", git_dir=place)
        for entry in listed.text.split("\0\0"):
            first, *facts = entry.split("\0")
            if f"branch refs/heads/{branch}" in facts:
                return Path(first.removeprefix("worktree "))
        return None

    async def _changed(self, old: str, new: str) -> tuple[str, ...]:
        options = ("-r", "-z", "--name-only", "--no-renames")
        listed = await self._git.run("diff-tree", *options, old, new, git_dir=self._repository)
        return tuple(filter(None, os.fsdecode(listed.stdout).split("\0")))

    async def _push(
        self, refspec: str, branch: str, expected: str | None, *, receiver: str = _RECEIVING
    ) -> GitResult | GitError:
        """Return how the push ended, or the error when nobody knows.

        What a repository on this machine takes is on its disk afterwards.
        """
        try:
            place = await self._find_place()
            received = _Received.before(place, branch) if place else None
            pushed = await self._git.run(
                *("push", "--porcelain", "--atomic", "--no-verify", "--no-follow-tags"),
                *("--recurse-submodules=no", "--no-signed"),
                *((f"--receive-pack={receiver} receive-pack",) if place else ()),
                f"--force-with-lease=refs/heads/{branch}:{expected or ''}",
                *("--", self._url, refspec),
                git_dir=self._repository,
                network=True,
                check=False,
                timeout_s=_NETWORK_TIMEOUT_S,
            )
        except GitError as error:
            return error
        if received and pushed.exit_code == 0:
            await asyncio.to_thread(received.sync)
        return pushed


def refusal(branch: str, pushed: GitResult | GitError, tip: str) -> Refused:
    """Return what a push was refused for, while the branch stayed where it is.

    Raises:
        GitError: it was not refused; nobody knows why it failed.
    """
    if isinstance(pushed, GitError) or not _REJECTED.search(pushed.stdout.decode(errors="replace")):
        raise _push_error(branch, pushed, tip)
    reason = _reason(pushed)
    return Refused("the checkout has uncommitted changes" if _UNCLEAN.search(reason) else reason)


@dataclass(frozen=True)
class _Received:
    """A push to a repository on this machine, to sync what it brings there."""

    objects: Path
    folders: Mapping[Path, int]
    """Those of its objects as they were before."""
    ref: Path
    top: Path

    @classmethod
    def before(cls, place: Path, branch: str) -> _Received:
        objects, ref = place / "objects", place / "refs/heads" / branch
        return cls(objects, durable.object_folders(objects), ref, durable.deepest(ref))

    def sync(self) -> None:
        durable.sync_changed(self.folders, self.objects)
        durable.sync_names(self.ref, self.top)


def _branches_under_way(git_dir: Path) -> set[str]:
    """Return the branches that some work tree is rebasing or bisecting."""
    found = set()
    for home in (git_dir, *(git_dir / "worktrees").glob("*")):
        for name in ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found.add((home / name).read_text().strip().removeprefix("refs/heads/"))
    return found


def _push_error(branch: str, pushed: GitResult | GitError, tip: str | None) -> GitError:
    if isinstance(pushed, GitError):
        return pushed
    where = f"is at {tip}" if tip else "is not there"
    return GitError(
        f"The push to `{branch}` failed; upstream it {where}: {_reason(pushed)}",
        exit_code=pushed.exit_code,
        stderr=pushed.complaint,
        hint="Somebody else may use this branch." if tip else "",
    )


def _reason(pushed: GitResult) -> str:
    """Return what the receiver said: git's short reason, then the words of its hooks."""
    found = _REJECTED.search(pushed.stdout.decode(errors="replace"))
    said = re.findall(r"^remote: (.*?)\s*$", pushed.complaint, re.MULTILINE)
    return "; ".join(filter(None, [found["reason"] if found else pushed.complaint, *said]))
