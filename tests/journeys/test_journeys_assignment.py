"""Journeys of tasks that say themselves who works on them, and how."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from commandcenter.testing.desk import Desk, Service
from commandcenter.testing.scene import Installation, Sample, batch, plan, task
from commandcenter.testing.scripted_agent import SCRIPTED_AGENT

SECOND = (
    f'\n[profiles.second]\nagent = "shell"\ncommand = "{SCRIPTED_AGENT.name}"\n'
    f'programs = ["{SCRIPTED_AGENT}"]\n'
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that knows a second profile."""
    with Service(Installation.make(tmp_path_factory.mktemp("shared"), more=SECOND)) as service:
        yield service


def text(**fields: str) -> str:
    labels = {name.capitalize(): said for name, said in fields.items()}
    return plan(
        batch(
            1,
            task("1.1", "One", files=("a.txt",), checks=["test -e a.txt"], fields=labels),
            task("1.2", "Other", files=("b.txt",), checks=["test -e b.txt"]),
        )
    )


@pytest.mark.slow
async def test_each_task_is_done_and_reviewed_by_whom_it_names(desk: Desk, sample: Sample) -> None:
    ended = await desk.run(
        sample,
        text(agent="second", review="none", limits="attempts=1, timeout=30m"),
        overrides={"1.2.review": "1, reviewer=second"},
    )

    assert ended.faults == ""
    workers = [ended.data("task.captured", each)[0]["profile"] for each in ("1.1", "1.2")]
    assert workers[0] == "second"
    assert workers[1] != "second"
    (unreviewed,) = ended.data("task.reviewed", "1.1")
    (reviewed,) = ended.data("task.reviewed", "1.2")
    assert unreviewed["decision"] == "none"
    assert (reviewed["decision"], reviewed["profile"]) == ("approve", "second")
    # One try; and three, each with a review whose reviewer may be asked twice.
    assert any("at most 10 agent runs" in note for note in ended.status["notes"])


@pytest.mark.parametrize(
    ("fields", "body", "words"),
    [
        ({"agent": "secnd"}, {}, "There is no agent profile `secnd` (task 1.1, line "),
        ({"pattern": "vote(9)"}, {}, "has 1 error"),
        ({}, {"pattern": "vote(9)"}, "--pattern: `vote(9)`, column 6: the number"),
        ({}, {"roles": {"jugde": "second"}}, "There is no role `jugde`"),
        ({}, {"overrides": {"1.3.agent": "second"}}, "The plan has no task 1.3"),
    ],
)
async def test_what_cannot_be_chosen_is_refused_before_anything_starts(
    desk: Desk, sample: Sample, fields: dict[str, str], body: dict[str, object], words: str
) -> None:
    answer = await desk.post("/start", desk.body(sample, text(**fields), **body))

    assert answer.status_code == 400
    assert words in answer.json()["detail"]
