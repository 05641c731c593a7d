"""Checks of others that a change waits for before it lands: with real git, hub and engine."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from commandcenter.core.errors import ForgeError
from commandcenter.core.external_checks import Demand
from commandcenter.core.run import EventKind, Phase, State
from commandcenter.forges.github import GitHub
from commandcenter.stages import Stages
from commandcenter.testing.github_server import GitHubServer, required_checks
from commandcenter.testing.line import Change, Drained, Line

BUILD = "external-checks: ci/build"


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with Line.open(tmp_path) as line:
        yield line


def files(*names: str) -> list[Change]:
    return [Change({name: f"{name}\n"}) for name in names]


def shown(drained: Drained, task: str) -> list[list[tuple[str, str]]]:
    """Return what was on record of the checks of a task's change, each time that it changed."""
    looks = drained.of(task, EventKind.TASK_LOOKED_AT)
    return [[(each["name"], each["state"]) for each in look.data["checks"]] for look in looks]


async def test_a_change_lands_when_its_required_check_has_passed_and_holds_nobody_up(
    line: Line,
) -> None:
    await line.fill(files(*"abc"))
    await line.require("ci/build")
    first, second, third = await line.statuses()
    await line.report(first, "ci/build", "success")
    await line.report(third, "ci/build", "success")

    async with line.flow() as flow:
        await line.enqueue(flow)
        await line.until("1.2", BUILD)
        while (await line.statuses())[2].state is not State.COMPLETED:
            await line.until("1.2", BUILD)
        before = await line.sample.paths()
        await line.report(second, "ci/build", "success")
        drained = await line.ended(time.monotonic())

    assert drained.ends == ["merged"] * 3
    assert {"a", "c"} < set(before)
    assert "b" not in before
    assert shown(drained, "1.2") == [[], [("ci/build", "passed")]]
    assert shown(drained, "1.3") == [[("ci/build", "passed")]]


async def test_a_wait_for_checks_outlives_the_service(line: Line) -> None:
    await line.fill(files("a"))
    await line.require("ci/build")
    async with line.flow() as flow:
        await line.enqueue(flow)
        waiting = await line.until("1.1", BUILD)
    [task] = await line.statuses()
    await line.report(task, "ci/build", "success")

    async with line.flow():
        drained = await line.ended(time.monotonic())

    assert waiting.phase is Phase.WAITING
    assert task == waiting
    assert drained.ends == ["merged"]


async def test_what_failed_goes_back_to_the_agent_and_does_not_land(line: Line) -> None:
    await line.fill(files("a", "b"))
    await line.require("ci/build")
    first, second = await line.statuses()
    await line.report(first, "ci/build", "failure", "2 tests failed")
    await line.report(second, "ci/build", "success")

    drained = await line.drained()

    assert drained.ends == ["external-checks", "merged"]
    assert "external checks did not pass: ci/build: 2 tests failed" in drained.tasks[0].explanation
    assert "a" not in await line.sample.paths()


async def test_a_check_that_passes_when_it_is_run_again_is_named_as_flaky(tmp_path: Path) -> None:
    made: list[GitHubServer] = []

    def behind(hub: ASGIApp) -> ASGIApp:
        made.append(GitHubServer(hub, rules=[required_checks("build")]))
        return made[0].application()

    async with Line.open(tmp_path, behind=behind) as line:
        await line.fill(files("a"))
        [task] = await line.statuses()
        made[0].check_run(task.head, "build", "failure")
        async with line.flow() as flow:
            await line.enqueue(flow)
            await line.until("1.1", "external-checks: build")
            made[0].check_run(task.head, "build", "success")
            drained = await line.ended(time.monotonic())

    words = "The check `build` is flaky: it failed, then passed on the same commit."
    assert drained.ends == ["merged"]
    assert words in drained.notes
    assert drained.of("1.1", EventKind.TASK_CHECKED)[-1].data["flaky"] == [words]


async def test_a_check_that_never_ends_fails_the_task_with_a_word(line: Line) -> None:
    line.equipment = replace(line.equipment, external_checks_wait_s=0.5)
    await line.fill(files("a"))
    await line.require("ci/build", "ci/test")
    [task] = await line.statuses()
    await line.report(task, "ci/test", "pending")

    drained = await line.drained()

    assert drained.ends == ["external-checks"]
    assert drained.tasks[0].explanation == (
        "external checks had not ended after 0.5 s: ci/test, ci/build"
    )
    assert await line.sample.tip() == line.sample.start


async def test_a_forge_that_is_silent_for_too_long_ends_the_wait(line: Line) -> None:
    await line.fill(files("a"))
    await line.require("ci/build")
    stages = Stages(line.equipment)
    async with line.flow() as flow:
        await line.enqueue(flow)
        waiting = await line.until("1.1", BUILD)
    nowhere = GitHub("http://127.0.0.1:9", "acme", "project", "t", pause=no_pause)
    silent = replace(line.equipment, forge=lambda *_: nowhere)
    late = replace(silent, external_checks_wait_s=0.0)
    asked = (waiting.run, "1.1", 1)

    same = await stages.still_waits(*asked)
    with pytest.raises(ForgeError, match="no answer"):
        await Stages(silent).still_waits(*asked)
    ended = await Stages(late).still_waits(*asked)
    await nowhere.aclose()

    assert (same, ended) == (True, False)


async def no_pause(_seconds: float) -> None:
    """Ask a forge that does not answer again at once."""


async def test_a_run_that_is_cancelled_waits_no_more(line: Line) -> None:
    await line.fill(files("a"))
    await line.require("ci/build")
    async with line.flow() as flow:
        await line.enqueue(flow)
        await line.until("1.1", BUILD)
        await flow.cancel(line.run)
        drained = await line.ended(time.monotonic())

    assert [task.state for task in drained.tasks] == [State.CANCELLED]


async def test_a_pull_request_that_a_person_closes_waits_no_more(line: Line) -> None:
    await line.fill(files("a"))
    await line.require("ci/build")
    async with line.flow() as flow:
        await line.enqueue(flow)
        await line.until("1.1", BUILD)
        await line.equipment.forge("", "").close(1)
        drained = await line.ended(time.monotonic())

    assert drained.ends == ["proposal-closed"]


@pytest.mark.parametrize(
    ("demand", "ends"), [(Demand.NONE, ["merged"]), (Demand.ALL, ["external-checks"])]
)
async def test_the_setting_says_which_checks_count(
    line: Line, demand: Demand, ends: list[str]
) -> None:
    line.equipment = replace(line.equipment, external_checks=demand)
    await line.fill(files("a"))
    [task] = await line.statuses()
    await line.report(task, "ci/lint", "failure")

    drained = await line.drained()

    assert drained.ends == ends
