"""A person merges on the hub, which tells the service, which looks at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

from commandcenter.testing.desk import Desk, Service
from commandcenter.testing.judge import Judge, judge_stopped
from commandcenter.testing.scene import Installation, batch, plan, task

SECRET = "a secret of more than 16 characters"
NEVER = 'kind = "hub"\npoll_s = 3600'
"""So long no test waits."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that hears webhooks, and asks for nothing by itself."""
    installation = Installation.make(
        tmp_path_factory.mktemp("webhooks"),
        forge=NEVER,
        variables={"COMMANDCENTER_WEBHOOK_SECRET": SECRET},
    )
    with Service(installation) as service:
        yield service
    assert asyncio.run(judge_stopped(installation)) == ()


async def on_the_hub(desk: Desk, task: Any, method: str, path: str, body: Any) -> int:
    """Call the hub as a person does, below the task's repository."""
    name = re.findall(r"/hub/([^/]+/[^/]+)/pull/", task["pr_url"])[0]
    token = (desk.installation.data_dir / "hub-token-person").read_text()
    headers = {"Authorization": f"Bearer {token}"}
    async with desk.client() as client:
        answer = await client.request(
            method, f"/hub/repos/{name}{path}", json=body, headers=headers
        )
    return answer.status_code


@pytest.mark.slow
async def test_what_a_person_merges_is_noticed_by_webhook_alone(desk: Desk) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    config = {"url": f"{desk.url}/webhooks/github", "content_type": "json", "secret": SECRET}

    run = await desk.start(
        sample, plan(batch(1, task("1.1", "A file", files=["a.txt"]))), auto_merge=False
    )
    async with judge.watching(desk.url, run):
        waiting = await desk.until(f"/{run}/tasks/1.1", lambda t: t["phase"] == "waiting")
        hook = {"name": "web", "events": ["pull_request"], "config": config}
        assert await on_the_hub(desk, waiting, "POST", "/hooks", hook) == 201
        merge = f"/pulls/{waiting['pr_number']}/merge"
        assert await on_the_hub(desk, waiting, "PUT", merge, {}) == 200
        await judge.over()
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("completed", "merged")}
    assert "a.txt" in await sample.paths()
