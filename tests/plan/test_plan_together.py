"""What a plan says of agents that work together, and what is wrong with it."""

from __future__ import annotations

import pytest

from commandcenter.core.plan import Diagnostic, from_json, to_json
from commandcenter.readers import PlanSource, ReadResult, read_plan


def read(*, front: str = "", batch: str = "", task: str = "", body: str = "x") -> ReadResult:
    head = f"---\ncommandcenter: 1\ndefaults:\n  {front}\n---\n" if front else ""
    text = f"{head}## Batch 1: B\n{batch}\n\n### Task 1.1: A\n{task}\n\n{body}\n"
    return read_plan(PlanSource(text, "plan.md"))


def told(result: ReadResult) -> list[Diagnostic]:
    return [each for each in result.diagnostics if each.code in ("P012", "P013", "W130")]


@pytest.mark.parametrize(
    ("places", "line", "column", "words"),
    [
        ({"task": "**Pattern:** voet(3)"}, 5, 14, "**Pattern:** of task 1.1: there is no pattern"),
        ({"task": "**Pattern:** vote(3, jugde=x)"}, 5, 22, "no `jugde=`"),
        ({"batch": "**Limits:** attempts=0"}, 2, 22, "**Limits:** of batch 1: attempts is 0"),
        ({"front": "pattern: vote(9)"}, 4, 17, "`pattern` of the front matter: the number"),
        ({"front": "handoff: {to: [a], max: 11}"}, 4, 27, "max is 11"),
    ],
)
def test_a_word_that_is_not_understood_is_an_error_at_its_place(
    places: dict[str, str], line: int, column: int, words: str
) -> None:
    (found,) = told(read(**places))

    assert (found.code, found.line, found.column) == ("P013", line, column)
    assert words in found.message


@pytest.mark.parametrize(
    "front",
    [
        "pattern: [vote]",
        "handoff: {from: [a]}",
        "handoff: {to: [a], max: many}",
        "roles: {jugde: opus}",
        "roles: opus",
        "review: 21",
    ],
)
def test_front_matter_of_the_wrong_form_is_an_error_at_its_line(front: str) -> None:
    (found,) = told(read(front=front))
    assert (found.code, found.line) == ("P012", 4)


@pytest.mark.parametrize(
    ("front", "handoff"),
    [
        ("handoff: [a, b]", "[a, b]"),
        ("handoff: {to: [a], max: 2}", "[a], max=2"),
        ("handoff: a", "a"),
        ("handoff: none", "none"),
    ],
)
def test_a_handoff_of_the_front_matter_has_several_forms(front: str, handoff: str) -> None:
    result = read(front=front)

    assert told(result) == []
    assert result.plan is not None
    assert result.plan.defaults.handoff == handoff


@pytest.mark.parametrize("pattern", ["vote(3)", "plan", "magentic"])
def test_a_handoff_does_not_go_with_a_pattern_that_has_no_single_worker(pattern: str) -> None:
    (found,) = told(read(batch=f"**Pattern:** {pattern}", task="**Handoff:** [codex]"))

    assert (found.code, found.line) == ("P013", 5)
    assert f"`{pattern.partition('(')[0]}` does not allow" in found.message


def test_a_handoff_of_all_tasks_is_no_error_where_one_has_such_a_pattern() -> None:
    assert told(read(front="handoff: [codex]", task="**Pattern:** vote(3)")) == []


@pytest.mark.parametrize(("body", "count"), [("x", "no open"), ("- [ ] a\n- [x] b", "one open")])
def test_a_chain_that_has_nothing_for_stages_is_doubtful(body: str, count: str) -> None:
    (found,) = told(read(task="**Pattern:** chain", body=body))

    assert found.code == "W130"
    assert count in found.message


def test_the_checkboxes_of_a_task_can_be_the_stages_of_its_chain() -> None:
    assert told(read(task="**Pattern:** chain", body="- [ ] a\n- [ ] b")) == []


def test_nothing_is_said_of_a_task_that_is_not_run() -> None:
    assert told(read(task="**Status:** completed\n\n**Pattern:** voet(3)")) == []


def test_what_is_said_survives_the_canonical_form_with_its_lines() -> None:
    plan = read(
        front="pattern: vote(3)\n  roles: {judge: opus}",
        batch="**Agent:** codex",
        task="**Roles:** plan=opus",
    ).plan

    assert plan is not None
    assert from_json(to_json(plan)) == plan
    assert dict(plan.defaults.lines) == {"pattern": 4, "roles": 5}
    assert dict(plan.tasks[0].label_lines) == {"roles": 11}


def test_a_plan_of_an_older_version_has_none_of_this_and_is_read() -> None:
    text = (
        '{"schema": "cc.plan/1", "defaults": {"review": {"rounds": 2, "reviewer": ""}},'
        ' "batches": [{"id": "1", "title": "B", "ordinal": 1}],'
        ' "tasks": [{"id": "1.1", "title": "A", "batch": "1", "labels": {"agent": "x"}}]}'
    )
    plan = from_json(text)

    assert plan.defaults.pattern == ""
    assert dict(plan.tasks[0].label_lines) == {}


def test_a_line_that_is_no_number_is_no_plan() -> None:
    result = read_plan(
        PlanSource(
            '{"schema": "cc.plan/1", "batches": [], "tasks": [{"id": "1", "title": "A",'
            ' "batch": "1", "label_lines": {"agent": "x"}}]}',
            "plan.json",
        )
    )

    assert "not an object of whole numbers" in str(result.diagnostics[0])
