"""Journeys of tasks that need the network: what is allowed is fetched, what is not is named."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from commandcenter.testing.desk import Desk, Service
from commandcenter.testing.judge import judge_stopped
from commandcenter.testing.package_site import package_site
from commandcenter.testing.scene import Installation, batch, plan, task
from commandcenter.testing.scripted_agent import SCRIPTED_AGENT

FETCH = """\
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=60).read().decode())
"""


@pytest.fixture(scope="module")
def registry() -> Iterator[int]:
    """The port of a registry on this machine."""
    with package_site() as port:
        yield port


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, registry: int) -> Iterator[Service]:
    """A service whose project may reach the registry."""
    more = (
        f'[egress]\nallow = ["registry.test:{registry}"]\n\n'
        '[egress.addresses]\n"registry.test" = "127.0.0.1"\n\n'
        f'[profiles.offline]\nagent = "shell"\ncommand = "{SCRIPTED_AGENT.name}"\n'
        f'programs = ["{SCRIPTED_AGENT}"]\negress = ["none"]\n'
    )
    installation = Installation.make(tmp_path_factory.mktemp("egress"), more=more)
    with Service(installation) as service:
        yield service
    assert asyncio.run(judge_stopped(installation)) == ()


async def body_of(desk: Desk, task: Any) -> str:
    """Return the body of a task's pull request."""
    owner, name = re.findall(r"/hub/([^/]+)/([^/]+)/pull/", task["pr_url"])[0]
    headers = {"Authorization": f"Bearer {desk.installation.hub_token()}"}
    async with desk.client() as client:
        path = f"/hub/repos/{owner}/{name}/pulls/{task['pr_number']}"
        body: str = (await client.get(path, headers=headers)).json()["body"]
    return body


@pytest.mark.slow
async def test_agent_and_checks_fetch_what_is_allowed_and_what_is_refused_is_named(
    desk: Desk, registry: int
) -> None:
    sample = await desk.sample(files={"README.md": "# A sample\n", "fetch.py": FETCH})
    url = f"http://registry.test:{registry}/"
    fetching = task(
        "1.1",
        "Fetch a package",
        files=["package.txt"],
        script=f"run python3 fetch.py {url} > package.txt\n"
        "run python3 fetch.py http://elsewhere.test/ || true",
        checks=["grep -q PACKAGE package.txt", f"python3 fetch.py {url} | grep -q PACKAGE"],
    )

    ended = await desk.run(sample, plan(batch(1, fetching)))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("completed", "merged")}
    assert await sample.read("package.txt") == "PACKAGE"
    body = await body_of(desk, ended.tasks["1.1"])
    assert "### Refused connections" in body
    assert "`elsewhere.test:80`" in body
    assert "elsewhere.test:80" in "\n".join(ended.status["notes"])
    report = await desk.get(f"/{ended.execution_id}/report")
    assert report["tasks"][0]["refused"] == [{"where": "elsewhere.test:80", "times": 1}]
    logs = await desk.get(f"/{ended.execution_id}/logs")
    journals = {each["name"]: each for each in logs if each["stream"] == "egress"}
    assert len(journals) == 2
    async with desk.client() as client:
        path = f"/api/v1/autonomous/{ended.execution_id}/logs"
        wanted = {"task": "1.1", "name": "try-1", "stream": "egress"}
        told = (await client.get(path, params=wanted)).text
    decisions = [json.loads(line) for line in told.splitlines()]
    found = {(each["verdict"], each["host"]) for each in decisions}
    assert found == {("allowed", "registry.test"), ("refused", "elsewhere.test")}


@pytest.mark.slow
async def test_a_profile_of_its_own_egress_reaches_that_and_not_the_projects(
    desk: Desk, registry: int
) -> None:
    sample = await desk.sample(files={"README.md": "# A sample\n", "fetch.py": FETCH})
    fetching = task(
        "1.1",
        "Fetch no package",
        files=["said.txt"],
        script=f"run python3 fetch.py http://registry.test:{registry}/ > said.txt 2>&1 || true",
        checks=["grep -q 'urlopen error' said.txt"],
    )

    ended = await desk.run(sample, plan(batch(1, fetching)), agent="offline")

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("completed", "merged")}
