"""What a scenario blames, and that it blames nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from commandcenter.testing.desk import Ended, Json
from commandcenter.testing.judge import Criterion, Violation
from commandcenter.testing.scenarios import Scenario
from commandcenter.testing.scene import Sample

SCENARIO = Scenario(
    "two tasks",
    "# A plan",
    {"1.1": ("completed", "merged"), "1.2": ("completed", "merged")},
    {"README.md": 1},
    order=("1.1", "1.2"),
    together=("1.1", "1.2"),
    ran={"1.1": "Ran 1 test"},
)


def event(seq: int, kind: str, task: str, **data: Any) -> Json:
    return {"seq": seq, "kind": kind, "task": task, "data": data}


def one(began: str, ended: str) -> Json:
    return {
        "status": "completed",
        "reason": "merged",
        "started_at": began,
        "completed_at": ended,
    }


GOOD = Ended(
    "exec_1",
    {},
    {"1.1": one("10:00", "10:01"), "1.2": one("10:01", "10:02")},
    (),
    [
        event(1, "task.phase", "1.1", phase="working"),
        event(2, "task.phase", "1.2", phase="working"),
        event(3, "agent", "1.1", text="the voice of 1.1"),
        event(4, "agent", "1.2", text="the voice of 1.2"),
        event(5, "task.captured", "1.1"),
        event(6, "task.captured", "1.2"),
        event(7, "task.checked", "1.1", receipts=[{"words": "Ran 1 test in 0 s"}]),
    ],
)
BAD = {
    "what a judge found": (
        replace(GOOD, violations=(Violation(Criterion.LEFTOVERS, "branch is left"),)),
        "branch is left",
    ),
    "another end": (
        replace(GOOD, tasks={**GOOD.tasks, "1.2": {**one("10:01", "10:02"), "reason": "agent"}}),
        "its tasks ended as",
    ),
    "a wrong order": (
        replace(GOOD, tasks={**GOOD.tasks, "1.2": one("10:00", "10:02")}),
        "task 1.2 began before task 1.1",
    ),
    "one after the other": (
        replace(GOOD, events=[*GOOD.events, event(0, "task.captured", "1.1")]),
        "not at work at one time",
    ),
    "another's voice": (
        replace(GOOD, events=[*GOOD.events, event(8, "agent", "1.1", text="the voice of 1.2")]),
        "in the log of task 1.1",
    ),
    "no voice": (
        replace(GOOD, events=[each for each in GOOD.events if each["seq"] != 4]),
        "in the log of task 1.2 is nothing",
    ),
    "a check that did not run": (replace(GOOD, events=GOOD.events[:-1]), "no check of task 1.1"),
}


async def test_what_ended_as_it_has_to_is_not_blamed(sample: Sample) -> None:
    assert await SCENARIO.faults(GOOD, sample) == []


@pytest.mark.parametrize("name", BAD)
async def test_what_did_not_end_as_it_has_to_is_blamed(sample: Sample, name: str) -> None:
    ended, fault = BAD[name]

    (found,) = await SCENARIO.faults(ended, sample)

    assert fault in found.evidence


@pytest.mark.parametrize("lines", [{"README.md": 2}, {"missing.txt": 1}])
async def test_a_target_without_the_wanted_files_is_blamed(
    sample: Sample, lines: dict[str, int]
) -> None:
    (found,) = await replace(SCENARIO, lines=lines).faults(GOOD, sample)

    assert found.evidence.startswith("the target has")
    assert found.criterion is Criterion.MERGE


async def test_a_file_that_nobody_asked_for_is_blamed(sample: Sample) -> None:
    await sample.push({"extra.txt": "extra\n"})

    (found,) = await SCENARIO.faults(GOOD, sample)

    assert "extra.txt" in found.evidence
