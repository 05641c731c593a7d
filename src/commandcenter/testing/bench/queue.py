"""What the merge queue lands a second, and how often it runs the checks for that."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product, starmap
from pathlib import Path

from commandcenter.system.git import Git
from commandcenter.testing.bench.repository import make_tree
from commandcenter.testing.bench.simulation import World, play
from commandcenter.testing.line import Change, Drained, Line
from commandcenter.testing.scene import Sample

_SIZES = {"small": 100, "large": 60_000}
_BAD, _LANES = (0.02, 0.10, 0.25), (1, 2, 4, 8)
_NO_OP = "true"
_NOBODY_IS_BAD = "test ! -e bad"


@dataclass(frozen=True)
class _Case:
    """So many changes, of which one may break the checks of all."""

    changes: int
    bad: int = 0
    """Its position from 1; 0 is none."""

    @property
    def name(self) -> str:
        return f"{self.changes}, one bad" if self.bad else f"{self.changes}"

    @property
    def made(self) -> Sequence[Change]:
        names = range(1, self.changes + 1)
        return [Change({"bad" if n == self.bad else f"made/{n}.txt": f"{n}\n"}) for n in names]

    @property
    def check(self) -> str:
        return _NOBODY_IS_BAD if self.bad else _NO_OP


def queue(folder: Path, *, quick: bool) -> Iterator[str]:
    """Drain queues of changes that are ready, with a check that costs nothing."""
    yield "files    changes        drained   a second  landed  runs of the check"
    for name, files in _SIZES.items():
        for number, case in enumerate((_Case(30), _Case(100), _Case(16, bad=11))):
            part = folder / f"{name}-{number}"
            part.mkdir()
            count = min(files, 5_000) if quick else files
            yield f"{count:6}   {asyncio.run(_drained(part, count, case))}"
    part = folder / "one-by-one"
    part.mkdir()
    times = asyncio.run(_enqueued(part, 20 if quick else 50))
    yield f"to enqueue one, while others land: {_milliseconds(times)}"
    yield "\nsimulated: bad changes, flaky runs, lanes"
    for world in starmap(World, product(_BAD, (0.02,), _LANES)):
        yield f"{world.bad:4.0%}  {world.flaky:3.0%}  {world.lanes}  {play(world).row}"


async def _drained(folder: Path, files: int, case: _Case) -> str:
    async with Line.open(folder, sample=await _sample(folder, files)) as line:
        await line.fill(case.made, verify=(case.check,))
        drained = await line.drained()
        runs = await line.check_runs()
    landed = drained.ends.count("merged")
    pace = landed / drained.seconds
    return f"{case.name:12} {drained.seconds:7.2f} s  {pace:8.1f}  {landed:6}  {runs}"


async def _enqueued(folder: Path, changes: int) -> list[float]:
    """Return how long it took to put each one into the queue, in seconds."""
    times = []
    async with Line.open(folder, sample=await _sample(folder, _SIZES["small"])) as line:
        await line.fill(_Case(changes).made)
        async with line.flow() as flow:
            for task in line.plan.tasks:
                begun = time.monotonic()
                await line.enqueue(flow, task)
                times.append(time.monotonic() - begun)
            ended: Drained = await line.ended(begun)
    assert set(ended.ends) == {"merged"}
    return times


async def _sample(folder: Path, files: int) -> Sample:
    origin, git = make_tree(folder, files), Git()
    start = (await git.run("rev-parse", "refs/heads/main", git_dir=origin)).text
    return Sample(folder / "seed", origin, start, "main", git)


def _milliseconds(times: Sequence[float]) -> str:
    return f"median {statistics.median(times) * 1000:.1f} ms, at most {max(times) * 1000:.0f} ms"
