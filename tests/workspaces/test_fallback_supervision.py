"""Where there are no namespaces: whoever is killed, nothing of a command is left."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from commandcenter.core.errors import WorkspaceError
from commandcenter.core.workspace import Command, Completed, Ended, Workspace
from commandcenter.system import fallback, process
from commandcenter.system.git import Git
from commandcenter.testing.workspaces import (
    KEY,
    OTHER,
    Example,
    example_vault,
    opened,
    processes,
    sh,
)
from commandcenter.workspaces.local import Local


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may enter, as pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="commandcenter-fallback-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def example(folder: Path) -> Example:
    return await example_vault(folder)


@pytest.fixture
def local(folder: Path) -> Local:
    return Local(folder / "state", Git(), rungs=(), best_effort=True, grace_s=0.3)


@pytest.fixture
async def workspace(local: Local, example: Example) -> AsyncIterator[Workspace]:
    async with opened(local, example) as workspace:
        yield workspace


async def begun(workspace: Workspace, mark: str) -> asyncio.Future[Completed]:
    """A command that runs, and a daemon that it left to itself."""
    heard = asyncio.Event()
    daemon = f"setsid sh -c 'setsid sleep 300 & echo begun; sleep 300; : {mark}' &"
    script = sh(f"{daemon} sleep 300; : {mark}")
    running = asyncio.ensure_future(workspace.run("long", script, on_line=lambda _: heard.set()))
    await heard.wait()
    return running


def shim_of(folder: Path) -> int:
    (lock,) = folder.glob("state/ws/*/runs/long/lock")
    return int(lock.read_text())


def keeper_of(folder: Path) -> int:
    (first,) = folder.glob("state/ws/*/runs/long/first")
    return int(first.read_text().split()[0])


@pytest.mark.parametrize("killed", [(shim_of,), (keeper_of,), (shim_of, keeper_of)])
async def test_whoever_of_those_that_look_after_it_is_killed_nothing_is_left(
    workspace: Workspace, folder: Path, killed: tuple[Callable[[Path], int], ...]
) -> None:
    mark = uuid.uuid4().hex
    running = await begun(workspace, mark)
    victims = [find(folder) for find in killed]

    # All at once: stopped, neither sees the other's end before its own.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in victims:
            os.kill(pid, number)
    done = await running
    again = await workspace.run("again", sh("echo again"))

    assert done.ended is Ended.LOST
    assert processes(mark) == 0
    assert (again.ended, again.stdout) == (Ended.EXITED, b"again\n")


async def test_a_keeper_that_does_not_answer_is_killed_with_all_that_it_keeps(
    workspace: Workspace, folder: Path
) -> None:
    mark = uuid.uuid4().hex
    running = await begun(workspace, mark)

    os.kill(keeper_of(folder), signal.SIGSTOP)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert processes(mark) == 0


async def test_a_missing_program_says_so(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="nonesuch"):
        await workspace.run("none", Command(("nonesuch",)))


async def test_a_command_inherits_no_descriptor_of_ours(workspace: Workspace) -> None:
    done = await workspace.run("look", sh("ls /proc/self/fd"))

    # 3 is the folder that ls reads.
    assert done.stdout.split() == [b"0", b"1", b"2", b"3"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has users to give: run the tests as root")
async def test_every_workspace_has_a_user_of_its_own(
    local: Local, workspace: Workspace, example: Example
) -> None:
    async with opened(local, example, OTHER) as other:
        first = await workspace.run("who", sh("id -u"))
        second = await other.run("who", sh("id -u"))

    assert first.stdout != second.stdout
    assert b"0\n" not in (first.stdout, second.stdout)


async def test_without_leave_the_fallback_is_not_used_and_the_way_to_it_is_told(
    folder: Path,
) -> None:
    strength = await Local(folder / "other", Git(), rungs=()).probe()

    assert not strength.ok
    assert 'isolation = "best-effort"' in strength.hint


async def test_the_fallback_says_what_is_open(local: Local) -> None:
    strength = await local.probe()

    assert strength.ok
    assert "Landlock" in strength.sandbox
    assert strength.open
    assert "The isolation is degraded" in strength.degraded


def sandboxed(folder: Path) -> Local:
    return Local(folder / "state", Git())


def fallen_back(folder: Path) -> Local:
    return Local(folder / "state", Git(), rungs=(), best_effort=True)


@pytest.mark.parametrize(("first", "then"), [(sandboxed, fallen_back), (fallen_back, sandboxed)])
async def test_files_that_were_made_in_one_way_are_neither_opened_nor_lost_in_the_other(
    folder: Path,
    example: Example,
    first: Callable[[Path], Local],
    then: Callable[[Path], Local],
) -> None:
    async with opened(first(folder), example, keep=True) as workspace:
        await workspace.run("write", sh("echo precious > work.txt"))

    with pytest.raises(WorkspaceError, match="is not how they are isolated now"):
        async with opened(then(folder), example, keep=True):
            pass
    contents = await then(folder).still(KEY)

    assert contents is not None
    place = contents.upper or contents.tree
    assert place is not None
    assert (place / "work.txt").read_text() == "precious\n"


@pytest.mark.parametrize(
    ("known", "as_root", "since"),
    [(0, True, "6.7"), (3, True, "6.7"), (0, False, "6.12"), (5, False, "6.12")],
)
def test_an_old_kernel_is_refused_with_the_one_that_is_needed(
    known: int, as_root: bool, since: str
) -> None:
    assert f"(Linux {since})" in fallback.too_old(known, as_root=as_root)


@pytest.mark.parametrize(("known", "as_root"), [(4, True), (6, False)])
def test_the_first_kernel_that_will_do_is_not_refused(known: int, as_root: bool) -> None:
    assert fallback.too_old(known, as_root=as_root) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has users to give: run the tests as root")
async def test_a_data_folder_that_others_cannot_get_to_is_refused_with_what_to_set(
    folder: Path,
) -> None:
    closed = folder / "closed"
    (closed / "data").mkdir(mode=0o700, parents=True)
    closed.chmod(0o700)

    refused = await fallen_back(closed / "data").probe()
    closed.chmod(0o711)
    allowed = await fallen_back(closed / "data").probe()

    assert not refused.ok
    assert f"Only its owner may enter {closed}" in " ".join(refused.problems)
    assert "`data_dir`" in " ".join(refused.problems)
    assert allowed.ok


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can set it: run the tests as root")
async def test_a_machine_that_lets_the_loopback_address_out_is_refused(folder: Path) -> None:
    """Tried in a network of its own, so that this machine's stays as it is."""
    program = f"""
import asyncio, fcntl, socket, struct
from pathlib import Path
from commandcenter.system.git import Git
from commandcenter.workspaces.local import Local
up = struct.pack("16sH14x", b"lo", 1)
fcntl.ioctl(socket.socket(), 0x8914, up)
for switch in (0, 1):
    Path("/proc/sys/net/ipv4/conf/lo/route_localnet").write_text(str(switch))
    local = Local(Path({str(folder)!r}), Git(), rungs=(), best_effort=True)
    strength = asyncio.run(local.probe())
    print(strength.ok, strength.problems)
"""

    done = await process.run(("unshare", "--net", sys.executable, "-c", program))

    first, second = done.stdout.decode().splitlines()
    assert first.startswith("True"), first
    assert second.startswith("False")
    assert "conf/lo/route_localnet lets" in second
