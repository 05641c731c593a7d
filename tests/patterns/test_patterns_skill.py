"""The examples of the skill are plans that mean what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from commandcenter.core.assignment import Choices, assign
from commandcenter.core.pattern import Pattern
from commandcenter.core.plan import Plan
from commandcenter.core.plan.notation import NAMES, pattern_text
from commandcenter.readers import PlanSource, read_plan

SKILL = (Path(__file__).parents[2] / "skills/patterns/SKILL.md").read_text()
EXAMPLES = re.findall(r"^```markdown\n(.*?)^```$", SKILL, re.DOTALL | re.MULTILINE)


def read(text: str) -> Plan:
    result = read_plan(PlanSource(text, "plan.md"))
    assert result.plan is not None, result.diagnostics
    return result.plan


def patterns(plan: Plan) -> list[Pattern]:
    return [assign(plan, task, Choices()).pattern for task in plan.tasks]


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.splitlines()[0].lstrip("# "))
def test_an_example_is_a_plan_without_fault_or_doubt(text: str) -> None:
    result = read_plan(PlanSource(text, "plan.md"))

    assert result.diagnostics == ()
    assert result.plan is not None


def test_there_is_an_example_of_every_pattern() -> None:
    shown = {pattern_text(each).split("(")[0] for text in EXAMPLES for each in patterns(read(text))}

    assert shown == set(NAMES)
