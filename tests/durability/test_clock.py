"""The clock jumps an hour, both ways, under a service: nothing is lost, late or negative."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from commandcenter.testing.desk import Host
from commandcenter.testing.judge import Judge, judge_stopped
from commandcenter.testing.scene import Sample, batch, plan, task

HOUR_S = 3600
PATIENCE_S = 150
MERGED = ("completed", "merged")


class Clock:
    """The clock of processes that are started with its environment."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.put(0)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            # The one that nobody can set stays as it is, and so do the times of files.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def put(self, offset_s: int) -> None:
        """Put it so many seconds ahead of the machine's, or behind."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset_s:+d}")
        fresh.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("A clock of its own needs libfaketime: apt install faketime")
    return Clock(found[0], tmp_path / "clock")


@pytest.mark.slow
async def test_a_run_goes_on_as_if_nothing_was_when_the_clock_jumps(
    host: Host, sample: Sample, clock: Clock
) -> None:
    script = "print started\nsleep 2\nwrite {0}.txt\n| of {0}"
    tasks = [
        task(f"1.{n}", f"File {n}", files=[f"{n}.txt"], script=script.format(n), checks=["true"])
        for n in (1, 2)
    ]
    judge = await Judge.appoint(host.installation, sample)
    service = host.start("serve", "--port", "0", **clock.environment)
    try:
        desk = await host.desk(service)
        run = await desk.start(sample, plan(batch(1, *tasks)))
        async with judge.watching(desk.url, run):
            for number, offset_s in ((1, HOUR_S), (2, -HOUR_S)):
                await desk.until_agent_says(run, "started", PATIENCE_S, task=f"1.{number}")
                clock.put(offset_s)
            async with asyncio.timeout(PATIENCE_S):
                status = await judge.over()
        ended = await desk.ended(judge)
    finally:
        service.terminate()
        service.communicate(timeout=30)
    steps_s = [b - a for a, b in pairwise(moment(event["at"]) for event in ended.events)]

    assert (max(steps_s) > 0.9 * HOUR_S, min(steps_s) < -0.9 * HOUR_S) == (True, True)
    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED, "1.2": MERGED}
    assert [each["attempt"] for each in ended.tasks.values()] == [1, 1]
    assert [event["seq"] for event in ended.events] == sorted(e["seq"] for e in ended.events)
    for each in (status, *ended.tasks.values()):
        assert moment(each["completed_at"]) >= moment(each["started_at"])
    for checked in (each for name in ended.tasks for each in ended.data("task.checked", name)):
        assert all(0 <= receipt["duration_s"] < HOUR_S / 2 for receipt in checked["receipts"])
    assert await judge_stopped(host.installation) == ()


def moment(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


@pytest.mark.slow
def test_what_waits_for_its_next_try_does_not_wait_an_hour_longer(
    tmp_path: Path, clock: Clock
) -> None:
    script = Path(__file__).with_name("patient_engine.py")
    environment = {**os.environ, **clock.environment}
    argv = [sys.executable, str(script), str(tmp_path / "db.sqlite"), "3"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "enqueued\n"
        clock.put(-HOUR_S)
        try:
            printed, _ = engine.communicate(timeout=PATIENCE_S)
        finally:
            engine.kill()

    assert printed == "ran\n"


@pytest.mark.slow
def test_what_waited_while_the_service_was_down_does_not_wait_an_hour_longer(
    tmp_path: Path, clock: Clock
) -> None:
    script = Path(__file__).with_name("patient_engine.py")
    environment = {**os.environ, **clock.environment}
    argv = [sys.executable, str(script), str(tmp_path / "db.sqlite"), "60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "enqueued\n"
        engine.kill()
    clock.put(-HOUR_S)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as again:
        try:
            printed, _ = again.communicate(timeout=PATIENCE_S)
        finally:
            again.kill()

    assert "ran\n" in printed
