"""A service that is killed while a command is at work in one of its modes, and the next one."""

from __future__ import annotations

import asyncio

from commandcenter.testing.desk import Ended, Host
from commandcenter.testing.judge import Judge, inhabitants
from commandcenter.testing.scene import Sample, batch, plan, task

PATIENCE_S = 120.0
SLOW = task(
    "1.1",
    "Slow",
    files=["starts.txt", "slow.txt"],
    script="run echo started >> starts.txt\nprint started\nsleep 4\nwrite slow.txt\n| slow",
    checks=["test -f slow.txt"],
)
"""It notes each of its starts in `starts.txt`."""


async def outlive(host: Host, sample: Sample, mode: str) -> tuple[Ended, set[str]]:
    """Kill the service while `SLOW` is at work, and have the next one bring it to its end.

    Returns how it ended, and the workspaces in which somebody was at work without a service.
    """
    judge = await Judge.appoint(host.installation, sample)
    with host.serving() as first:
        desk = await host.desk(first)
        run = await desk.start(sample, plan(batch(1, SLOW)), execution_mode=mode)
        async with judge.watching(desk.url, run):
            await desk.until_agent_says(run, "started")
            first.kill()
            first.communicate(timeout=30)
            survivors = {*inhabitants(host.installation)}
            with host.serving() as second:
                desk = await host.desk(second)
                judge.url = desk.url
                async with asyncio.timeout(PATIENCE_S):
                    await judge.over()
                return await desk.ended(judge), survivors
