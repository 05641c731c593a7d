"""What the pipelines before this one got wrong, each with the outcome that is right.

Rows that are about reading plans are in `tests/plan`, about forges in `tests/forges`, and about
crashes in `test_journeys_durability.py`.
"""

from __future__ import annotations

import asyncio

import pytest

from commandcenter.testing.desk import Desk
from commandcenter.testing.judge import Judge
from commandcenter.testing.scene import batch, plan, task

MERGED = ("completed", "merged")


async def test_commits_that_an_agent_made_itself_are_proposed_like_any_work(desk: Desk) -> None:
    sample = await desk.sample()
    script = "write a.txt\n| committed\ncommit All of it\nwrite b.txt\n| not committed"
    both = task("1.1", "Commits", files=["a.txt", "b.txt"], script=script)

    ended = await desk.run(sample, plan(batch(1, both)))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert set(await sample.paths()) == {"README.md", "numbers.txt", "a.txt", "b.txt"}


async def test_the_service_answers_while_an_agent_hangs(desk: Desk) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)

    run = await desk.start(sample, plan(batch(1, task("1.1", "Hangs", script="hang"))))
    async with judge.watching(desk.url, run):
        await desk.until(f"/{run}/tasks/1.1", lambda task: task["phase"] == "working")
        async with asyncio.timeout(40):
            other = await desk.run(
                await desk.sample("other"), plan(batch(1, task("1.1", "Other", files=["o.txt"])))
            )
        await desk.post(f"/{run}/cancel")
        await judge.over()
    ended = await desk.ended(judge)

    assert (ended.faults, other.faults) == ("", "")
    assert other.ends() == {"1.1": MERGED}
    assert ended.ends() == {"1.1": ("cancelled", "cancelled")}


@pytest.mark.slow
async def test_a_second_plan_with_the_same_task_number_has_its_own_pull_request(
    desk: Desk,
) -> None:
    sample = await desk.sample()
    judges = [await Judge.appoint(desk.installation, sample) for _ in range(2)]
    texts = [plan(batch(1, task("1.1", "A file", files=[f"{n}.txt"]))) for n in (1, 2)]

    runs = [await desk.start(sample, text, auto_merge=False) for text in texts]
    async with judges[0].watching(desk.url, runs[0]), judges[1].watching(desk.url, runs[1]):
        waiting = [
            await desk.until(f"/{run}/tasks/1.1", lambda task: task["phase"] == "waiting")
            for run in runs
        ]
        tips = [await sample.tip(task_["branch_name"]) for task_ in waiting]
        for run, judge in zip(runs, judges, strict=True):
            await desk.post(f"/{run}/cancel")
            await judge.over()
    ended = [await desk.ended(judge) for judge in judges]

    assert [each.faults for each in ended] == ["", ""]
    assert tips == [task_["commits"][0] for task_ in waiting]
    assert len({task_["pr_number"] for task_ in waiting}) == 2
    assert await sample.branches() == ("main",)


async def test_two_tasks_that_change_one_file_both_land(desk: Desk) -> None:
    sample = await desk.sample()
    tasks = [
        task(
            f"1.{n}",
            f"Line {n}",
            files=["Modify: numbers.txt"],
            script=f"append numbers.txt\n| line {n}",
            checks=[f"grep 'line {n}' numbers.txt"],
        )
        for n in (1, 2, 3)
    ]

    ended = await desk.run(sample, plan(batch(1, *tasks, mode="parallel")))

    assert ended.faults == ""
    assert set(ended.ends().values()) == {MERGED}
    assert (await sample.read("numbers.txt")).endswith("line 1\nline 2\nline 3")


async def test_a_task_waits_for_the_one_it_names_even_when_that_comes_later(desk: Desk) -> None:
    sample = await desk.sample()
    first = task("1.1", "Needs", files=["b.txt"], checks=["test -f a.txt"], after=["1.2"])
    second = task("1.2", "Needed", files=["a.txt"])

    ended = await desk.run(sample, plan(batch(1, first, second, mode="parallel")))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED, "1.2": MERGED}
    assert ended.tasks["1.2"]["completed_at"] <= ended.tasks["1.1"]["started_at"]


async def test_batches_with_decimals_are_batches_of_their_own(desk: Desk) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    batches = [
        batch(1, task(f"{number}.1", "A file", files=[f"{number}.txt"])).replace(
            "Batch 1:", f"Batch {number}:"
        )
        for number in ("1", "1.1", "1.5", "1.10")
    ]

    answer = await desk.post("/start", desk.body(sample, plan(*batches)))
    await judge.ended(desk.url, answer.json()["execution_id"])
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert set(ended.ends().values()) == {MERGED}
    assert answer.json()["batches_scheduled"] == [1, 1.1, 1.5, "1.10"]
    assert [each["batch_number"] for each in ended.tasks.values()] == [1, 1.1, 1.5, "1.10"]


async def test_a_prompt_of_many_kilobytes_reaches_the_agent(desk: Desk) -> None:
    sample = await desk.sample()
    text = "\n".join(f"Consideration {n}: all of this matters greatly." for n in range(6000))
    script = 'run test $(wc -c < "$CC_PROMPT_FILE") -gt 200000 && echo long > a.txt'
    long = task("1.1", "Long words", files=["a.txt"], text=text, script=script)

    ended = await desk.run(sample, plan(batch(1, long)))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}


async def test_a_run_has_no_wildcards_in_its_name(desk: Desk) -> None:
    sample = await desk.sample()
    ended = await desk.run(sample, plan(batch(1, task("1.1", "A file", files=["a.txt"]))))
    wild = ("%25", "exec_%25", "exec_________", "_" * 13, "..%2F", f"%2F{ended.execution_id}")

    async with desk.client() as client:
        path = "/api/v1/autonomous/{}/tasks/1.1"
        real = await client.get(path.format(ended.execution_id))
        answers = [await client.get(path.format(run)) for run in wild]

    assert ended.faults == ""
    assert real.status_code == 200
    assert [answer.status_code for answer in answers] == [404] * len(wild)


@pytest.mark.slow
async def test_many_small_tasks_on_few_workers_lose_none(desk: Desk) -> None:
    sample = await desk.sample()
    tasks = [task(f"1.{n}", f"Small {n}", files=[f"{n}.txt"]) for n in range(1, 9)]

    ended = await desk.run(sample, plan(batch(1, *tasks, mode="parallel")), patience_s=90)

    assert ended.faults == ""
    assert list(ended.ends().values()) == [MERGED] * 8
    assert [task["attempt"] for task in ended.tasks.values()] == [1] * 8
