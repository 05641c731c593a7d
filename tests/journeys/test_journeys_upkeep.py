"""Journeys on which work does not land, and collections are made meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from commandcenter.testing.desk import Desk
from commandcenter.testing.judge import Judge, Untouched
from commandcenter.testing.scene import batch, plan, task

MERGED = ("completed", "merged")
API = "/api/v1"


async def call(desk: Desk, method: str, path: str, body: Any = None) -> Any:
    async with desk.client() as client:
        answer = await client.request(method, f"{API}{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def test_what_an_agent_had_made_when_a_person_cancelled_is_kept_and_given_back(
    desk: Desk,
) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    script = "write half.txt\n| half\nprint written\nhang"

    run = await desk.start(sample, plan(batch(1, task("1.1", "Slow", script=script))))
    async with judge.watching(desk.url, run):
        await desk.until_agent_says(run, "written")
        assert (await desk.post(f"/{run}/cancel")).status_code == 200
        await judge.over()
    ended = await desk.ended(judge)
    listed = [each for each in await call(desk, "GET", "/salvage") if each["execution_id"] == run]
    made = await call(desk, "POST", "/salvage/restore", {"id": listed[0]["id"]})

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("cancelled", "cancelled")}
    assert [each["id"] for each in listed] == [f"{run}/1.1/1/work"]
    assert f"salvage restore {run}/1.1/1/work" in " ".join(ended.status["notes"])
    assert made["repository"] == str(sample.checkout)
    assert await sample.run("show", f"{made['branch']}:half.txt") == "half"


@pytest.mark.slow
async def test_collections_while_runs_are_live_harm_nothing_and_explain_everything(
    desk: Desk,
) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    tasks = [
        task(
            f"1.{n}",
            f"File {n}",
            files=[f"{n}.txt"],
            script=f"sleep 0.3\nunless-feedback write {n}.txt\n| draft\n"
            f"when-feedback write {n}.txt\n| final",
            checks=[f"sleep 0.3; git log -1; grep final {n}.txt"],
        )
        for n in (1, 2, 3)
    ]
    collections: list[Any] = []

    async def collect() -> None:
        while True:
            collections.append(await call(desk, "POST", "/gc"))

    run = await desk.start(sample, plan(batch(1, *tasks, mode="parallel")))
    async with judge.watching(desk.url, run):
        collecting = asyncio.create_task(collect())
        await judge.over()
        collecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await collecting
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert set(ended.ends().values()) == {MERGED}
    assert len(collections) > 1
    items = [item for each in collections for item in each["items"]]
    kept = {item["why"] for item in items if not item["free"]}
    assert {"its task has not ended", "its run has not ended"} <= kept
    assert [item for item in items if item["what"] == "unknown"] == []


async def test_a_foreign_branch_in_the_place_of_a_result_is_left_alone(desk: Desk) -> None:
    sample = await desk.sample(remote=False)
    judge = await Judge.appoint(desk.installation, sample, untouched=Untouched.NOTHING)
    script = "print begun\nsleep 2\nwrite a.txt\n| a"

    run = await desk.start(sample, plan(batch(1, task("1.1", "Slow", script=script))))
    foreign = f"commandcenter/{run}/result"
    async with judge.watching(desk.url, run):
        await desk.until_agent_says(run, "begun")
        await sample.run("branch", foreign, "main")
        sample.soil()
        await judge.over()
    ended = await desk.ended(judge)

    assert ended.ends() == {"1.1": ("failed", "landing-refused")}
    assert f"`{foreign}`" in ended.tasks["1.1"]["error"]
    assert await sample.tip(foreign) == sample.start
    assert await sample.tip() == sample.start
    ids = [each["id"] for each in await call(desk, "GET", "/salvage")]
    assert f"{run}/1.1/1/capture" in ids
