"""Ways around what replaces namespaces: each is tried from within, and by a process of the host."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from commandcenter.core.workspace import GATEWAY_PORT, Command, Workspace
from commandcenter.system import process
from commandcenter.system.git import Git
from commandcenter.testing.workspaces import (
    OTHER,
    Example,
    example_vault,
    gateway,
    opened,
)
from commandcenter.workspaces.local import Local

WAYS = """
import ctypes, errno, json, os, resource, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
aims = json.loads(sys.argv[1])
host, port = os.environ.get("MODEL", "127.0.0.1:9").split(":")

def tcp(*protocol):
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, *protocol)

def fast_open():
    with tcp() as calling:
        calling.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", aims["port"]))

def fast_open_by_message():
    with tcp() as calling:
        calling.sendmsg([b"x"], [], socket.MSG_FASTOPEN, ("127.0.0.1", aims["port"]))

def several_paths():
    with tcp(262) as calling:
        calling.connect(("127.0.0.1", aims["port"]))

def sixth_version():
    socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()

def far_away():
    with tcp() as calling:
        calling.setblocking(False)
        code = calling.connect_ex(("192.0.2.1", int(port)))
        if code == errno.EINVAL:
            raise OSError(code, "it cannot leave the machine")

def another_address():
    with tcp() as calling:
        calling.bind(("0.0.0.0", 0))

def another_address_later():
    with tcp() as calling:
        if "MODEL" in os.environ:
            calling.connect((host, int(port)))
        disconnected = (ctypes.c_char * 16)()
        if libc.connect(calling.fileno(), disconnected, 16):
            raise OSError(ctypes.get_errno(), "disconnect")
        calling.bind(("0.0.0.0", 0))

def datagram_to_a_path():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"x", aims["socket"])

def port_of_another_task():
    with tcp() as calling:
        calling.connect(("127.0.0.1", aims["relay"]))

def limits_of_others():
    resource.prlimit(aims["pid"], resource.RLIMIT_NOFILE, (64, 64))

def priority_of_others():
    os.setpriority(os.PRIO_PROCESS, aims["pid"], 19)

def processors_of_others():
    os.sched_setaffinity(aims["pid"], {0})

def stop_others():
    os.kill(aims["pid"], 0)

def mode_of_a_file():
    os.chmod(aims["file"], 0o666)

def time_of_a_file():
    os.utime(aims["file"], (1, 1))

ways = [each for each in list(globals().values()) if getattr(each, "__code__", None)]
found = {}
for way in ways:
    if way is not tcp:
        try:
            way()
            found[way.__name__] = ""
        except OSError as error:
            found[way.__name__] = errno.errorcode.get(error.errno, repr(error))
print(json.dumps(found))
"""
NEEDS_ANOTHER_USER = {"mode_of_a_file", "time_of_a_file"}
"""What is refused to a workspace's own user, and not to the service's: see `open_ways`."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may enter, as pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="commandcenter-ways-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def local(folder: Path) -> Local:
    return Local(folder / "state", Git(), rungs=(), best_effort=True)


@pytest.fixture
async def example(folder: Path) -> Example:
    return await example_vault(folder)


@pytest.fixture
async def workspace(local: Local, example: Example) -> AsyncIterator[Workspace]:
    async with opened(local, example) as workspace:
        yield workspace


@pytest.fixture
def aims(folder: Path) -> Iterator[dict[str, object]]:
    """What the ways lead to, open to everybody."""
    (folder / "file").write_text("precious")
    (folder / "file").chmod(0o666)
    path = folder / "socket"
    with (
        socket.create_server(("127.0.0.1", 0)) as port,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
        subprocess.Popen(("sleep", "600")) as sleeping,
    ):
        datagrams.bind(str(path))
        path.chmod(0o777)
        yield {
            "port": port.getsockname()[1],
            "socket": str(path),
            "pid": sleeping.pid,
            "file": str(folder / "file"),
        }
        sleeping.kill()


async def tried(workspace: Workspace, aims: Mapping[str, object]) -> dict[str, str]:
    """How each way went from within: empty where it led there."""
    at = {"MODEL": f"127.0.0.1:{GATEWAY_PORT}"}
    argv = ("python3", "-c", WAYS, json.dumps(aims))
    async with gateway(workspace):
        done = await workspace.run("ways", Command(argv, environment=at, model_access=True))
    assert done.ok, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


async def test_every_way_leads_there_for_a_process_of_the_host_and_none_from_within(
    local: Local, workspace: Workspace, example: Example, aims: dict[str, object]
) -> None:
    asked = asyncio.Event()
    port: list[int] = []

    def hear(line: bytes) -> None:
        port.append(int(line))
        asked.set()

    async with opened(local, example, OTHER) as other:
        waiting = Command(
            ("sh", "-c", "echo ${MODEL#*:}; sleep 300"),
            environment={"MODEL": f"127.0.0.1:{GATEWAY_PORT}"},
            model_access=True,
        )
        running = asyncio.ensure_future(other.run("wait", waiting, on_line=hear))
        await asked.wait()
        aims["relay"] = port[0]
        inside = await tried(workspace, aims)
        control = await process.run((sys.executable, "-c", WAYS, json.dumps(aims)))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    outside: dict[str, str] = json.loads(control.stdout)
    worked = {way for way, error in inside.items() if not error}
    # Not every kernel knows this way.
    assert outside.pop("several_paths") in ("", "EPROTONOSUPPORT", "ENOPROTOOPT")
    assert set(outside.values()) == {""}, outside
    assert inside.keys() == {*outside, "several_paths"}
    assert worked == (set() if os.geteuid() == 0 else NEEDS_ANOTHER_USER)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is two users: run the tests as root")
async def test_a_port_that_a_command_has_serves_nobody_else_on_the_machine(
    workspace: Workspace,
) -> None:
    """Another user's call is closed unanswered; the command's own is answered."""
    said: asyncio.Queue[bytes] = asyncio.Queue()
    script = (
        "echo ${MODEL#*:}; exec 3<>/dev/tcp/${MODEL/://}; echo mine >&3; head -1 <&3; sleep 300"
    )
    command = Command(
        ("bash", "-c", script),
        environment={"MODEL": f"127.0.0.1:{GATEWAY_PORT}"},
        model_access=True,
    )
    calling = "exec 3<>/dev/tcp/127.0.0.1/$0; echo theirs >&3; head -1 <&3"
    async with gateway(workspace):
        running = asyncio.ensure_future(workspace.run("serve", command, on_line=said.put_nowait))
        port = (await said.get()).decode()
        mine = await said.get()
        as_other = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        theirs = await process.run((*as_other, "bash", "-c", calling, port))
        ours = await process.run(("bash", "-c", calling, port))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert mine == b"MINE"
    assert theirs.stdout == b""
    assert ours.stdout == b"THEIRS\n"
