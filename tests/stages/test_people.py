"""People at the pull requests of changes that are about to land: each case has its end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from commandcenter.core.forge import Decision, ProposalState
from commandcenter.flow import Word
from commandcenter.hub.history import Method
from commandcenter.hub.pulls import Edit, MergeOrder
from commandcenter.stages import Stages
from commandcenter.stages.land import RECENT_MS
from commandcenter.testing.forges import write_commit
from commandcenter.testing.line import Change, Line


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with Line.open(tmp_path) as line:
        yield line


def files(*names: str) -> list[Change]:
    return [Change({name: f"{name}\n"}) for name in names]


async def merged_by_hand(line: Line, method: Method) -> str:
    return await line.pulls.merge(1, "ada", MergeOrder(method, None, None, None))


async def pointed_at(line: Line, branch: str) -> None:
    await line.pulls.edit(1, Edit(base=branch))


async def make_branch(line: Line, branch: str, at: str) -> None:
    await line.sample.ask("update-ref", f"refs/heads/{branch}", at)


async def pushed_to_the_branch(line: Line) -> str:
    """Add a person's commit to the branch of the first task."""
    head = await line.sample.tip(line.branch("1.1"))
    at = (line.sample.git, line.sample.git_dir, line.branch("1.1"))
    return await write_commit(*at, {"theirs": "theirs\n"}, "By a person", head)


def delete_pull_request(line: Line) -> None:
    """Delete the first one, which the hub cannot do, and other forges can."""
    with line.equipment.database.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM hub_pulls WHERE number = 1"))


async def state(line: Line) -> ProposalState:
    return (await line.equipment.forge("", "").proposal(1)).state


@pytest.mark.parametrize("method", list(Method))
async def test_what_a_person_merged_has_landed_and_lands_no_second_time(
    line: Line, method: Method
) -> None:
    await line.fill(files("a", "b"))
    await merged_by_hand(line, method)

    drained = await line.drained()

    assert drained.ends == ["merged", "merged"]
    assert {"a", "b"} < set(await line.sample.paths())
    assert await line.sample.branches() == ("main",)
    count = await line.sample.ask("rev-list", "--count", "--first-parent", "refs/heads/main")
    assert int(count) == 3


async def test_what_a_person_pushed_to_the_target_has_landed(line: Line) -> None:
    await line.fill(files("a"))
    (task,) = await line.statuses()
    await make_branch(line, "main", task.head)

    drained = await line.drained()

    assert drained.ends == ["merged"]
    assert await line.sample.tip() == task.head


async def test_what_a_person_squashed_and_pushed_is_in_the_target_once(line: Line) -> None:
    await line.fill(files("a"))
    await line.sample.push({"a": "a\n"}, "Squashed by hand")

    drained = await line.drained()

    assert drained.ends == ["merged"]
    assert await line.sample.read("a") == "a"
    assert await state(line) is ProposalState.MERGED


async def test_what_a_person_merged_elsewhere_has_not_landed(line: Line) -> None:
    await line.fill(files("a", "b"))
    await make_branch(line, "other", line.sample.start)
    await pointed_at(line, "other")
    await merged_by_hand(line, Method.MERGE)

    drained = await line.drained()

    assert drained.ends == ["proposal-closed", "merged"]
    assert "into `other`, and not into `main`" in drained.tasks[0].explanation
    assert "a" in await line.sample.paths("other")
    assert "a" not in await line.sample.paths()


async def test_one_that_leads_elsewhere_waits_and_lands_when_it_leads_here_again(
    line: Line,
) -> None:
    await line.fill(files("a", "b"))
    await make_branch(line, "other", line.sample.start)
    await pointed_at(line, "other")
    async with line.flow() as flow:
        await line.enqueue(flow)
        await line.waiting("1.1")
        (told, _) = [task.waiting_for for task in await line.statuses()]
        before = await line.sample.paths()
        await pointed_at(line, "main")
        drained = await line.ended(time.monotonic())

    assert told.endswith(", since its pull request was pointed at `other`")
    assert "a" not in before
    assert drained.ends == ["merged", "merged"]
    why = "task 1.1 waits for a person, since its pull request was pointed at `other`"
    assert why in drained.notes


async def test_a_push_to_the_branch_stops_the_landing_until_it_is_taken_back(line: Line) -> None:
    await line.fill(files("a", "b"))
    (ours, _) = [task.head for task in await line.statuses()]
    theirs = await pushed_to_the_branch(line)
    async with line.flow() as flow:
        await line.enqueue(flow)
        await line.waiting("1.1")
        before = await line.sample.paths()
        await make_branch(line, line.branch("1.1"), ours)
        drained = await line.ended(time.monotonic())

    assert "a" not in before
    assert drained.ends == ["merged", "merged"]
    assert "theirs" not in await line.sample.paths()
    assert any(theirs[:12] in note for note in drained.notes)


async def test_a_persons_commit_on_the_branch_lands_when_the_person_merges(line: Line) -> None:
    await line.fill(files("a"))
    await pushed_to_the_branch(line)
    async with line.flow() as flow:
        await line.enqueue(flow)
        await line.waiting("1.1")
        await merged_by_hand(line, Method.SQUASH)
        drained = await line.ended(time.monotonic())

    assert drained.ends == ["merged"]
    assert {"a", "theirs"} < set(await line.sample.paths())


async def test_an_approval_lands_what_was_checked_and_leaves_the_rest_to_the_person(
    line: Line,
) -> None:
    await line.fill(files("a"))
    (task,) = await line.statuses()
    theirs = await pushed_to_the_branch(line)
    async with line.flow() as flow:
        await line.enqueue(flow)
        await line.waiting("1.1")
        await flow.decide(line.run, "1.1", Word(Decision.APPROVE, "", "Ada"), task.head)
        drained = await line.ended(time.monotonic())

    assert drained.ends == ["merged"]
    assert "a" in await line.sample.paths()
    assert "theirs" not in await line.sample.paths()
    assert await line.sample.tip(line.branch("1.1")) == theirs
    assert await state(line) is ProposalState.OPEN


async def test_a_branch_that_a_person_force_pushed_is_not_landed_over(line: Line) -> None:
    await line.fill(files("a"))
    at = (line.sample.git, line.sample.git_dir, line.branch("1.1"))
    await write_commit(*at, {"theirs": "theirs\n"}, "Instead", line.sample.start)
    async with line.flow() as flow:
        await line.enqueue(flow)
        await line.waiting("1.1")

        assert await line.sample.tip() == line.sample.start
        assert await state(line) is ProposalState.OPEN


async def test_a_deleted_branch_ends_the_task_in_words(line: Line) -> None:
    await line.fill(files("a", "b"))
    await line.sample.ask("update-ref", "-d", f"refs/heads/{line.branch('1.1')}")

    drained = await line.drained()

    assert drained.ends == ["proposal-closed", "merged"]
    assert "its branch was deleted by a person" in drained.tasks[0].explanation


async def test_a_deleted_pull_request_ends_the_task_in_words(line: Line) -> None:
    await line.fill(files("a", "b"))
    delete_pull_request(line)

    drained = await line.drained()

    assert drained.ends == ["proposal-closed", "merged"]
    assert drained.tasks[0].explanation == "its pull request was deleted by a person"
    assert not [note for note in drained.notes if "could not be cleaned up" in note]


async def test_title_and_words_of_a_person_stay_when_the_next_try_is_published(line: Line) -> None:
    await line.fill(files("a"))
    stages = Stages(line.equipment)
    await stages.propose(line.run, "1.1", 1)
    ours = (await line.pulls.get(1)).body.removeprefix("Made by hand.\n\n").rstrip()
    by_a_browser = f"Before.\n\n{ours}\n\nAfter.".replace("\n", "\r\n")
    await line.pulls.edit(1, Edit(title="Better", body=by_a_browser))

    await stages.propose(line.run, "1.1", 1)
    await stages.propose(line.run, "1.1", 1)

    shown = await line.pulls.get(1)
    assert shown.title == "Better"
    assert "### Checks" in ours
    assert shown.body == f"Before.\n\n{ours}\n\nAfter."


@pytest.mark.parametrize("closed", [1, 2])
async def test_one_that_is_closed_while_the_checks_run_does_not_land(
    line: Line, closed: int
) -> None:
    clock = iter(range(1, 10**9, RECENT_MS))
    line.equipment = replace(line.equipment, now_ms=lambda: next(clock))
    await line.fill(files("a", "b"), verify=(line.closed,))
    async with line.flow() as flow:
        await line.enqueue(flow)
        await line.checking()
        await line.equipment.forge("", "").close(closed)
        line.open_gate()
        drained = await line.ended(time.monotonic())

    ends = ["merged", "merged"]
    ends[closed - 1] = "proposal-closed"
    assert drained.ends == ends


async def test_one_that_was_deleted_while_the_agent_worked_is_opened_anew(line: Line) -> None:
    await line.fill(files("a"))
    delete_pull_request(line)

    told = await Stages(line.equipment).propose(line.run, "1.1", 1)

    assert told["number"] == 2
    assert (await line.equipment.forge("", "").proposal(2)).state is ProposalState.OPEN


async def test_one_that_was_closed_while_the_agent_worked_is_not_opened_again(line: Line) -> None:
    await line.fill(files("a"))
    await line.equipment.forge("", "").close(1)

    told = await Stages(line.equipment).propose(line.run, "1.1", 1)

    assert told["number"] == 1
    assert await state(line) is ProposalState.CLOSED
    assert (await line.drained()).ends == ["proposal-closed"]
