"""Journeys in which several agents work together on one task."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from commandcenter.testing.desk import Desk, Ended, Service
from commandcenter.testing.scene import Installation, Sample, batch, plan, task
from commandcenter.testing.scripted_agent import SCRIPTED_AGENT

MERGED = ("completed", "merged")
PROFILES = "".join(
    f'\n[profiles.{name}]\nagent = "shell"\ncommand = "{SCRIPTED_AGENT.name}"\n'
    f'programs = ["{SCRIPTED_AGENT}"]\n'
    for name in ("docs", "second")
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that knows three profiles, all scripted."""
    with Service(Installation.make(tmp_path_factory.mktemp("shared"), more=PROFILES)) as service:
        yield service


def one(
    pattern: str, script: str, *, files: tuple[str, ...] = ("made.txt",), check: str = ""
) -> str:
    """Return a plan of one task."""
    checks = [check] if check else []
    return plan(
        batch(
            1,
            task(
                "1.1", "One", files=files, script=script, checks=checks, fields={"Pattern": pattern}
            ),
        )
    )


def asked(ended: Ended, task_id: str = "1.1") -> list[str]:
    """Return who was asked, round by round: `work`, `work work`, `judge`."""
    rounds = ended.data("task.round", task_id)
    return [" ".join(each["role"] for each in told.get("asks", ())) for told in rounds]


async def runs(desk: Desk, ended: Ended) -> int:
    """Return how many times an agent was started in a run."""
    logs = await desk.get(f"/{ended.execution_id}/logs?format=json")
    agents = [log for log in logs if log["name"].startswith(("ask-", "try-", "review-"))]
    return len({(log["task"], log["attempt"], log["name"]) for log in agents})


@pytest.mark.slow
async def test_a_chain_asks_a_stage_once_more_and_lands_once(desk: Desk, sample: Sample) -> None:
    script = """
        only-on-round 1 write made.txt
        | draft
        only-on-round 2 append made.txt
        | not yet
        only-on-round 3 append made.txt
        | final
    """
    text = one('chain("draft it", "finish it")', script, check="grep -q final made.txt")

    ended = await desk.run(sample, text)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert asked(ended) == ["work", "work", "work"]
    assert await sample.read("made.txt") == "draft\nnot yet\nfinal"
    assert ended.tasks["1.1"]["outcome"] == "accepted"


@pytest.mark.slow
async def test_a_rule_routes_a_task_without_asking_anybody(desk: Desk, sample: Sample) -> None:
    text = one('route(scripted, docs, rules=["docs/** -> docs"])', "", files=("docs/guide.md",))

    ended = await desk.run(sample, text)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert asked(ended) == ["work"]
    (answered,) = ended.data("task.answered", "1.1")
    assert answered["profile"] == "docs"


@pytest.mark.slow
async def test_a_router_that_answers_garbage_twice_leaves_it_to_the_fallback(
    desk: Desk, sample: Sample
) -> None:
    script = 'only-as route result\n| {"profile": 7}\nwrite made.txt\n| made'
    text = one("route(scripted, docs, fallback=second)", script)

    ended = await desk.run(sample, text)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert asked(ended) == ["route", "work"]
    router, worker = ended.data("task.answered", "1.1")
    assert router["problem"]
    assert worker["profile"] == "second"
    assert await runs(desk, ended) == 4  # the router twice, the worker, the reviewer


VOTE = """
    only-on-lane 1 delete check.sh
    only-on-lane 1 write check.sh
    | exit 0
    only-on-lane 2 lines made.txt 400
    only-on-lane 3 lines made.txt 40
"""
CHECK = {"check.sh": "test -s made.txt\n", "README.md": "# Sample\n"}


@pytest.mark.slow
@pytest.mark.parametrize("judge", ["only-as judge rank smallest", "only-as judge crash"])
async def test_a_vote_takes_the_best_that_passes_and_none_that_weakened_the_check(
    desk: Desk, tmp_path: Path, judge: str
) -> None:
    sample = await Sample.make(tmp_path / "sample", files=CHECK)
    text = one("vote(3)", f"{VOTE}\n{judge}", check="sh check.sh")

    ended = await desk.run(sample, text)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert asked(ended) == ["work work work", "judge"]
    assert len((await sample.read("made.txt")).splitlines()) == 40
    (concluded,) = ended.data("task.concluded", "1.1")
    assert concluded["lane"] == 3


@pytest.mark.slow
async def test_a_vote_in_which_nothing_passes_leaves_the_target_alone(
    desk: Desk, sample: Sample
) -> None:
    ended = await desk.run(sample, one("vote(2)", "write made.txt\n| made", check="false"))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("failed", "rejected")}
    assert asked(ended) == ["work work", "work"]  # and one repair
    assert await sample.tip() == sample.start


@pytest.mark.slow
async def test_the_first_that_passes_ends_a_vote_and_stops_the_others(
    desk: Desk, sample: Sample
) -> None:
    script = "only-on-lane 1 hang\nwrite made.txt\n| made"
    ended = await desk.run(
        sample, one("vote(2, pick=first-green)", script, check="test -s made.txt")
    )

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert asked(ended) == ["work work"]


SUBPLAN = """
    only-as plan only-on-round 1 result
    | {"schema": "cc.subplan/1", "rationale": "a cycle", "tasks": [
    |  {"id": "a", "title": "A", "instructions": "a", "depends_on": ["b"],
    |   "files": ["a.txt"], "verification": []},
    |  {"id": "b", "title": "B", "instructions": "b", "depends_on": ["a"],
    |   "files": ["b.txt"], "verification": []}]}
    only-as plan only-on-round 2 result
    | {"schema": "cc.subplan/1", "rationale": "two by two", "tasks": [
    |  {"id": "a", "title": "A", "instructions": "Make a.", "depends_on": [],
    |   "files": ["a.txt"], "verification": ["test -f a.txt"]},
    |  {"id": "b", "title": "B", "instructions": "Make b.", "depends_on": ["a"],
    |   "files": ["b.txt"], "verification": []},
    |  {"id": "c", "title": "C", "instructions": "Make c.", "depends_on": [],
    |   "files": ["c.txt"], "verification": []},
    |  {"id": "d", "title": "D", "instructions": "Make d.", "depends_on": ["b", "c"],
    |   "files": ["d.txt"], "verification": []}]}
"""


@pytest.mark.slow
async def test_a_planner_splits_a_task_which_its_own_checks_join(
    desk: Desk, sample: Sample
) -> None:
    files = ("a.txt", "b.txt", "c.txt", "d.txt")
    first = task(
        "1.1",
        "Whole",
        files=files,
        script=SUBPLAN,
        checks=["cat a.txt b.txt c.txt d.txt"],
        fields={"Pattern": "plan(max_tasks=4)"},
    )
    text = plan(batch(1, first, task("1.2", "After", files=["after.txt"])))

    ended = await desk.run(sample, text)

    assert ended.faults == ""
    children = [f"1.1-{n}" for n in (1, 2, 3, 4)]
    assert list(ended.tasks) == ["1.1", *children, "1.2"]
    assert ended.ends() == {
        "1.1": ("completed", "joined"),
        **dict.fromkeys(children, MERGED),
        "1.2": MERGED,
    }
    assert asked(ended) == ["plan", "plan", ""]
    assert ended.status["status"] == "completed"
    assert set(await sample.paths()) >= {*files, "after.txt"}


OUT_OF_SCOPE = """
    only-as plan result
    | {"schema": "cc.subplan/1", "rationale": "elsewhere", "tasks": [
    |  {"id": "a", "title": "A", "instructions": "a", "depends_on": [],
    |   "files": ["../x"], "verification": []}]}
"""


@pytest.mark.slow
async def test_a_planner_that_leaves_the_scope_twice_is_rejected(
    desk: Desk, sample: Sample
) -> None:
    ended = await desk.run(sample, one("plan", OUT_OF_SCOPE))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("failed", "rejected")}
    assert await sample.tip() == sample.start


FAILS_FIRST = """
    only-as plan only-on-round 1 result
    | {"schema": "cc.subplan/1", "rationale": "first", "tasks": [
    |  {"id": "a", "title": "A", "instructions": "Make a.", "depends_on": [],
    |   "files": ["a.txt"], "verification": []},
    |  {"id": "b", "title": "B", "instructions": "Make b.", "depends_on": ["a"],
    |   "files": ["b.txt"], "verification": ["false"]}]}
    only-as plan result
    | {"schema": "cc.subplan/1", "rationale": "again", "tasks": [
    |  {"id": "b", "title": "B again", "instructions": "Make b.", "depends_on": [],
    |   "files": ["b.txt"], "verification": []}]}
"""


@pytest.mark.slow
async def test_a_sub_task_that_fails_is_planned_once_more_and_what_landed_stays(
    desk: Desk, sample: Sample
) -> None:
    script = FAILS_FIRST.replace("only-as plan result", "only-as plan only-on-round 3 result")
    text = one("plan", script, files=("a.txt", "b.txt"), check="cat a.txt b.txt")

    ended = await desk.run(sample, text)

    assert ended.faults == ""
    assert ended.ends() == {
        "1.1": ("completed", "joined"),
        "1.1-1": MERGED,
        "1.1-2": ("failed", "checks"),
        "1.1-3": MERGED,
    }
    assert ended.status["status"] == "completed"


def handing(to: str, *, only: str = "") -> str:
    """Return operations that pass the work on."""
    said = {"schema": "cc.handoff/1", "to": to, "reason": "r", "summary": "s", "files": []}
    return f"{only}result\n| {json.dumps(said)}\n"


def handed(script: str) -> str:
    """Return a plan whose agents may pass their work on."""
    fields = {"Handoff": "[second, scripted], max=3"}
    return plan(batch(1, task("1.1", "One", files=["made.txt"], script=script, fields=fields)))


@pytest.mark.slow
async def test_an_agent_passes_its_work_on_and_the_other_one_finishes_it(
    desk: Desk, sample: Sample
) -> None:
    script = (
        "only-with scripted write made.txt\n| half\n"
        + handing("second", only="only-with scripted ")
        + "only-with second append made.txt\n| whole"
    )

    ended = await desk.run(sample, handed(script))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert [each["profile"] for each in ended.data("task.answered", "1.1")] == [
        "scripted",
        "second",
    ]
    assert await sample.read("made.txt") == "half\nwhole"


@pytest.mark.slow
async def test_an_answer_that_passes_nothing_on_and_cannot_be_used_decides_nothing(
    desk: Desk, sample: Sample
) -> None:
    ended = await desk.run(sample, handed('write made.txt\n| made\nresult\n| {"status": "great"}'))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert await runs(desk, ended) == 2  # the worker once, and the reviewer


@pytest.mark.slow
async def test_agents_that_pass_it_to_and_fro_are_stopped(desk: Desk, sample: Sample) -> None:
    script = handing("second", only="only-with scripted ") + handing(
        "scripted", only="only-with second "
    )

    ended = await desk.run(sample, handed(script))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("failed", "stalled")}


@pytest.mark.slow
async def test_nobody_passes_work_to_whom_the_plan_does_not_name(
    desk: Desk, sample: Sample
) -> None:
    ended = await desk.run(sample, handed(handing("root")))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("failed", "rejected")}
    (answered,) = ended.data("task.answered", "1.1")
    assert "second" in answered["problem"]  # it was told who may be named, once


@pytest.mark.slow
async def test_a_manager_that_claims_progress_where_there_is_none_has_to_plan_anew(
    desk: Desk, sample: Sample
) -> None:
    text = one(
        "magentic(team=[scripted, second], rounds=12, stalls=1, resets=2)",
        "only-with second write made.txt\n| made\n" + _ledgers(),
        check="test -f made.txt",
    )

    ended = await desk.run(sample, text)

    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert await sample.read("made.txt") == "made"


@pytest.mark.slow
async def test_a_manager_that_is_never_satisfied_ends_at_its_bound_with_its_ledger(
    desk: Desk, sample: Sample
) -> None:
    script = "append made.txt\n| more\nonly-as manage result\n| " + ledger("scripted")
    ended = await desk.run(sample, one("magentic(rounds=3)", script, check="false"))

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("failed", "exhausted")}
    (concluded,) = ended.data("task.concluded", "1.1")
    assert "ledger" in concluded["facts"]
    assert await sample.tip() == sample.start


@pytest.mark.slow
async def test_a_manager_that_is_satisfied_while_the_checks_fail_lands_nothing(
    desk: Desk, sample: Sample
) -> None:
    script = "write made.txt\n| made\nonly-as manage result\n| " + ledger(
        "scripted", satisfied=True
    )
    ended = await desk.run(
        sample, one("magentic(rounds=6, stalls=1, resets=1)", script, check="false")
    )

    assert ended.faults == ""
    assert ended.ends()["1.1"][0] == "failed"
    assert ended.tasks["1.1"]["outcome"] in ("stalled", "exhausted")
    assert await sample.tip() == sample.start


def ledger(profile: str, *, satisfied: bool = False) -> str:
    """Return a ledger that claims progress, in one line."""
    said = {
        "schema": "cc.ledger/1",
        "facts": {"given": [], "lookup": [], "derive": [], "guess": []},
        "plan": ["p"],
        "satisfied": {"answer": satisfied, "reason": "r"},
        "in_loop": {"answer": False, "reason": "r"},
        "progress": {"answer": True, "reason": "r"},
        "next": {"profile": profile, "instruction": "i", "reason": "r"},
    }
    return json.dumps(said)


def _ledgers() -> str:
    """Return a manager that has the wrong one work until it must plan anew."""
    lines = []
    for round_ in range(1, 14):
        said = ledger("scripted" if round_ < 5 else "second", satisfied=round_ > 8)
        lines.append(f"only-as manage only-on-round {round_} result\n| {said}")
    return "\n".join(lines)
