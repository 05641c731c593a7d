"""What the guarantees cost: workspaces beside `git worktree`, durable writes, and a restart."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

from commandcenter.core.workspace import WorkspaceKey
from commandcenter.store.database import prepare_sqlite
from commandcenter.system.capture import capture
from commandcenter.system.git import Git
from commandcenter.system.vault import Identity, Vault, task_ref
from commandcenter.testing.bench.repository import git, make_tree
from commandcenter.testing.bench.service import TooLong, serving
from commandcenter.workspaces.local import Local

_SIZES = {"small": 100, "large": 60_000}
_EDITS = 20
_IN_FLIGHT = 100
_WORK_S = 40
_PATIENCE_S = 180.0
_LOOK_S = 0.05


def workspaces(folder: Path, *, quick: bool) -> Iterator[str]:
    """Compare making, capturing and removing a workspace with `git worktree`, small and large."""
    yield "files   way                    make    capture     remove"
    for name, files in _SIZES.items():
        part = folder / name
        part.mkdir()
        origin = make_tree(part, files if not quick else min(files, 5_000))
        rounds = 3 if name == "large" else 10
        yield from asyncio.run(_compare(part, origin, rounds))


async def _compare(folder: Path, origin: Path, rounds: int) -> Iterator[str]:
    client = Git()
    vault = await Vault.open(client, folder / "data", str(origin))
    kind = Local(folder / "data" / "workspaces", client)
    try:
        base = await vault.fetch("main")
        count = (await client.run("ls-tree", "-r", "--name-only", base, git_dir=vault.path)).text
        files = len(count.splitlines())
        first = await _ours(kind, vault, base, 0)
        ours = [await _ours(kind, vault, base, number) for number in range(1, rounds + 1)]
        theirs = [_worktree(origin, folder / f"tree-{number}") for number in range(rounds)]
    finally:
        vault.close()
    strength = await kind.probe()
    return iter(
        (
            _row(files, f"ours ({strength.rung}), first", [first]),
            _row(files, f"ours ({strength.rung})", ours),
            _row(files, "git worktree, git add", theirs),
        )
    )


Times = tuple[float, float, float]
"""Seconds to make, to capture and to remove."""


async def _ours(kind: Local, vault: Vault, base: str, number: int) -> Times:
    key = WorkspaceKey("bench", f"{number}", 1)
    author = Identity("Bench", "bench@localhost")
    started = time.monotonic()
    async with kind.open(key, vault=vault.path, commit=base, keep=True) as workspace:
        made = time.monotonic()
        contents = workspace.contents()
        top = contents.upper or contents.tree
        assert top is not None
        _edit(top)
        edited = time.monotonic()
        ref = task_ref("bench", f"{number}", 1)
        await capture(
            vault.git,
            vault,
            contents,
            base,
            ref=ref,
            message="Bench\n",
            author=author,
            committer=author,
            date=1_700_000_000 + number,
        )
        captured = time.monotonic()
    leaving = time.monotonic()
    await kind.remove(key)
    return made - started, captured - edited, time.monotonic() - leaving


def _worktree(origin: Path, tree: Path) -> Times:
    started = time.monotonic()
    git("worktree", "add", "--quiet", "--detach", str(tree), "main", folder=origin)
    made = time.monotonic()
    _edit(tree)
    edited = time.monotonic()
    git("add", "--all", folder=tree)
    git("commit", "--quiet", "--message", "Bench", folder=tree)
    captured = time.monotonic()
    git("worktree", "remove", "--force", str(tree), folder=origin)
    return made - started, captured - edited, time.monotonic() - captured


def _edit(tree: Path) -> None:
    for number in range(_EDITS):
        (tree / f"new-{number}.txt").write_text(f"{number}\n" * 40)


def _row(files: int, way: str, times: list[Times]) -> str:
    columns = zip(*times, strict=True)
    made, captured, removed = (statistics.median(column) * 1000 for column in columns)
    return f"{files:6}  {way:20} {made:6.0f} ms  {captured:6.0f} ms  {removed:6.0f} ms"


def durability(folder: Path, *, quick: bool) -> Iterator[str]:
    """Measure what it costs that a commit and a ref are on the disk when they are told of."""
    rounds = 50 if quick else 200
    yield f"{rounds} durable writes each              median     worst"
    yield _spread("database, one transaction", _transactions(folder, rounds))
    yield from asyncio.run(_refs(folder, rounds))


def _transactions(folder: Path, rounds: int) -> Iterator[float]:
    path = folder / "bench.sqlite"
    prepare_sqlite(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE facts (words TEXT)")
        for _ in range(rounds):
            started = time.monotonic()
            with connection:
                connection.execute("INSERT INTO facts VALUES (?)", ("x" * 400,))
            yield time.monotonic() - started


async def _refs(folder: Path, rounds: int) -> list[str]:
    origin = make_tree(folder, 10)
    vault = await Vault.open(Git(), folder / "data", str(origin))
    try:
        tip = await vault.fetch("main")

        async def pin(number: int) -> None:
            await vault.pin(f"bench/{number}", tip)

        durable = [await _timed(pin, number) for number in range(rounds)]
    finally:
        vault.close()
    plain = [_plain_ref(origin, number) for number in range(rounds)]
    return [
        _spread("vault, one ref (core.fsync=all)", durable),
        _spread("plain git update-ref (its default)", plain),
    ]


async def _timed(act: Callable[[int], Awaitable[None]], number: int) -> float:
    started = time.monotonic()
    await act(number)
    return time.monotonic() - started


def _plain_ref(repository: Path, number: int) -> float:
    started = time.monotonic()
    git("update-ref", f"refs/bench/{number}", "main", folder=repository)
    return time.monotonic() - started


def _spread(name: str, times: Iterator[float] | list[float]) -> str:
    measured = sorted(times)
    return f"{name:36} {statistics.median(measured) * 1000:6.1f} ms {measured[-1] * 1000:6.1f} ms"


def recovery(folder: Path, *, quick: bool) -> Iterator[str]:
    """Kill the service with many tasks in flight; measure from its restart to its next step."""
    tasks = 10 if quick else _IN_FLIGHT
    origin = make_tree(folder, 50)
    plan = folder / "plan.md"
    plan.write_text(_plan(tasks), "utf-8")
    with serving(folder / "service", workers=tasks) as service:
        run = service.start(plan, origin, f"sleep {_WORK_S}; date +%N > made.txt")
        _until(lambda: service.phases(run).count("working") == tasks)
        service.kill()
    data = folder / "service" / "data"
    # The agents go on by themselves, and are to be found done.
    _until(lambda: not _at_work(data))
    started = time.time()
    with serving(folder / "service", workers=tasks) as service:
        answering = time.time() - started
        _until(lambda: len(service.events(run, "task.captured")) == tasks)
        captured = service.events(run, "task.captured")
    yield f"{tasks} tasks in flight, service killed and started again"
    yield f"it answers after                 {answering:6.2f} s"
    yield f"first step resumed and recorded  {captured[0] - started:6.2f} s"
    yield f"all of them                      {captured[-1] - started:6.2f} s"


def _until(holds: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > _PATIENCE_S:
            raise TooLong(f"stopped at its cap of {_PATIENCE_S:.0f} s")
        time.sleep(_LOOK_S)


def _at_work(data: Path) -> bool:
    return subprocess.run(("pgrep", "-f", f"{data}/"), stdout=-3, check=False).returncode == 0


def _plan(tasks: int) -> str:
    head = "# Recovery\n\n## Batch 1: All\n\n**Execution Mode:** parallel\n"
    return head + "".join(f"\n### Task 1.{n}: Wait {n}\n" for n in range(1, tasks + 1))
