"""What a run can come to at most, before it starts."""

from __future__ import annotations

import pytest

from commandcenter.core.assignment import Choices, chosen
from commandcenter.core.preview import Counting, preview
from commandcenter.core.run import Submission
from commandcenter.patterns import runs_max, subtasks_max
from commandcenter.readers import PlanSource, read_plan

COUNTING = Counting(runs_max, subtasks_max)
BUILT_IN = {"review": "3", "roles": "work=claude, review=claude", "limits": "attempts=3"}


def choices_of(**overrides: str) -> Choices:
    set_ = {f"1.1.{label}": text for label, text in overrides.items()}
    return chosen(Submission(overrides=set_), settings={}, built_in=BUILT_IN)


def plan_text(more: str = "") -> PlanSource:
    return PlanSource(f"### Task 1.1: A\n\nx\n{more}")


@pytest.mark.parametrize(
    ("overrides", "runs"),
    [
        ({"review": "none", "limits": "attempts=1"}, 1),
        ({"review": "none", "limits": "attempts=3"}, 3),
        # One run, a review of it that is asked twice.
        ({"review": "1", "limits": "attempts=1"}, 1 + 2),
        # A review sends it back once, and each of both runs is reviewed.
        ({"review": "2", "limits": "attempts=1"}, 2 + 4),
        ({"review": "3", "limits": "attempts=3"}, 5 + 10),
        # Three candidates and a judge that is asked twice.
        ({"pattern": "vote(3)", "review": "none", "limits": "attempts=1"}, 5),
        ({"pattern": "vote(3)", "review": "none", "limits": "attempts=2"}, 10),
        ({"pattern": "vote(3)", "review": "2", "limits": "attempts=1"}, 5 + 1 + 4),
        # The planner, asked twice for each of two rounds of two splits, and two times two tasks.
        ({"pattern": "plan(2)", "review": "none", "limits": "attempts=1"}, 8 + 4),
    ],
)
def test_the_runs_of_a_task_are_counted(overrides: dict[str, str], runs: int) -> None:
    plan = read_plan(plan_text()).plan

    assert plan is not None
    assert preview(plan, choices_of(**overrides), COUNTING).runs_max == runs


def test_tasks_add_up_and_those_that_are_done_do_not_count() -> None:
    done = "\n### Task 1.2: B\n\n**Status:** completed\n\n### Task 1.3: C\n\n**Review:** none\n"
    plan = read_plan(plan_text(done)).plan

    assert plan is not None
    found = preview(plan, choices_of(review="none", limits="attempts=1"), COUNTING)

    assert [(task.id, task.runs_max) for task in found.tasks] == [("1.1", 1), ("1.3", 3)]
    assert found.words == "at most 4 agent runs, no bound on money"


def test_budgets_add_up_when_every_task_has_one() -> None:
    front = "---\ncommandcenter: 1\ndefaults: {limits: {budget_usd: 12}, review: false}\n---\n"
    text = f"{front}### Task 1.1: A\n\nx\n\n### Task 1.2: B\n\n**Limits:** budget_usd=24\n"
    plan = read_plan(PlanSource(text)).plan

    assert plan is not None
    assert preview(plan, choices_of(), COUNTING).words == "at most 6 agent runs, at most $36"
