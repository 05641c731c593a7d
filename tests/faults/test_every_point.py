"""A service that is killed at every point where it changes something: the run ends as without."""

from __future__ import annotations

from pathlib import Path

import pytest

from commandcenter.testing.desk import Desk, Host
from commandcenter.testing.faults.lives import Mortal
from commandcenter.testing.judge import judge_stopped
from commandcenter.testing.scene import Installation, Sample, batch, plan, task

MERGED = ("completed", "merged")

COUNTS_ITS_STARTS = "run echo started >> starts.txt\n"
TWO_TRIES_AND_TWO_REVIEWS = plan(
    batch(
        1,
        task(
            "1.1",
            "One",
            files=["one.txt", "starts.txt"],
            script=COUNTS_ITS_STARTS
            + "write one.txt\n| draft\nwhen-feedback write one.txt\n| final\n"
            + 'review revise "one.txt:1: Once more" then approve',
            checks=["grep -q final one.txt"],
        ),
    )
)
FAILING = plan(
    batch(
        1,
        task("1.1", "There", files=["Modify: README.md"], script="print nothing", checks=["true"]),
        task("1.2", "Fails", files=["two.txt"], checks=["false"]),
        task("1.3", "Waits", files=["three.txt"], after=["1.2"]),
    )
)
SIDE_BY_SIDE = plan(
    batch(
        1,
        *(task(f"1.{n}", f"Side {n}", files=[f"{n}.txt"], checks=["true"]) for n in (1, 2)),
        mode="parallel",
    )
)
HANGS_AT_FIRST = plan(
    batch(
        1,
        task(
            "1.1",
            "Hangs",
            files=["hangs.txt"],
            script="print started\nonly-on-attempt 1 hang\nwrite hangs.txt\n| done",
        ),
    )
)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The points that a run of this module was killed at: the next one need not be."""
    return tmp_path_factory.mktemp("points") / "journal"


@pytest.fixture
def mortal(tmp_path: Path, journal: Path) -> Mortal:
    """A service of two workers that is killed at every point."""
    return Mortal(Host(Installation.make(tmp_path / "own", workers=2), tmp_path), journal)


NAMED = (
    *("run.submitted", "task.started", "task.phase", "task.captured", "task.checked"),
    *("task.try_failed", "task.proposed", "task.reviewed", "task.completed", "run.ended"),
    *("git init", "git fetch", "git fast-import", "git index-pack", "git update-ref"),
    *("git push *:refs/heads/commandcenter/", "git push *:refs/heads/main"),
    *("git push :refs/heads/commandcenter/", "start try-1", "start check", "start review-1"),
    *("insert hub_pulls", "insert hub_reviews", "insert hub_statuses", "insert workflow_output"),
    *("objects/pack/pack-*.pack", "objects/pack/pack-*.idx", "rename to service.json"),
    *("rename to vaults/*/repository.git", "rename to workspaces/bases/", "rename to logs/"),
)
"""What must be among the points of a whole run, or the harness has gone deaf."""


def unheard(points: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    return [name for name in names if not any(name in point for point in points)]


@pytest.mark.slow(minutes=4)
@pytest.mark.timeout(700)
async def test_tries_and_reviews_are_neither_lost_nor_repeated(
    mortal: Mortal, sample: Sample
) -> None:
    chronicle = await mortal.run(sample, TWO_TRIES_AND_TWO_REVIEWS)

    ended = chronicle.ended
    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert (ended.tasks["1.1"]["attempt"], ended.tasks["1.1"]["pr_number"]) == (3, 1)
    assert await sample.read("starts.txt") == "started\n" * 2 + "started"
    assert await sample.read("one.txt") == "final"
    assert [e["data"]["decision"] for e in ended.events if e["kind"] == "task.reviewed"] == [
        "revise",
        "approve",
    ]
    assert unheard(chronicle.points, NAMED) == []
    assert await judge_stopped(mortal.host.installation) == ()


@pytest.mark.slow(minutes=4)
@pytest.mark.timeout(700)
async def test_a_failure_stays_one_and_skips_what_needs_it(mortal: Mortal, sample: Sample) -> None:
    chronicle = await mortal.run(sample, FAILING)

    ended = chronicle.ended
    assert ended.faults == ""
    assert ended.ends() == {
        "1.1": ("completed", "already-done"),
        "1.2": ("failed", "checks"),
        "1.3": ("skipped", "dependency"),
    }
    assert ended.tasks["1.2"]["attempt"] == 3
    assert await sample.tip() == sample.start
    assert unheard(chronicle.points, ("task.failed", "task.skipped")) == []
    assert await judge_stopped(mortal.host.installation) == ()


@pytest.mark.slow(minutes=4)
@pytest.mark.timeout(700)
async def test_two_at_once_land_one_after_the_other(mortal: Mortal, sample: Sample) -> None:
    chronicle = await mortal.run(sample, SIDE_BY_SIDE)

    ended = chronicle.ended
    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED, "1.2": MERGED}
    assert sorted(each["pr_number"] for each in ended.tasks.values()) == [1, 2]
    assert {"1.txt", "2.txt"} < set(await sample.paths())
    assert unheard(chronicle.points, ("git merge-tree", "git commit-tree")) == []
    assert await judge_stopped(mortal.host.installation) == ()


@pytest.mark.slow(minutes=4)
@pytest.mark.timeout(700)
async def test_a_cancelled_run_is_cancelled_and_retried_once(
    mortal: Mortal, sample: Sample
) -> None:
    chronicle = await mortal.run(sample, HANGS_AT_FIRST, meanwhile=cancel_and_retry)

    ended = chronicle.ended
    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert ended.tasks["1.1"]["attempt"] == 2
    assert ended.kinds("1.1").count("task.cancelled") == 1
    assert ended.kinds("1.1").count("task.reopened") == 1
    assert unheard(chronicle.points, ("task.cancelled", "task.reopened")) == []
    assert await judge_stopped(mortal.host.installation) == ()


async def cancel_and_retry(mortal: Mortal, run: str) -> None:
    """Cancel the run while its agent works, and retry it, as a person whose words may get lost."""

    async def state(desk: Desk) -> str:
        return str((await desk.get(f"/{run}/tasks/1.1"))["status"])

    async def working(desk: Desk) -> None:
        await desk.until(
            f"/{run}/events?format=json", lambda all_: any(e["kind"] == "agent" for e in all_)
        )

    async def cancel(desk: Desk) -> None:
        if await state(desk) == "in_progress":
            assert (await desk.post(f"/{run}/cancel")).status_code == 200
        await desk.until(f"/{run}/status", lambda status: status["completed_at"] is not None)

    async def retry(desk: Desk) -> None:
        if await state(desk) == "cancelled":
            assert (await desk.post(f"/{run}/retry")).status_code == 200

    for ask in (working, cancel, retry):
        await mortal.persistently(ask)
