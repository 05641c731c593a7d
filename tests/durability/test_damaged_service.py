"""A disk lost, under a killed service, what it had confirmed: the run ends as it would have."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from commandcenter.testing.desk import Desk, Host
from commandcenter.testing.disk import kill_users
from commandcenter.testing.judge import judge_repository, judge_stopped
from commandcenter.testing.scene import Sample, batch, plan, task

PATIENCE_S = 120
Loss = Callable[[Path], None]


def the_end_of_the_database_log(data: Path) -> None:
    log = data / "commandcenter.sqlite-wal"
    os.truncate(log, log.stat().st_size * 2 // 3)


def half_of_every_pack(data: Path) -> None:
    for pack in data.glob("vaults/*/repository.git/objects/pack/*.pack"):
        pack.chmod(0o644)
        os.truncate(pack, pack.stat().st_size // 2)


def the_content_of_every_ref(data: Path) -> None:
    for path in data.glob("vaults/*/repository.git/refs/**/*"):
        if path.is_file():
            os.truncate(path, 0)


def the_whole_vault(data: Path) -> None:
    for path in data.glob("vaults/*/repository.git/**/*"):
        if path.is_file():
            path.chmod(0o644)
            os.truncate(path, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [
        the_end_of_the_database_log,
        half_of_every_pack,
        the_content_of_every_ref,
        the_whole_vault,
    ],
    ids=lambda loss: loss.__name__,
)
async def test_a_run_ends_as_it_would_have_when_the_disk_lost(
    host: Host, sample: Sample, loss: Loss
) -> None:
    text = plan(
        batch(1, task("1.1", "First", files=["1.txt"], checks=["test -s 1.txt"])),
        batch(
            2,
            task("2.1", "Held", files=["2.txt"], checks=["sleep 3; test -s 2.txt"]),
            task("2.2", "Last", files=["3.txt"], checks=["test -s 1.txt && test -s 2.txt"]),
            after=[1],
        ),
    )
    with host.serving() as service:
        desk = await host.desk(service)
        run = await desk.start(sample, text)
        await desk.until(f"/{run}/tasks/2.1", lambda t: t["phase"] == "verifying", PATIENCE_S)
        service.kill()
        kill_users(host.installation.data_dir)
    loss(host.installation.data_dir)
    with host.serving() as service:
        desk = await host.desk(service)
        await ended(desk, run)
        ends = {t["task_number"]: t["reason"] for t in await desk.get(f"/{run}/tasks")}

    assert ends == {"1.1": "merged", "2.1": "merged", "2.2": "merged"}
    assert await sample.paths() == ("1.txt", "2.txt", "3.txt", "README.md", "numbers.txt")
    assert await sample.branches() == ("main",)
    assert await judge_repository(sample.git, sample.upstream) == []
    assert await judge_stopped(host.installation) == ()


async def ended(desk: Desk, run: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await desk.until(f"/{run}/status", lambda s: s["completed_at"] is not None, PATIENCE_S)
