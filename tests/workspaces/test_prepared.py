"""A prepared base: made once, whole or not at all, and known to the index as seen from inside."""

import asyncio
import fcntl
import os
import struct
from pathlib import Path

import pytest

from commandcenter.system import process
from commandcenter.system.boot import BOOT
from commandcenter.system.git import Git
from commandcenter.system.sandbox import AGENT_ID
from commandcenter.testing.workspaces import Example, example_vault
from commandcenter.workspaces.layout import owned_by
from commandcenter.workspaces.prepared import Bases


@pytest.fixture
async def example(tmp_path: Path) -> Example:
    return await example_vault(tmp_path)


async def test_a_base_is_made_once_however_many_ask(tmp_path: Path, example: Example) -> None:
    bases = Bases(tmp_path / "bases", Git())

    asked = (bases.prepare(example.vault, example.commit) for _ in range(5))
    one, *others = await asyncio.gather(*asked)

    assert {base.tree for base in others} == {one.tree}
    assert len(list((tmp_path / "bases").glob("*/*"))) == 1


async def test_two_processes_making_the_same_base_both_get_it(
    tmp_path: Path, example: Example
) -> None:
    two = [Bases(tmp_path / "bases", Git()) for _ in range(2)]

    made = await asyncio.gather(*(each.prepare(example.vault, example.commit) for each in two))

    assert made[0] == made[1]
    assert (made[0].tree / "hello.txt").read_text() == "hello\n"
    assert not list((tmp_path / "bases").glob("*/new-*"))


async def test_a_sweep_removes_what_a_killed_service_left_unfinished(tmp_path: Path) -> None:
    left = tmp_path / "bases" / "vault" / "new-left"
    left.mkdir(parents=True)

    Bases(tmp_path / "bases", Git()).sweep(())

    assert not left.exists()


async def test_a_base_that_somebody_has_just_claimed_is_not_removed(
    tmp_path: Path, example: Example
) -> None:
    bases = Bases(tmp_path / "bases", Git())
    base = await bases.prepare(example.vault, example.commit)
    claimed: set[Path] = set()

    removing = bases.remove(base.tree.parent, lambda: claimed)
    claimed.add(bases.of(example.vault, example.commit).tree)
    refused = await removing
    claimed.clear()
    removed = await bases.remove(base.tree.parent, lambda: claimed)

    assert (refused, removed) == (False, True)
    assert bases.existing() == []


async def test_removing_a_base_while_it_is_asked_for_leaves_a_whole_one(
    tmp_path: Path, example: Example
) -> None:
    bases = Bases(tmp_path / "bases", Git())
    base = await bases.prepare(example.vault, example.commit)

    prepared, _ = await asyncio.gather(
        bases.prepare(example.vault, example.commit),
        bases.remove(base.tree.parent, lambda: [base.tree]),
    )

    assert (prepared.tree / "hello.txt").read_text() == "hello\n"


async def test_a_sweep_leaves_what_is_being_made(tmp_path: Path) -> None:
    making = tmp_path / "bases" / "vault" / "new-making"
    making.mkdir(parents=True)
    owner = os.open(making, os.O_RDONLY)
    fcntl.flock(owner, fcntl.LOCK_EX)

    Bases(tmp_path / "bases", Git()).sweep(())

    os.close(owner)
    assert making.exists()


async def test_a_base_of_an_earlier_start_of_the_machine_is_made_anew(
    tmp_path: Path, example: Example
) -> None:
    base = await Bases(tmp_path / "bases", Git()).prepare(example.vault, example.commit)
    (base.tree / "hello.txt").write_text("")
    same = await Bases(tmp_path / "bases", Git()).prepare(example.vault, example.commit)
    kept = (same.tree / "hello.txt").read_text()
    (base.tree.parent / BOOT).write_text("an earlier one")

    again = await Bases(tmp_path / "bases", Git()).prepare(example.vault, example.commit)

    assert kept == ""
    assert again == base
    assert (again.tree / "hello.txt").read_text() == "hello\n"


async def test_a_sweep_removes_a_base_long_unused_but_none_that_a_workspace_lies_on(
    tmp_path: Path, example: Example
) -> None:
    bases = Bases(tmp_path / "bases", Git())
    base = await bases.prepare(example.vault, example.commit)
    os.utime(base.tree.parent, (0, 0))

    bases.sweep({base.tree})
    kept = base.tree.exists()
    bases.sweep(())

    assert kept
    assert not base.tree.exists()
    assert (await bases.prepare(example.vault, example.commit)).tree.exists()


async def test_the_index_stays_valid_with_the_agents_ids(tmp_path: Path) -> None:
    for number in range(40):
        path = tmp_path.joinpath(*["d" * (number + 1)] * (number + 1), "f" * number + "x")
        path.parent.mkdir(parents=True)
        path.write_text(str(number))
    git = ("git", "-C", str(tmp_path), "-c", "index.version=2")
    await process.run((*git, "init", "-q"))
    await process.run((*git, "add", "-A"))
    before = await process.run((*git, "ls-files", "-s"))
    index = tmp_path / ".git" / "index"

    index.write_bytes(owned_by(index.read_bytes(), 20, AGENT_ID, AGENT_ID))

    after = await process.run((*git, "ls-files", "-s"))
    debug = await process.run((*git, "ls-files", "--debug"))
    assert after == before
    assert before.stdout.count(b"\n") == 40
    assert debug.stdout.count(f"uid: {AGENT_ID}\tgid: {AGENT_ID}".encode()) == 40
    assert struct.unpack_from(">L", index.read_bytes(), 8) == (40,)
