"""Front matter: ours is read strictly, that of others is left alone."""

from __future__ import annotations

import pytest

from commandcenter.core.merge_queue import Strategy
from commandcenter.core.plan import Priority, ReviewPolicy, from_json, to_json
from commandcenter.readers import PlanSource, ReadResult, read_plan

TASK = "\n### Task 1.1: A\n\nx\n"


def read(front: str) -> ReadResult:
    return read_plan(PlanSource(f"---\n{front}\n---\n{TASK}"))


def test_a_plan_verified_by_default_needs_no_verification_of_its_own() -> None:
    result = read("commandcenter: 1\ndefaults: {verify: [true, 'pytest -q']}")
    assert result.plan is not None
    assert result.plan.commands_of(result.plan.tasks[0]) == ("true", "pytest -q")
    assert result.diagnostics == ()


@pytest.mark.parametrize(
    ("review", "policy"),
    [
        ("3", ReviewPolicy(3)),
        ("false", ReviewPolicy(0)),
        ("{rounds: 2, reviewer: x}", ReviewPolicy(2, "x")),
        ("{reviewer: x}", ReviewPolicy(None, "x")),
    ],
)
def test_review(review: str, policy: ReviewPolicy) -> None:
    plan = read(f"commandcenter: 1\ndefaults:\n  review: {review}").plan
    assert plan is not None
    assert plan.defaults.review == policy


@pytest.mark.parametrize(
    ("front", "batch", "task", "said"),
    [
        ("", "", "", None),
        ("auto_merge: false", "", "", False),
        ("auto_merge: no", "**Auto Merge:** yes", "", True),
        ("auto_merge: true", "**Auto Merge:** true", "**Auto Merge:** `Off`", False),
        ("", "", "**Auto Merge:** on", True),
    ],
)
def test_the_nearest_word_on_merging_counts(
    front: str, batch: str, task: str, said: bool | None
) -> None:
    head = f"---\ncommandcenter: 1\ndefaults: {{{front}}}\n---\n"
    plan = read_plan(
        PlanSource(f"{head}## Batch 1: B\n{batch}\n\n### Task 1.1: A\n{task}\n\nx\n")
    ).plan

    assert plan is not None
    assert plan.auto_merge_of(plan.tasks[0]) is said


@pytest.mark.parametrize(
    ("front", "line"),
    [
        ("commandcenter: 2", 2),
        ("commandcenter: 1\nowner: me", 3),
        ("commandcenter: 1\ndefaults:\n  agnet: x", 4),
        ("commandcenter: 1\ndefaults:\n  limits: {attempts: many}", 4),
        ("commandcenter: 1\ndefaults:\n  limits: {timeout: soon}", 4),
        ("commandcenter: 1\ndefaults:\n  limits: {tries: 1}", 4),
        ("commandcenter: 1\ndefaults:\n  review: [1]", 4),
        ("commandcenter: 1\ndefaults: 5", 3),
        ("commandcenter: 1\ndefaults: {agent: a, agent: b}", 3),
        ("commandcenter: 1\n? [a, b]\n: c", 3),
        ("defaults: {agent: x}", 2),
        ("commandcenter: 1\n  bad: [", 3),
        ("commandcenter: 1\ndefaults: {verify: [[a]]}", 3),
        ("commandcenter: 1\ndefaults: {limits: {budget_usd: .nan}}", 3),
        ("commandcenter: 1\ndefaults:\n  auto_merge: later", 4),
        ("commandcenter: 1\ndefaults:\n  strategy: octopus", 4),
        ("commandcenter: 1\ndefaults:\n  strategy: [squash]", 4),
        ("- a", 2),
        ("x: " + "[" * 3000, 2),
    ],
)
def test_what_is_wrong_is_named_with_its_line(front: str, line: int) -> None:
    found = [d for d in read(front).diagnostics if d.code == "P012"]
    assert [d.line for d in found] == [line]


@pytest.mark.parametrize(
    ("batch", "task", "priority"),
    [
        ("", "", Priority.NORMAL),
        ("", "**Priority:** High", Priority.HIGH),
        ("**Priority:** urgent", "", Priority.HIGH),
        ("**Priority:** high", "**Priority:** `low`", Priority.LOW),
        ("**Priority:** low", "**Priority:** medium", Priority.NORMAL),
    ],
)
def test_the_nearest_word_on_priority_counts(batch: str, task: str, priority: Priority) -> None:
    plan = read_plan(PlanSource(f"## Batch 1: B\n{batch}\n\n### Task 1.1: A\n{task}\n\nx\n")).plan

    assert plan is not None
    assert plan.priority_of(plan.tasks[0]) is priority
    assert from_json(to_json(plan)).priority_of(plan.tasks[0]) is priority


def test_a_plan_says_how_its_changes_land() -> None:
    plan = read("commandcenter: 1\ndefaults: {strategy: squash}").plan
    assert plan is not None
    assert plan.defaults.strategy is Strategy.SQUASH
    assert from_json(to_json(plan)) == plan


def test_a_misspelt_key_names_the_right_one() -> None:
    found = read("commandcenter: 1\ndefualts: {}").diagnostics
    assert [d.hint for d in found if d.code == "P012"] == ["did you mean `defaults`?"]


def test_a_limit_out_of_range_is_an_error() -> None:
    found = read("commandcenter: 1\ndefaults: {limits: {attempts: 0}}").diagnostics
    assert "P012" in {d.code for d in found}


def test_front_matter_of_another_program_is_left_alone() -> None:
    result = read("title: Mine\nowner: me\ntags: [a, b]")
    assert result.ok
    assert result.plan is not None
    assert result.plan.title == "Mine"


def test_our_front_matter_that_is_never_closed_is_an_error() -> None:
    found = read_plan(PlanSource(f"---\ncommandcenter: 1\n{TASK}")).diagnostics
    assert "P012" in {d.code for d in found}
