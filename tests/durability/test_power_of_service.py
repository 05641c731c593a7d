"""The power is cut under a whole service; after a reboot the run ends as it would have."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from commandcenter.system import durable
from commandcenter.testing.desk import Desk, Ended, Host
from commandcenter.testing.disk import Disk, kill_users
from commandcenter.testing.judge import Judge, judge_stopped
from commandcenter.testing.scene import Installation, Sample, batch, plan, task

MERGED = ("completed", "merged")
PATIENCE_S = 120


class Machine:
    """A machine whose only disk holds the data folder, the upstream and the checkout."""

    def __init__(self, disk: Disk, host: Host, sample: Sample) -> None:
        self.disk = disk
        self.host = host
        self.sample = sample

    @classmethod
    async def make(cls, disk: Disk, folder: Path, **options: Any) -> Machine:
        sample = await Sample.make(disk.folder / "sample", **options)
        host = Host(Installation.make(disk.folder / f"own-{uuid.uuid4().hex}"), folder)
        durable.sync_file_system(disk.folder)
        return cls(disk, host, sample)

    @asynccontextmanager
    async def up(self) -> AsyncIterator[tuple[subprocess.Popen[str], Desk]]:
        with self.host.serving() as process:
            yield process, await self.host.desk(process)

    def cut_power(self, process: subprocess.Popen[str]) -> None:
        self.disk.turn_off()
        kill_users(self.disk.folder, self.host.installation.folder.name)
        process.wait(timeout=30)
        self.disk.turn_on()


async def through_cuts(machine: Machine, text: str, moments: list[tuple[str, str]]) -> Ended:
    """Run a plan, and cut the power when these tasks have come to these phases."""
    judge = await Judge.appoint(machine.host.installation, machine.sample)
    run = ""
    for name, phase in moments:
        async with machine.up() as (process, desk):
            run = run or await desk.start(machine.sample, text)
            async with judge.watching(desk.url, run):
                path = f"/{run}/tasks/{name}"
                await desk.until(path, partial(has_come_to, phase), PATIENCE_S)
            machine.cut_power(process)
    async with machine.up() as (_, desk):
        async with judge.watching(desk.url, run), asyncio.timeout(PATIENCE_S):
            await judge.over()
        return await desk.ended(judge)


def has_come_to(phase: str, task: Any) -> bool:
    return phase in (task["phase"], task["reason"]) or task["completed_at"] is not None


MOMENTS = {
    "ext4": [
        "provisioning",
        "working",
        "verifying",
        "publishing",
        "reviewing",
        "merging",
        "merged",
    ],
    "xfs": ["working", "merged"],
}


@pytest.mark.slow
async def test_power_cuts_in_every_phase_leave_one_merge_a_task_and_sound_repositories(
    private_disk: Disk, tmp_path: Path
) -> None:
    machine = await Machine.make(private_disk, tmp_path)
    moments = MOMENTS[private_disk.kind]
    numbers = range(1, len(moments) + 1)
    tasks = [
        task(
            f"1.{n}",
            f"File {n}",
            files=[f"{n}.txt"],
            checks=[f"test -s {n}.txt && test -s README.md"],
        )
        for n in numbers
    ]

    ended = await through_cuts(
        machine, plan(batch(1, *tasks)), [(f"1.{n}", moments[n - 1]) for n in numbers]
    )

    assert ended.faults == ""
    assert ended.ends() == {f"1.{n}": MERGED for n in numbers}
    assert [each["pr_number"] for each in ended.tasks.values()] == list(numbers)
    assert await judge_stopped(machine.host.installation) == ()
