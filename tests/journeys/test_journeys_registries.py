"""Journeys of tasks that install packages: from where this machine's tools get theirs, only."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commandcenter.testing.desk import Desk, Service
from commandcenter.testing.judge import judge_stopped
from commandcenter.testing.package_site import PACKAGE, package_index
from commandcenter.testing.scene import Installation, batch, plan, task
from commandcenter.testing.scripted_agent import SCRIPTED_AGENT

_PIP = importlib.util.find_spec("pip")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_PIP is None, reason="no pip beside pytest: python -m ensurepip"),
]


def site_packages() -> Path:
    """Return the folder that pip is in."""
    assert _PIP is not None
    assert _PIP.origin is not None
    return Path(_PIP.origin).parents[1]


@pytest.fixture(scope="module")
def index() -> Iterator[int]:
    """The port of an index on this machine."""
    with package_index() as port:
        yield port


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, index: int) -> Iterator[Service]:
    """A service whose pip is configured for the index, with a password."""
    more = (
        '[egress]\nallow = ["registries"]\n\n'
        '[egress.addresses]\n"mirror.test" = "127.0.0.1"\n\n'
        f'[sandbox]\nread_only = ["{site_packages()}"]\n\n'
        f'[profiles.elsewhere]\nagent = "shell"\ncommand = "{SCRIPTED_AGENT.name}"\n'
        f'programs = ["{SCRIPTED_AGENT}"]\negress = ["elsewhere.test"]\n'
    )
    variables = {
        "PIP_INDEX_URL": f"http://someone:hunter2@mirror.test:{index}/simple",
        "PIP_TRUSTED_HOST": "mirror.test",
        "PIP_CONFIG_FILE": "/dev/null",
    }
    folder = tmp_path_factory.mktemp("registries")
    installation = Installation.make(folder, more=more, variables=variables)
    with Service(installation) as service:
        yield service
    assert asyncio.run(judge_stopped(installation)) == ()


def pip(*arguments: str) -> str:
    """Return a command that runs pip inside."""
    options = "--disable-pip-version-check --no-cache-dir --no-deps --retries 0"
    words = " ".join(arguments)
    return f"env PYTHONPATH={site_packages()} python3 -m pip {words} {options} plain-package"


async def decisions(desk: Desk, run: str, name: str) -> set[tuple[str, str]]:
    """Return what was decided of connections: verdict and host."""
    async with desk.client() as client:
        path = f"/api/v1/autonomous/{run}/logs"
        wanted = {"task": "1.1", "name": name, "stream": "egress"}
        told = (await client.get(path, params=wanted)).text
    found: list[Any] = [json.loads(line) for line in told.splitlines()]
    return {(each["verdict"], each["host"]) for each in found}


async def test_agent_and_checks_install_from_where_pip_is_configured_for(desk: Desk) -> None:
    sample = await desk.sample()
    installing = task(
        "1.1",
        "Install a package",
        files=["package.py", "said.txt"],
        script=f"run {pip('install', '--target', '/tmp/vendor')}\n"
        "run cp /tmp/vendor/plain_package.py package.py\n"
        "run env > said.txt\n",
        checks=[
            f"grep -q {PACKAGE} package.py",
            f"{pip('download', '--dest', '/tmp/got')} && ls /tmp/got/plain_package-1.0*",
        ],
    )

    ended = await desk.run(sample, plan(batch(1, installing)))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("completed", "merged")}
    assert PACKAGE in await sample.read("package.py")
    said = await sample.read("said.txt")
    assert "PIP_INDEX_URL=http://mirror.test:" in said
    assert "hunter2" not in said
    assert await decisions(desk, ended.execution_id, "try-1") == {("allowed", "mirror.test")}


async def test_a_profile_without_registries_installs_nothing_from_there(
    desk: Desk, index: int
) -> None:
    sample = await desk.sample()
    address = f"--index-url http://mirror.test:{index}/simple --trusted-host mirror.test"
    installing = task(
        "1.1",
        "Install no package",
        files=["said.txt"],
        script=f"run {pip('install', '--target', '/tmp/vendor', address)} > said.txt 2>&1 || true",
        checks=["grep -q 'No matching distribution' said.txt"],
    )

    ended = await desk.run(sample, plan(batch(1, installing)), agent="elsewhere")

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("completed", "merged")}
    assert await decisions(desk, ended.execution_id, "try-1") == {("refused", "mirror.test")}
