"""Squashed and rebased changes: what lands, by which it is known again, and who is not fooled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from commandcenter.core.merge_queue import Strategy
from commandcenter.core.publication import HEAD_TRAILER
from commandcenter.forges.gitea import Gitea
from commandcenter.hub import HubRepository
from commandcenter.hub.history import open_history
from commandcenter.stages import Stages
from commandcenter.store.hub import HubStore
from commandcenter.testing.forges import served
from commandcenter.testing.gitea_server import GiteaPulls, GiteaServer
from commandcenter.testing.judge import client_of
from commandcenter.testing.line import Change, Line

LINEAR = [Strategy.SQUASH, Strategy.REBASE]


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with Line.open(tmp_path) as line:
        yield line


def files(*names: str) -> list[Change]:
    return [Change({name: f"{name}\n"}) for name in names]


def landing(line: Line, strategy: Strategy) -> None:
    line.equipment = replace(line.equipment, strategy=strategy)


async def listed(line: Line, form: str) -> list[str]:
    """Return what git says of each commit of the target after the first, oldest first."""
    asked = ("log", "-z", "--reverse", f"--format={form}", f"{line.sample.start}..refs/heads/main")
    return (await line.sample.ask(*asked)).split("\0")[:-1]


async def heads(line: Line) -> list[str]:
    return [task.head for task in await line.statuses()]


async def proposals(line: Line) -> list[str]:
    return [each.state.value for each in await line.equipment.forge("", "").proposals()]


@pytest.mark.parametrize("strategy", LINEAR)
async def test_each_change_is_one_commit_on_the_targets_own_line(
    line: Line, strategy: Strategy
) -> None:
    landing(line, strategy)
    await line.fill(files(*"abc"), verify=("true",))

    drained = await line.drained()

    assert drained.ends == ["merged"] * 3
    assert await line.check_runs() == 1
    assert [len(parents.split()) for parents in await listed(line, "%P")] == [1, 1, 1]
    assert await listed(line, "%H") == [task.merge_commit for task in drained.tasks]
    assert {"a", "b", "c"} < set(await line.sample.paths())
    assert await line.sample.branches() == ("main",)
    assert await proposals(line) == ["merged"] * 3


async def test_a_squashed_commit_speaks_as_the_pull_request_and_names_what_it_stands_for(
    line: Line,
) -> None:
    landing(line, Strategy.SQUASH)
    await line.fill(files("a"))
    (head,) = await heads(line)

    await line.drained()

    assert await listed(line, "%an <%ae>%n%B") == [
        "Somebody <somebody@example.invalid>\nTask 1.1: Change 1 (#1)\n\n"
        f"CommandCenter-Run: {line.run}\nCommandCenter-Task: 1.1\nCommandCenter-Attempt: 1\n"
        f"CommandCenter-Head: {head}\n"
    ]


async def test_a_rebased_commit_keeps_its_own_words_and_author(line: Line) -> None:
    landing(line, Strategy.REBASE)
    await line.fill(files("a", "b"))
    first, second = await heads(line)
    words = await line.sample.ask("show", "--no-patch", "--format=%an, %aI%n%B", second)

    await line.drained()

    assert (await listed(line, "%H"))[0] == first
    assert (await listed(line, "%an, %aI%n%B"))[1] == f"{words.strip()}\n{HEAD_TRAILER}: {second}\n"


@pytest.mark.parametrize("strategy", LINEAR)
async def test_what_was_pushed_before_a_kill_is_found_again(line: Line, strategy: Strategy) -> None:
    landing(line, strategy)
    await line.fill(files(*"abc"))
    # As of a service that was killed between the push and the record of it.
    await Stages(line.equipment).land(line.run, "1.1", 1)
    before = await listed(line, "%H")
    await line.sample.push({"a": "Changed by a person since.\n"})

    drained = await line.drained()

    assert drained.ends == ["merged"] * 3
    assert [task.merge_commit for task in drained.tasks] == before
    assert (await listed(line, "%H"))[:-1] == before
    assert await proposals(line) == ["merged"] * 3


async def test_a_commit_that_only_says_that_it_is_a_change_fools_nobody(line: Line) -> None:
    landing(line, Strategy.SQUASH)
    await line.fill(files("a", "b"))
    lie = "".join(f"{HEAD_TRAILER}: {head}\n" for head in await heads(line))
    await line.sample.push({"unrelated": "\n"}, f"Not what it says\n\n{lie}")
    assert await proposals(line) == ["open"] * 2

    drained = await line.drained()

    assert drained.ends == ["merged", "merged"]
    assert {"a", "b", "unrelated"} < set(await line.sample.paths())
    assert len(await listed(line, "%H")) == 3
    assert await proposals(line) == ["merged"] * 2


async def test_the_plan_says_how_its_changes_land_and_the_configuration_where_it_does_not(
    line: Line,
) -> None:
    landing(line, Strategy.MERGE)
    await line.fill(files("a", "b"), strategy=Strategy.SQUASH)

    await line.drained()

    assert [len(parents.split()) for parents in await listed(line, "%P")] == [1, 1]


async def test_who_breaks_a_squashed_chain_goes_and_the_others_land(line: Line) -> None:
    landing(line, Strategy.SQUASH)
    await line.fill(
        files("a", "unit 1", "b", "unit 2"), verify=("test $(ls | grep -c unit) -le 1",)
    )

    drained = await line.drained()

    assert drained.ends == ["merged", "merged", "merged", "checks"]
    assert len(await listed(line, "%H")) == 3


async def test_what_the_target_has_by_other_hands_adds_no_empty_commit(line: Line) -> None:
    landing(line, Strategy.SQUASH)
    await line.fill(files("a", "b"))
    theirs = await line.sample.push({"a": "a\n"}, "The same, by a person")

    drained = await line.drained()

    assert drained.ends == ["merged", "merged"]
    assert drained.tasks[0].merge_commit == theirs
    assert len(await listed(line, "%H")) == 2


async def test_a_forge_that_cannot_see_it_is_told_by_which_commit_it_landed(line: Line) -> None:
    landing(line, Strategy.SQUASH)
    history = open_history(
        HubRepository("acme", "elsewhere", line.sample.git_dir), line.equipment.git
    )
    records = HubStore(line.equipment.database.engine)
    pulls = GiteaPulls(history, records, line.equipment.now_ms)
    async with (
        served(GiteaServer(pulls, {"t": "commandcenter"}).application()) as url,
        client_of(url) as web,
    ):
        gitea = Gitea(f"{url}/api/v1", "acme", "elsewhere", "t", client=web)
        line.equipment = replace(line.equipment, forge=lambda *_: gitea)
        await line.fill(files("a"))

        drained = await line.drained()

        (told,) = await pulls.comments(1)
        assert told.body == f"Landed on `main` as {drained.tasks[0].merge_commit}."
        assert await proposals(line) == ["closed"]
