"""The power is cut under workspaces: what had ended is whole, what had not is not trusted."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AbstractAsyncContextManager

import pytest

from commandcenter.core.errors import WorkspaceError
from commandcenter.core.workspace import Ended, WorkspaceKey
from commandcenter.system import durable
from commandcenter.system.git import Git
from commandcenter.testing.disk import Disk, kill_users
from commandcenter.testing.workspaces import Example, example_vault, sh
from commandcenter.workspaces.folders import FolderWorkspace
from commandcenter.workspaces.local import Local, Rung

KEY = WorkspaceKey("run", "task", 1)
CONTENT = b"made\n" * 1000
WRITE = "for n in 1 2 3 4 5; do yes made | head -n 1000 > $n; done; : > $HOME/known"
WORKING = """
import asyncio
from pathlib import Path
from commandcenter.core.workspace import WorkspaceKey
from commandcenter.system.git import Git
from commandcenter.testing.workspaces import sh
from commandcenter.workspaces.local import Local

async def main():
    local = Local(Path({root!r}), Git(), rungs=({rung!r},))
    opened = local.open(WorkspaceKey("run", "task", 1), vault=Path({vault!r}), commit={commit!r},
                        keep=True)
    async with opened as workspace:
        command = sh({script!r})
        await workspace.run("try-2", command, on_line=lambda line: print("wrote", flush=True))

asyncio.run(main())
"""


@pytest.fixture(params=["overlay", "checkout"])
def rung(request: pytest.FixtureRequest) -> Rung:
    chosen: Rung = request.param
    return chosen


@pytest.fixture
async def example(private_disk: Disk) -> Example:
    made = await example_vault(private_disk.folder)
    durable.sync_file_system(private_disk.folder)
    return made


def local_on(disk: Disk, rung: Rung) -> Local:
    return Local(disk.folder / "state", Git(), rungs=(rung,), grace_s=0.3)


def opened(
    disk: Disk, example: Example, rung: Rung
) -> AbstractAsyncContextManager[FolderWorkspace]:
    return local_on(disk, rung).open(KEY, vault=example.vault, commit=example.commit, keep=True)


async def test_a_checkout_that_was_not_on_the_disk_is_made_again(
    private_disk: Disk, example: Example, rung: Rung
) -> None:
    async with opened(private_disk, example, rung):
        private_disk.commit_journal()
    private_disk.cut_power()

    async with opened(private_disk, example, rung) as workspace:
        done = await workspace.run("look", sh("cat link; ./run.sh; git status --porcelain"))

    assert done.stdout == b"hello\nran\n"


async def test_what_a_command_left_that_had_ended_is_there_and_it_is_not_run_again(
    private_disk: Disk, example: Example, rung: Rung
) -> None:
    async with opened(private_disk, example, rung) as workspace:
        before = await workspace.run("try-1", sh(f"{WRITE}; echo done"))
    private_disk.cut_power()

    async with opened(private_disk, example, rung) as workspace:
        again = await workspace.run("try-1", sh("echo again"))
        look = await workspace.run("try-2", sh("cat 1 2 3 4 5 hello.txt; test -f ~/known"))

    assert (before.ended, before.stdout) == (Ended.EXITED, b"done\n")
    assert (again.ended, again.stdout) == (Ended.EXITED, b"done\n")
    assert (look.stdout, look.exit_code) == (CONTENT * 5 + b"hello\n", 0)


async def test_a_workspace_in_which_a_power_cut_ended_a_command_is_not_gone_on_with(
    private_disk: Disk, example: Example, rung: Rung
) -> None:
    local = local_on(private_disk, rung)
    async with opened(private_disk, example, rung) as workspace:
        await workspace.run("try-1", sh("echo first > first"))
    whole = not await local.cut_off(KEY)
    await asyncio.to_thread(cut_in_the_middle, private_disk, example, rung)

    with pytest.raises(WorkspaceError, match="power cut"):
        async with opened(private_disk, example, rung):
            pass
    assert whole
    assert await local.cut_off(KEY)
    assert await local.still(KEY) is not None
    await local.remove(KEY)
    assert not await local.cut_off(KEY)


def cut_in_the_middle(disk: Disk, example: Example, rung: Rung) -> None:
    script = WORKING.format(
        root=str(disk.folder / "state"),
        rung=rung,
        vault=str(example.vault),
        commit=example.commit,
        script=f"{WRITE}; echo; sleep 600",
    )
    argv = [sys.executable, "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd="/") as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "wrote\n"
        disk.commit_journal()
        disk.turn_off()
        kill_users(disk.folder)
    disk.turn_on()
