"""Which paths a plan may name, and which of them are the same place."""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache
from typing import NamedTuple

_DRIVE = re.compile(r"[A-Za-z]:[\\/]|[A-Za-z]:$")
_FORBIDDEN = (".git", ".commandcenter")
_GLOB = re.compile(r"[*?\[]")


class PathFault(NamedTuple):
    """Why a path may not be used."""

    code: str
    reason: str
    hint: str


def path_fault(path: str) -> PathFault | None:
    """Return why a plan may not name this path, or None when it may."""
    if any(ord(c) < 32 or ord(c) == 127 for c in path):
        return PathFault("P022", "holds a control character", "remove it")
    if absolute(path):
        return PathFault("P020", "is absolute", "name files relative to the root of the repository")
    parts = posixpath.normpath(path.replace("\\", "/")).split("/")
    if parts[0] == "..":
        return PathFault(
            "P021", "leaves the repository", "name a file inside the repository, without `..`"
        )
    # A file system that folds case, or drops trailing dots and spaces, makes `.GIT ` the same.
    if any(part.casefold().rstrip(". ") in _FORBIDDEN for part in parts):
        return PathFault("P022", "is reserved", "tasks may not touch `.git` or `.commandcenter`")
    return None


def absolute(path: str) -> bool:
    """Say whether a path is absolute on any system: `/x`, `~/x`, `C:\\x`, `\\\\host\\share`."""
    return path.startswith(("/", "\\", "~")) or bool(_DRIVE.match(path))


def place(path: str) -> str:
    """Return the place that a path names, to compare: a pattern stands for its folder."""
    plain = path.replace("\\", "/")
    if found := _GLOB.search(plain):
        plain = plain[: found.start()].rpartition("/")[0]
    return posixpath.normpath(plain or ".").casefold()


def folders(place: str) -> tuple[str, ...]:
    """Return the folders above a place, the root (`.`) included."""
    parts = place.split("/")
    return (".", *("/".join(parts[:n]) for n in range(1, len(parts))))


def is_glob(path: str) -> bool:
    """Say whether a path is a pattern for many."""
    return bool(_GLOB.search(path))


def matches(pattern: str, path: str) -> bool:
    """Say whether a glob fits a whole path. `*` stays in one folder, `**` goes through any.

    As in a `.gitignore`, a glob without `/` fits a name in any folder.
    """
    anywhere = pattern if "/" in pattern else f"**/{pattern}"
    return bool(_expression(anywhere.removeprefix("./")).fullmatch(path))


def within(path: str, declared: str) -> bool:
    """Say whether all that a path names lies in what another one names: file, folder or glob."""
    inner, outer = _normal(path), _normal(declared)
    folder = outer.removesuffix("/**")
    if inner == outer or (not is_glob(folder) and _below(inner, folder, whole=folder != outer)):
        return True
    return not is_glob(inner) and is_glob(outer) and matches(outer, inner)


def _below(inner: str, folder: str, *, whole: bool) -> bool:
    return folder == "." or inner.startswith(f"{folder}/") or (whole and inner == folder)


def _normal(path: str) -> str:
    return posixpath.normpath(path.replace("\\", "/"))


_PIECE = re.compile(r"\*\*/|\*\*|\*|\?|\[!?[^\]/]+\]|.", re.DOTALL)
_ANY = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@lru_cache(256)
def _expression(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile("".join(map(_translated, _PIECE.findall(pattern))), re.DOTALL)
    except re.error:  # a range that ends before it begins, `[z-a]`: then it is just a name
        return re.compile(re.escape(pattern))


def _translated(piece: str) -> str:
    if piece in _ANY:
        return _ANY[piece]
    if len(piece) == 1:
        return re.escape(piece)
    inverted = "^" if piece[1] == "!" else ""
    characters = re.escape(piece[1:-1].removeprefix("!")).replace(r"\-", "-")
    return f"(?!/)[{inverted}{characters}]"
