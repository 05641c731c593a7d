"""Two on one data folder: one works, the others say so or become its clients."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from commandcenter.testing.desk import Host
from commandcenter.testing.judge import judge_repository, judge_stopped
from commandcenter.testing.scene import Sample, batch, plan, task

PATIENCE_S = 150
WRONG_INPUT = 2


def one_file(name: str, script: str = "") -> str:
    return plan(batch(1, task("1.1", f"File {name}", files=[f"{name}.txt"], script=script)))


async def printed_by(process: subprocess.Popen[str]) -> str:
    text, _ = await asyncio.to_thread(process.communicate, timeout=PATIENCE_S)
    return text


@pytest.mark.slow
async def test_a_second_service_says_who_owns_the_folder_and_leaves_it_alone(
    host: Host, sample: Sample
) -> None:
    with host.serving() as first:
        desk = await host.desk(first)
        second = host.start("serve", "--port", "0")
        printed = await printed_by(second)
        status = host.start("status", "--json")
        runs = json.loads(await printed_by(status))
        started = await desk.start(sample, one_file("a"))
        await desk.until(f"/{started}/status", lambda s: s["completed_at"] is not None, PATIENCE_S)

    assert second.returncode == WRONG_INPUT
    assert f"process {first.pid}" in printed
    assert desk.url in printed
    assert runs == []
    assert await sample.read("a.txt") != ""


@pytest.mark.slow
async def test_of_services_that_start_at_once_one_works_and_the_others_say_so(host: Host) -> None:
    services = [host.start("serve", "--port", "0") for _ in range(4)]
    readers = [host.start("status") for _ in range(2)]
    try:
        said = [await printed_by(reader) for reader in readers]
        owner = await the_last_one_alive(services)
        desk = await host.desk(owner)
        async with desk.client() as client:
            health = (await client.get("/health")).json()
    finally:
        for service in services:
            service.send_signal(signal.SIGTERM)
    printed = {service.pid: await printed_by(service) for service in services}

    assert health["pid"] == owner.pid
    assert said == ["There is no run yet. Start one: commandcenter run PLAN\n"] * 2
    refused = [service for service in services if service is not owner]
    assert [service.returncode for service in refused] == [WRONG_INPUT] * 3, printed
    assert all(f"process {owner.pid}" in printed[service.pid] for service in refused), printed
    assert owner.returncode == 0
    assert await judge_stopped(host.installation) == ()


async def the_last_one_alive(services: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    async with asyncio.timeout(PATIENCE_S):
        while len(alive := [each for each in services if each.poll() is None]) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return alive[0]


@pytest.mark.slow
async def test_runs_that_start_at_once_all_land(host: Host, sample: Sample) -> None:
    plans = [host.installation.write_plan(one_file(name), f"{name}.md") for name in "abc"]
    commands = [
        host.start("run", str(path), "--repo", str(sample.checkout), "--json") for path in plans
    ]
    printed = [await printed_by(command) for command in commands]

    assert [command.returncode for command in commands] == [0, 0, 0], printed
    assert await sample.paths() == ("README.md", "a.txt", "b.txt", "c.txt", "numbers.txt")
    assert await judge_repository(sample.git, sample.upstream) == []
    assert await judge_stopped(host.installation) == ()


@pytest.mark.slow
async def test_a_second_run_is_done_by_the_service_of_the_first(host: Host, sample: Sample) -> None:
    first, second = (
        host.installation.write_plan(one_file("a", "print started\nsleep 3\nwrite a.txt"), "a.md"),
        host.installation.write_plan(one_file("b"), "b.md"),
    )
    command = host.start("run", str(first), "--repo", str(sample.checkout))
    desk = await host.desk(command)
    await desk.until("", lambda runs: len(runs) == 1, PATIENCE_S)
    other = host.start("run", str(second), "--repo", str(sample.checkout))
    printed = await printed_by(other)
    await printed_by(command)

    assert (command.returncode, other.returncode) == (0, 0), printed
    assert f"by the service at {desk.url}" in printed
    assert await sample.paths() == ("README.md", "a.txt", "b.txt", "numbers.txt")


@pytest.mark.slow
async def test_a_start_while_the_first_is_being_ended_is_refused_or_takes_over(
    host: Host, sample: Sample
) -> None:
    with host.serving() as first:
        desk = await host.desk(first)
        run = await desk.start(sample, one_file("a", "print started\nsleep 600"))
        await desk.until(f"/{run}/events?format=json", has_started, PATIENCE_S)
        first.send_signal(signal.SIGTERM)
        second = host.start("serve", "--port", "0")
        status = host.start("status", run, "--json")
        said = json.loads(await printed_by(status))
        await printed_by(first)
    owner = await the_owner(host, second)
    words = await printed_by(second) if second is not owner else ""
    try:
        desk = await host.desk(owner)
        await desk.post(f"/{run}/cancel")
        await desk.until(f"/{run}/status", lambda s: s["completed_at"] is not None, PATIENCE_S)
    finally:
        owner.terminate()
        await printed_by(owner)

    assert second is owner or f"process {first.pid}" in words
    assert said["status"] == "in_progress"
    assert await judge_stopped(host.installation) == ()


async def the_owner(host: Host, second: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """Return the second service once it has taken over; another one, if it was refused."""
    announced = host.installation.data_dir / "service.json"
    async with asyncio.timeout(PATIENCE_S):
        while not announced.exists():
            if second.poll() is not None:
                return host.start("serve", "--port", "0")
            await asyncio.sleep(0.05)
    return second


@pytest.mark.slow
async def test_a_start_that_its_service_did_not_live_to_confirm_is_not_made_twice(
    host: Host, sample: Sample
) -> None:
    with host.serving() as first:
        desk = await host.desk(first)
        body = desk.body(sample, one_file("a"), request="mine")
        ids = {(await desk.post("/start", body)).json()["execution_id"]}
    with host.serving() as second:
        desk = await host.desk(second)
        ids |= {(await desk.post("/start", body)).json()["execution_id"] for _ in range(2)}
        runs = await desk.get("")
        (run,) = ids
        await desk.until(f"/{run}/status", lambda s: s["completed_at"] is not None, PATIENCE_S)

    assert [each["execution_id"] for each in runs] == [run]
    assert await sample.paths() == ("README.md", "a.txt", "numbers.txt")


@pytest.mark.slow
async def test_a_start_right_after_a_kill_takes_over(host: Host, sample: Sample) -> None:
    with host.serving() as first:
        desk = await host.desk(first)
        run = await desk.start(sample, one_file("a", "print started\nsleep 2\nwrite a.txt\n| a"))
        await desk.until(f"/{run}/events?format=json", has_started, PATIENCE_S)
        first.kill()
        with host.serving() as second:
            desk = await host.desk(second)
            path = f"/{run}/status"
            status = await desk.until(path, lambda s: s["completed_at"] is not None, PATIENCE_S)

    assert status["status"] == "completed"
    assert await sample.read("a.txt") == "a"
    assert await judge_stopped(host.installation) == ()


def has_started(events: list[Any]) -> bool:
    return any("started" in str(event["data"]) for event in events if event["kind"] == "agent")


@pytest.mark.slow
async def test_a_service_that_is_too_busy_to_answer_still_owns_its_runs(
    host: Host, sample: Sample, tmp_path: Path
) -> None:
    with host.serving() as first:
        desk = await host.desk(first)
        run = await desk.start(sample, one_file("a", "print started\nsleep 600"))
        await desk.until(f"/{run}/events?format=json", has_started, PATIENCE_S)
        first.send_signal(signal.SIGSTOP)
        try:
            said = json.loads(await printed_by(host.start("status", run, "--json")))
        finally:
            first.send_signal(signal.SIGCONT)
        await desk.post(f"/{run}/cancel")
        await desk.until(f"/{run}/status", lambda s: s["completed_at"] is not None, PATIENCE_S)

    assert (said["status"], said["phase"]) == ("in_progress", None)
