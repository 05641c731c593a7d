"""Journeys that land: a plan goes in, merged pull requests come out."""

from __future__ import annotations

import asyncio

import pytest

from commandcenter.testing.desk import Desk
from commandcenter.testing.judge import Judge, Untouched
from commandcenter.testing.scene import batch, plan, task

MERGED = ("completed", "merged")


async def test_several_files_of_one_task_are_one_pull_request(desk: Desk) -> None:
    sample = await desk.sample()
    several = task(
        "1.1",
        "Several files",
        files=["src/a.py", "src/deep/b.py", "Modify: README.md", "Delete: numbers.txt"],
        script="""
write src/a.py
| A = 1
write src/deep/b.py
| B = 2
append README.md
| More.
delete numbers.txt
""",
    )

    ended = await desk.run(sample, plan(batch(1, several)))

    assert ended.faults == ""
    assert ended.tasks["1.1"]["pr_number"] == 1
    assert set(await sample.paths()) == {"README.md", "src/a.py", "src/deep/b.py"}


async def test_two_runs_at_once_on_one_repository_all_land(desk: Desk) -> None:
    sample = await desk.sample()
    judges = [await Judge.appoint(desk.installation, sample) for _ in range(2)]
    plans = [
        plan(
            batch(
                1,
                *[task(f"1.{n}", f"File {w}{n}", files=[f"{w}{n}.txt"]) for n in (1, 2)],
                mode="parallel",
            )
        )
        for w in ("left", "right")
    ]

    runs = [await desk.start(sample, each) for each in plans]
    await asyncio.gather(
        *[judge.ended(desk.url, run) for judge, run in zip(judges, runs, strict=True)]
    )

    for judge in judges:
        ended = await desk.ended(judge)
        assert ended.faults == ""
        assert set(ended.ends().values()) == {MERGED}
    assert len(await sample.paths()) == 6
    assert await sample.branches() == ("main",)


async def test_uncommitted_work_in_the_checkout_stays_as_it_is(desk: Desk) -> None:
    sample = await desk.sample()
    sample.soil()
    change = task(
        "1.1", "Change the readme", files=["Modify: README.md"], script="append README.md\n| New."
    )

    ended = await desk.run(sample, plan(batch(1, change)))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert await sample.read("README.md") == "# A sample project\nNew."
    assert "Work in progress." in (sample.checkout / "README.md").read_text()
    assert "Uncommitted changes" in " ".join(ended.status["notes"])


async def test_without_a_remote_a_clean_checkout_is_advanced(desk: Desk) -> None:
    sample = await desk.sample(remote=False)
    tasks = [task(f"1.{n}", f"File {n}", files=[f"{n}.txt"]) for n in (1, 2)]

    ended = await desk.run(sample, plan(batch(1, *tasks)), untouched=Untouched.NOTHING)

    assert ended.faults == ""
    assert set(ended.ends().values()) == {MERGED}
    assert (sample.checkout / "2.txt").is_file()
    assert await sample.run("status", "--porcelain") == ""
    assert await sample.run("symbolic-ref", "HEAD") == "refs/heads/main"


async def test_without_a_remote_a_dirty_checkout_is_left_alone(desk: Desk) -> None:
    sample = await desk.sample(remote=False)
    sample.soil()
    tasks = [task(f"1.{n}", f"File {n}", files=[f"{n}.txt"]) for n in (1, 2)]

    ended = await desk.run(sample, plan(batch(1, *tasks)), untouched=Untouched.WORK)

    assert ended.faults == ""
    assert set(ended.ends().values()) == {MERGED}
    branch = f"commandcenter/{ended.execution_id}/result"
    assert ended.status["landed_on"] == branch
    assert branch in " ".join(ended.status["notes"])
    assert {"1.txt", "2.txt"} < set(await sample.paths(branch))
    assert await sample.tip("main") == sample.start


async def test_a_checkout_that_becomes_dirty_meanwhile_is_left_alone(desk: Desk) -> None:
    sample = await desk.sample(remote=False)
    judge = await Judge.appoint(desk.installation, sample, untouched=Untouched.NOTHING)
    first = task("1.1", "First", files=["1.txt"])
    second = task("1.2", "Second", files=["Modify: README.md"], script="append README.md\n| New.")

    run = await desk.start(sample, plan(batch(1, first, second)))
    async with judge.watching(desk.url, run):
        await desk.until(f"/{run}/tasks/1.1", lambda task: task["status"] == "completed")
        sample.soil()
        mine = (sample.checkout / "README.md").read_text()
        await judge.over()
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert set(ended.ends().values()) == {MERGED}
    assert (sample.checkout / "README.md").read_text() == mine
    assert ended.status["landed_on"] == f"commandcenter/{run}/result"
    assert "New." in await sample.read("README.md", ended.status["landed_on"])


async def test_work_that_a_person_pushes_meanwhile_is_kept(desk: Desk) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    slow = task("1.1", "Slow", files=["slow.txt"], script="sleep 1\nwrite slow.txt\n| slow")

    run = await desk.start(sample, plan(batch(1, slow)))
    async with judge.watching(desk.url, run):
        await desk.until(f"/{run}/tasks/1.1", lambda task: task["phase"] == "working")
        judge.outsiders = frozenset({await sample.push({"person.txt": "Mine.\n"})})
        await judge.over()
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert {"person.txt", "slow.txt"} < set(await sample.paths())


async def test_another_default_branch_is_the_target(desk: Desk) -> None:
    sample = await desk.sample(branch="master")

    ended = await desk.run(sample, plan(batch(1, task("1.1", "A file", files=["a.txt"]))))

    assert ended.faults == ""
    assert ended.status["landed_on"] == "master"
    assert "a.txt" in await sample.paths("master")


@pytest.mark.slow
async def test_parallel_tasks_that_conflict_both_land_one_done_again(desk: Desk) -> None:
    sample = await desk.sample()
    tasks = [
        task(
            f"1.{n}",
            f"Change {n}",
            script=f"sleep 2\nappend numbers.txt\n| number {n}",
            checks=[f"grep 'number {n}' numbers.txt"],
        )
        for n in (1, 2)
    ]

    ended = await desk.run(sample, plan(batch(1, *tasks, mode="parallel")))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED, "1.2": MERGED}
    assert {"number 1", "number 2"} < set((await sample.read("numbers.txt")).splitlines())
    (again,) = (event for event in ended.events if event["kind"] == "task.try_failed")
    assert "conflicts with what landed meanwhile in: numbers.txt" in again["data"]["why"]


@pytest.mark.slow
async def test_two_greens_that_make_a_red_are_not_merged(desk: Desk) -> None:
    sample = await desk.sample()
    checks = ["test $(cat *.unit 2>/dev/null | wc -l) -le 1"]
    tasks = [
        task(
            f"1.{n}",
            f"Unit {n}",
            files=[f"{n}.unit"],
            script=f"sleep 2\nwrite {n}.unit\n| unit",
            checks=checks,
        )
        for n in (1, 2)
    ]

    ended = await desk.run(sample, plan(batch(1, *tasks, mode="parallel")))

    assert ended.faults == ""
    assert sorted(ended.ends().values()) == [MERGED, ("failed", "checks")]
    first, *_ = (event for event in ended.events if event["kind"] == "task.try_failed")
    assert "combined tree" in first["data"]["why"]
    assert len([path for path in await sample.paths() if path.endswith(".unit")]) == 1


@pytest.mark.parametrize(("words", "number"), [("start_batch", 2), ("end_batch", 1)])
async def test_batches_outside_of_the_range_are_not_run(
    desk: Desk, words: str, number: int
) -> None:
    sample = await desk.sample()
    batches = [batch(n, task(f"{n}.1", f"File {n}", files=[f"{n}.txt"])) for n in (1, 2)]
    judge = await Judge.appoint(desk.installation, sample)

    run = await desk.start(sample, plan(*batches), **{words: number})
    await judge.ended(desk.url, run)
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.tasks[f"{number}.1"]["status"] == "completed"
    assert ended.status["status"] == "completed"
    assert set(await sample.paths()) == {"README.md", "numbers.txt", f"{number}.txt"}


def boxes(*, edited: str = "") -> str:
    """Return a plan of five tasks, each with a box; the three in the middle are ticked."""
    tasks = [
        task(f"1.{n}", f"File {n}", files=[f"{n}.txt"], text=f"- [{box}] write it{more}")
        for n, box, more in zip((1, 2, 3, 4, 5), " xxx ", ("", "", "", "", edited), strict=True)
    ]
    return plan(batch(1, *tasks))


IN_PLAN, BEFORE = ("skipped", "done-in-plan"), ("skipped", "landed-before")


@pytest.mark.slow
async def test_what_is_done_or_landed_before_is_run_only_when_it_is_asked_for_or_edited(
    desk: Desk,
) -> None:
    sample, other = await desk.sample(), await desk.sample("other")
    edited = boxes(edited=" anew")
    middle = ("1.2", "1.3", "1.4")

    first = await desk.run(sample, boxes())
    second = await desk.run(sample, edited, continues=first.execution_id)
    third = await desk.run(sample, edited, continues=second.execution_id, rerun="done")
    wrong = [
        await desk.post("/start", desk.body(at, boxes(), **said))
        for at, said in (
            (sample, {"rerun": "1.22"}),
            (sample, {"continues": "exec_none"}),
            (other, {"continues": first.execution_id}),
        )
    ]

    assert [run.faults for run in (first, second, third)] == ["", "", ""]
    assert first.ends() == {**dict.fromkeys(middle, IN_PLAN), "1.1": MERGED, "1.5": MERGED}
    assert second.ends() == {**first.ends(), "1.1": BEFORE, "1.5": ("completed", "already-done")}
    assert third.ends() == {**dict.fromkeys(middle, MERGED), "1.1": BEFORE, "1.5": BEFORE}
    commit = first.tasks["1.1"]["merge_commit"][:12]
    told = f"it landed in run {first.execution_id} as {commit}"
    assert {run.tasks["1.1"]["explanation"] for run in (second, third)} == {told}
    assert [answer.status_code for answer in wrong] == [400, 404, 400]


async def test_what_landed_and_is_gone_from_the_target_is_run_again_and_told(desk: Desk) -> None:
    sample = await desk.sample()
    text = plan(batch(1, task("1.1", "One", files=["one.txt"])))
    first = await desk.run(sample, text)
    await sample.ask("update-ref", "refs/heads/main", sample.start)

    again = await desk.run(sample, text, continues=first.execution_id)

    assert again.faults == ""
    assert again.ends() == {"1.1": MERGED}
    assert "Task 1.1 is run again: it landed in run" in " ".join(again.status["notes"])


async def test_a_canonical_plan_is_taken_by_value(desk: Desk) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    canonical = {
        "schema": "cc.plan/1",
        "title": "By value",
        "batches": [{"id": "1", "title": "Only", "ordinal": 1}],
        "tasks": [
            {
                "id": "1.1",
                "title": "A file",
                "batch": "1",
                "files": [{"path": "a.txt", "op": "create"}],
            }
        ],
    }

    answer = await desk.post("/start", {"plan": canonical, "repository": str(sample.checkout)})
    assert answer.status_code == 200, answer.text
    await judge.ended(desk.url, answer.json()["execution_id"])
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
