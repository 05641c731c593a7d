"""Changes that the forge itself lands: with real git, hub and engine."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from commandcenter.core.external_checks import Demand
from commandcenter.core.merge_queue import Strategy
from commandcenter.stages import Stages
from commandcenter.testing.github_server import GitHubServer, merge_queue
from commandcenter.testing.line import TOKEN, Change, Line

EXPECTED = "merge by the forge: PUT /repos/acme/project/pulls/1/merge answered 405: Required status"
QUEUE = "merge-queue of the forge"


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    """A line whose target takes no push, as a protected branch."""
    async with Line.open(tmp_path, beside=False) as line:
        hook = line.sample.git_dir / "hooks/update"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text('#!/bin/sh\ntest "$1" != refs/heads/main || exit 1\n')
        hook.chmod(0o755)
        yield line


@asynccontextmanager
async def queued(folder: Path) -> AsyncIterator[tuple[Line, GitHubServer]]:
    """Give a line at a forge with a merge queue of its own."""
    made: list[GitHubServer] = []

    def behind(hub: ASGIApp) -> ASGIApp:
        made.append(GitHubServer(hub, rules=[merge_queue()]))
        return made[0].application()

    async with Line.open(folder, behind=behind, beside=False) as line:
        yield line, made[0]


def files(*names: str) -> list[Change]:
    return [Change({name: f"{name}\n"}) for name in names]


async def test_what_takes_no_push_is_merged_by_the_forge_after_its_required_check(
    line: Line,
) -> None:
    await line.fill(files("a", "b"))
    await line.require("ci/build")
    for task in await line.statuses():
        await line.report(task, "ci/build", "success")

    drained = await line.drained()

    assert drained.ends == ["merged", "merged"]
    assert {"a", "b"} < set(await line.sample.paths())
    assert [task.merge_commit for task in drained.tasks][-1] == await line.sample.tip()
    proposals = await line.equipment.forge("", "").proposals()
    assert [each.state.value for each in proposals] == ["merged", "merged"]


async def test_what_is_to_be_squashed_is_squashed_by_the_forge(line: Line) -> None:
    line.equipment = replace(line.equipment, strategy=Strategy.SQUASH)
    await line.fill(files("a", "b"))

    drained = await line.drained()

    own = await line.sample.ask("rev-list", "--min-parents=2", "refs/heads/main")
    assert drained.ends == ["merged", "merged"]
    assert {"a", "b"} < set(await line.sample.paths())
    assert own == ""


async def test_a_protection_that_only_a_push_reveals_is_merged_by_the_forge(line: Line) -> None:
    await line.fill(files("a", "b"))

    drained = await line.drained()

    assert drained.ends == ["merged", "merged"]
    assert {"a", "b"} < set(await line.sample.paths())


async def test_what_is_red_together_is_not_merged_by_the_forge_either(line: Line) -> None:
    await line.fill(files("unit 1", "unit 2"), verify=("test $(ls | grep -c unit) -le 1",))

    drained = await line.drained()

    assert drained.ends == ["merged", "checks"]
    assert "unit 2" not in await line.sample.paths()


async def test_what_the_forge_does_not_merge_yet_is_waited_for(line: Line) -> None:
    line.equipment = replace(line.equipment, external_checks=Demand.NONE)
    await line.fill(files("a"))
    await line.require("ci/build")
    async with line.flow() as flow:
        await line.enqueue(flow)
        waiting = await line.until("1.1", EXPECTED)
    await line.report(waiting, "ci/build", "success")

    async with line.flow():
        drained = await line.ended(time.monotonic())

    assert drained.ends == ["merged"]


async def test_what_the_forge_never_merges_fails_with_its_words(line: Line) -> None:
    line.equipment = replace(
        line.equipment, external_checks=Demand.NONE, external_checks_wait_s=0.1
    )
    await line.fill(files("a"))
    await line.require("ci/build")

    drained = await line.drained()

    assert drained.ends == ["landing-refused"]
    assert drained.tasks[0].explanation.startswith(
        f"the forge had not landed it after 0.1 s: {EXPECTED}"
    )
    assert await line.sample.tip() == line.sample.start


async def test_the_forges_own_queue_lands_what_is_handed_to_it_also_over_a_restart(
    tmp_path: Path,
) -> None:
    async with queued(tmp_path) as (line, server):
        await line.fill(files("a", "b"))
        async with line.flow() as flow:
            await line.enqueue(flow)
            await line.until("1.1", QUEUE)
            await line.until("1.2", QUEUE)
        handed = [*server.waiting]
        await server.land(2, TOKEN)
        async with line.flow():
            await server.land(1, TOKEN)
            drained = await line.ended(time.monotonic())
        paths = await line.sample.paths()

    assert sorted(handed) == [1, 2]
    assert drained.ends == ["merged", "merged"]
    assert {"a", "b"} < set(paths)


async def test_what_was_handed_over_before_a_kill_is_handed_over_once(tmp_path: Path) -> None:
    async with queued(tmp_path) as (line, server):
        await line.fill(files("a"))
        [task] = await line.statuses()
        # As of a service that was killed between the order and the record of it.
        await line.equipment.forge("", "").enqueue(1, head=task.head)
        stages = Stages(line.equipment)

        again = await stages.land(line.run, "1.1", 1)
        once_more = await stages.land(line.run, "1.1", 1)

    assert again["waiting_for"] == once_more["waiting_for"] == QUEUE
    assert server.waiting == [1]


async def test_what_the_forges_queue_throws_out_goes_back_with_its_reason(tmp_path: Path) -> None:
    async with queued(tmp_path) as (line, server):
        await line.fill(files("a"))
        async with line.flow() as flow:
            await line.enqueue(flow)
            await line.until("1.1", QUEUE)
            server.throw_out(1, "failed_checks")
            drained = await line.ended(time.monotonic())

    assert drained.ends == ["external-checks"]
    assert "the forge's merge queue took it out: failed_checks" in drained.tasks[0].explanation


async def test_a_draft_is_ready_before_it_is_handed_over(tmp_path: Path) -> None:
    async with queued(tmp_path) as (line, server):
        line.equipment = replace(line.equipment, draft=True)
        await line.fill(files("a"))
        forge = line.equipment.forge("", "")
        before = await forge.proposal(1)
        async with line.flow() as flow:
            await line.enqueue(flow)
            await line.until("1.1", QUEUE)
            await server.land(1, TOKEN)
            drained = await line.ended(time.monotonic())

    assert before.draft
    assert drained.ends == ["merged"]


async def test_a_draft_of_the_hub_is_ready_when_it_lands(tmp_path: Path) -> None:
    async with Line.open(tmp_path) as line:
        line.equipment = replace(line.equipment, draft=True)
        await line.fill(files("a"))
        before = await line.equipment.forge("", "").proposal(1)
        drained = await line.drained()
        after = await line.equipment.forge("", "").proposal(1)

    assert drained.ends == ["merged"]
    assert (before.draft, after.draft) == (True, False)


async def test_what_conflicts_is_not_handed_over(tmp_path: Path) -> None:
    async with queued(tmp_path) as (line, server):
        await line.fill(files("a"))
        await line.sample.push({"a": "another\n"})

        drained = await line.drained()

    assert drained.ends == ["conflict"]
    assert server.waiting == []
