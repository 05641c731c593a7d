"""The demo, as a newcomer runs it: an empty HOME, no key, no question."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

TASKS = ("1.1", "1.2", "1.3", "2.1", "2.2")


@dataclass(frozen=True)
class Shown:
    folder: Path
    home: Path
    output: str
    exit_code: int

    def git(self, *words: str) -> list[str]:
        command = ("git", "-C", str(self.folder / "origin.git"), *words)
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.splitlines()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder, home = tmp_path_factory.mktemp("demo") / "made here", tmp_path_factory.mktemp("home")
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "COLUMNS": "80"}
    demo = subprocess.run(
        (sys.executable, "-m", "commandcenter.testing.demo", str(folder)),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    return Shown(folder, home, demo.stdout, demo.returncode)


def test_the_demo_ends_well(shown: Shown) -> None:
    assert shown.exit_code == 0, shown.output


def test_the_table_has_a_row_for_every_task(shown: Shown) -> None:
    rows = [line.split() for line in shown.output.splitlines() if line.startswith(TASKS)]
    assert [row[0] for row in rows] == list(TASKS)
    assert all("completed" in row and "approve" in row for row in rows), rows
    assert "5 completed of 5 tasks" in shown.output


def test_the_demo_says_that_its_agent_is_no_model(shown: Shown) -> None:
    assert "SCRIPTED STAND-IN, NOT A MODEL" in shown.output


def test_a_check_fails_first_and_a_review_asks_for_a_change(shown: Shown) -> None:
    assert "checks failed" in shown.output
    assert "the review says revise" in shown.output


def test_everything_has_landed_in_the_origin(shown: Shown) -> None:
    landed = shown.git("ls-tree", "-r", "--name-only", "main")
    parts = [f"tally/{name}.py" for name in ("__init__", "__main__", "count", "rank", "split")]
    assert set(landed) >= {*parts, "tests/test_count.py", "README.md"}
    subjects = shown.git("log", "--no-merges", "--format=%s", "main")
    assert len(subjects) == 1 + len(TASKS)
    assert "word.lower()" in "\n".join(shown.git("show", "main:tally/count.py"))


def test_nothing_is_left_behind(shown: Shown) -> None:
    assert shown.git("for-each-ref", "--format=%(refname)") == ["refs/heads/main"]
    assert list((shown.folder / "data" / "workspaces" / "ws").iterdir()) == []
    assert list(shown.home.iterdir()) == []
    assert _processes_of(shown.folder) == []


def _processes_of(folder: Path) -> list[list[str]]:
    """Return what still runs there; what was just killed gets a moment to be gone."""
    deadline = time.monotonic() + 5
    while (found := list(_naming(folder))) and time.monotonic() < deadline:
        psutil.wait_procs(found, timeout=0.1)
    return [process.cmdline() for process in found]


def _naming(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in process.info["cmdline"] or ())
        and process.status() != psutil.STATUS_ZOMBIE
    ]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all there is")
    demo = subprocess.run(
        (sys.executable, "-m", "commandcenter.testing.demo", str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert demo.returncode == 1
    assert "not the demo's" in demo.stderr
    assert (tmp_path / "thesis.txt").read_text() == "all there is"
