"""Who works on a task, and how: the nearest word counts, and says where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from commandcenter.core.agent import Role
from commandcenter.core.assignment import (
    Assignment,
    Choices,
    assign,
    chosen,
    refuse_unknown,
    shown,
)
from commandcenter.core.attempt import Bounds
from commandcenter.core.errors import InputError
from commandcenter.core.pattern import (
    Chain,
    Handoff,
    Orchestrate,
    Route,
    Rule,
    Single,
    Stage,
    Vote,
)
from commandcenter.core.plan import Plan
from commandcenter.core.run import Submission
from commandcenter.readers import PlanSource, read_plan

BUILT_IN = {"review": "3", "roles": "work=claude, review=claude", "limits": "attempts=3"}
PROFILES = ("claude", "codex", "opus")


def plan_of(*, front: str = "", batch: str = "", task: str = "") -> Plan:
    head = f"---\ncommandcenter: 1\ndefaults:\n  {front}\n---\n" if front else ""
    text = f"{head}## Batch 1: B\n{batch}\n\n### Task 1.1: A\n{task}\n\nx\n\n### Task 1.2: C\n\ny\n"
    result = read_plan(PlanSource(text))
    assert result.plan is not None
    assert result.ok, result.diagnostics
    return result.plan


def choices_of(settings: Mapping[str, str] | None = None, **submission: Any) -> Choices:
    return chosen(Submission(**submission), settings=settings or {}, built_in=BUILT_IN)


def assigned(plan: Plan, choices: Choices | None = None) -> Assignment:
    return assign(plan, plan.tasks[0], choices or choices_of())


def test_a_task_of_which_nothing_is_said_is_done_as_is_built_in() -> None:
    found = assigned(plan_of())

    assert (found.pattern, found.handoff) == (Single(), Handoff())
    assert (found.review_rounds, found.attempts) == (3, 3)
    assert (found.timeout_s, found.budget_usd) == (None, None)
    assert set(found.roles.values()) == {"claude"}
    assert shown(found) == ()


@pytest.mark.parametrize(
    ("front", "batch", "task", "choices", "pattern", "origin"),
    [
        ("", "", "", {}, Single(), "built-in"),
        ("", "", "", {"settings": {"pattern": "vote(2)"}}, Vote(2), "settings"),
        ("pattern: vote(3)", "", "", {}, Vote(3), "front matter, line 4"),
        ("pattern: vote(3)", "**Pattern:** vote(4)", "", {}, Vote(4), "batch 1, line 7"),
        (
            "pattern: vote(3)",
            "**Pattern:** vote(4)",
            "**Pattern:** `vote(5)`",
            {},
            Vote(5),
            "task 1.1, line 10",
        ),
        ("", "", "**Pattern:** vote(5)", {"pattern": "plan"}, Orchestrate(), "command line"),
        (
            "",
            "",
            "**Pattern:** vote(5)",
            {"pattern": "plan", "overrides": {"1.1.pattern": "vote(6)"}},
            Vote(6),
            "command line",
        ),
    ],
)
def test_the_nearest_word_counts(
    front: str, batch: str, task: str, choices: dict[str, Any], pattern: object, origin: str
) -> None:
    found = assigned(plan_of(front=front, batch=batch, task=task), choices_of(**choices))

    assert found.pattern == pattern
    assert found.origins["pattern"] == origin


def test_what_is_set_for_one_task_is_for_that_one_only() -> None:
    plan = plan_of()
    choices = choices_of(overrides={"1.2.agent": "codex"})

    assert assign(plan, plan.tasks[0], choices).roles[Role.WORK] == "claude"
    assert assign(plan, plan.tasks[1], choices).roles[Role.WORK] == "codex"


def test_each_limit_comes_from_the_nearest_place_that_names_it() -> None:
    plan = plan_of(
        front="limits: {attempts: 5, timeout: 45m, budget_usd: 5}",
        task="**Limits:** budget_usd=12",
    )
    found = assigned(plan)

    assert (found.attempts, found.timeout_s, found.budget_usd) == (5, 2700.0, 12.0)
    assert found.origins["attempts"] == "front matter, line 4"
    assert found.origins["budget_usd"] == "task 1.1, line 10"
    assert found.bounds(Bounds(3, 3, 8)) == Bounds(5, 3, 8)


@pytest.mark.parametrize(
    ("task", "settings", "submission", "rounds", "reviewer"),
    [
        ("**Review:** 2", {}, {}, 2, "claude"),
        ("**Review:** none", {}, {}, 0, "claude"),
        ("**Review:** reviewer=codex", {}, {}, 3, "codex"),
        ("**Review:** 2, reviewer=codex", {}, {"reviewer": "opus"}, 2, "opus"),
        ("**Review:** 2", {}, {"reviewer": "none"}, 0, "claude"),
        ("**Review:** 2", {"review": "none"}, {}, 2, "claude"),
        ("**Roles:** review=codex", {}, {}, 3, "codex"),
        ("**Roles:** review=codex", {"review": "none"}, {}, 0, "codex"),
        ("", {"review": "5", "roles": "review=codex"}, {}, 5, "codex"),
        ("", {}, {"agent_command": "x"}, 0, "claude"),
        ("", {}, {"agent_command": "x", "review_command": "y"}, 3, "review-command"),
        ("**Review:** 2", {}, {"agent_command": "x"}, 2, "claude"),
    ],
)
def test_who_reviews_and_how_often(
    task: str,
    settings: dict[str, str],
    submission: dict[str, str],
    rounds: int,
    reviewer: str,
) -> None:
    found = assigned(plan_of(task=task), choices_of(settings, **submission))

    assert (found.review_rounds, found.roles[Role.REVIEW]) == (rounds, reviewer)


def test_a_role_of_which_nothing_is_said_falls_to_whoever_is_nearest_to_it() -> None:
    found = assigned(plan_of(task="**Agent:** codex\n\n**Review:** 1, reviewer=opus"))

    assert found.roles[Role.JUDGE] == "opus"
    assert {found.roles[r] for r in (Role.PLAN, Role.MANAGE, Role.ROUTE)} == {"codex"}
    assert found.origins["judge"] == "as for review"
    assert found.origins["plan"] == "as for work"


def test_a_role_that_is_named_is_nobody_elses() -> None:
    plan = plan_of(front="roles: {judge: opus, plan: opus}")
    found = assigned(plan, choices_of(roles={"judge": "codex"}))

    assert (found.roles[Role.JUDGE], found.roles[Role.PLAN]) == ("codex", "opus")
    assert found.origins["judge"] == "command line"


def test_a_command_line_as_the_agent_judges_itself_unless_a_reviewer_is_named() -> None:
    plan = plan_of(task="**Pattern:** vote(3)")

    alone = assigned(plan, choices_of(agent_command="x"))
    reviewed = assigned(plan, choices_of(agent_command="x", review_command="y"))

    assert dict(alone.profiles) == {"command": "command line"}
    assert reviewed.roles[Role.JUDGE] == "review-command"


def test_a_part_of_a_task_is_done_by_one_agent_with_the_words_of_the_whole() -> None:
    plan = plan_of(task="**Pattern:** plan\n\n**Agent:** codex\n\n**Limits:** attempts=2")
    part = replace(plan.tasks[1], id="1.1.1", parent="1.1")
    plan = replace(plan, tasks=(*plan.tasks, part))

    found = assign(plan, part, choices_of(overrides={"1.1.review": "none"}))

    assert (found.pattern, found.handoff) == (Single(), Handoff())
    assert (found.roles[Role.WORK], found.attempts, found.review_rounds) == ("codex", 2, 0)


def test_a_handoff_that_is_said_further_away_is_overruled_by_a_pattern_without() -> None:
    plan = plan_of(front="handoff: [codex]", task="**Pattern:** vote(3)")
    one, other = (assign(plan, task, choices_of()) for task in plan.tasks)

    assert one.handoff == Handoff()
    assert other.handoff == Handoff(("codex",))


def test_a_handoff_that_is_said_nearer_than_its_pattern_is_refused() -> None:
    plan = plan_of()
    choices = choices_of(pattern="vote(3)", overrides={"1.1.handoff": "[codex]"})

    with pytest.raises(InputError, match=r"which `vote` .* does not allow"):
        assigned(plan, choices)


def test_all_profiles_that_can_come_to_work_are_named_with_their_place() -> None:
    pattern = 'route(codex, rules=["docs/** -> docs"], by=rules, fallback=last)'
    plan = plan_of(task=f"**Pattern:** {pattern}\n\n**Handoff:** [opus]")

    found = assigned(plan)

    assert found.pattern == Route(("codex",), (Rule("docs/**", "docs"),), False, "last")
    assert dict(found.profiles) == {
        "claude": "built-in",
        "codex": "task 1.1, line 5",
        "docs": "task 1.1, line 5",
        "last": "task 1.1, line 5",
        "opus": "task 1.1, line 7",
    }


def test_a_profile_that_is_not_configured_is_refused_with_its_place() -> None:
    plan = plan_of(task="**Pattern:** chain(claude, cloude)")

    with pytest.raises(InputError) as refused:
        refuse_unknown(plan, choices_of(), PROFILES)

    expected = "There is no agent profile `cloude` (task 1.1, line 5)."
    assert refused.value.message == expected
    assert refused.value.hint == "did you mean `claude`?"


def test_something_set_for_a_task_that_is_not_there_is_refused() -> None:
    choices = choices_of(overrides={"1.3.agent": "codex"})

    with pytest.raises(InputError, match=r"no task 1\.3"):
        refuse_unknown(plan_of(), choices, PROFILES)


@pytest.mark.parametrize(
    ("submission", "words"),
    [
        ({"pattern": "voet(3)"}, "--pattern: `voet(3)`, column 1: there is no pattern"),
        ({"roles": {"jugde": "opus"}}, "no role `jugde`"),
        ({"overrides": {"1.1.patern": "x"}}, "`1.1.patern` is nothing that can be set"),
        ({"overrides": {"pattern": "vote(3)"}}, "`pattern` is nothing that can be set"),
        ({"overrides": {"1.1.limits": "2"}}, "1.1.limits: `2`, column 1"),
    ],
)
def test_a_word_that_cannot_be_read_is_refused(submission: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as refused:
        choices_of(**submission)

    assert words in refused.value.message


def test_choices_survive_being_stored() -> None:
    choices = choices_of(
        {"pattern": "vote(2)"},
        agent_command="x",
        roles={"judge": "my judge"},
        overrides={"1.1.agent": "codex"},
    )

    assert Choices.from_json(choices.to_json()) == choices


def test_choices_of_a_newer_version_are_refused() -> None:
    with pytest.raises(InputError, match="newer version"):
        Choices.from_json({**choices_of().to_json(), "schema": 2})


def test_what_differs_from_what_is_built_in_is_shown_with_its_origin() -> None:
    plan = plan_of(task='**Pattern:** chain("a", "b")\n\n**Limits:** timeout=90m, budget_usd=12')
    found = assigned(plan, choices_of({"roles": "judge=opus"}, reviewer="codex"))

    assert found.pattern == Chain((Stage("a"), Stage("b")))
    assert [(each.label, each.text, each.origin) for each in shown(found)] == [
        ("pattern", 'chain("a", "b")', "task 1.1, line 5"),
        ("role", "review=codex", "command line"),
        ("role", "judge=opus", "settings"),
        ("limits", "timeout=90m", "task 1.1, line 7"),
        ("limits", "budget_usd=12", "task 1.1, line 7"),
    ]
