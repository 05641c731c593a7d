"""The merge queue with real git, a real hub and the durable engine: what waits, lands."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from commandcenter.core.check import Found
from commandcenter.core.conflict import Clash
from commandcenter.core.run import EventKind, State
from commandcenter.stages import Stages
from commandcenter.testing.line import Change, Line

AT_MOST_ONE = "test $(ls | grep -c unit) -le 1"


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with Line.open(tmp_path) as line:
        yield line


def files(*names: str) -> list[Change]:
    return [Change({name: f"{name}\n"}) for name in names]


def refuse(line: Line) -> None:
    """Have the upstream refuse whatever has a file `refused`."""
    hook = line.sample.git_dir / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nread old new ref\n! git ls-tree --name-only $new | grep refused\n")
    hook.chmod(0o755)


async def steps(line: Line) -> list[str]:
    """Return the commits of the target's own line, oldest first."""
    listed = await line.sample.ask("rev-list", "--first-parent", "--reverse", "refs/heads/main")
    return listed.splitlines()[1:]


async def test_what_waits_together_lands_by_one_push_after_one_run_of_the_checks(
    line: Line,
) -> None:
    await line.fill(files(*"abcd"), verify=("true",))

    drained = await line.drained()

    assert drained.ends == ["merged"] * 4
    assert await line.check_runs() == 1
    assert [task.merge_commit for task in drained.tasks] == await steps(line)
    tip = await line.sample.tip()
    assert {e.data["tip"] for e in drained.events if e.kind is EventKind.TASK_COMPLETED} == {tip}
    assert await line.sample.branches() == ("main",)
    proposals = await line.equipment.forge("", "").proposals()
    assert [each.state.value for each in proposals] == ["merged"] * 4


async def test_who_breaks_the_chain_goes_and_the_others_land_in_order(line: Line) -> None:
    await line.fill(files("a", "unit 1", "b", "unit 2", "c"), verify=(AT_MOST_ONE,))

    drained = await line.drained()

    assert drained.ends == ["merged", "merged", "merged", "checks", "merged"]
    assert "on the combined tree, checks did not pass" in drained.tasks[3].explanation
    assert {"a", "unit 1", "b", "c"} < set(await line.sample.paths())
    assert "unit 2" not in await line.sample.paths()
    assert len(await steps(line)) == 4
    assert await line.check_runs() <= 1 * 3 + 1 + 1


async def test_lanes_that_look_at_several_prefixes_at_once_come_to_the_same_end(
    line: Line,
) -> None:
    line.equipment = replace(line.equipment, lanes=3)
    await line.fill(files("a", "unit 1", "b", "c", "unit 2", "d"), verify=(AT_MOST_ONE,))

    drained = await line.drained()

    assert drained.ends == ["merged", "merged", "merged", "merged", "checks", "merged"]
    assert "unit 2" not in await line.sample.paths()


async def test_who_breaks_the_check_of_another_task_goes_with_that_check_named(
    line: Line,
) -> None:
    owner = Change({"a": "a\n"}, ("test ! -e b",))
    await line.fill([owner, *files("b", "c")])

    drained = await line.drained()

    assert drained.ends == ["merged", "checks", "merged"]
    assert "`test ! -e b`" in drained.tasks[1].explanation


async def test_a_check_that_fails_and_then_passes_on_one_tree_is_named_as_flaky(
    line: Line,
) -> None:
    await line.fill([Change({"a": "a\n"}, ("test -e a",)), *files("b")])
    vault = await line.equipment.vaults.open(str(line.sample.upstream))
    # One after the other from one base: what the chain's tree will be.
    both = await line.sample.ask(
        "merge-tree", "--write-tree", *[task.head for task in await line.statuses()]
    )
    await line.saw(Found.FAILED, "test -e a", both)

    drained = await line.drained()

    words = "The check `test -e a` of task 1.1 is flaky: it failed, then passed on the same tree."
    assert drained.ends == ["merged", "merged"]
    assert words in drained.notes
    assert [await line.comments(number) for number in (1, 2)] == [[words], []]
    assert await vault.tree_of(await vault.fetch("main")) == both
    assert [e.data.get("flaky") for e in drained.of("1.2", EventKind.TASK_CHECKED)] == [
        None,
        [words],
    ]


async def test_flaky_checks_are_told_once_on_the_pull_request_however_often_they_are_seen(
    line: Line,
) -> None:
    await line.fill(files("a"), verify=(line.closed, "test -d ."))
    (task,) = await line.statuses()
    for_this = ("merge-tree", "--write-tree", "refs/heads/main", task.head)
    await line.sample.push({"first.txt": ""})
    await line.saw(Found.FAILED, line.closed, await line.sample.ask(*for_this))
    await line.saw(Found.FAILED, "test -d .", await line.sample.ask(*for_this))
    async with line.flow() as flow:
        await line.enqueue(flow)
        await line.checking()
        await line.sample.push({"second.txt": ""})
        await line.saw(Found.FAILED, line.closed, await line.sample.ask(*for_this))
        await line.saw(Found.FAILED, "test -d .", await line.sample.ask(*for_this))
        line.open_gate()
        drained = await line.ended(time.monotonic())

    assert drained.ends == ["merged"]
    seen = [len(e.data.get("flaky", ())) for e in drained.of("1.1", EventKind.TASK_CHECKED)]
    assert seen == [0, 2, 2]
    said = await line.comments(1)
    assert len(said) == 2
    assert set(said) <= set(drained.notes)


async def test_of_two_that_conflict_the_later_one_goes_with_both_tasks_named(line: Line) -> None:
    await line.fill([Change({"one": "1\n"}), Change({"one": "2\n"}), *files("c")])

    drained = await line.drained()

    assert drained.ends == ["merged", "conflict", "merged"]
    assert drained.tasks[1].id == "1.2"
    assert drained.tasks[1].explanation == (
        "after 1 try, task 1.2 (Change 2) conflicts with what landed meanwhile in: one, "
        "of task 1.1 (Change 1)"
    )


async def test_the_agent_is_told_the_lines_of_a_conflict_and_who_else_wrote_them(
    line: Line,
) -> None:
    await line.fill([Change({"one": "1\n"}), Change({"one": "2\n"})])
    stages = Stages(line.equipment)
    await stages.land(line.run, "1.1", 1)
    await line.sample.push({"one": "3\n"}, "By hand")

    clash = Clash.from_json(await stages.land(line.run, "1.2", 1))

    by_hand = (await line.sample.tip())[:12]
    assert clash.others == (f"commit {by_hand} (`By hand`)", "task 1.1 (Change 1)")
    assert "\n3\n=======\n2\n" in clash.excerpt


@pytest.mark.parametrize("changes_max", [1, 100])
async def test_what_is_urgent_lands_first_and_the_rest_in_plan_order(
    line: Line, changes_max: int
) -> None:
    line.equipment = replace(line.equipment, changes_max=changes_max)
    low = Change({"a": "a\n"}, labels={"priority": "low"})
    high = Change({"c": "c\n"}, labels={"priority": "high"})
    await line.fill([low, *files("b"), high, *files("d")])

    drained = await line.drained()

    assert drained.ends == ["merged"] * 4
    landed = [event.task for event in drained.events if event.kind is EventKind.TASK_COMPLETED]
    assert landed == ["1.3", "1.2", "1.4", "1.1"]
    assert [drained.tasks[n].merge_commit for n in (2, 1, 3, 0)] == await steps(line)


async def test_who_goes_first_and_conflicts_holds_nobody_up(line: Line) -> None:
    line.equipment = replace(line.equipment, changes_max=1)
    await line.fill([*files("a"), Change({"b": "b\n"}, labels={"priority": "high"})])
    await line.sample.push({"b": "By a person.\n"})

    drained = await line.drained()

    assert drained.ends == ["merged", "conflict"]


async def test_what_goes_first_and_is_refused_is_not_held_against_whose_turn_it_is(
    line: Line,
) -> None:
    line.equipment = replace(line.equipment, changes_max=1)
    await line.fill([*files("a"), Change({"refused": "b\n"}, labels={"priority": "high"})])
    refuse(line)

    drained = await line.drained()

    assert drained.ends == ["merged", "landing-refused"]


async def test_a_closed_pull_request_holds_nobody_up(line: Line) -> None:
    await line.fill(files(*"abc"))
    await line.equipment.forge("", "").close(2)

    drained = await line.drained()

    assert drained.ends == ["merged", "proposal-closed", "merged"]
    assert "b" not in await line.sample.paths()


async def test_a_target_that_moved_while_checks_ran_is_built_upon(line: Line) -> None:
    await line.fill(files("a", "b"), verify=(line.closed,))
    async with line.flow() as flow:
        await line.enqueue(flow)
        await line.checking()
        theirs = await line.sample.push({"person.txt": "Mine.\n"})
        line.open_gate()
        drained = await line.ended(time.monotonic())

    assert drained.ends == ["merged", "merged"]
    assert (await steps(line))[0] == theirs
    assert {"person.txt", "a", "b"} < set(await line.sample.paths())
    assert await line.check_runs() == 2


async def test_a_tree_that_was_checked_is_not_checked_again_when_the_target_moved(
    line: Line,
) -> None:
    await line.fill(files("a", "b"), verify=(line.closed,))
    async with line.flow() as flow:
        await line.enqueue(flow)
        await line.checking()
        await line.sample.push({}, "No change of any file")
        line.open_gate()
        drained = await line.ended(time.monotonic())

    assert drained.ends == ["merged", "merged"]
    assert len(await steps(line)) == 3
    assert await line.check_runs() == 1


async def test_what_was_pushed_before_a_kill_is_found_and_lands_once(line: Line) -> None:
    await line.fill(files(*"abc"))
    # As of a service that was killed between the push and the record of it.
    await Stages(line.equipment).land(line.run, "1.1", 1)
    before = await steps(line)

    drained = await line.drained()

    assert drained.ends == ["merged"] * 3
    assert await steps(line) == before
    assert len(before) == 3


async def test_nothing_lands_of_a_run_that_is_cancelled_while_checks_run(line: Line) -> None:
    await line.fill(files("a", "b"), verify=(line.closed,))
    async with line.flow() as flow:
        await line.enqueue(flow)
        await line.checking()
        await flow.cancel(line.run)
        line.open_gate()
        drained = await line.ended(time.monotonic())

    assert {task.state for task in drained.tasks} == {State.CANCELLED}
    assert await line.sample.tip() == line.sample.start


async def test_what_the_upstream_refuses_of_one_is_not_held_against_the_others(
    line: Line,
) -> None:
    await line.fill(files("a", "refused", "c"))
    refuse(line)

    drained = await line.drained()

    assert drained.ends == ["merged", "landing-refused", "merged"]
    assert {"a", "c"} < set(await line.sample.paths())
