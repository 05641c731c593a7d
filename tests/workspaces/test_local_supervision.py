"""What the shim promises beyond the contract: its own death, its locks, its zombies."""

import asyncio
import json
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from commandcenter.core.errors import WorkspaceError
from commandcenter.core.workspace import Command, Completed, Ended, WorkspaceKey
from commandcenter.system import sandbox
from commandcenter.system.git import Git
from commandcenter.testing.workspaces import Example, example_vault, opened, processes, sh
from commandcenter.workspaces.folders import FolderWorkspace
from commandcenter.workspaces.local import Local


@pytest.fixture
async def example(tmp_path: Path) -> Example:
    return await example_vault(tmp_path)


@pytest.fixture
def local(tmp_path: Path) -> Local:
    return Local(tmp_path / "state", Git(), grace_s=0.3)


@pytest.fixture
async def workspace(local: Local, example: Example) -> AsyncIterator[FolderWorkspace]:
    key = WorkspaceKey("run", "task", 1)
    async with local.open(key, vault=example.vault, commit=example.commit) as workspace:
        yield workspace


def shim_of(state: Path) -> int:
    (lock,) = state.glob("ws/*/runs/long/lock")
    return int(lock.read_text())


async def begun(workspace: FolderWorkspace, script: str) -> "asyncio.Future[Completed]":
    heard = asyncio.Event()
    running = asyncio.ensure_future(
        workspace.run("long", sh(f"echo begun; {script}"), on_line=lambda _: heard.set())
    )
    await heard.wait()
    return running


async def test_a_killed_shim_takes_its_sandbox_with_it_and_the_run_is_lost(
    workspace: FolderWorkspace, tmp_path: Path
) -> None:
    mark = uuid.uuid4().hex
    running = await begun(workspace, f"sleep 60; : {mark}")

    os.kill(shim_of(tmp_path / "state"), signal.SIGKILL)
    done = await running

    assert done.ended is Ended.LOST
    assert processes(mark) == 0


MOMENTS = {
    "it was started": "lock",
    "it has its orders": "spec.json",
    "it writes down what is said": "stderr",
    "the sandbox is being made": "tree",
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_shim_that_is_killed_in_the_middle_of_its_start_leaves_nothing(
    workspace: FolderWorkspace, tmp_path: Path, moment: str
) -> None:
    mark = uuid.uuid4().hex
    script = f"sleep 60; : {mark}"
    (runs,) = tmp_path.glob("state/ws/*/runs")
    running = asyncio.ensure_future(workspace.run("long", sh(script)))
    lock, file = runs / "long" / "lock", runs / "long" / MOMENTS[moment]
    while not file.exists() or not told(lock):  # noqa: ASYNC110 - the kernel tells no one
        await asyncio.sleep(0)

    os.kill(told(lock), signal.SIGKILL)
    done = await running
    again = await workspace.run("long", sh("echo again"))

    assert done.ended is Ended.LOST
    assert processes(mark) == 0
    assert (again.ended, again.stdout) == (Ended.EXITED, b"again\n")


def told(lock: Path) -> int:
    """Which process the lock file names, 0 when it names none yet."""
    try:
        return int(lock.read_bytes() or 0)
    except FileNotFoundError:
        return 0


async def test_a_command_outlives_the_thread_that_started_it(
    local: Local, example: Example, tmp_path: Path
) -> None:
    def start_and_end() -> None:
        async def start() -> None:
            async with opened(local, example) as workspace:
                assert isinstance(workspace, FolderWorkspace)
                running = await begun(workspace, "until [ -e /cc/go ]; do sleep 0.02; done")
                local.detach()
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

        asyncio.run(start())

    thread = threading.Thread(target=start_and_end)
    thread.start()
    await asyncio.to_thread(thread.join)

    async with opened(Local(tmp_path / "state", Git()), example) as found:
        (channel,) = (tmp_path / "state").glob("ws/*/channel")
        (channel / "go").touch()
        done = await found.run("long", sh("echo another"))

    assert (done.ended, done.stdout) == (Ended.EXITED, b"begun\n")


async def test_a_lost_run_starts_again(workspace: FolderWorkspace, tmp_path: Path) -> None:
    running = await begun(workspace, "sleep 60")
    os.kill(shim_of(tmp_path / "state"), signal.SIGKILL)
    await running

    again = await workspace.run("long", sh("echo again"))

    assert (again.ended, again.stdout) == (Ended.EXITED, b"again\n")


async def test_a_stopped_run_is_recorded_as_stopped(
    workspace: FolderWorkspace, tmp_path: Path
) -> None:
    running = await begun(workspace, "sleep 60")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    (record,) = (tmp_path / "state").glob("ws/*/runs/long/exit.json")
    assert json.loads(record.read_text())["ended"] == "stopped"


async def test_a_stopping_service_leaves_its_commands_running(
    local: Local, example: Example, tmp_path: Path
) -> None:
    async with opened(local, example) as workspace:
        assert isinstance(workspace, FolderWorkspace)
        running = await begun(workspace, "while [ ! -e /cc/go ]; do sleep 0.02; done; echo went")
        local.detach()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async with opened(Local(tmp_path / "state", Git()), example) as found:
        (channel,) = (tmp_path / "state").glob("ws/*/channel")
        (channel / "go").touch()
        done = await found.run("long", sh("echo another"))

    assert done.stdout == b"begun\nwent\n"


async def test_another_command_first_ends_what_an_earlier_try_left(
    local: Local, example: Example, tmp_path: Path
) -> None:
    mark = uuid.uuid4().hex
    async with opened(local, example) as workspace:
        assert isinstance(workspace, FolderWorkspace)
        running = await begun(workspace, f"sleep 60; : {mark}")
        local.detach()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async with opened(Local(tmp_path / "state", Git(), grace_s=0.3), example) as found:
        await found.run("other", sh("true"))
        left = processes(mark)

    assert left == 0


async def test_a_run_leaves_no_zombie(workspace: FolderWorkspace) -> None:
    before = zombies()

    for number in range(3):
        await workspace.run(f"n{number}", sh("true"))

    assert zombies() <= before


def zombies() -> set[str]:
    listed = subprocess.run(("ps", "-eo", "pid,stat,comm"), capture_output=True, text=True).stdout
    rows = (line.split(None, 2) for line in listed.splitlines())
    return {pid for pid, state, name in rows if state.startswith("Z") and "bwrap" in name}


async def test_a_missing_program_says_so(workspace: FolderWorkspace) -> None:
    with pytest.raises(WorkspaceError, match="nonesuch"):
        await workspace.run("none", Command(("nonesuch",)))


async def test_without_bubblewrap_the_probe_says_what_to_install(tmp_path: Path) -> None:
    strength = await Local(tmp_path, Git(), rungs=()).probe()

    assert not strength.ok
    assert "make setup" in strength.hint


async def test_an_unusable_machine_fails_the_opening(tmp_path: Path, example: Example) -> None:
    with pytest.raises(WorkspaceError, match="isolated"):
        async with opened(Local(tmp_path / "other", Git(), rungs=()), example):
            pass


async def test_a_commit_that_is_not_there_is_the_worlds_error(
    local: Local, example: Example
) -> None:
    with pytest.raises(WorkspaceError, match="cannot be checked out"):
        async with opened(local, Example(example.vault, "1" * 40)):
            pass
    assert not list(local_bases(local))


def local_bases(local: Local) -> list[Path]:
    return list(local._root.glob("bases/*/*"))


async def test_the_first_git_status_reads_no_file(workspace: FolderWorkspace) -> None:
    # Without refreshing, this lists every file whose stat data the index does not know.
    done = await workspace.run(
        "status", sh("git diff-files; echo; touch hello.txt; git diff-files")
    )

    known, _, touched = done.stdout.partition(b"\n")
    assert known == b""
    assert touched.count(b"\n") == 1


async def test_root_is_nobody_on_the_host(workspace: FolderWorkspace, tmp_path: Path) -> None:
    await workspace.run("write", sh("echo x > mine"))

    upper = workspace.contents().upper
    assert upper is not None
    owner = (upper / "mine").stat().st_uid
    assert owner == (sandbox.HOST_UID if os.geteuid() == 0 else os.geteuid())


async def test_a_command_inherits_no_descriptor_of_ours(workspace: FolderWorkspace) -> None:
    done = await workspace.run("look", sh("ls /proc/self/fd"))

    # 3 is the folder that ls reads.
    assert done.stdout.split() == [b"0", b"1", b"2", b"3"]
