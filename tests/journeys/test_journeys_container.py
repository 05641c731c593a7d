"""Journeys in mode `container`, each judged like all others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from commandcenter.testing.desk import Host
from commandcenter.testing.engine import Dockerd
from commandcenter.testing.judge import judge_stopped
from commandcenter.testing.scene import Installation, Sample, batch, plan, task
from commandcenter.testing.survival import SLOW, outlive

pytestmark = pytest.mark.slow

MERGED = ("completed", "merged")


@pytest.fixture
def host(tmp_path: Path, engine: Dockerd) -> Host:
    installation = Installation.make(
        tmp_path / "own", variables={"DOCKER_HOST": engine.environment["DOCKER_HOST"]}
    )
    return Host(installation, tmp_path)


async def test_tasks_work_at_one_time_in_a_container_each_and_land(
    host: Host, engine: Dockerd
) -> None:
    tasks = [
        task(
            f"1.{number}",
            f"File {name}",
            files=[f"{name}.txt"],
            script=f"sleep 2\nrun id -u > {name}.txt\nrun ls /.dockerenv",
            checks=[f"test -s {name}.txt"],
        )
        for number, name in enumerate(("one", "two"), 1)
    ]
    with host.serving() as service:
        desk = await host.desk(service)
        sample = await desk.sample()
        ended = await desk.run(
            sample, plan(batch(1, *tasks, mode="parallel")), execution_mode="container"
        )

    assert ended.faults == ""
    assert set(ended.ends().values()) == {MERGED}
    began = [e["seq"] for e in ended.events if e["data"].get("phase") == "working"]
    captured = [e["seq"] for e in ended.events if e["kind"] == "task.captured"]
    assert len(began) == len(captured) == 2
    assert max(began) < min(captured)
    assert {await sample.read(f"{name}.txt") for name in ("one", "two")} == {"64000"}
    assert await judge_stopped(host.installation) == ()
    assert engine.docker("ps", "--all", "--quiet") == ""


async def test_a_container_goes_on_when_its_service_is_killed_and_is_not_started_twice(
    host: Host, sample: Sample, engine: Dockerd
) -> None:
    ended, survivors = await outlive(host, sample, "container")

    assert survivors
    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert await sample.read("starts.txt") == "started"
    assert await judge_stopped(host.installation) == ()
    assert engine.docker("ps", "--all", "--quiet") == ""


async def test_a_run_without_an_engine_is_refused_with_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "path"
    path.mkdir()
    (path / "git").symlink_to(shutil.which("git") or "/usr/bin/git")
    installation = Installation.make(tmp_path / "own", variables={"PATH": str(path)})
    host = Host(installation, tmp_path)
    with host.serving() as service:
        desk = await host.desk(service)
        sample = await desk.sample()
        body = desk.body(sample, plan(batch(1, SLOW)), execution_mode="container")
        answer = await desk.post("/start", body)

    problem = answer.json()
    assert answer.status_code in (400, 422)
    assert "There is no `docker`" in problem["detail"]
    assert "apt install docker.io" in problem["hint"]


async def test_a_repository_that_asks_for_the_host_is_refused_before_anything_starts(
    tmp_path: Path, engine: Dockerd
) -> None:
    installation = Installation.make(
        tmp_path / "own",
        more='[container]\ndevcontainer = "devcontainer.json"\n',
        variables={"DOCKER_HOST": engine.environment["DOCKER_HOST"]},
    )
    host = Host(installation, tmp_path)
    with host.serving() as service:
        desk = await host.desk(service)
        sample = await desk.sample(files={"devcontainer.json": '{"image": "x", "mounts": ["/"]}'})
        body = desk.body(sample, plan(batch(1, SLOW)), execution_mode="container")
        answer = await desk.post("/start", body)
        runs = await desk.get("")

    assert answer.status_code == 400
    assert "`mounts` is refused" in answer.json()["detail"]
    assert "[container]" in answer.json()["hint"]
    assert runs == []
