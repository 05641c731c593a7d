"""Journeys on which the world changes: upstreams that vanish or refuse, people who push."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from commandcenter.testing.desk import Desk, Host
from commandcenter.testing.judge import Judge, judge_stopped
from commandcenter.testing.scene import Sample, batch, plan, task

MERGED = ("completed", "merged")
OUTAGE_S = 1.5


@asynccontextmanager
async def away(sample: Sample) -> AsyncIterator[None]:
    """Have the upstream away for a while, as a server that restarts."""
    hidden = sample.upstream.with_suffix(".away")
    sample.upstream.rename(hidden)
    try:
        yield
        await asyncio.sleep(OUTAGE_S)
    finally:
        hidden.rename(sample.upstream)


@pytest.mark.slow
async def test_an_upstream_that_is_away_while_a_task_is_published_is_waited_for(
    desk: Desk,
) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    slow = task("1.1", "Slow", files=["slow.txt"], script="sleep 2\nwrite slow.txt\n| slow")

    run = await desk.start(sample, plan(batch(1, slow)))
    async with judge.watching(desk.url, run):
        await desk.until(f"/{run}/tasks/1.1", lambda task: task["phase"] == "working")
        async with away(sample):
            await desk.until(f"/{run}/tasks/1.1", lambda task: task["phase"] == "publishing")
        await judge.over()
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert ended.tasks["1.1"]["attempt"] == 1


@pytest.mark.slow
async def test_an_upstream_that_is_away_when_a_task_starts_is_waited_for(desk: Desk) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    script = "only-on-attempt 1 exit 1\nonly-on-attempt 2 exit 1\nonly-on-attempt 3 exit 1"
    late = task("1.1", "Late", files=["a.txt"], script=f"{script}\nwrite a.txt\n| at last")

    run = await desk.start(sample, plan(batch(1, late)))
    await judge.ended(desk.url, run)
    async with judge.watching(desk.url, run):
        async with away(sample):
            assert (await desk.post(f"/{run}/retry")).status_code == 200
        await judge.over()
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}


async def test_a_target_that_refuses_the_push_fails_the_task_with_its_words(desk: Desk) -> None:
    sample = await desk.sample()
    hook = sample.upstream / "hooks" / "update"
    hook.write_text('#!/bin/sh\n[ "$1" = refs/heads/main ] && echo "main is frozen" && exit 1\n:\n')
    hook.chmod(0o755)

    ended = await desk.run(sample, plan(batch(1, task("1.1", "A file", files=["a.txt"]))))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("failed", "landing-refused")}
    assert "hook declined" in ended.tasks["1.1"]["error"]
    assert await sample.tip() == sample.start


async def test_a_target_that_is_deleted_meanwhile_fails_the_task(desk: Desk) -> None:
    sample = await desk.sample()
    await sample.ask("branch", "other", "main")
    await sample.ask("symbolic-ref", "HEAD", "refs/heads/other")
    judge = await Judge.appoint(desk.installation, sample)
    slow = task("1.1", "Slow", files=["slow.txt"], script="sleep 2\nwrite slow.txt\n| slow")

    run = await desk.start(sample, plan(batch(1, slow)))
    async with judge.watching(desk.url, run):
        await desk.until(f"/{run}/tasks/1.1", lambda task: task["phase"] == "working")
        await sample.ask("update-ref", "-d", "refs/heads/main")
        async with asyncio.timeout(90):
            await judge.over()
    left = await sample.branches()
    # The judge reads what landed; the owner gives it the branch back to read from.
    await sample.ask("update-ref", "refs/heads/main", sample.start)
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.tasks["1.1"]["status"] == "failed"
    assert "main" in ended.tasks["1.1"]["error"]
    assert left == ("other",)


@pytest.mark.slow
async def test_a_person_who_merges_while_no_service_runs_is_noticed(
    host: Host, sample: Sample
) -> None:
    judge = await Judge.appoint(host.installation, sample)
    text = plan(batch(1, task("1.1", "One", files=["1.txt"]), task("1.2", "Two", files=["2.txt"])))
    with host.serving() as first:
        desk = await host.desk(first)
        run = await desk.start(sample, text, auto_merge=False)
        async with judge.watching(desk.url, run):
            waiting = await desk.until(f"/{run}/tasks/1.1", lambda t: t["phase"] == "waiting")
            first.send_signal(signal.SIGKILL)
            first.communicate(timeout=30)
            await sample.ask("update-ref", "refs/heads/main", waiting["commits"][0])
            with host.serving() as second:
                desk = await host.desk(second)
                judge.url = desk.url
                await desk.until(f"/{run}/tasks/1.2", lambda t: t["phase"] == "waiting")
                await desk.post(f"/{run}/cancel")
                await judge.over()
                ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED, "1.2": ("cancelled", "cancelled")}
    assert await judge_stopped(host.installation) == ()


@pytest.mark.slow
async def test_a_check_that_failed_before_is_told_apart_and_does_not_block(
    host: Host, sample: Sample
) -> None:
    with host.installation.config.open("a") as config:
        config.write('[checks.broken]\ncommand = "test -f never.txt"\n')
        config.write('[checks.fine]\ncommand = "grep -q . {files}"\nfiles = "*.txt"\n')
    judge = await Judge.appoint(host.installation, sample)
    with host.serving() as service:
        desk = await host.desk(service)
        run = await desk.start(sample, plan(batch(1, task("1.1", "A file", files=["a b.txt"]))))
        await judge.ended(desk.url, run)
        ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    (checked,) = ended.data("task.checked", "1.1")
    found = {receipt["check"]: receipt["found"] for receipt in checked["receipts"]}
    assert found == {"broken": "failed_on_base", "fine": "passed"}


async def test_names_in_any_script_land_as_they_are(desk: Desk) -> None:
    sample = await desk.sample()
    path = "документы/naïve 🚀.txt"
    rocket = task(
        "1.1",
        "Größe & <b>Ende</b> | `x` 🚀",
        files=[path],
        script=f'write "{path}"\n| 漢字',
        checks=[f'grep 漢字 "{path}"'],
        commit="feat: add 漢字",
    )

    ended = await desk.run(sample, plan(batch(1, rocket)))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert await sample.read(path) == "漢字"
    assert "feat: add 漢字" in await sample.ask("log", "--format=%s", "main")


async def test_a_bare_command_is_an_agent_and_lands_unreviewed(desk: Desk) -> None:
    sample = await desk.sample()
    command = "grep -c . > lines.txt"

    ended = await desk.run(
        sample, plan(batch(1, task("1.1", "Count", files=["lines.txt"]))), agent_command=command
    )

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert ended.tasks["1.1"]["review"] == "none"
    assert int(await sample.read("lines.txt")) > 3


@pytest.mark.parametrize(
    "command", ["rm -rf .git; echo x > a.txt", "chmod -R a-w .; echo x > a.txt"]
)
async def test_an_agent_that_spoils_its_own_workspace_harms_nobody(
    desk: Desk, command: str
) -> None:
    sample = await desk.sample()

    ended = await desk.run(
        sample, plan(batch(1, task("1.1", "Spoil", files=["a.txt"]))), agent_command=command
    )

    assert ended.faults == ""
    assert ended.tasks["1.1"]["status"] in ("completed", "failed")
