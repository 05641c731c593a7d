"""What runs look like on the wire, and places to run the real command line in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from commandcenter.api.schema import BatchAnswer, StatusAnswer
from commandcenter.core.run import BatchStatus, RunStatus, TaskStatus, overall

RUN = "exec_0badcafe"
Shown = tuple[StatusAnswer, list[BatchAnswer]]


@pytest.fixture
def shown() -> Callable[..., Shown]:
    """Return a function that gives tasks as the API answers them: their run, and its batches."""

    def answer(tasks: Sequence[TaskStatus], **changes: object) -> Shown:
        run = RunStatus(
            execution_id=RUN,
            status=overall(tasks),
            phase=None,
            title="Greeting service",
            plan_path="/plans/plan.md",
            repository="/repositories/one",
            upstream="/repositories/one.git",
            target="main",
            landed_on="main",
            execution_mode="local",
            auto_merge=True,
            current_batch="1",
            tasks=tuple(tasks),
            notes=(),
            started_ms=1_700_000_000_000,
            ended_ms=1_700_000_010_000,
        )
        return (
            StatusAnswer.of(replace(run, **changes)),  # type: ignore[arg-type]
            [BatchAnswer.of(batch) for batch in _batches(tasks)],
        )

    return answer


def _batches(tasks: Sequence[TaskStatus]) -> list[BatchStatus]:
    names = list(dict.fromkeys(task.batch for task in tasks))
    members = [tuple(task for task in tasks if task.batch == name) for name in names]
    return [
        BatchStatus(RUN, name, f"Title of {name}", ordinal, overall(tasks), tasks)
        for ordinal, (name, tasks) in enumerate(zip(names, members, strict=True))
    ]


@dataclass(frozen=True)
class Place:
    """A repository with an origin, a plan, and a data folder of its own."""

    root: Path
    repository: Path
    plan: Path
    data_dir: Path

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs CommandCenter."""
        return [sys.executable, "-m", "commandcenter", *arguments]

    def environ(self) -> dict[str, str]:
        """Return an environment that knows nothing of the user's own installation."""
        kept = {name: value for name, value in os.environ.items() if name not in _DROPPED}
        return {
            **kept,
            "HOME": str(self.root),
            "XDG_CONFIG_HOME": str(self.root / "config"),
            "COMMANDCENTER_DATA_DIR": str(self.data_dir),
            "PYTHONUNBUFFERED": "1",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command; its output is read from `stdout`, errors included."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env=self.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def git(self, *arguments: str) -> str:
        """Return what git prints in the repository."""
        command = ["git", "-c", "user.name=N", "-c", "user.email=n@example.org", *arguments]
        done = subprocess.run(
            command, cwd=self.repository, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()


_DROPPED = {
    "COMMANDCENTER_CONFIG",
    "HOST",
    "PORT",
    "NO_COLOR",
    "FORCE_COLOR",
    "COLUMNS",
    # Compiling every import anew costs each command seconds.
    "PYTHONDONTWRITEBYTECODE",
}

PLAN = """# Greeting

## Batch 1: Words

### Task 1.1: Say hello
**Files:**
- Create: `hello.txt`

**Implementation:**
Write it.

**Verification:**
- `test -f hello.txt`
"""


def make_place(root: Path) -> Place:
    """Return a fresh place below this folder."""
    place = Place(root, root / "project", root / "plan.md", root / "data")
    place.plan.write_text(PLAN)
    place.repository.mkdir()
    place.git("init", "--quiet", "--initial-branch=main")
    (place.repository / "README.md").write_text("hello\n")
    place.git("add", ".")
    place.git("commit", "--quiet", "--message=first")
    place.git("clone", "--quiet", "--bare", ".", str(root / "origin.git"))
    place.git("remote", "add", "origin", str(root / "origin.git"))
    place.git("fetch", "--quiet")
    return place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a fresh place."""
    return make_place(tmp_path)


def lines_until(process: subprocess.Popen[str], words: str) -> str:
    """Return the output of a process up to the line that holds these words."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"it ended before it said {words!r}:\n{seen}")


@pytest.fixture
def until() -> Callable[[subprocess.Popen[str], str], str]:
    """Return the function that reads a process's output up to some words."""
    return lines_until


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Landed]:
    """Return a place where one run has landed, and what that run printed."""
    place = make_place(tmp_path_factory.mktemp("landed"))
    done = place.run(
        "run", "plan.md", "--repo", "project", "--agent-command", "echo I write; echo hi >hello.txt"
    )
    return place, Landed(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Landed:
    """How the run command ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def run(self) -> str:
        """The id of the run."""
        return self.stderr.rpartition("The run was started: ")[2].split()[0]
