"""A journey on which somebody's CI has a word before a change lands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from commandcenter.testing.desk import Desk
from commandcenter.testing.judge import Judge
from commandcenter.testing.scene import batch, plan, task

PROTECTION = {
    "required_status_checks": {"strict": False, "contexts": ["ci/build"]},
    "enforce_admins": True,
    "required_pull_request_reviews": None,
    "restrictions": None,
}
SCRIPT = (
    "only-on-attempt 1 write a.txt\n| quiet\n"
    'only-on-attempt 2 run grep -q "2 tests failed" "$CC_PROMPT_FILE" && echo LOUD > a.txt'
)


@dataclass
class Outsider:
    """Somebody who knows the hub's address and a token, and nothing of the service."""

    client: httpx.AsyncClient
    repository: str
    number: int

    async def protect(self) -> None:
        path = f"{self.repository}/branches/main/protection"
        (await self.client.put(path, json=PROTECTION)).raise_for_status()

    async def report(self, state: str, words: str) -> None:
        pull = (await self.client.get(f"{self.repository}/pulls/{self.number}")).json()
        told = {"context": "ci/build", "state": state, "description": words}
        told["target_url"] = "https://ci.example/7"
        path = f"{self.repository}/statuses/{pull['head']['sha']}"
        (await self.client.post(path, json=told)).raise_for_status()


@asynccontextmanager
async def outside(desk: Desk, url: str) -> AsyncIterator[Outsider]:
    root, _, rest = url.partition("/hub/")
    owner, name, _, number = rest.split("/")
    headers = {"Authorization": f"Bearer {desk.installation.hub_token()}"}
    async with httpx.AsyncClient(headers=headers, trust_env=False) as client:
        yield Outsider(client, f"{root}/hub/repos/{owner}/{name}", int(number))


async def waits(desk: Desk, run: str, what: str, attempt: int) -> Any:
    return await desk.until(
        f"/{run}/tasks/1.1",
        lambda t: (t["waiting_for"] or "").startswith(what) and t["attempt"] == attempt,
        patience_s=60,
    )


@pytest.mark.slow
async def test_what_the_ci_rejects_is_mended_by_the_agent_and_lands_when_it_passes(
    desk: Desk,
) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    heading, _, rest = task("1.1", "A file", files=["a.txt"], script=SCRIPT).partition("\n")
    gated = f"{heading}\n\n**Auto Merge:** no\n{rest}"

    run = await desk.start(sample, plan(batch(1, gated)))
    async with judge.watching(desk.url, run):
        ready = await waits(desk, run, "approval", 1)
        async with outside(desk, ready["pr_url"]) as outsider:
            await outsider.protect()
            await desk.post(f"/{run}/approve", {"task": "1.1", "by": "Ada"})
            first = await waits(desk, run, "external-checks", 1)
            await outsider.report("failure", "2 tests failed")
            second = await waits(desk, run, "external-checks", 2)
            between = await sample.paths()
            await outsider.report("success", "All is well.")
        await waits(desk, run, "approval", 2)
        await desk.post(f"/{run}/approve", {"task": "1.1", "by": "Ada"})
        await judge.over()
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("completed", "merged")}
    assert first["waiting_for"] == second["waiting_for"] == "external-checks: ci/build"
    assert "a.txt" not in between
    assert await sample.read("a.txt") == "LOUD"
    [failed] = ended.data("task.try_failed", "1.1")
    assert failed["why"] == "external checks did not pass: ci/build"
    assert "url: https://ci.example/7\n2 tests failed" in failed["feedback"]
    reported = (await desk.get(f"/{run}/report"))["tasks"][0]
    seen = [each["checks"][0]["state"] for each in reported["external_checks"]]
    assert seen == ["failed", "passed"]
    assert [each["decision"] for each in reported["decisions"]] == ["approve", "approve"]
