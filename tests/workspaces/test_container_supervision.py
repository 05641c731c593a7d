"""What a container promises beyond the contract: what dies from outside, and what is swept."""

import asyncio
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from commandcenter.core.errors import WorkspaceError
from commandcenter.core.workspace import Completed, Ended, Hold
from commandcenter.system.git import Git
from commandcenter.testing.engine import Dockerd, dockerd
from commandcenter.testing.workspaces import (
    Example,
    example_vault,
    opened,
    processes,
    sh,
)
from commandcenter.workspaces.container import Container
from commandcenter.workspaces.folders import FolderWorkspace

pytestmark = pytest.mark.slow


@pytest.fixture
async def example(tmp_path: Path) -> Example:
    return await example_vault(tmp_path)


@pytest.fixture
def kind(tmp_path: Path, engine: Dockerd) -> Container:
    return Container(tmp_path / "state", Git(), engine.environment, grace_s=0.3)


@pytest.fixture
async def workspace(kind: Container, example: Example) -> AsyncIterator[FolderWorkspace]:
    async with opened(kind, example) as workspace:
        assert isinstance(workspace, FolderWorkspace)
        yield workspace


async def begun(workspace: FolderWorkspace, script: str) -> "asyncio.Future[Completed]":
    heard = asyncio.Event()
    running = asyncio.ensure_future(
        workspace.run("long", sh(f"echo begun; {script}"), on_line=lambda _: heard.set())
    )
    await heard.wait()
    return running


def shim_of(state: Path) -> int:
    (lock,) = state.glob("ws/*/runs/long/lock")
    return int(lock.read_text())


async def test_a_killed_shim_takes_its_container_with_it_and_the_run_is_lost(
    workspace: FolderWorkspace, tmp_path: Path, engine: Dockerd
) -> None:
    mark = uuid.uuid4().hex
    running = await begun(workspace, f"sleep 60; : {mark}")

    os.kill(shim_of(tmp_path / "state"), signal.SIGKILL)
    done = await running
    left, containers = processes(mark), engine.docker("ps", "--all", "--quiet")
    again = await workspace.run("long", sh("echo again"))

    assert done.ended is Ended.LOST
    assert (left, containers) == (0, "")
    assert (again.ended, again.stdout) == (Ended.EXITED, b"again\n")


async def test_a_container_that_is_killed_from_outside_is_lost_and_not_its_commands_failure(
    workspace: FolderWorkspace, engine: Dockerd
) -> None:
    running = await begun(workspace, "sleep 60")

    (name,) = engine.docker("ps", "--format", "{{.Names}}").split()
    engine.docker("kill", name)
    done = await running

    assert (done.ended, done.exit_code) == (Ended.LOST, None)


async def test_a_container_says_whose_it_is_and_is_as_tight_as_it_can_be(
    workspace: FolderWorkspace, engine: Dockerd
) -> None:
    running = await begun(workspace, "sleep 60")

    (name,) = engine.docker("ps", "--format", "{{.Names}}").split()
    (about,) = json.loads(engine.docker("inspect", name))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    labels, host = about["Config"]["Labels"], about["HostConfig"]
    assert labels.pop("commandcenter.instance") in name
    assert labels == {
        "commandcenter.run": "run",
        "commandcenter.task": "task",
        "commandcenter.attempt": "1",
        "commandcenter.name": "work",
    }
    assert about["Config"]["User"].split(":")[0] not in ("", "0")
    assert (host["NetworkMode"], host["CapDrop"], host["Privileged"]) == ("none", ["ALL"], False)
    assert host["ReadonlyRootfs"]
    assert not [each for each in about["Mounts"] if each["Source"].endswith(".sock")]


@pytest.mark.parametrize("with_shim", [False, True], ids=["alone", "with the shim"])
async def test_an_engine_that_dies_makes_the_run_lost_and_nothing_of_it_goes_on(
    example: Example, tmp_path: Path, with_shim: bool
) -> None:
    mark = uuid.uuid4().hex
    with dockerd() as engine:
        kind = Container(tmp_path / "own", Git(), engine.environment, grace_s=0.3)
        async with opened(kind, example) as workspace:
            assert isinstance(workspace, FolderWorkspace)
            running = await begun(workspace, f"sleep 60; : {mark}")
            while not list(tmp_path.glob("own/ws/*/runs/long/first")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

            victims = [engine.process.pid, *([shim_of(tmp_path / "own")] if with_shim else [])]
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            done = await running
            left = processes(mark)
            with pytest.raises(WorkspaceError, match="could not be started"):
                await workspace.run("next", sh("echo again"))

    assert done.ended is Ended.LOST
    assert left == 0


@pytest.mark.parametrize("moment", ["lock", "spec.json", "stderr"])
async def test_a_shim_that_is_killed_in_the_middle_of_its_start_leaves_one_container_at_most(
    workspace: FolderWorkspace, tmp_path: Path, engine: Dockerd, moment: str
) -> None:
    mark = uuid.uuid4().hex
    (runs,) = tmp_path.glob("state/ws/*/runs")
    running = asyncio.ensure_future(workspace.run("long", sh(f"sleep 60; : {mark}")))
    lock, file = runs / "long" / "lock", runs / "long" / moment
    while not file.exists() or not lock.exists() or not lock.read_bytes():  # noqa: ASYNC110
        await asyncio.sleep(0)

    os.kill(int(lock.read_bytes()), signal.SIGKILL)
    done = await running
    again = await workspace.run("long", sh("echo again"))

    assert done.ended is Ended.LOST
    assert (again.ended, again.stdout) == (Ended.EXITED, b"again\n")
    assert processes(mark) == 0
    assert engine.docker("ps", "--quiet") == ""


async def test_a_sweep_ends_containers_that_nobody_looks_after(
    kind: Container, workspace: FolderWorkspace, tmp_path: Path, engine: Dockerd
) -> None:
    running = await begun(workspace, "sleep 60")
    (owner,) = engine.docker("ps", "--format", '{{.Label "commandcenter.instance"}}').split()
    (image,) = engine.docker("ps", "--format", "{{.Image}}").split()
    label = f"commandcenter.instance={owner}"
    orphan = f"commandcenter-{owner}-0123456789ab-work"
    usr = ("--volume", "/usr:/usr:ro")
    engine.docker("run", "-d", "--name", orphan, "--label", label, *usr, image, "sleep", "60")

    await kind.sweep(frozenset({"run/task/1/work"}))
    left = engine.docker("ps", "--all", "--format", "{{.Names}}").split()
    still_running = not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert orphan not in left
    assert still_running
    assert len(left) == 1


async def test_the_limits_are_read_back_from_inside(kind: Container) -> None:
    strength = await kind.probe()

    assert strength.ok, strength
    assert strength.limits == {
        "memory": Hold.HARD,
        "processes": Hold.HARD,
        "cpus": Hold.HARD,
        "disk": Hold.WATCHED,
    }


async def test_the_filter_is_the_containers_the_same_image_without_it_makes_namespaces(
    workspace: FolderWorkspace, engine: Dockerd
) -> None:
    probe = "unshare -Ur true && echo free"
    running = await begun(workspace, "sleep 60")
    (image,) = engine.docker("ps", "--format", "{{.Image}}").split()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    open_to_all = ("--security-opt", "seccomp=unconfined", "--volume", "/usr:/usr:ro")
    user = ("--network", "none", "--user", "64000")
    control = engine.docker("run", "--rm", *user, *open_to_all, image, "sh", "-c", probe)
    inside = await workspace.run("probe", sh(probe))

    assert control == "free\n"
    assert inside.stdout == b""


async def test_without_an_engine_the_mode_says_what_to_install(tmp_path: Path) -> None:
    kind = Container(tmp_path / "state", Git(), {"PATH": "/nowhere"})

    strength = await kind.probe()

    assert strength.problems == ("There is no `docker`.", "There is no `podman`.")
    assert "apt install docker.io" in strength.hint


async def test_nobody_who_never_used_an_engine_waits_for_one(tmp_path: Path) -> None:
    asked = tmp_path / "docker"
    asked.write_text(f"#!/bin/sh\n: >{tmp_path}/asked\n")
    asked.chmod(0o755)
    kind = Container(tmp_path / "state", Git(), {"PATH": str(tmp_path)})

    await kind.sweep(frozenset())
    unused = (tmp_path / "asked").exists()
    await kind.probe()

    assert not unused
    assert (tmp_path / "asked").exists()
