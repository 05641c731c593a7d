"""Names the points of a process: what it is about to change, told before it is changed."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

OnPoint = Callable[[str], None]
"""Called with a point's name, on the thread that is about to do what it names."""

GIT_WRITES = frozenset(
    {
        *("bundle", "checkout-index", "clone", "commit-graph", "commit-tree", "fast-import"),
        *("fetch", "index-pack", "init", "merge-tree", "multi-pack-index", "prune", "push"),
        *("read-tree", "repack"),
        *("update-index", "update-ref"),
    }
)
_FILES = {
    "os.chmod": "change the mode of",
    "os.chown": "give away",
    "os.link": "link",
    "os.mkdir": "make",
    "os.remove": "remove",
    "os.rename": "rename to",
    "os.rmdir": "remove",
    "os.symlink": "link",
    "os.truncate": "truncate",
}
"""What the audit events of files are called here."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_VARIABLE = re.compile(
    r"exec_[0-9a-f]{8}"  # a run
    r"|[0-9a-f]{32}\w*"  # a name out of the way
    r"|tmp[a-z0-9_]{8}|(?<=-)[a-z0-9_]{8}(?=$|/)"  # names that are drawn
    r"|[0-9a-f]{7,64}"  # a commit, a pack, a digest
    r"|(?<=vaults/)[^/]+"
)
_WRITE = re.compile(
    r"\s*(insert|update|delete)\b\W*(?:or\s+\w+\s+)?(?:into|from)?\s*([\w.]+)", re.I
)
_EVENT = re.compile(r"'((?:task|run)\.\w+|agent)'")
_WHOSE = re.compile(r"exec_[0-9a-f]{8}/([\w./-]+)")
"""Names the workflow that the durable engine writes about."""
_ALL_BELOW = r"\1/*"
_UNSEEN = re.compile(r"(.*?\b(?:scratch|quarantine|new\.git|new-\*))/.*")
_TOGETHER = ("remove", "give away", "change the mode of")
"""What is one point for all in a folder that nobody looks for any more, or not yet."""


def watch(folders: Sequence[Path], on_point: OnPoint) -> None:
    """Call `on_point` before every change that this process makes, from now to its end.

    Files count below `folders`; git and other programs when they are started; a database when it
    commits what was written.
    """
    audit = _Audit(tuple(f"{folder}" for folder in folders), on_point)
    sys.addaudithook(audit.hear)
    commits = _Commits(on_point)
    sa.event.listen(sa.Engine, "before_cursor_execute", commits.hear)
    sa.event.listen(sa.Engine, "commit", commits.tell)
    sa.event.listen(sa.Engine, "rollback", commits.forget)


class _Audit:
    """Hears what Python says before it touches a file or starts a program."""

    def __init__(self, folders: tuple[str, ...], on_point: OnPoint) -> None:
        self._folders = folders
        self._on_point = on_point
        self._mine = threading.local()

    def hear(self, event: str, args: tuple[Any, ...]) -> None:  # Any: each event has its own
        if getattr(self._mine, "busy", False):
            return
        # To name a point may itself be audited.
        self._mine.busy = True
        try:
            for name in self._names(event, args):
                self._on_point(name)
        finally:
            self._mine.busy = False

    def _names(self, event: str, args: tuple[Any, ...]) -> Iterator[str]:
        if event == "subprocess.Popen":
            yield from _program([os.fsdecode(word) for word in args[1]])
        elif event == "os.posix_spawn":
            yield f"start {Path(os.fsdecode(args[1][-1])).name}"
        elif event == "open" and isinstance(args[2], int) and args[2] & _WRITING:
            yield from self._file("write", args[0], -1)
        elif event in _FILES:
            moved = event in ("os.rename", "os.link", "os.symlink")
            path, at = (args[1], args[-1]) if moved else (args[0], _folder(event, args))
            yield from self._file(_FILES[event], path, at)

    def _file(self, what: str, path: Any, at: int) -> Iterator[str]:  # Any: whatever `open` takes
        full = _whole(path, at)
        below = next((folder for folder in self._folders if full.startswith(folder)), None)
        # To make a temporary file, Python first says that it opens the folder.
        if below is not None and not (what == "write" and os.path.isdir(full)):
            place = named(full.removeprefix(below).lstrip("/"))
            yield f"{what} {_UNSEEN.sub(_ALL_BELOW, place) if what in _TOGETHER else place}"


def _program(argv: Sequence[str]) -> Iterator[str]:
    if os.path.basename(argv[0]) != "git":
        return
    rest = list(_without_options(iter(argv[1:])))
    if rest and rest[0] in GIT_WRITES:
        yield f"git {rest[0]}{_detail(rest)}"


def _without_options(words: Iterator[str]) -> Iterator[str]:
    for word in words:
        if word in ("-c", "-C"):
            next(words)
        elif not word.startswith("--git-dir="):
            yield word


def _detail(words: Sequence[str]) -> str:
    refs = [named(word) for word in words[1:] if ":refs/" in word or word.startswith("refs/")]
    return "".join(f" {ref}" for ref in refs)


def _folder(event: str, args: tuple[Any, ...]) -> int:
    """Return the descriptor that a path is relative to, -1 when there is none."""
    at = args[2] if event == "os.mkdir" else args[-1]
    return at if isinstance(at, int) and event != "os.truncate" else -1


def _whole(path: Any, at: int) -> str:  # Any: a path, a descriptor
    if isinstance(path, int):
        return _descriptor(path)
    text = os.fsdecode(path)
    return text if text.startswith("/") or at < 0 else f"{_descriptor(at)}/{text}"


def _descriptor(number: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return ""


def named(text: str) -> str:
    """Return a text without what differs from one run to the next."""
    return _VARIABLE.sub("*", text)


class _Commits:
    """Hears what a transaction writes, and tells it when that is about to be committed."""

    def __init__(self, on_point: OnPoint) -> None:
        self._on_point = on_point

    def hear(
        self,
        connection: sa.Connection,
        _cursor: object,
        statement: str,
        parameters: Any,  # Any: the driver's
        *_: object,
    ) -> None:
        if found := _WRITE.match(statement):
            said = repr(parameters)
            words = [found[1].lower(), found[2].split(".")[-1]]
            words += _EVENT.findall(said)[:1] if "cc_events" in words else _WHOSE.findall(said)[:1]
            # In the order of writing, each once.
            connection.info.setdefault("written", {})[" ".join(words)] = None

    def tell(self, connection: sa.Connection) -> None:
        if written := connection.info.pop("written", None):
            self._on_point(f"commit {', '.join(written)}")

    def forget(self, connection: sa.Connection) -> None:
        connection.info.pop("written", None)
