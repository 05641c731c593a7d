"""Which paths a plan may name, and which of them are the same place."""

from __future__ import annotations

import posixpath
import re
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
