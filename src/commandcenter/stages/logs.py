"""Keeps what commands printed after their workspace is gone."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections import Counter
from pathlib import Path
from urllib.parse import quote

from commandcenter.core import egress
from commandcenter.core.run import Log
from commandcenter.core.workspace import Completed

STREAMS = ("stdout", "stderr")
EGRESS = "egress"
"""The stream of what was decided about connections."""


class Logs:
    """Logs below one folder: `run/task/try/command.stream.log`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def journal(self, run: str, task: str, number: int, name: str) -> Path:
        """Return where decisions about a command's connections are written as they are made."""
        return self._folder(run, task, number) / f"{name}.{EGRESS}.log"

    def refusals(self, run: str, task: str) -> Counter[str]:
        """Return which connections of a task's commands were refused, and how often."""
        found: Counter[str] = Counter()
        for path in (self._root / run / _component(task)).glob(f"*/*.{EGRESS}.log"):
            with path.open("rb") as lines:
                found += egress.refusals(lines)
        return found

    def _folder(self, run: str, task: str, number: int) -> Path:
        folder = self._root / run / _component(task) / str(number)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def keep(self, run: str, task: str, number: int, name: str, completed: Completed) -> None:
        """Keep a finished command's output; linked where that can be, so that size is no matter."""
        folder = self._folder(run, task, number)
        for stream in STREAMS:
            fresh = folder / f".{name}.{stream}"
            fresh.unlink(missing_ok=True)
            # Replaced, since a command that was stopped or lost has run again under its name.
            with contextlib.suppress(FileNotFoundError):
                _link_or_copy(completed.log / stream, fresh)
                fresh.replace(folder / f"{name}.{stream}.log")
            fresh.unlink(missing_ok=True)

    def find(self, run: str, tasks: tuple[str, ...], attempt: int | None) -> tuple[Log, ...]:
        """Return the logs of these tasks, of one try or of all, in order."""
        found: list[Log] = []
        for task in tasks:
            tries = self._tries(run, task)
            for number in tries if attempt is None else [attempt]:
                found += self._of_try(run, task, number)
        return tuple(found)

    def _tries(self, run: str, task: str) -> list[int]:
        folder = self._root / run / _component(task)
        return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())

    def _of_try(self, run: str, task: str, number: int) -> list[Log]:
        paths = (self._root / run / _component(task) / str(number)).glob("*.log")
        logs = []
        for path in sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name)):
            name, stream, _ = path.name.rsplit(".", 2)
            logs.append(Log(task, number, name, stream, path, path.stat().st_size))
        return logs


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Workspaces may lie on a disk of their own.
        shutil.copyfile(source, target)


def _component(task: str) -> str:
    """Return the task's id as the name of a folder; different ids have different ones."""
    quoted = quote(task, safe="")
    return quoted.replace(".", "%2E", 1) if quoted.startswith(".") else quoted
