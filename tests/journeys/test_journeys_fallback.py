"""Journeys on a machine that refuses bubblewrap, as a container does: without leave, and with."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from commandcenter.testing.desk import Host
from commandcenter.testing.judge import Judge, inhabitants, judge_stopped
from commandcenter.testing.scene import Installation, Sample, batch, plan, task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0, reason="only root can be deprived: run the tests as root"
    ),
]

MERGED = ("completed", "merged")
ALLOWED = '[sandbox]\nisolation = "best-effort"\n'
DEPRIVED = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--")
"""As a container is: its root makes no namespaces and mounts nothing."""
CHECKS = ["grep -q done work.txt"]
WORK = task("1.1", "Work", files=["work.txt"], checks=CHECKS)
COUNTED = task("1.1", "Work", files=["starts.txt", "work.txt"], checks=CHECKS)
AGENT = "echo done > work.txt"
SLOW = "echo started >> starts.txt; echo started; until [ -e ~/go ]; do sleep 0.05; done; " + AGENT


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may enter, as pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="commandcenter-journey-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def sample(folder: Path) -> Sample:
    return await Sample.make(folder / "sample")


def host(folder: Path, more: str = "") -> Host:
    return Host(Installation.make(folder / "own", more=more), folder, DEPRIVED)


async def test_where_bubblewrap_is_refused_a_run_is_refused_with_the_ways_out(
    folder: Path, sample: Sample
) -> None:
    refusing = host(folder)
    with refusing.serving() as service:
        desk = await refusing.desk(service)
        answer = await desk.post("/start", desk.body(sample, plan(batch(1, WORK))))

    problem = answer.json()
    assert answer.status_code in (400, 422)
    assert "cannot be isolated in mode local" in problem["detail"]
    assert "bubblewrap" in problem["detail"]
    for way in ("apt install bubblewrap", "mode container", 'isolation = "best-effort"'):
        assert way in problem["hint"]


async def test_with_leave_a_change_lands_and_everybody_is_told_that_it_is_degraded(
    folder: Path, sample: Sample
) -> None:
    willing = host(folder, ALLOWED)
    with willing.serving() as service:
        desk = await willing.desk(service)
        ended = await desk.run(sample, plan(batch(1, WORK)), agent_command=AGENT)
        shown = await asyncio.to_thread(said, willing, "status", ended.execution_id)
    looked = await asyncio.to_thread(said, willing, "doctor")

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert await sample.read("work.txt") == "done"
    (told,) = [note for note in ended.status["notes"] if "degraded" in note]
    assert "Landlock" in told
    assert f"note: {told}" in shown
    assert "Landlock" in looked
    assert "command lines of its processes" in " ".join(looked.split())
    assert await judge_stopped(willing.installation) == ()


async def test_a_degraded_command_goes_on_when_its_service_is_killed_and_is_not_started_twice(
    folder: Path, sample: Sample
) -> None:
    willing = host(folder, ALLOWED)
    judge = await Judge.appoint(willing.installation, sample)
    with willing.serving() as first:
        desk = await willing.desk(first)
        run = await desk.start(sample, plan(batch(1, COUNTED)), agent_command=SLOW)
        async with judge.watching(desk.url, run):
            await desk.until_agent_says(run, "started")
            killed(first)
            survivors = inhabitants(willing.installation)
            with willing.serving() as second:
                desk = await willing.desk(second)
                judge.url = desk.url
                (home,) = willing.installation.data_dir.glob("workspaces/ws/*/home")
                (home / "go").touch()
                async with asyncio.timeout(90):
                    await judge.over()
                ended = await desk.ended(judge)

    assert survivors
    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert await sample.read("starts.txt") == "started"
    assert await judge_stopped(willing.installation) == ()


def said(by: Host, *arguments: str) -> str:
    """What a command of an installation prints."""
    return by.start(*arguments).communicate(timeout=60)[0]


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=30)
