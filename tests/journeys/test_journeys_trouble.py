"""Journeys with trouble: agents, reviewers and people that do not do as the plan wants."""

from __future__ import annotations

import re
from typing import Any

import pytest

from commandcenter.testing.desk import Desk
from commandcenter.testing.judge import Judge
from commandcenter.testing.scene import batch, plan, task

MERGED = ("completed", "merged")


@pytest.mark.slow
async def test_a_failing_task_holds_up_only_what_needs_it(desk: Desk) -> None:
    sample = await desk.sample()
    broken = task("1.1", "Broken", files=["broken.txt"], script="run echo I give up >&2\nexit 3")
    fine = task("1.2", "Fine", files=["fine.txt"])
    needy = task("1.3", "Needy", files=["needy.txt"], after=["1.1"])
    later = task("2.1", "Later", files=["later.txt"])
    apart = task("3.1", "Apart", files=["apart.txt"])
    text = plan(
        batch(1, broken, fine, needy, mode="parallel"),
        batch(2, later),
        batch(3, apart).replace("\n\n", "\n**Dependencies:** None\n\n", 1),
    )

    ended = await desk.run(sample, text)

    assert ended.faults == ""
    assert ended.ends() == {
        "1.1": ("failed", "agent"),
        "1.2": MERGED,
        "1.3": ("skipped", "dependency"),
        "2.1": ("skipped", "dependency"),
        "3.1": MERGED,
    }
    assert "I give up" in ended.tasks["1.1"]["error"]
    assert "1.1, which failed" in ended.tasks["1.3"]["error"]
    assert ended.status["status"] == "failed"
    assert [ended.tasks[each]["attempt"] for each in ("1.1", "1.2", "3.1")] == [3, 1, 1]
    assert set(await sample.paths()) == {"README.md", "numbers.txt", "fine.txt", "apart.txt"}


TROUBLE = {
    "hangs": ("only-on-attempt 1 hang", "idle"),
    "ignores being asked to stop": (
        "only-on-attempt 1 ignore-term\nonly-on-attempt 1 hang",
        "idle",
    ),
    "exits non-zero": ("only-on-attempt 1 exit 7", "exit"),
    "prints a gigabyte": ("only-on-attempt 1 flood 1073741824", "output"),
}


@pytest.mark.slow
async def test_an_agent_that_fails_once_in_any_way_is_tried_again(desk: Desk) -> None:
    sample = await desk.sample()
    tasks = [
        task(
            f"1.{number}",
            f"An agent that {name}",
            files=[f"{number}.txt"],
            script=f"{script}\nwrite {number}.txt\n| done",
        )
        for number, (name, (script, _)) in enumerate(TROUBLE.items(), 1)
    ]

    ended = await desk.run(sample, plan(batch(1, *tasks, mode="parallel")), agent="hasty")

    assert ended.faults == ""
    assert set(ended.ends().values()) == {MERGED}
    for number, (_, reason) in enumerate(TROUBLE.values(), 1):
        (failed,) = ended.data("task.try_failed", f"1.{number}")
        assert f"({reason})" in failed["why"]


async def test_a_program_that_is_missing_inside_ends_the_task_at_once(desk: Desk) -> None:
    sample = await desk.sample()
    text = plan(batch(1, task("1.1", "A file", files=["a.txt"])))

    ended = await desk.run(sample, text, agent_command="cd . && no-such-program --yes")

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("failed", "agent")}
    assert ended.tasks["1.1"]["attempt"] == 1
    assert "cannot be started inside the sandbox" in ended.tasks["1.1"]["error"]
    assert "no-such-program: not found" in ended.tasks["1.1"]["error"]


@pytest.mark.slow
async def test_the_time_limit_of_a_plan_reaches_the_agent(desk: Desk) -> None:
    sample = await desk.sample()
    limits = "---\ncommandcenter: 1\ndefaults:\n  limits: {timeout: 1s}\n---\n"
    slow = task("1.1", "Slow", files=["a.txt"], script="sleep 4\nwrite a.txt\n| too late")

    ended = await desk.run(sample, limits + plan(batch(1, slow)))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("failed", "agent")}
    assert "the agent failed (timeout)" in ended.tasks["1.1"]["error"]
    assert await sample.tip() == sample.start


async def test_daemons_of_an_agent_end_with_it(desk: Desk) -> None:
    sample = await desk.sample()
    script = "daemon\nrun nohup sleep 1000 >/dev/null 2>&1 &\ndaemon\nwrite a.txt\n| done"

    ended = await desk.run(
        sample, plan(batch(1, task("1.1", "Daemons", files=["a.txt"], script=script)))
    )

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}


async def test_what_a_failing_check_says_reaches_the_next_try(desk: Desk) -> None:
    sample = await desk.sample()
    script = "unless-feedback write a.txt\n| wrong\nwhen-feedback write a.txt\n| right"
    mend = task(
        "1.1", "Mend", files=["a.txt"], script=script, checks=["cat a.txt && grep right a.txt"]
    )

    ended = await desk.run(sample, plan(batch(1, mend)))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    (failed,) = ended.data("task.try_failed", "1.1")
    assert "wrong" in failed["feedback"]
    assert await sample.read("a.txt") == "right"


async def test_a_check_that_never_passes_is_never_merged(desk: Desk) -> None:
    sample = await desk.sample()
    hopeless = task("1.1", "Hopeless", files=["a.txt"], checks=["echo not good; false"])

    ended = await desk.run(sample, plan(batch(1, hopeless)))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("failed", "checks")}
    assert "not good" in ended.tasks["1.1"]["error"]
    assert await sample.tip() == sample.start


async def test_a_review_that_asks_for_a_change_gets_it(desk: Desk) -> None:
    sample = await desk.sample()
    script = """
unless-feedback write hello.py
| print("hello")
when-feedback write hello.py
| print("HELLO")
review revise "hello.py:1: Say it louder" then approve
"""
    loud = task("1.1", "Greet", files=["hello.py"], script=script)

    ended = await desk.run(sample, plan(batch(1, loud)))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert [each["decision"] for each in ended.data("task.reviewed", "1.1")] == [
        "revise",
        "approve",
    ]
    assert len({each["number"] for each in ended.data("task.proposed", "1.1")}) == 1
    assert await sample.read("hello.py") == 'print("HELLO")'


@pytest.mark.slow
async def test_a_reviewer_without_a_valid_verdict_never_approves(desk: Desk) -> None:
    sample = await desk.sample()
    decisions = ("prose", "garbage", "crash", "hang", "reject")
    tasks = [
        task(
            f"1.{number}",
            f"Reviewed by {decision}",
            files=[f"{decision}.txt"],
            script=f"write {decision}.txt\n| words\nreview {decision}",
        )
        for number, decision in enumerate(decisions, 1)
    ]

    ended = await desk.run(
        sample, plan(batch(1, *tasks, mode="parallel")), reviewer="hasty", patience_s=90
    )

    assert ended.faults == ""
    assert set(ended.ends().values()) == {("failed", "review")}
    assert await sample.tip() == sample.start
    assert ended.status["active_prs"] == []


async def test_work_that_is_there_already_needs_no_pull_request(desk: Desk) -> None:
    sample = await desk.sample()
    checked = task(
        "1.1", "Checked", files=["README.md"], script="print it is", checks=["test -f README.md"]
    )
    seen = task("1.2", "Seen", files=["numbers.txt"], script="print it is")

    ended = await desk.run(sample, plan(batch(1, checked, seen)))

    assert ended.faults == ""
    already = ("completed", "already-done")
    assert ended.ends() == {"1.1": already, "1.2": already}
    assert [each["pr_number"] for each in ended.tasks.values()] == [None, None]
    assert (ended.status["status"], await sample.tip()) == ("completed", sample.start)


async def test_nothing_changed_and_nothing_checked_is_a_failure(desk: Desk) -> None:
    sample = await desk.sample()
    lazy = task("1.1", "Lazy", files=["missing.txt"], script="print done, trust me")

    ended = await desk.run(sample, plan(batch(1, lazy)))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("failed", "nothing-changed")}


async def test_a_cancelled_run_stops_its_agents_and_leaves_nothing(desk: Desk) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    quick = task("1.1", "Quick", files=["quick.txt"])
    tasks = [
        task(f"1.{n}", f"Endless {n}", files=[f"{n}.txt"], script="daemon\nhang") for n in (2, 3)
    ]

    run = await desk.start(
        sample, plan(batch(1, quick, *tasks, mode="parallel"), batch(2, task("2.1", "Later")))
    )
    async with judge.watching(desk.url, run):
        await desk.until(f"/{run}/tasks/1.1", lambda task: task["status"] == "completed")
        for number in (2, 3):
            await desk.until(f"/{run}/tasks/1.{number}", lambda task: task["phase"] == "working")
        assert (await desk.post(f"/{run}/cancel")).status_code == 200
        await judge.over()
    ended = await desk.ended(judge)

    assert ended.faults == ""
    cancelled = ("cancelled", "cancelled")
    assert ended.ends() == {"1.1": MERGED, "1.2": cancelled, "1.3": cancelled, "2.1": cancelled}
    assert ended.status["status"] == "cancelled"


@pytest.mark.slow
async def test_a_failed_run_can_be_tried_again(desk: Desk) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    script = "only-on-attempt 4 write a.txt\n| at last\nonly-on-attempt 1 exit 1"
    late = task("1.1", "Late", files=["a.txt"], script=script, checks=["test -f a.txt"])
    needy = task("1.2", "Needy", files=["b.txt"])

    run = await desk.start(sample, plan(batch(1, late, needy)))
    await judge.ended(desk.url, run)
    first = await desk.get(f"/{run}/status")
    assert (await desk.post(f"/{run}/retry")).status_code == 200
    await judge.ended(desk.url, run)
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert (first["tasks_failed"], first["tasks_skipped"]) == (1, 1)
    assert ended.ends() == {"1.1": MERGED, "1.2": MERGED}
    assert ended.tasks["1.1"]["attempt"] == 4


async def _call_the_hub(desk: Desk, task: Any, method: str, last: str, body: Any) -> int:
    owner, name = re.findall(r"/hub/([^/]+)/([^/]+)/pull/", task["pr_url"])[0]
    headers = {"Authorization": f"Bearer {desk.installation.hub_token()}"}
    path = f"/hub/repos/{owner}/{name}/pulls/{task['pr_number']}{last}"
    async with desk.client() as client:
        return (await client.request(method, path, json=body, headers=headers)).status_code


@pytest.mark.slow
async def test_without_auto_merge_a_person_merges(desk: Desk) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)
    tasks = [task(f"1.{n}", f"File {n}", files=[f"{n}.txt"]) for n in (1, 2)]

    run = await desk.start(sample, plan(batch(1, *tasks)), auto_merge=False)
    async with judge.watching(desk.url, run):
        for number in (1, 2):
            waiting = await desk.until(
                f"/{run}/tasks/1.{number}", lambda t: t["phase"] == "waiting"
            )
            assert "or merge its pull request" in waiting["waiting_for"]
            assert f"{number}.txt" not in await sample.paths()
            assert await _call_the_hub(desk, waiting, "PUT", "/merge", {}) == 200
            await desk.until(f"/{run}/tasks/1.{number}", lambda t: t["status"] == "completed")
        await judge.over()
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED, "1.2": MERGED}
    assert {"1.txt", "2.txt"} < set(await sample.paths())


async def test_a_pull_request_that_a_person_closes_has_failed(desk: Desk) -> None:
    sample = await desk.sample()
    judge = await Judge.appoint(desk.installation, sample)

    run = await desk.start(
        sample, plan(batch(1, task("1.1", "A file", files=["a.txt"]))), auto_merge=False
    )
    async with judge.watching(desk.url, run):
        waiting = await desk.until(f"/{run}/tasks/1.1", lambda t: t["phase"] == "waiting")
        assert await _call_the_hub(desk, waiting, "PATCH", "", {"state": "closed"}) == 200
        await judge.over()
    ended = await desk.ended(judge)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("failed", "proposal-closed")}
    assert await sample.tip() == sample.start


@pytest.mark.parametrize("path", ["../outside.txt", ".git/hooks/post-commit"])
async def test_files_outside_of_the_tree_never_land(desk: Desk, path: str) -> None:
    sample = await desk.sample()
    script = f"write {path}\n| evil\nwrite a.txt\n| good"

    ended = await desk.run(
        sample, plan(batch(1, task("1.1", "Outside", files=["a.txt"], script=script)))
    )

    assert ended.faults == ""
    assert set(await sample.paths()) == {"README.md", "numbers.txt", "a.txt"}
