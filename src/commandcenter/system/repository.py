"""Looks at the repository that the user named, without changing anything in it."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from commandcenter.core.errors import GitError, InputError
from commandcenter.system.git import Git

_URL = re.compile(r"[a-z][a-z0-9+.-]*://.|[^/:\s]+:(?!//).", re.IGNORECASE)
_REMOTE_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Repository:
    """What a run needs to know of the user's repository."""

    root: Path | None
    """Root of the work tree, or the bare repository; None when it was named by a URL."""
    upstream: str
    """Where work is fetched from and lands: a URL, or an absolute path."""
    has_remote: bool
    """Whether the upstream is another repository than `root`."""
    default_branch: str
    """The branch that the upstream's HEAD names; empty if it names none that exists."""
    current_branch: str
    """The branch checked out in `root`; empty when there is none."""
    target: str
    """The branch that work starts from and lands on."""
    head: str
    """The commit at the tip of `target` upstream."""
    dirty: bool
    """Whether tracked files of the work tree have changes that no task will see."""


@dataclass(frozen=True)
class Advertised:
    """What an upstream says it has."""

    default_branch: str
    """Empty when HEAD names no branch that exists."""
    heads: Mapping[str, str]
    """Branch name to commit id."""


@dataclass(frozen=True)
class _Place:
    root: Path
    git_dir: Path
    bare: bool
    shallow: bool


async def inspect_repository(git: Git, path_or_url: str, *, into: str = "") -> Repository:
    """Return what there is at a path or URL; `into` names the target branch.

    Without `into` the target is the checked-out branch, or a URL's default branch. A folder inside
    a work tree, a linked work tree, a submodule and a bare repository are all fine.

    Raises:
        InputError: there is no repository, no commit, no such branch, or no answer.
    """
    folder = Path(path_or_url).expanduser()
    if folder.is_dir():
        return await _inspect_folder(git, folder.resolve(), into)
    if not _URL.match(path_or_url):
        raise InputError(
            f"There is no folder `{path_or_url}`.",
            hint="Name a git repository by its folder or its URL.",
        )
    advertised = await _ask(git, path_or_url)
    target = into or advertised.default_branch
    return Repository(
        root=None,
        upstream=path_or_url,
        has_remote=True,
        default_branch=advertised.default_branch,
        current_branch="",
        target=target,
        head=_tip(advertised, target, path_or_url),
        dirty=False,
    )


async def advertised(
    git: Git, upstream: str, *, timeout_s: float = _REMOTE_TIMEOUT_S
) -> Advertised:
    """Ask an upstream for its branches.

    Raises:
        GitError: it did not answer.
    """
    answer = await git.run(
        *("ls-remote", "--symref", "--", upstream, "HEAD", "refs/heads/*"),
        git_dir=None,
        network=True,
        timeout_s=timeout_s,
    )
    default, heads = "", {}
    for line in answer.text.split("\n"):
        value, _, name = line.partition("\t")
        if name == "HEAD" and value.startswith("ref: refs/heads/"):
            default = value.removeprefix("ref: refs/heads/")
        elif name.startswith("refs/heads/"):
            heads[name.removeprefix("refs/heads/")] = value
    return Advertised(default if default in heads else "", heads)


async def _inspect_folder(git: Git, folder: Path, into: str) -> Repository:
    place = await _find(git, folder)
    current = await _current_branch(git, place)
    remote = await _origin(git, place)
    if not remote and place.shallow:
        raise InputError(
            f"The repository {place.root} is a shallow clone without an `origin`.",
            hint="Complete it first: `git fetch --unshallow`.",
        )
    upstream = remote or str(place.root)
    target = into or current
    if not target:
        raise InputError(
            f"No branch is checked out in {place.root} (detached HEAD).",
            hint="Say where the work shall land: --into BRANCH.",
        )
    there = await _ask(git, upstream)
    return Repository(
        root=place.root,
        upstream=upstream,
        has_remote=bool(remote),
        default_branch=there.default_branch,
        current_branch=current,
        target=target,
        head=_tip(there, target, upstream),
        dirty=await _dirty(git, place),
    )


async def _find(git: Git, folder: Path) -> _Place:
    answers = ("--is-bare-repository", "--is-inside-work-tree", "--is-shallow-repository")
    # As the user: git's rule about folders that belong to somebody else is theirs to relax.
    found = await git.run(
        *("-C", str(folder), "rev-parse", *answers, "--absolute-git-dir"),
        git_dir=None,
        network=True,
        check=False,
    )
    if found.exit_code != 0:
        raise _not_found(folder, found.complaint)
    bare, inside, shallow, git_dir = found.text.split("\n", 3)
    if bare == "true":
        return _Place(Path(git_dir), Path(git_dir), bare=True, shallow=shallow == "true")
    if inside != "true":
        raise InputError(
            f"{folder} lies inside git's own folder.", hint="Name the root of the work tree."
        )
    top = await git.run(
        "-C", str(folder), "rev-parse", "--show-toplevel", git_dir=None, network=True
    )
    return _Place(Path(top.text), Path(git_dir), bare=False, shallow=shallow == "true")


def _not_found(folder: Path, complaint: str) -> InputError:
    if "dubious ownership" in complaint:
        return InputError(
            f"{folder} belongs to another user, so git refuses to read it.",
            hint=f"If you trust it: git config --global --add safe.directory {folder}",
        )
    if "not a git repository" in complaint:
        return InputError(
            f"{folder} is not a git repository.",
            hint="Start one with `git init`, and commit something.",
        )
    return InputError(f"git cannot read {folder}: {complaint}")


async def _current_branch(git: Git, place: _Place) -> str:
    head = await git.run("symbolic-ref", "--quiet", "HEAD", git_dir=place.git_dir, check=False)
    return head.text.removeprefix("refs/heads/")


async def _origin(git: Git, place: _Place) -> str:
    """Return the URL or absolute path of `origin`, or an empty text.

    It is not rewritten by `url.*.insteadOf`: git does that itself at every fetch and push.
    """
    answer = await git.run(
        "config", "--get", "remote.origin.url", git_dir=place.git_dir, check=False
    )
    url = answer.text
    if not url or _URL.match(url):
        return url
    return os.path.normpath(place.root / Path(url).expanduser())


async def _ask(git: Git, upstream: str) -> Advertised:
    try:
        answer = await advertised(git, upstream)
    except GitError as error:
        raise InputError(
            f"The upstream {upstream} does not answer: {error.stderr or error.message}",
            hint="Check its address, the network and your credentials: `git ls-remote` must work.",
        ) from error
    if not answer.heads:
        raise InputError(
            f"{upstream} has no commit yet.", hint="Commit something first, and push it."
        )
    return answer


def _tip(there: Advertised, target: str, upstream: str) -> str:
    if target in there.heads:
        return there.heads[target]
    names = sorted(there.heads)
    near = difflib.get_close_matches(target, names, n=3) or names[:5]
    raise InputError(
        f"There is no branch `{target}` in {upstream}.",
        hint=f"Did you mean {' or '.join(f'`{name}`' for name in near)}? Else push it first.",
    )


async def _dirty(git: Git, place: _Place) -> bool:
    if place.bare:
        return False
    status = await git.run(
        f"--work-tree={place.root}",
        *("status", "--porcelain=v1", "-z", "--untracked-files=no", "--ignore-submodules=all"),
        git_dir=place.git_dir,
    )
    return bool(status.stdout)
