"""Everything at once on one vault, with borrowers that read from it: nothing fails or goes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from commandcenter.system.git import Git
from commandcenter.system.vault import Landed, Merged, Moved, RefUpdate, Vault, task_ref
from commandcenter.testing.labour import ADA, DATE, captured
from commandcenter.testing.scene import Sample

TASKS = 12
FILES = {f"folder/{n}.txt": f"{n}\n" * 50 for n in range(120)}
OPEN = """
import asyncio, sys
from pathlib import Path
from commandcenter.core.errors import InputError
from commandcenter.system.git import Git
from commandcenter.system.vault import Vault
try:
    asyncio.run(Vault.open(Git(), Path(sys.argv[1]), sys.argv[2]))
except InputError as error:
    sys.exit(error.message)
"""


@pytest.fixture
async def vault(sample: Sample, tmp_path: Path) -> Vault:
    await sample.push(FILES)
    return await Vault.open(Git(), tmp_path / "data", str(sample.upstream))


class Borrower:
    """A workspace's repository: it reads the vault's objects, and has none of its own."""

    def __init__(self, folder: Path, vault: Vault, base: str) -> None:
        self.git_dir = vault.make_annex(folder)
        self.base = base
        self.reads = 0
        self.expected = -1

    async def read(self) -> None:
        """Read every object of the base; fail if one is not there, or not what it was."""
        listed = await Git().run("rev-list", "--objects", self.base, git_dir=self.git_dir)
        names = [line.split(" ")[0] for line in listed.text.splitlines()]
        asked = "".join(f"{name}\n" for name in names).encode()
        content = await Git().run("cat-file", "--batch", git_dir=self.git_dir, stdin=asked)
        assert b"missing" not in content.stdout
        assert self.expected in (-1, len(content.stdout))
        self.expected = len(content.stdout)
        self.reads += 1


async def do_task(vault: Vault, name: str, folder: Path) -> str:
    """Do with the vault what a task does, from its base to its landing."""
    base = await vault.fetch("main")
    await vault.pin(f"run/{name}", base)
    borrower = Borrower(folder / f"borrower-{name}", vault, base)
    await borrower.read()
    change = await captured(vault, base, name, folder / f"tree-{name}")
    await borrower.read()
    await vault.publish(f"work/{name}", change.head, None)
    await land(vault, change.head)
    await borrower.read()
    await vault.unpin(f"run/{name}")
    assert await vault.update_refs([RefUpdate(f"refs/cc/landed/{name}", change.head, None)])
    assert await vault.delete_branch(f"work/{name}", change.head)
    return change.head


async def land(vault: Vault, head: str) -> None:
    while True:
        tip = await vault.fetch("main")
        merged = await vault.merge(tip, head, message="m", author=ADA, committer=ADA, date=DATE)
        assert isinstance(merged, Merged)
        match await vault.land("main", tip, merged.commit):
            case Landed():
                return
            case refused:
                assert isinstance(refused, Moved)


async def again_and_again(done: asyncio.Event, act: Callable[[], Awaitable[object]]) -> int:
    times = 0
    while not done.is_set():
        await act()
        times += 1
    return times


@pytest.mark.slow
async def test_everything_at_once_fails_nowhere_and_takes_nothing_from_a_borrower(
    vault: Vault, sample: Sample, tmp_path: Path
) -> None:
    base = await vault.fetch("main")
    await vault.pin("lent", base)
    lent = Borrower(tmp_path / "lent", vault, base)
    done = asyncio.Event()
    beside = [
        asyncio.create_task(again_and_again(done, act))
        for act in (vault.maintain, lent.read, lambda: vault.pin("other", base))
    ]

    heads = await asyncio.gather(*(do_task(vault, f"{n}", tmp_path) for n in range(TASKS)))
    done.set()
    times = await asyncio.gather(*beside)
    await vault.maintain()
    await lent.read()

    assert all(times)
    tip = await sample.tip()
    for number, head in enumerate(heads):
        assert await vault.ref(task_ref("run", f"{number}", 1)) == head
        assert await vault.ref(f"refs/cc/landed/{number}") == head
        assert await vault.is_ancestor(head, tip)
    assert await vault.fsck() == ()
    assert await sample.branches() == ("main",)
    assert await sample.ask("fsck", "--full", "--strict", "--no-dangling") == ""
    vault.close()


async def test_upkeep_takes_nothing_that_no_ref_holds_any_more(
    vault: Vault, tmp_path: Path
) -> None:
    base = await vault.fetch("main")
    change = await captured(vault, base, "1", tmp_path / "tree")
    borrower = Borrower(tmp_path / "borrower", vault, change.head)
    await borrower.read()
    assert await vault.update_refs([RefUpdate(task_ref("run", "1", 1), None, change.head)])

    await vault.maintain()
    await vault.maintain()

    await borrower.read()
    vault.close()


async def test_another_process_is_turned_away_by_name(vault: Vault, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", OPEN, str(tmp_path / "data"), vault.upstream]

    refused = await asyncio.to_thread(
        subprocess.run, argv, capture_output=True, text=True, cwd="/", check=False
    )
    vault.close()
    allowed = await asyncio.to_thread(
        subprocess.run, argv, capture_output=True, text=True, cwd="/", check=False
    )

    assert (refused.returncode, allowed.returncode) == (1, 0)
    assert f"process {os.getpid()}" in refused.stderr
