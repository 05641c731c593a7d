"""From inside a sandbox: what the egress policy names is reached, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from commandcenter.core.egress import Policy, policy
from commandcenter.core.workspace import Command, Workspace
from commandcenter.gateway.egress import EgressProxy
from commandcenter.system import process
from commandcenter.system.git import Git
from commandcenter.testing.package_site import package_site
from commandcenter.testing.workspaces import example_vault, opened
from commandcenter.workspaces.local import Local

PROBE = """
import http.client, json, os, socket, sys, urllib.error, urllib.request
port, names = int(sys.argv[1]), int(sys.argv[2])

def fetched(host):
    return urllib.request.urlopen(f"http://{host}:{port}/", timeout=30).read().decode()

def tunnelled(host):
    proxy = os.environ.get("https_proxy", "//127.0.0.1:3128").rpartition("/")[2]
    through = http.client.HTTPConnection(proxy, timeout=30)
    through.set_tunnel(host, port)
    through.request("GET", "/")
    return through.getresponse().read().decode()

def directly(address):
    with socket.create_connection((address, port), timeout=30) as talking:
        talking.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        return talking.makefile().read().rpartition("\\n")[2]

def asked_for_a_name():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talking:
        talking.settimeout(30)
        talking.connect(("127.0.0.1", names))
        talking.send(b"which address?")
        return talking.recv(100).decode()

def outcome(probe, *words):
    try:
        return probe(*words)
    except OSError as error:
        return f"{type(error).__name__}: {error}"

probes = {
    "registry": (fetched, "registry.test"),
    "registry by tunnel": (tunnelled, "registry.test"),
    "another": (fetched, "another.test"),
    "another by tunnel": (tunnelled, "another.test"),
    "below": (fetched, "registry.test.another.test"),
    "address by tunnel": (tunnelled, "127.0.0.1"),
    "metadata by tunnel": (tunnelled, "169.254.169.254"),
    "loopback": (directly, "127.0.0.1"),
    "name server": (asked_for_a_name,),
    "resolver": (socket.getaddrinfo, "registry.test", port),
    "internet": (directly, "93.184.215.14"),
}
wanted = sys.argv[3:] or probes
print(json.dumps({name: outcome(*probes[name]) for name in wanted}))
"""


@pytest.fixture
def site() -> Iterator[int]:
    """The port of a server on this machine's loopback."""
    with package_site() as port:
        yield port


class Names(asyncio.DatagramProtocol):
    """Something that answers datagrams, as a name server does."""

    # asyncio's own transport of datagrams is no `DatagramTransport` by its class.
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.transport.sendto(b"HERE", address)


@pytest.fixture
async def names() -> AsyncIterator[int]:
    """The port of a name server on this machine's loopback."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Names, local_addr=("127.0.0.1", 0))
    yield transport.get_extra_info("sockname")[1]
    transport.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may enter, as pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="commandcenter-egress-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def sandboxed(folder: Path) -> Local:
    return Local(folder, Git())


def fallen_back(folder: Path) -> Local:
    return Local(folder, Git(), rungs=(), best_effort=True)


@pytest.fixture(params=[sandboxed, fallen_back])
async def workspace(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Workspace]:
    """A local workspace, with and without a network of its own."""
    example = await example_vault(folder)
    async with opened(request.param(folder / "state"), example) as workspace:
        yield workspace


def allowing(port: int, *hosts: str) -> Policy:
    at_home = dict.fromkeys(("registry.test", "another.test"), "127.0.0.1")
    return policy([f"{host}:{port}" for host in hosts], at_home)


async def probed(
    workspace: Workspace, allowed: Policy, site: int, names: int, journal: Path
) -> dict[str, str]:
    """Return what a command inside could reach."""
    command = Command(
        ("python3", "-c", PROBE, f"{site}", f"{names}"), egress=allowed.allows, timeout_s=120
    )
    async with (
        aclosing(EgressProxy(lambda: 0)) as proxy,
        proxy.socket(workspace.gateway, allowed, journal),
    ):
        done = await workspace.run("probe", command)
    assert done.ok, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


async def test_what_the_policy_names_is_reached_and_nothing_else(
    workspace: Workspace, site: int, names: int, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"

    found = await probed(workspace, allowing(site, "registry.test"), site, names, journal)

    assert found["registry"] == found["registry by tunnel"] == "PACKAGE"
    refused = f"Refused by CommandCenter: another.test:{site}"
    assert found["another"] == f"HTTPError: HTTP Error 403: {refused}"
    assert found["another by tunnel"] == f"OSError: Tunnel connection failed: 403 {refused}"
    assert "403: Refused" in found["below"]
    assert "403 Refused" in found["address by tunnel"]
    assert "403 Refused" in found["metadata by tunnel"]
    assert "Error" in found["loopback"]
    assert "Error" in found["name server"]
    assert "gaierror" in found["resolver"]
    assert "Error" in found["internet"]
    verdicts = [json.loads(line)["verdict"] for line in journal.read_bytes().splitlines()]
    assert verdicts.count("allowed") == 2
    assert verdicts.count("refused") == 5


async def test_the_control_a_policy_that_names_the_other_host_lets_it_through(
    workspace: Workspace, site: int, names: int, tmp_path: Path
) -> None:
    allowed = allowing(site, "registry.test", "another.test")

    found = await probed(workspace, allowed, site, names, tmp_path / "journal")

    assert found["another"] == found["another by tunnel"] == "PACKAGE"


async def test_the_control_without_a_sandbox_the_machine_is_reached(site: int, names: int) -> None:
    argv = (sys.executable, "-c", PROBE, f"{site}", f"{names}", "loopback", "name server")

    done = await process.run(argv, timeout_s=120)

    found = json.loads(done.stdout)
    assert found["loopback"] == "PACKAGE"
    assert found["name server"] == "HERE"


async def test_without_a_policy_nothing_is_reached(
    workspace: Workspace, site: int, names: int, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"

    found = await probed(workspace, Policy(), site, names, journal)

    assert "PACKAGE" not in found.values()
    assert "HERE" not in found.values()
    assert not journal.exists()


RETURN = """
import sys, urllib.request
url = f"http://registry.test:{sys.argv[1]}/"

def until(reached):
    while True:
        try:
            found = urllib.request.urlopen(url, timeout=30).read() == b"PACKAGE"
        except OSError:
            found = False
        if found == reached:
            return

for word, reached in (("there", True), ("gone", False), ("back", True)):
    until(reached)
    print(word, flush=True)
"""


async def test_a_proxy_that_goes_and_comes_again_serves_the_command_that_runs(
    workspace: Workspace, site: int, tmp_path: Path
) -> None:
    told: asyncio.Queue[bytes] = asyncio.Queue()
    allowed, journal = allowing(site, "registry.test"), tmp_path / "journal"
    command = Command(("python3", "-c", RETURN, f"{site}"), egress=True, timeout_s=120)
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        group.create_task(workspace.run("return", command, on_line=told.put_nowait))
        async with EgressProxy(lambda: 0).socket(workspace.gateway, allowed, journal):
            first = await told.get()
        second = await told.get()
        async with EgressProxy(lambda: 0).socket(workspace.gateway, allowed, journal):
            third = await told.get()

    assert (first, second, third) == (b"there", b"gone", b"back")
    verdicts = {json.loads(line)["verdict"] for line in journal.read_bytes().splitlines()}
    assert verdicts == {"allowed"}
