"""`commandcenter init`, in repositories that people have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from commandcenter.settings import load
from commandcenter.testing.scene import Installation

GIT = ("git", "-c", "user.name=A", "-c", "user.email=a@example.org")


def init(folder: Path, *words: str, place: str = ".") -> subprocess.CompletedProcess[str]:
    installation = Installation.make(folder.parent / "own")
    argv = (sys.executable, "-m", "commandcenter", "init", place, *words)
    return subprocess.run(
        argv,
        cwd=folder,
        env=installation.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    subprocess.run((*GIT, "init", "-q", "-b", "trunk", str(folder)), check=True)
    (folder / "Makefile").write_text("test:\n\ttrue\n")
    subprocess.run((*GIT, "-C", str(folder), "add", "-A"), check=True)
    subprocess.run((*GIT, "-C", str(folder), "commit", "-q", "-m", "first"), check=True)
    return folder


def test_it_writes_what_to_begin_with_and_a_second_time_changes_nothing(repository: Path) -> None:
    first = init(repository)
    config, plan = repository / "commandcenter.toml", repository / "first-plan.md"
    written = config.read_bytes(), plan.read_bytes()
    second = init(repository)

    assert (first.returncode, first.stderr) == (0, "")
    assert "wrote commandcenter.toml" in first.stdout
    assert "commandcenter --config commandcenter.toml run first-plan.md" in first.stdout
    assert [each.command for each in load({}, config=config).checks] == ["make test"]
    assert second.stdout.startswith("left commandcenter.toml as it is\nleft first-plan.md as it is")
    assert (config.read_bytes(), plan.read_bytes()) == written


def test_what_is_there_already_is_kept_and_told(repository: Path) -> None:
    (repository / "first-plan.md").symlink_to("nowhere")

    done = init(repository.parent, "--json", place="repo")

    assert json.loads(done.stdout) == {
        "written": [str(repository / "commandcenter.toml")],
        "left": [str(repository / "first-plan.md")],
    }
    assert not (repository / "nowhere").exists()


@pytest.mark.parametrize(
    ("place", "words"),
    [("empty", "is not a git repository"), ("bare", "is no work tree"), ("absent", "absent")],
)
def test_where_there_is_nothing_to_begin_with_it_says_so(
    tmp_path: Path, place: str, words: str
) -> None:
    (tmp_path / "empty").mkdir()
    bare = tmp_path / "bare"
    subprocess.run((*GIT, "init", "-q", "--bare", "-b", "main", str(bare)), check=True)
    tree = subprocess.run(
        (
            *GIT,
            "-C",
            str(bare),
            "commit-tree",
            "-m",
            "x",
            "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
        ),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    subprocess.run((*GIT, "-C", str(bare), "update-ref", "refs/heads/main", tree), check=True)

    done = init(tmp_path, place=place)

    assert done.returncode == 2
    assert words in done.stderr
    assert not list(tmp_path.glob("*/commandcenter.toml"))
