"""The points of a process: what is heard of it, and by which name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from commandcenter.testing.faults.points import named

PROGRAM = """
import os, sqlite3, subprocess, sys, tempfile
from pathlib import Path
import sqlalchemy as sa
from commandcenter.testing.faults.points import watch

here = Path(sys.argv[1])
engine = sa.create_engine(f"sqlite:///{here}/facts.sqlite")
with engine.begin() as connection:
    connection.execute(sa.text("CREATE TABLE cc_events (kind TEXT)"))
watch([here], print)
(here / "a").mkdir()
(here / "a/b.new").write_text("x")
os.replace(here / "a/b.new", here / "a/b")
at = os.open(here / "a", os.O_RDONLY)
os.remove("b", dir_fd=at)
Path("/dev/null").write_text("elsewhere")
os.chmod(here / "a", 0o700)
os.fchown(at, -1, -1)
(here / "scratch/1").mkdir(parents=True)
(here / "scratch/1").rmdir()
tempfile.NamedTemporaryFile(prefix="token-", dir=here).close()
subprocess.run(["git", "-c", "x.y=z", f"--git-dir={here}/none", "push", "o", "c:refs/heads/main"])
subprocess.run(["git", "--git-dir=/nowhere", "rev-parse", "HEAD"])
with engine.begin() as connection:
    connection.execute(sa.text("INSERT INTO cc_events VALUES (:kind)"), {"kind": "task.started"})
with engine.begin() as connection:
    connection.execute(sa.text("SELECT * FROM cc_events"))
"""


def test_every_change_is_heard_before_it_is_made_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path], capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines() == [
        "make a",
        "write a/b.new",
        "rename to a/b",
        "remove a/b",
        *("change the mode of a", "give away a"),
        *("make scratch/1", "make scratch", "make scratch/1"),
        "remove scratch/*",
        "write token-*",
        "remove token-*",
        "git push c:refs/heads/main",
        "commit insert cc_events task.started",
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("workspaces/ws/0123456789ab/key", "workspaces/ws/*/key"),
        ("logs/exec_0a1b2c3d/1.1/1/try-1.stdout.log", "logs/*/1.1/1/try-1.stdout.log"),
        ("vaults/tmp-somewhere-else/repository.git", "vaults/*/repository.git"),
        ("quarantine/tmpab12cd34/imported", "quarantine/*/imported"),
        (".hub-token-a1b2c3d4", ".hub-token-*"),
        ("objects/pack/pack-0be9ffd403556d9da2cf.idx", "objects/pack/pack-*.idx"),
    ],
)
def test_a_name_is_the_same_in_every_run(text: str, name: str) -> None:
    assert named(text) == name
