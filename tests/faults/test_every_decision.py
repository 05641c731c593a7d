"""A service that is killed at every decision of a pattern, and before and after each agent run."""

from __future__ import annotations

from pathlib import Path

import pytest

from commandcenter.testing.desk import Host
from commandcenter.testing.faults.lives import Chronicle, Mortal
from commandcenter.testing.judge import judge_stopped
from commandcenter.testing.scene import Installation, Sample, batch, plan, task

MERGED = ("completed", "merged")
DECISIONS = r"cc_asks|task\.(round|answered|joined|concluded|captured)|/ask/|start ask|start review"
"""What is asked and answered is recorded, and agents are started."""
STARTED = "run echo started >> starts.txt\n"
"""A candidate that ran twice would hold two lines."""


@pytest.fixture
def mortal(tmp_path: Path) -> Mortal:
    """A service of two workers that is killed at every decision."""
    installation = Installation.make(tmp_path / "own", workers=2)
    return Mortal(Host(installation, tmp_path), tmp_path / "journal", DECISIONS)


def one(pattern: str, script: str, *, files: tuple[str, ...], check: str) -> str:
    """Return a plan of one task."""
    fields = {"Pattern": pattern}
    made = task("1.1", "One", files=files, script=script, checks=[check], fields=fields)
    return plan(batch(1, made))


def asked(chronicle: Chronicle) -> list[list[str]]:
    """Return who was asked in each round, as the events tell."""
    rounds = chronicle.ended.data("task.round", "1.1")
    return [[each["role"] for each in told.get("asks", ())] for told in rounds]


def unheard(chronicle: Chronicle, *names: str) -> list[str]:
    """Return what should be among the points and is not: the harness would be deaf."""
    return [name for name in names if not any(name in point for point in chronicle.points)]


VOTE = f"""
{STARTED}
only-on-lane 1 lines made.txt 40
only-on-lane 2 lines made.txt 4
only-as judge rank largest
"""


@pytest.mark.slow(minutes=2)
@pytest.mark.timeout(400)
async def test_a_vote_ends_as_without_kills(mortal: Mortal, sample: Sample) -> None:
    text = one("vote(2)", VOTE, files=("made.txt", "starts.txt"), check="test -s made.txt")

    chronicle = await mortal.run(sample, text)

    ended = chronicle.ended
    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert asked(chronicle) == [["work", "work"], ["judge"]]
    assert len(ended.data("task.answered", "1.1")) == 3
    assert len((await sample.read("made.txt")).splitlines()) == 40
    assert await sample.read("starts.txt") == "started"
    named = ("insert cc_asks", "update cc_asks", "task.concluded", "start ask-1-1-2", "/ask/2/1")
    assert unheard(chronicle, *named) == []
    assert await judge_stopped(mortal.host.installation) == ()


PLAN = """
    only-as plan result
    | {"schema": "cc.subplan/1", "tasks": [
    |  {"id": "a", "title": "A", "instructions": "Make a.", "files": ["a.txt"]},
    |  {"id": "b", "title": "B", "instructions": "Make b.", "files": ["b.txt"],
    |   "depends_on": ["a"]}]}
"""


@pytest.mark.slow(minutes=2)
@pytest.mark.timeout(400)
async def test_a_task_is_split_once_and_joined_once(mortal: Mortal, sample: Sample) -> None:
    text = one("plan", PLAN, files=("a.txt", "b.txt"), check="cat a.txt b.txt")

    chronicle = await mortal.run(sample, text)

    ended = chronicle.ended
    assert ended.faults == ""
    assert ended.ends() == {"1.1": ("completed", "joined"), "1.1-1": MERGED, "1.1-2": MERGED}
    assert asked(chronicle) == [["plan"], []]
    assert len(ended.data("task.joined", "1.1")) == 1
    assert unheard(chronicle, "insert cc_asks", "task.joined", "start ask-1-1-1") == []
    assert await judge_stopped(mortal.host.installation) == ()


MAGENTIC = f"""
{STARTED}
append made.txt
| more
"""


@pytest.mark.slow(minutes=2)
@pytest.mark.timeout(400)
async def test_a_ledger_goes_on_where_it_was(mortal: Mortal, sample: Sample) -> None:
    text = one(
        "magentic(rounds=4)", MAGENTIC, files=("made.txt", "starts.txt"), check="test -s made.txt"
    )

    chronicle = await mortal.run(sample, text)

    ended = chronicle.ended
    assert ended.faults == ""
    assert ended.ends() == {"1.1": MERGED}
    assert asked(chronicle) == [["manage"], ["work"], ["manage"]]
    assert await sample.read("starts.txt") == "started"
    assert unheard(chronicle, "start ask-1-3-1", "task.concluded") == []
    assert await judge_stopped(mortal.host.installation) == ()
