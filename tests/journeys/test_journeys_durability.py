"""Journeys through crashes and interruptions of the real command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from commandcenter.testing.desk import Ended, Host
from commandcenter.testing.judge import Judge, inhabitants, judge_stopped
from commandcenter.testing.scene import Installation, Sample, batch, fingerprint, plan, task

MERGED = ("completed", "merged")


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=30)


async def finish(host: Host, judge: Judge, process: subprocess.Popen[str]) -> Ended:
    desk = await host.desk(process)
    judge.url = desk.url
    async with asyncio.timeout(60):
        await judge.over()
    return await desk.ended(judge)


SLOW = task(
    "1.1",
    "Slow",
    files=["starts.txt", "slow.txt"],
    script="run echo started >> starts.txt\nprint started\nsleep 4\nwrite slow.txt\n| slow",
    checks=["test -f slow.txt"],
)
NEXT = task("1.2", "Next", files=["next.txt"], checks=["test -f slow.txt"])


@pytest.mark.slow
async def test_an_agent_goes_on_when_its_service_is_killed_and_is_not_started_twice(
    host: Host, sample: Sample
) -> None:
    judge = await Judge.appoint(host.installation, sample)
    with host.serving() as first:
        desk = await host.desk(first)
        run = await desk.start(sample, plan(batch(1, SLOW, NEXT)))
        async with judge.watching(desk.url, run):
            await desk.until_agent_says(run, "started")
            kill(first)
            survivors = inhabitants(host.installation)
            with host.serving() as second:
                ended = await finish(host, judge, second)

    assert survivors
    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED, "1.2": MERGED}
    assert await sample.read("starts.txt") == "started"
    assert [task["attempt"] for task in ended.tasks.values()] == [1, 1]
    assert [task["pr_number"] for task in ended.tasks.values()] == [1, 2]
    assert await judge_stopped(host.installation) == ()


@pytest.mark.slow
async def test_kills_in_every_phase_leave_one_pull_request_and_one_merge_a_task(
    host: Host, sample: Sample
) -> None:
    phases = ("provisioning", "working", "verifying", "publishing", "reviewing", "merging")
    tasks = [
        task(f"1.{n}", f"File {n}", files=[f"{n}.txt"], checks=["true"])
        for n in range(1, len(phases) + 1)
    ]
    judge = await Judge.appoint(host.installation, sample)
    process = host.start("serve", "--port", "0")
    desk = await host.desk(process)
    run = await desk.start(sample, plan(batch(1, *tasks)))
    async with judge.watching(desk.url, run):
        for number, phase in enumerate(phases, 1):
            await desk.until(
                f"/{run}/tasks/1.{number}",
                partial(_has_come_to, phase),
            )
            kill(process)
            process = host.start("serve", "--port", "0")
            desk = await host.desk(process)
            judge.url = desk.url
        ended = await finish(host, judge, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)

    assert ended.faults == ""
    assert set(ended.ends().values()) == {MERGED}
    assert sorted(task["pr_number"] for task in ended.tasks.values()) == [1, 2, 3, 4, 5, 6]
    assert await judge_stopped(host.installation) == ()


def _has_come_to(phase: str, task: Any) -> bool:
    return task["phase"] == phase or task["completed_at"] is not None


@pytest.mark.slow
async def test_a_start_mends_workspaces_that_somebody_removed(host: Host, sample: Sample) -> None:
    judge = await Judge.appoint(host.installation, sample)
    with host.serving() as first:
        desk = await host.desk(first)
        run = await desk.start(sample, plan(batch(1, SLOW)))
        async with judge.watching(desk.url, run):
            await desk.until_agent_says(run, "started")
            kill(first)
            for process in set().union(*inhabitants(host.installation).values()):
                # The first of a sandbox takes the others with it.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            shutil.rmtree(host.installation.data_dir / "workspaces")
            with host.serving() as second:
                ended = await finish(host, judge, second)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}


@pytest.mark.slow
async def test_ctrl_c_ends_the_agents_and_a_service_finishes_the_run_later(
    host: Host, sample: Sample
) -> None:
    judge = await Judge.appoint(host.installation, sample)
    path = host.installation.write_plan(plan(batch(1, SLOW, NEXT)))
    command = host.start("run", str(path), "--repo", str(sample.checkout))
    desk = await host.desk(command)
    (status,) = await desk.until("", lambda runs: len(runs) == 1)
    run = status["execution_id"]
    async with judge.watching(desk.url, run):
        await desk.until_agent_says(run, "started")
        command.send_signal(signal.SIGINT)
        printed, _ = await asyncio.to_thread(command.communicate, timeout=30)
        left = inhabitants(host.installation)
        announced = (host.installation.data_dir / "service.json").exists()
        with host.serving() as service:
            ended = await finish(host, judge, service)

    assert command.returncode == 130, printed
    assert f"--resume {run}" in printed
    assert (left, announced) == ({}, False)
    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED, "1.2": MERGED}


class Inside(Installation):
    """An installation whose data folder is in the repository that it works on."""

    @property
    def data_dir(self) -> Path:
        return self.folder / ".cc"


@pytest.mark.slow
@pytest.mark.parametrize("remote", [True, False])
async def test_a_data_folder_in_the_repository_is_in_nobodys_way(
    tmp_path: Path, remote: bool
) -> None:
    sample = await Sample.make(tmp_path / "sample", remote=remote)
    config = Installation.make(tmp_path / "own").config
    (tmp_path / "plan.md").write_text(plan(batch(1, task("1.1", "A file", files=["a.txt"]))))
    before = fingerprint(sample.checkout)

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "commandcenter", "--data-dir", ".cc"]
        return subprocess.run(
            [*program, "--config", str(config), *arguments],
            cwd=sample.checkout,
            env=Installation(tmp_path / "own").environment(),
            capture_output=True,
            text=True,
            timeout=90,
        )

    done = await asyncio.to_thread(command, "run", str(tmp_path / "plan.md"), "--repo", ".")
    told = await asyncio.to_thread(command, "status", "--json")

    assert done.returncode == 0, done.stdout + done.stderr
    assert [run["landed_on"] for run in json.loads(told.stdout)] == ["main"]
    assert "a.txt" in await sample.paths()
    assert await sample.run("status", "--porcelain") == ""
    after = fingerprint(sample.checkout)
    changed = {name for name in before if before[name] != after[name]}
    assert not remote or changed == set()
    assert await judge_stopped(Inside(sample.checkout)) == ()


@pytest.mark.slow
async def test_two_installations_share_one_repository(tmp_path: Path, sample: Sample) -> None:
    hosts = [Host(Installation.make(tmp_path / name), tmp_path / name) for name in ("a", "b")]
    judges = [await Judge.appoint(host.installation, sample) for host in hosts]
    with hosts[0].serving() as first, hosts[1].serving() as second:
        desks = [await hosts[0].desk(first), await hosts[1].desk(second)]
        runs = [await desk.start(sample, _three_files(desk.folder.name)) for desk in desks]
        await asyncio.gather(
            *[
                judge.ended(desk.url, run)
                for judge, desk, run in zip(judges, desks, runs, strict=True)
            ]
        )
        ended = [await desk.ended(judge) for desk, judge in zip(desks, judges, strict=True)]

    assert [each.faults for each in ended] == ["", ""]
    assert [set(each.ends().values()) for each in ended] == [{MERGED}, {MERGED}]
    assert len(await sample.paths()) == 2 + 3 + 3
    assert await sample.branches() == ("main",)
    for host in hosts:
        assert await judge_stopped(host.installation) == ()


def _three_files(name: str) -> str:
    tasks = [task(f"1.{n}", f"File {n}", files=[f"{name}-{n}.txt"]) for n in (1, 2, 3)]
    return plan(batch(1, *tasks, mode="parallel"))
