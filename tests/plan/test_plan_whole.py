"""A plan is run whole or refused: what looks like work never becomes text in silence."""

from __future__ import annotations

import pytest

from commandcenter.core.plan import Diagnostic, Done
from commandcenter.readers import PlanSource, ReadResult, read_plan

BEFORE = "## Batch 1: A\n\n### Task 1.1: One\n\n**Verification:** `true`\n\n"


def read(text: str) -> ReadResult:
    return read_plan(PlanSource(text, "plan.md"))


def errors(text: str) -> list[Diagnostic]:
    return [d for d in read(text).diagnostics if d.is_error]


def told(text: str) -> set[str]:
    """Return the codes of all that is said, save that a task is not verified."""
    return {d.code for d in read(text).diagnostics} - {"W110"}


def ids(text: str) -> list[str]:
    result = read(text)
    assert result.plan is not None
    assert result.ok, [str(d) for d in result.diagnostics]
    return [task.id for task in result.plan.tasks]


@pytest.mark.parametrize(
    ("lost", "hint"),
    [
        ("- Task 1.2: Two", "### Task 1.2: Title"),
        ("- [ ] Task 1.2 - Two", "### Task 1.2: Title"),
        ("* **Task 1.2** Two", "### Task 1.2: Title"),
        ("1. Task 1.2: Two", "### Task 1.2: Title"),
        ("Task 1.2: Two\n\nDo it.", "### Task 1.2: Title"),
        ("**Acceptance Criteria:**\n- It works\n\nTask 1.2: Two", "### Task 1.2: Title"),
        ("**Acceptance Criteria:**\n- It works\n- Task 1.2: Two", "### Task 1.2: Title"),
        ("#### Notes\n\nNone.\n\nTask 1.2: Two", "### Task 1.2: Title"),
        ("**Task 1.2: Two**\n\nDo it.", "### Task 1.2: Title"),
        ("**Batch 2: More**\n\nDo it.", "### Batch 2: Title"),
        ("| Task | What |\n|---|---|\n| 1.2 | Two |", "`Task 1.2: Title` a heading"),
    ],
)
def test_a_task_that_is_not_in_a_heading_is_an_error(lost: str, hint: str) -> None:
    (found,) = errors(BEFORE + lost)
    assert found.code == "P011"
    assert hint in found.hint


def test_a_box_with_a_number_between_the_tasks_is_an_error() -> None:
    found = errors(BEFORE + "## Batch 2: B\n\n- [ ] 2.2 Two\n\n### Task 2.1: Three\n")
    assert [(d.code, d.line) for d in found] == [("P011", 9)]


@pytest.mark.parametrize(
    ("heading", "hint"),
    [
        ("### Task ten: Two", "write `Task 10: Title`"),
        ("### Task ten", "write `Task 10: Title`"),
        ("### Task setup: Two", "write `Task 1: Title`"),
        ("### Task: Two", "write `Task 1: Title`"),
        ("### Task - Two", "write `Task 1: Title`"),
        ("## Batch One: Two", "write `Batch 1: Title`"),
        ("## Batch IV", "write `Batch 4: Title`"),
        ("## Phase two - More", "write `Phase 2: Title`"),
        ("## Phase Alpha: More\n\n### Task 2.1: Two", "write `Phase 1: Title`"),
        ("### 1.2: Two", "write `Task 1.2: Title`"),
        ("### 1.2 Two", "write `Task 1.2: Title`"),
    ],
)
def test_a_heading_of_a_task_or_batch_without_a_number_is_an_error(heading: str, hint: str) -> None:
    (found,) = errors(f"{BEFORE}{heading}\n\nDo it.\n")
    assert found.code == "P003"
    assert hint in found.hint


def test_a_row_without_a_number_among_tasks_is_an_error() -> None:
    table = "| Task | What |\n|---|---|\n| 1.1 | One |\n| later | Two |\n| **Total** | 2 |\n"
    assert [(d.code, d.line) for d in errors(table)] == [("P003", 4)]


@pytest.mark.parametrize(
    "body",
    [
        "- first this",
        "1. first this\n2. then that",
        "- [ ] 2.1 first this",
        "**Objective:** it works",
        "**Execution Mode:** parallel",
        "| What | Where |\n|---|---|\n| this | here |",
        "### First this\n\nDo it.",
    ],
)
@pytest.mark.parametrize("heading", ["Batch 2: B", "Phase 2: B", "Phase 2 B"])
def test_a_batch_that_has_work_but_no_task_is_an_error(heading: str, body: str) -> None:
    found = errors(f"{BEFORE}## {heading}\n\n{body}\n")
    assert ("P018", 9) in [(d.code, d.line) for d in found]


@pytest.mark.parametrize(
    "title",
    ["2: B (COMPLETE)", "2: B ✅", "2: B\n\n**Status:** completed", "2: B\n\n**Status:** skipped"],
)
def test_a_batch_that_is_done_needs_no_task(title: str) -> None:
    assert ids(f"{BEFORE}## Batch {title}\n\n- first this\n") == ["1.1"]


def test_a_batch_that_is_skipped_skips_its_tasks() -> None:
    plan = read(f"{BEFORE}## Batch 2: B\n**Status:** skipped\n\n### Task 2.1: Two\n").plan
    assert plan is not None
    assert [task.done for task in plan.tasks] == [Done.TODO, Done.SKIPPED]


def test_ids_may_have_letters() -> None:
    text = "### Task a: A\n\n### Task B: B\n**Depends on:** Task a\n\n### Task 1.a: C\n\n"
    text += "### Task 1a.2: D\n**Depends on:** Tasks a, b and 1.a\n"
    assert ids(text) == ["a", "B", "1.a", "1a.2"]
    plan = read(text).plan
    assert plan is not None
    assert [[r.id for r in task.depends_on] for task in plan.tasks] == [
        [],
        ["a"],
        [],
        ["a", "B", "1.a"],
    ]


@pytest.mark.parametrize(
    "prose",
    [
        "See Task 1.1: it comes first.",
        "- Task 1.1: it comes first",
        "- [ ] 1.1.1 a step of it\n- [ ] 1.9 another",
        "- [x] 1.2 done long ago",
        "- Tasks are small\n- Task runners are fine",
        "#### Notes on 1.2\n\nNone.",
        "#### 1.2 A part of it\n\nDo it.",
        "### Task Breakdown\n\nNone.",
        "### Tasks\n\nNone.",
        "### Task about this: none\n\nNone.",
        "## Batch overview\n\nNone.",
        "## Phase planning: no\n\nNone.",
        "## Acceptance criteria\n\n- [ ] 1.2 is released\n- all green",
        "## Phase 1 Summary\n\n- all green",
        "## 7.1 Background\n\n- none",
        "## Notes\n\n- [ ] tell everybody",
        "| ID | Requirement |\n|---|---|\n| 1.1 | fast |",
    ],
)
def test_harmless_prose_stays_harmless(prose: str) -> None:
    assert told(BEFORE + prose) == set()


@pytest.mark.parametrize(
    "doubtful",
    [
        "> Task 1.2: as it was",
        "It goes on, as in\nTask 1.2: the one before.",
        "Task 1.2 is not part of this.",
        "**Implementation:**\n1. Task 7: the seventh of another list",
        "## Out of scope\n\n- Task 1.2: not now",
        "## Summary\n\nTask 1.2: dropped",
        "**Acceptance Criteria:**\n- [ ] it is as quick as\n  Task 1.2: the one before",
        "```\n- Task 1.2: Two\n### Task 1.2: Two\n```",
    ],
)
def test_what_may_be_an_example_is_a_warning(doubtful: str) -> None:
    assert told(BEFORE + doubtful) == {"W117"}


def test_what_is_missing_between_the_tasks_is_an_error_wherever_it_stands() -> None:
    after = "\n\n### Task 1.3: Three\n"
    for hidden in ("> Task 1.2: Two", "- [ ] 1.2 Two", "## Notes\n\n- Task 1.2: Two"):
        assert [d.code for d in errors(BEFORE + hidden + after)] == ["P011"]
