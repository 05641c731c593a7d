"""Journeys on which a person has a word before a change lands."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import httpx
import pytest

from commandcenter.testing.desk import Desk, Host
from commandcenter.testing.judge import Judge
from commandcenter.testing.scene import Sample, batch, plan, task

MERGED = ("completed", "merged")


def gated(text: str) -> str:
    heading, _, rest = text.partition("\n")
    return f"{heading}\n\n**Auto Merge:** no\n{rest}"


A = gated(task("1.1", "A file", files=["a.txt"], script="write a.txt\n| quiet"))


async def waits(desk: Desk, run: str, number: str = "1.1", attempt: int = 1) -> Any:
    return await desk.until(
        f"/{run}/tasks/{number}",
        lambda t: t["phase"] == "waiting" and t["attempt"] == attempt,
        patience_s=60,
    )


async def said_of(desk: Desk, told: Any) -> list[str]:
    """Return the comments of a task's pull request."""
    token = desk.installation.hub_token()
    root, _, rest = told["pr_url"].partition("/hub/")
    owner, name, _, number = rest.split("/")
    async with httpx.AsyncClient(
        headers={"Authorization": f"Bearer {token}"}, trust_env=False
    ) as client:
        answer = await client.get(f"{root}/hub/repos/{owner}/{name}/issues/{number}/comments")
    return [each["body"] for each in answer.json()]


async def test_a_task_of_the_plan_waits_for_approval_and_lands_with_it(desk: Desk) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    free = task("1.2", "Another", files=["b.txt"])

    run = await desk.start(sample, plan(batch(1, A, free, mode="parallel")))
    async with judge.watching(desk.url, run):
        waiting = await waits(desk, run)
        await desk.until(f"/{run}/tasks/1.2", lambda t: t["status"] == "completed")
        before = await sample.paths()
        status = await desk.get(f"/{run}/status")
        answer = await desk.post(f"/{run}/approve", {"words": "Fine.\nReally.", "by": "Ada"})
        await judge.over()
        said = await said_of(desk, waiting)
        again = await desk.post(f"/{run}/approve", {})
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED, "1.2": MERGED}
    assert "a.txt" not in before
    assert waiting["waiting_for"].startswith(f"approval: commandcenter approve {run} 1.1")
    assert status["waiting_for"] == waiting["waiting_for"]
    assert answer.status_code == 200
    assert said == ["Approved by Ada.\n\n> Fine.\n> Really."]
    assert (again.status_code, "Nothing waits for approval" in again.text) == (400, True)


async def test_a_comment_sends_it_back_and_what_comes_then_waits_again(desk: Desk) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    script = (
        "only-on-attempt 1 write a.txt\n| quiet\n"
        'only-on-attempt 2 run grep -q "Say it louder" "$CC_PROMPT_FILE" && echo LOUD > a.txt'
    )
    text = plan(batch(1, gated(task("1.1", "A file", files=["a.txt"], script=script))))

    run = await desk.start(sample, text)
    async with judge.watching(desk.url, run):
        await waits(desk, run)
        await desk.post(f"/{run}/comment", {"task": "1.1", "words": "Say it louder.", "by": "Ada"})
        waiting = await waits(desk, run, attempt=2)
        between = await sample.paths()
        await desk.post(f"/{run}/approve", {"task": "1.1"})
        await judge.over()
        said = await said_of(desk, waiting)
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert "a.txt" not in between
    assert await sample.read("a.txt") == "LOUD"
    assert said == ["Sent back to its agent by Ada.\n\n> Say it louder.", "Approved by a person."]


async def test_what_is_rejected_does_not_land_and_its_work_is_salvaged(desk: Desk) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)

    run = await desk.start(sample, plan(batch(1, A)))
    async with judge.watching(desk.url, run):
        waiting = await waits(desk, run)
        await desk.post(f"/{run}/reject", {"task": "1.1", "words": "Not this way.", "by": "Ada"})
        await judge.over()
        said = await said_of(desk, waiting)
    ended = await desk.ended(judge)
    async with desk.client() as client:
        salvaged = (await client.get("/api/v1/salvage")).json()

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("failed", "review")}
    assert "Ada rejected it: Not this way." in ended.tasks["1.1"]["error"]
    assert await sample.tip() == sample.start
    assert said == [
        "Rejected by Ada.\n\n> Not this way.",
        "Not merged: Ada rejected it: Not this way.",
    ]
    assert any(each["id"].startswith(f"{run}/1.1/") for each in salvaged)


@pytest.mark.slow
async def test_an_approval_is_of_one_change_and_not_of_what_comes_after_a_conflict(
    desk: Desk,
) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    tasks = [
        gated(
            task(
                f"1.{n}",
                f"Number {n}",
                script=f"append numbers.txt\n| number {n}",
            )
        )
        for n in (1, 2)
    ]

    run = await desk.start(sample, plan(batch(1, *tasks, mode="parallel")))
    async with judge.watching(desk.url, run):
        for number in ("1.1", "1.2"):
            await waits(desk, run, number)
        await desk.post(f"/{run}/approve", {"task": "1.1"})
        await desk.until(f"/{run}/tasks/1.1", lambda t: t["status"] == "completed")
        await desk.post(f"/{run}/approve", {"task": "1.2"})
        waiting = await waits(desk, run, "1.2", attempt=2)
        await desk.post(f"/{run}/approve", {"task": "1.2"})
        await judge.over()
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED, "1.2": MERGED}
    assert waiting["waiting_for"].startswith("approval")
    assert len(ended.data("task.decided", "1.2")) == 2


def command(host: Host, *words: str) -> tuple[int, str]:
    process = host.start(*words)
    told, _ = process.communicate(timeout=60)
    return process.returncode, told


@pytest.mark.slow
async def test_approval_at_the_command_line_without_a_service_and_with_one(
    host: Host, sample: Sample
) -> None:
    path = host.installation.write_plan(plan(batch(1, A)))
    code, told = command(host, "run", str(path), "--repo", str(sample.checkout))
    run = told.split("The run was started: ")[1].split()[0]
    wrong = command(host, "reject", run, "1.9")
    approved = command(host, "approve", run, "-m", "Fine.")
    with host.serving() as service:
        desk = await host.desk(service)
        ended = await desk.until(f"/{run}/status", lambda each: each["completed_at"], 60)
        again = command(host, "comment", run, "1.1", "-m", "More.")
        decided = json.loads(command(host, "events", run, "--json")[1].splitlines()[0])

    assert (code, "for approval: commandcenter approve" in " ".join(told.split())) == (0, True)
    assert wrong[0] == 2
    assert "1.9" in wrong[1]
    assert (approved[0], "told to the pull request" in approved[1]) == (0, True)
    assert "commandcenter serve" in approved[1]
    assert (ended["status"], ended["tasks_completed"]) == ("completed", 1)
    assert again[0] == 2
    assert "does not wait for approval" in again[1]
    assert decided["kind"] == "run.submitted"
    assert isinstance(service, subprocess.Popen)
