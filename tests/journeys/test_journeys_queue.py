"""Journeys of changes that are ready at once: they land together, or without the bad one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from commandcenter.testing.desk import Desk, Ended, Service
from commandcenter.testing.judge import Judge, judge_stopped
from commandcenter.testing.scene import Installation, Sample, batch, plan, task

MERGED = ("completed", "merged")


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the host that agents and checks can read."""
    folder = tmp_path_factory.mktemp("gate")
    folder.chmod(0o755)  # inside they are somebody else
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, gate: Path) -> Iterator[Service]:
    """A service whose agents and checks can be held back, with a worker for each task."""
    more = f'[sandbox]\nread_only = ["{gate}"]\n'
    installation = Installation.make(tmp_path_factory.mktemp("queue"), workers=6, more=more)
    with Service(installation) as service:
        yield service
    assert asyncio.run(judge_stopped(installation)) == ()


class Held:
    """Tasks whose agents begin together, and whose checks wait as soon as two have landed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def task(self, number: int, *files: str, checks: Sequence[str] = ()) -> str:
        made = [f"{number}.part", *files]
        writes = "\n".join(f"write {name}\n| {number}" for name in made)
        begin = f"run until test -e {self.folder}/begin; do sleep 0.05; done"
        alone = "test $(ls | grep -c part) -lt 2"
        wait = f"{alone} || until test -e {self.folder}/open; do sleep 0.05; done"
        script = f"{begin}\n{writes}"
        return task(f"1.{number}", "Part", files=made, script=script, checks=[wait, *checks])

    async def run(self, desk: Desk, sample: Sample, tasks: Sequence[str]) -> Ended:
        judge = await Judge.appoint(desk.installation, sample)
        run = await desk.start(sample, plan(batch(1, *tasks, mode="parallel")))
        async with judge.watching(desk.url, run):
            await desk.until(
                f"/{run}/tasks", lambda all_: {t["phase"] for t in all_} == {"working"}, 120
            )
            (self.folder / "begin").touch()
            await desk.until(f"/{run}/tasks", lambda all_: all(map(in_the_queue, all_)), 120)
            (self.folder / "open").touch()
            await judge.over()
        return await desk.ended(judge)


def in_the_queue(task: dict[str, str]) -> bool:
    return task["phase"] == "merging" or task["status"] == "completed"


def combined(ended: Ended) -> set[str]:
    """Return the trees that were checked, and that no agent left."""
    return trees(ended, "task.checked") - trees(ended, "task.captured")


def trees(ended: Ended, kind: str) -> set[str]:
    return {event["data"]["tree"] for event in ended.events if event["kind"] == kind}


@pytest.mark.slow
async def test_five_that_are_ready_at_once_need_two_runs_of_the_checks_on_combined_trees(
    desk: Desk, gate: Path
) -> None:
    sample = await desk.sample()
    held = Held(gate / "good")

    ended = await held.run(desk, sample, [held.task(n) for n in range(1, 6)])

    assert ended.faults == ""
    assert set(ended.ends().values()) == {MERGED}
    # Whoever came first, and all the others that came while its checks waited.
    assert 1 <= len(combined(ended)) <= 2


@pytest.mark.slow
async def test_one_that_breaks_the_others_is_taken_out_and_they_land(
    desk: Desk, gate: Path
) -> None:
    sample = await desk.sample()
    held = Held(gate / "bad")
    check = "test $(ls | grep -c unit) -le 1"
    units = [held.task(n, f"{n}.unit", checks=[check]) for n in (1, 3)]
    parts = [held.task(n, checks=[check]) for n in (2, 4)]

    ended = await held.run(desk, sample, [units[0], parts[0], units[1], parts[1]])

    assert ended.faults == ""
    assert sorted(ended.ends().values()) == [MERGED, MERGED, MERGED, ("failed", "checks")]
    first, *_ = (event for event in ended.events if event["kind"] == "task.try_failed")
    assert f"on the combined tree, checks did not pass: `{check}`" in first["data"]["why"]
    assert len([path for path in await sample.paths() if path.endswith(".unit")]) == 1
