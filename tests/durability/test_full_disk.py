"""The disk fills up under a run: it waits with a word, loses nothing, and goes on by itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from commandcenter.testing.desk import Desk, Host
from commandcenter.testing.disk import Disk, elsewhere, small_disk
from commandcenter.testing.judge import Judge, judge_stopped
from commandcenter.testing.scene import Sample, batch, plan, task

PATIENCE_S = 150
MERGED = ("completed", "merged")
PLACES = ("everything", "vaults", "workspaces", "database")
TEXT = plan(
    batch(
        1,
        task(
            "1.1",
            "Slow",
            files=["1.txt"],
            script="print started\nsleep 2\nwrite 1.txt\n| content of the first",
            checks=["grep -q content 1.txt"],
        ),
        task("1.2", "Next", files=["2.txt"], checks=["test -s 1.txt && test -s 2.txt"]),
    )
)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def little(host: Host, place: str, tmp_path: Path) -> Iterator[Disk]:
    """The small disk that one part of the data folder lies on."""
    if os.geteuid() != 0:
        pytest.skip("A disk of its own needs root: run as root")
    data = host.installation.data_dir
    with ExitStack() as stack:
        if place in ("vaults", "workspaces"):
            yield stack.enter_context(small_disk(data / place, mebibytes=64))
            return
        disk = stack.enter_context(small_disk(data, mebibytes=64))
        if place == "database":
            for name in ("vaults", "workspaces", "logs"):
                stack.enter_context(elsewhere(data / name, tmp_path / "roomy" / name))
        yield disk


@pytest.mark.slow
async def test_a_run_waits_for_a_full_disk_says_so_and_goes_on(
    host: Host, sample: Sample, little: Disk
) -> None:
    judge = await Judge.appoint(host.installation, sample)
    with host.serving() as service:
        desk = await host.desk(service)
        run = await desk.start(sample, TEXT)
        async with judge.watching(desk.url, run):
            await desk.until_agent_says(run, "started", PATIENCE_S)
            with little.filled():
                full = await told_to_be_full(desk, run)
            async with asyncio.timeout(PATIENCE_S):
                status = await judge.over()
        ended = await desk.ended(judge)

    assert full["status"] == "in_progress"
    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED, "1.2": MERGED}
    assert not any(map(is_about_the_disk, status["notes"]))
    assert await leftovers(host) == []


async def leftovers(host: Host) -> list[str]:
    found = [each.evidence for each in await judge_stopped(host.installation)]
    return [each for each in found if each != "a mount is left"]  # the small disk itself


async def told_to_be_full(desk: Desk, run: str) -> Any:
    """Return the status that says that a disk is full: by a note, or by what a task waits for."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            status = await desk.get(f"/{run}/status")
            waits = [task["waiting_for"] or "" for task in await desk.get(f"/{run}/tasks")]
            if any(map(is_about_the_disk, [*status["notes"], *waits])):
                return status
            await asyncio.sleep(0.05)


def is_about_the_disk(words: str) -> bool:
    return "disk" in words and ("full" in words or "space" in words)
