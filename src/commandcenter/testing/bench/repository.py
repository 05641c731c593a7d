"""Makes repositories to measure on, and does a task's git work as a plain script would."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_FILES = 50
_FILES_A_FOLDER = 100
_SETTINGS = ("-c", "user.name=Bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0")


@dataclass(frozen=True)
class Cost:
    """What something took."""

    wall_s: float
    processor_s: float

    def each(self, number: int) -> Cost:
        """Return the share of one of so many."""
        return Cost(self.wall_s / number, self.processor_s / number)


def git(*words: str, folder: Path) -> None:
    """Run git in a folder, on its own configuration alone."""
    printed(*words, folder=folder)


def printed(*words: str, folder: Path) -> str:
    """Run git in a folder, on its own configuration alone; return what it printed."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
    done = subprocess.run(
        ("git", *_SETTINGS, *words),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    )
    return done.stdout


def make_origin(folder: Path) -> Path:
    """Make a bare repository with a few files on `main`, and return its path."""
    return make_tree(folder, _FILES)


def make_tree(folder: Path, files: int) -> Path:
    """Make a bare repository with so many files on `main`, and return its path."""
    work, origin = folder / "seed", folder / "origin.git"
    for number in range(files):
        part = work / "src" / f"{number // _FILES_A_FOLDER}"
        part.mkdir(parents=True, exist_ok=True)
        (part / f"part_{number}.py").write_text(f"PART = {number}\n" * 40, "utf-8")
    git("init", "--quiet", "--bare", "--initial-branch=main", str(origin), folder=folder)
    git("init", "--quiet", "--initial-branch=main", folder=work)
    git("add", "--all", folder=work)
    git("commit", "--quiet", "--message", "Begin", folder=work)
    git("push", "--quiet", str(origin), "main", folder=work)
    return origin


def plain_script(origin: Path, folder: Path, tasks: int) -> Cost:
    """Do the git work of so many tasks, one after the other, and return what it took."""
    folder.mkdir()
    before, started = _children_s(), time.monotonic()
    for number in range(tasks):
        _by_hand(origin, folder / f"clone-{number}", f"task-{number}")
    return Cost(time.monotonic() - started, _children_s() - before)


def _by_hand(origin: Path, clone: Path, name: str) -> None:
    git("clone", "--quiet", str(origin), str(clone), folder=origin)
    git("checkout", "--quiet", "-b", name, folder=clone)
    (clone / f"{name}.txt").touch()
    git("add", "--all", folder=clone)
    git("commit", "--quiet", "--message", name, folder=clone)
    git("push", "--quiet", "origin", name, folder=clone)
    git("checkout", "--quiet", "main", folder=clone)
    git("pull", "--quiet", "--ff-only", folder=clone)
    git("merge", "--quiet", "--no-ff", "--message", f"Merge {name}", name, folder=clone)
    git("push", "--quiet", "origin", "main", folder=clone)
    git("push", "--quiet", "origin", "--delete", name, folder=clone)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
