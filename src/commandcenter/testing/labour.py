"""Vault work without end, in a process of its own, until somebody cuts the power.

usage: python -m commandcenter.testing.labour FOLDER UPSTREAM

Each task is captured, noted in a database, published, landed, and noted as landed. A line on
stdout says of each note that it is committed: "captured TASK COMMIT", "landed TASK COMMIT".
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path

import sqlalchemy as sa

from commandcenter.core.change import Change
from commandcenter.core.workspace import Contents
from commandcenter.store import database
from commandcenter.system.capture import capture
from commandcenter.system.git import Git
from commandcenter.system.vault import Identity, Landed, Merged, Vault, task_ref

ADA = Identity("Ada", "ada@example.org")
DATE = 1_700_000_000


def open_notes(folder: Path) -> sa.Engine:
    """Open the database of what was done, set up as the service's own is."""
    path = folder / "notes.sqlite"
    database.prepare_sqlite(path)
    engine = database.open_engine(database.sqlite_url(path))
    with engine.begin() as connection:
        connection.execute(
            sa.text("CREATE TABLE IF NOT EXISTS notes (what TEXT, task TEXT, head TEXT)")
        )
    return engine


async def captured(vault: Vault, base: str, task: str, tree: Path) -> Change:
    """Capture a tree that has nothing but a few files of this task."""
    tree.mkdir(parents=True)
    for number in range(3):
        (tree / f"{task}-{number}.txt").write_text(f"{task} {number}\n" * 200)
    return await capture(
        vault.git,
        vault,
        Contents(None, tree),
        base,
        ref=task_ref("run", task, 1),
        message=f"Task {task}",
        author=ADA,
        committer=ADA,
        date=DATE,
    )


async def landed(vault: Vault, branch: str, tip: str, head: str) -> str:
    """Merge and land a commit; return the branch's new tip."""
    merged = await vault.merge(tip, head, message="m", author=ADA, committer=ADA, date=DATE)
    assert isinstance(merged, Merged)
    assert await vault.land(branch, tip, merged.commit) == Landed()
    return merged.commit


async def main(folder: Path, upstream: str) -> None:
    """Work, task after task."""
    notes = open_notes(folder)

    def note(what: str, task: str, head: str) -> None:
        with notes.begin() as connection:
            row = {"what": what, "task": task, "head": head}
            connection.execute(sa.text("INSERT INTO notes VALUES (:what, :task, :head)"), row)
        print(what, task, head, flush=True)  # noqa: T201 - this is how it tells

    vault = await Vault.open(Git(), folder, upstream)
    for number in count():
        task = f"{number}"
        base = await vault.fetch("main")
        await vault.pin(f"run/{task}", base)
        change = await captured(vault, base, task, folder / "trees" / task)
        note("captured", task, change.head)
        await vault.publish(f"work/{task}", change.head, None)
        note("landed", task, await landed(vault, "main", base, change.head))
        await vault.unpin(f"run/{task}")
        if number % 3 == 2:
            await vault.maintain()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
