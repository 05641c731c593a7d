"""Journeys in which several agents work together on one task.

All that need nothing of their own are tasks of one plan, side by side in one run.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from commandcenter.core.assignment import chosen
from commandcenter.core.preview import Preview, preview
from commandcenter.core.run import Submission
from commandcenter.readers import PlanSource, read_plan
from commandcenter.service import COUNTING
from commandcenter.settings import built_in
from commandcenter.testing.desk import Desk, Ended, Json, Service
from commandcenter.testing.judge import Judge
from commandcenter.testing.scene import Installation, Sample, batch, plan, task
from commandcenter.testing.scripted_agent import SCRIPTED_AGENT

pytestmark = pytest.mark.slow

MERGED = ("completed", "merged")
BUSY_ONCE = f"test -e busy || {{ touch busy; exit 75; }}; {SCRIPTED_AGENT.name}"
"""An agent that says at first that its provider is too busy."""
PROFILES = "".join(
    f"\n[profiles.{name}]\nagent = \"shell\"\ncommand = '{command}'\n"
    f'programs = ["{SCRIPTED_AGENT}"]\n'
    for name, command in (
        ("docs", SCRIPTED_AGENT.name),
        ("second", SCRIPTED_AGENT.name),
        ("claude", SCRIPTED_AGENT.name),
        ("busy", BUSY_ONCE),
    )
)
FILES = {"README.md": "# Sample\n", "check.sh": "test -s $1\n"}
SCENES: list[str] = []


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that knows more profiles, all scripted."""
    with Service(Installation.make(tmp_path_factory.mktemp("shared"), more=PROFILES)) as service:
        yield service


@dataclass(frozen=True)
class Played:
    """A run that is over, with what was told of it before it began."""

    ended: Ended
    sample: Sample
    runs: Counter[str]
    """How many times an agent was started, by task; sub-tasks count for theirs."""
    bounds: Preview

    def end(self, task_id: str) -> tuple[str, str]:
        """Return how a task ended, and why."""
        return self.ended.ends()[task_id]

    def data(self, kind: str, task_id: str) -> list[Json]:
        """Return what the events of a kind say of a task."""
        return self.ended.data(kind, task_id)

    def asked(self, task_id: str) -> list[str]:
        """Return who was asked, round by round: `work`, `work work`, `judge`."""
        rounds = self.data("task.round", task_id)
        return [" ".join(each["role"] for each in told.get("asks", ())) for told in rounds]

    def bound(self, task_id: str) -> int:
        """Return how many agent runs a task may have, as it was told before the start."""
        return next(each.runs_max for each in self.bounds.tasks if each.id == task_id)


async def play(desk: Desk, sample: Sample, text: str) -> Played:
    """Run a plan to its end: within what was told before, and before the eyes of a judge."""
    ended = await desk.run(sample, text, patience_s=300, period_s=2)
    logs = await desk.get(f"/{ended.execution_id}/logs?format=json")
    agents = [log for log in logs if log["name"].startswith(("ask-", "try-", "review-"))]
    started = {(log["task"], log["attempt"], log["name"]) for log in agents}
    runs = Counter(ended.tasks[name]["parent"] or name for name, _, _ in started)
    played = Played(ended, sample, runs, bounds_of(desk, text))
    assert played.bounds.words in " ".join(ended.status["notes"])
    assert all(count <= played.bound(name) for name, count in runs.items()), runs
    assert ended.faults == ""
    return played


def bounds_of(desk: Desk, text: str) -> Preview:
    """Return what a plan can come to, task by task."""
    read = read_plan(PlanSource(text, "plan.md")).plan
    assert read is not None
    words = desk.installation.settings().words
    return preview(read, chosen(Submission(), settings=words, built_in=built_in()), COUNTING)


@pytest.fixture(scope="module")
def played(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The run of all scenes."""
    folder = tmp_path_factory.mktemp("played")
    desk = Desk(service.url, service.installation, folder)

    async def run() -> Played:
        sample = await Sample.make(folder / "sample", files=FILES)
        return await play(desk, sample, plan(batch(1, *SCENES, mode="parallel")))

    return asyncio.run(run())


def scene(
    pattern: str,
    script: str,
    *,
    files: tuple[str, ...],
    checks: tuple[str, ...] = (),
    after: tuple[str, ...] = (),
    **fields: str,
) -> str:
    """Add a task to the plan that is played, and return its id.

    It has one try and no review unless `fields` say otherwise, so that its bound is near.
    """
    number = f"1.{len(SCENES) + 1}"
    said = {"Pattern": pattern or "single", "Limits": "attempts=1", "Review": "none", **fields}
    SCENES.append(
        task(number, files[0], files=files, script=script, checks=checks, after=after, fields=said)
    )
    return number


CHAIN = scene(
    'chain("draft it", "finish it")',
    """
    only-on-round 1 write chain.txt
    | draft
    only-on-round 2 append chain.txt
    | not yet
    only-on-round 3 append chain.txt
    | final
    """,
    files=("chain.txt",),
    checks=("grep -q final chain.txt",),
)


async def test_a_chain_asks_a_stage_once_more_and_lands_once(played: Played) -> None:
    assert played.end(CHAIN) == MERGED
    assert played.asked(CHAIN) == ["work", "work", "work"]
    assert await played.sample.read("chain.txt") == "draft\nnot yet\nfinal"
    assert played.ended.tasks[CHAIN]["outcome"] == "accepted"


LOST = scene(
    "route(scripted, docs, fallback=second)",
    'only-as route result\n| {"profile": 7}\nwrite lost.txt\n| made',
    files=("lost.txt",),
)


def test_a_router_that_answers_garbage_twice_leaves_it_to_the_fallback(played: Played) -> None:
    assert played.end(LOST) == MERGED
    assert played.asked(LOST) == ["route", "work"]
    router, worker = played.data("task.answered", LOST)
    assert router["problem"]
    assert worker["profile"] == "second"
    assert played.runs[LOST] == 3  # the router twice, and the worker


def voted(name: str, judge: str) -> str:
    """Add a vote of three, of which the first one weakens the check and the last one is short."""
    script = f"""
    only-on-lane 1 write check.sh
    | exit 0
    only-on-lane 2 lines {name} 400
    only-on-lane 3 lines {name} 40
    only-as judge {judge}
    """
    return scene("vote(3)", script, files=(name,), checks=(f"sh check.sh {name}",), Review="1")


RANKED, CRASHED = voted("ranked.txt", "rank smallest"), voted("crashed.txt", "crash")


@pytest.mark.parametrize(("number", "name"), [(RANKED, "ranked.txt"), (CRASHED, "crashed.txt")])
async def test_a_vote_takes_the_best_that_passes_and_none_that_weakened_the_check(
    played: Played, number: str, name: str
) -> None:
    assert played.end(number) == MERGED
    assert played.asked(number) == ["work work work", "judge"]
    assert len((await played.sample.read(name)).splitlines()) == 40
    (concluded,) = played.data("task.concluded", number)
    assert concluded["lane"] == 3


NONE_PASS = scene("vote(2)", "write none.txt\n| made", files=("none.txt",), checks=("false",))


def test_a_vote_in_which_nothing_passes_is_rejected_after_one_repair(played: Played) -> None:
    assert played.end(NONE_PASS) == ("failed", "rejected")
    assert played.asked(NONE_PASS) == ["work work", "work"]


FIRST = scene(
    "vote(2, pick=first-green)",
    "only-on-lane 1 hang\nwrite first.txt\n| made",
    files=("first.txt",),
    checks=("test -s first.txt",),
)


def test_the_first_that_passes_ends_a_vote_and_stops_the_others(played: Played) -> None:
    assert played.end(FIRST) == MERGED
    assert played.asked(FIRST) == ["work work"]


DEAF = scene(
    "vote(2, agents=[hasty, scripted])",
    "only-with hasty ignore-term\nonly-with hasty hang\nwrite deaf.txt\n| made",
    files=("deaf.txt",),
)


def test_a_candidate_that_hangs_and_heeds_no_signal_is_killed_and_out(played: Played) -> None:
    assert played.end(DEAF) == MERGED
    assert played.asked(DEAF) == ["work work"]
    hanging, other = sorted(played.data("task.answered", DEAF), key=lambda each: each["lane"])
    assert (hanging["outcome"], hanging["reason"]) == ("failed", "idle")
    assert other["outcome"] == "done"
    (concluded,) = played.data("task.concluded", DEAF)
    assert concluded["lane"] == 2


BUSY = scene(
    'chain(busy: "start it", scripted: "end it")',
    "only-with busy delete busy\nappend busy.txt\n| made",
    files=("busy.txt",),
)


async def test_an_agent_whose_provider_is_busy_is_asked_again_and_uses_up_nothing(
    played: Played,
) -> None:
    assert played.end(BUSY) == MERGED
    assert played.asked(BUSY) == ["work", "work"]
    assert played.runs[BUSY] == 3  # one that does not count, and two stages
    assert played.ended.tasks[BUSY]["attempt"] == 1
    assert await played.sample.read("busy.txt") == "made\nmade"


SPLIT = scene(
    "plan(max_tasks=4)",
    """
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
    """,
    files=("a.txt", "b.txt", "c.txt", "d.txt"),
    checks=("cat a.txt b.txt c.txt d.txt",),
)
AFTER_SPLIT = scene("", "", files=("after.txt",), after=(SPLIT,))


async def test_a_planner_splits_a_task_which_its_own_checks_join(played: Played) -> None:
    children = [f"{SPLIT}-{n}" for n in (1, 2, 3, 4)]
    listed = list(played.ended.tasks)
    at = listed.index(SPLIT)
    assert listed[at : at + 6] == [SPLIT, *children, AFTER_SPLIT]
    assert played.end(SPLIT) == ("completed", "joined")
    assert {played.end(each) for each in (*children, AFTER_SPLIT)} == {MERGED}
    assert played.asked(SPLIT) == ["plan", "plan", ""]
    made = {"a.txt", "b.txt", "c.txt", "d.txt", "after.txt"}
    assert set(await played.sample.paths()) >= made


OUT_OF_SCOPE = scene(
    "plan",
    """
    only-as plan result
    | {"schema": "cc.subplan/1", "rationale": "elsewhere", "tasks": [
    |  {"id": "a", "title": "A", "instructions": "a", "depends_on": [],
    |   "files": ["../x"], "verification": []}]}
    """,
    files=("scope.txt",),
)


def test_a_planner_that_leaves_the_scope_twice_is_rejected(played: Played) -> None:
    assert played.end(OUT_OF_SCOPE) == ("failed", "rejected")


REPLANNED = scene(
    "plan",
    """
    only-as plan only-on-round 1 result
    | {"schema": "cc.subplan/1", "rationale": "first", "tasks": [
    |  {"id": "a", "title": "A", "instructions": "Make e.", "depends_on": [],
    |   "files": ["e.txt"], "verification": []},
    |  {"id": "b", "title": "B", "instructions": "Make f.", "depends_on": ["a"],
    |   "files": ["f.txt"], "verification": ["false"]}]}
    only-as plan only-on-round 3 result
    | {"schema": "cc.subplan/1", "rationale": "again", "tasks": [
    |  {"id": "b", "title": "B again", "instructions": "Make f.", "depends_on": [],
    |   "files": ["f.txt"], "verification": []}]}
    """,
    files=("e.txt", "f.txt"),
    checks=("cat e.txt f.txt",),
)


def test_a_sub_task_that_fails_is_planned_once_more_and_what_landed_stays(
    played: Played,
) -> None:
    assert played.end(REPLANNED) == ("completed", "joined")
    assert played.end(f"{REPLANNED}-1") == MERGED
    assert played.end(f"{REPLANNED}-2") == ("failed", "checks")
    assert played.end(f"{REPLANNED}-3") == MERGED


def handing(to: str, *, only: str = "") -> str:
    """Return operations that pass the work on."""
    said = {"schema": "cc.handoff/1", "to": to, "reason": "r", "summary": "s", "files": []}
    return f"{only}result\n| {json.dumps(said)}\n"


def handed(name: str, script: str) -> str:
    """Add a task whose agents may pass their work on."""
    return scene("", script, files=(name,), Handoff="[second, scripted], max=3")


HANDED = handed(
    "handed.txt",
    "only-with scripted write handed.txt\n| half\n"
    + handing("second", only="only-with scripted ")
    + "only-with second append handed.txt\n| whole",
)


async def test_an_agent_passes_its_work_on_and_the_other_one_finishes_it(played: Played) -> None:
    assert played.end(HANDED) == MERGED
    answered = played.data("task.answered", HANDED)
    assert [each["profile"] for each in answered] == ["scripted", "second"]
    assert await played.sample.read("handed.txt") == "half\nwhole"


IDLE_WORDS = handed("idle.txt", 'write idle.txt\n| made\nresult\n| {"status": "great"}')


def test_an_answer_that_passes_nothing_on_and_cannot_be_used_decides_nothing(
    played: Played,
) -> None:
    assert played.end(IDLE_WORDS) == MERGED
    assert played.runs[IDLE_WORDS] == 1


TO_AND_FRO = handed(
    "fro.txt",
    handing("second", only="only-with scripted ") + handing("scripted", only="only-with second "),
)


def test_agents_that_pass_it_to_and_fro_are_stopped(played: Played) -> None:
    assert played.end(TO_AND_FRO) == ("failed", "stalled")


TO_ROOT = handed("root.txt", handing("root"))


def test_nobody_passes_work_to_whom_the_plan_does_not_name(played: Played) -> None:
    assert played.end(TO_ROOT) == ("failed", "rejected")
    (answered,) = played.data("task.answered", TO_ROOT)
    assert "second" in answered["problem"]  # it was told who may be named, once


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
    for round_ in (1, 3, 5, 7):  # between them others work
        said = ledger("scripted" if round_ < 5 else "second", satisfied=round_ == 7)
        lines.append(f"only-as manage only-on-round {round_} result\n| {said}")
    return "\n".join(lines)


CLAIMING = scene(
    "magentic(team=[scripted, second], rounds=12, stalls=1, resets=2)",
    "only-with second write claimed.txt\n| made\n" + _ledgers(),
    files=("claimed.txt",),
    checks=("test -f claimed.txt",),
)


async def test_a_manager_that_claims_progress_where_there_is_none_has_to_plan_anew(
    played: Played,
) -> None:
    assert played.end(CLAIMING) == MERGED
    (concluded,) = played.data("task.concluded", CLAIMING)
    assert concluded["facts"]["resets"] == 1
    assert await played.sample.read("claimed.txt") == "made"


ENDLESS = scene(
    "magentic(rounds=3)",
    "append endless.txt\n| more\nonly-as manage result\n| " + ledger("scripted"),
    files=("endless.txt",),
    checks=("false",),
)


def test_a_manager_that_is_never_satisfied_ends_at_its_bound_with_its_ledger(
    played: Played,
) -> None:
    assert played.end(ENDLESS) == ("failed", "exhausted")
    (concluded,) = played.data("task.concluded", ENDLESS)
    assert "ledger" in concluded["facts"]


CONTENT = scene(
    "magentic(rounds=6, stalls=1, resets=1)",
    "write content.txt\n| made\nonly-as manage result\n| " + ledger("scripted", satisfied=True),
    files=("content.txt",),
    checks=("false",),
)


def test_a_manager_that_is_satisfied_while_the_checks_fail_lands_nothing(played: Played) -> None:
    assert played.end(CONTENT)[0] == "failed"
    assert played.ended.tasks[CONTENT]["outcome"] in ("stalled", "exhausted")


FAILING = {
    "none.txt": NONE_PASS,
    "scope.txt": OUT_OF_SCOPE,
    "fro.txt": TO_AND_FRO,
    "root.txt": TO_ROOT,
    "endless.txt": ENDLESS,
    "content.txt": CONTENT,
}


async def test_of_what_was_not_accepted_nothing_is_on_the_target(played: Played) -> None:
    assert {played.end(each)[0] for each in FAILING.values()} == {"failed"}
    assert not set(FAILING) & set(await played.sample.paths())


TIGHT = {
    "vote": scene(
        "vote(2)",
        "only-on-lane 1 write tight-1.txt\n| a\nonly-on-lane 2 write tight-1.txt\n| b\n"
        "only-as judge result\n| {}\nreview garbage",
        files=("tight-1.txt",),
        Review="1",
    ),
    "chain": scene(
        'chain("a", "b", attempts=2)',
        "only-on-round 1 exit 1\nonly-on-round 4 write tight-2.txt\n| made",
        files=("tight-2.txt",),
        checks=("test -e tight-2.txt",),
    ),
    "route": scene(
        "route(scripted, docs, fallback=second)",
        "only-as route result\n| {}\nappend tight-3.txt\n| more",
        files=("tight-3.txt",),
        checks=("test $(wc -l < tight-3.txt) = 2",),
    ),
    "magentic": scene(
        "magentic(rounds=2)",
        "write tight-4.txt\n| made\nonly-as manage unless-feedback result\n| {}\n"
        "only-as manage when-feedback result\n| " + ledger("scripted"),
        files=("tight-4.txt",),
    ),
}
"""Tasks that need as many agent runs as they may have."""


@pytest.mark.parametrize("number", TIGHT.values(), ids=list(TIGHT))
def test_what_is_told_before_is_what_it_comes_to_at_worst(played: Played, number: str) -> None:
    assert played.runs[number] == played.bound(number)


SKILL = (Path(__file__).parents[2] / "skills/patterns/SKILL.md").read_text()
EXAMPLES = re.findall(r"^```markdown\n(.*?)^```$", SKILL, re.DOTALL | re.MULTILINE)
TEST = "import unittest\n\n\nclass T(unittest.TestCase):\n    def test(self): pass\n"
PROJECT = {
    **dict.fromkeys(("brackets.py", "login.py", "measure.py", "measure_start.py", "money.py"), ""),
    **dict.fromkeys(("app/client.py", "service/start.py"), "def main(): pass\n"),
    **{f"test_{name}.py": TEST for name in ("brackets", "login", "money")},
    "tests/__init__.py": "",
    "tests/test_app.py": TEST,
}
"""What the examples of the skill are about."""


async def test_every_example_of_the_skill_is_run_and_lands(desk: Desk, tmp_path: Path) -> None:
    sample = await Sample.make(tmp_path / "sample", files=PROJECT)
    folders = [tmp_path / str(number) for number in range(len(EXAMPLES))]
    for folder in folders:
        folder.mkdir()
    desks = [Desk(desk.url, desk.installation, folder) for folder in folders]

    runs = await asyncio.gather(*map(play, desks, [sample] * len(desks), EXAMPLES))

    assert [run.ended.status["status"] for run in runs] == ["completed"] * len(EXAMPLES)
    ends = Counter(end for run in runs for end in run.ended.ends().values())
    assert ends == {MERGED: 7, ("completed", "joined"): 1}
    routed = runs[1]  # by rules: nobody is asked
    assert (routed.asked("1.1"), routed.asked("1.2")) == (["work"], ["work"])
    assert [routed.data("task.answered", n)[0]["profile"] for n in ("1.1", "1.2")] == [
        "docs",
        "claude",
    ]


async def test_a_vote_that_a_person_cancels_leaves_nothing_at_work_and_keeps_what_each_made(
    desk: Desk, sample: Sample
) -> None:
    script = """
    only-on-lane 1 write one.txt
    | one
    only-on-lane 2 write two.txt
    | two
    print written
    hang
    """
    text = plan(batch(1, task("1.1", "One", script=script, fields={"Pattern": "vote(2)"})))
    judge = await Judge.appoint(desk.installation, sample)

    run = await desk.start(sample, text)
    async with judge.watching(desk.url, run):
        await desk.until(f"/{run}/events?format=json&limit=10000", both_have_written)
        assert (await desk.post(f"/{run}/cancel")).status_code == 200
        await judge.over()
    ended = await desk.ended(judge)
    async with desk.client() as client:
        salvaged = (await client.get("/api/v1/salvage")).json()

    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("cancelled", "cancelled")}
    mine = [each for each in salvaged if each["execution_id"] == run]
    assert len(mine) == 2, mine


def both_have_written(events: list[Json]) -> bool:
    """Say whether two agents have said so."""
    told = [each["data"] for each in events if each["kind"] == "agent"]
    return len({each["name"] for each in told if "written" in str(each)}) == 2
