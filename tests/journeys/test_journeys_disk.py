"""A journey on a disk that is really full: nothing begins, and all goes on by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from commandcenter.testing.desk import Host
from commandcenter.testing.judge import Judge, judge_stopped
from commandcenter.testing.scene import Installation, Sample, batch, plan, task

MIB = 2**20
DISK = 256 * MIB
FLOOR = 64 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(
            f"a file system cannot be mounted: {mounted.stderr}; run it as root: sudo make test"
        )
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
async def test_a_full_disk_is_waited_for_and_said(disk: Path, tmp_path: Path) -> None:
    # Processes are told by the path below the file system, which here is a short one.
    installation = Installation.make(disk / uuid.uuid4().hex)
    config = installation.config.read_text()
    installation.config.write_text(f"disk_free_min_bytes = {FLOOR}\n{config}")
    host, sample = Host(installation, tmp_path), await Sample.make(tmp_path / "sample")
    judge = await Judge.appoint(installation, sample)
    ballast = disk / "ballast"
    with host.serving() as service:
        desk = await host.desk(service)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - FLOOR // 2)
        run = await desk.start(sample, plan(batch(1, task("1.1", "A file", files=["a.txt"]))))
        async with judge.watching(desk.url, run):
            waiting = await desk.until(f"/{run}/tasks/1.1", lambda t: t["waiting_for"])
            made = list((installation.data_dir / "workspaces").glob("ws/*"))
            ballast.unlink()
            await judge.over()
        ended = await desk.ended(judge)

    assert waiting["phase"] == "waiting"
    assert waiting["waiting_for"].startswith("disk space: ")
    assert waiting["waiting_for"].endswith(f" free of 64 MiB needed on {installation.data_dir}")
    assert made == []
    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("completed", "merged")}
    assert await judge_stopped(installation) == ()
