"""Every defect that was measured in the original parser, as a promise that it is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from commandcenter.core.plan import Diagnostic, Done, Edge, Mode, Plan, Why, WorkspaceMode, edges
from commandcenter.readers import PlanSource, ReadResult, read_plan

NEW_LINE = "\n"
SAMPLES = Path(__file__).parent / "samples"


def read(text: str | bytes, path: str = "plan.md") -> ReadResult:
    return read_plan(PlanSource(text, path))


def sound(text: str) -> Plan:
    result = read(text)
    assert result.plan is not None
    assert result.ok, [str(d) for d in result.diagnostics]
    return result.plan


def codes(result: ReadResult) -> set[str]:
    return {d.code for d in result.diagnostics}


def one(result: ReadResult, code: str) -> Diagnostic:
    found = [d for d in result.diagnostics if d.code == code]
    assert len(found) == 1, [str(d) for d in result.diagnostics]
    return found[0]


def pairs(plan: Plan) -> set[tuple[str, str, Why]]:
    return {(e.task, e.on, e.why) for e in edges(plan)}


def task(body: str, number: str = "1.1") -> str:
    return f"### Task {number}: Do it\n\n{body}\n\n**Verification:** `true`\n"


# What was executed, lost or mixed up


def test_headings_inside_a_fence_are_not_tasks() -> None:
    plan = sound(f"## Batch 1: A\n\n{task('x')}\n```\n## Batch 2: B\n### Task 2.1: Example\n```\n")
    assert [t.id for t in plan.tasks] == ["1.1"]
    assert [b.id for b in plan.batches] == ["1"]


def test_a_task_in_a_fence_that_is_missed_is_an_error() -> None:
    text = f"## Batch 1: A\n{task('x')}\n```\n### Task 1.2: Lost\n```\n\n{task('x', '1.3')}"
    found = one(read(text), "P011")
    assert text.split("\n")[found.line - 1] == "### Task 1.2: Lost"


def test_a_batch_whose_only_task_is_in_a_fence_is_an_error() -> None:
    text = f"## Batch 1: A\n```\n### Task 1.1: Lost\n```\n\n## Batch 2: B\n{task('x', '2.1')}"
    assert one(read(text), "P011").line == 3


def test_a_fence_that_is_never_closed_and_hides_a_task_is_an_error() -> None:
    text = f"{task('x')}\n```python\nx = 1\n\n### Task 1.2: Lost\n"
    found = one(read(text), "P010")
    assert (found.line, found.column) == (7, 1)


def test_a_fence_that_is_never_closed_and_hides_no_task_is_a_warning() -> None:
    assert "W118" in codes(read(f"{task('x')}\n```python\nx = 1\n"))


def test_a_heading_without_a_blank_after_its_marks_is_an_error() -> None:
    assert "P011" in codes(read(f"{task('x')}\n###Task 1.2: Lost\n"))


def test_a_task_in_an_open_html_block_is_an_error() -> None:
    assert "P011" in codes(read(f"{task('x')}\n<details>\n### Task 1.2: Lost\n</details>\n"))


def test_a_task_in_front_matter_that_is_none_is_an_error() -> None:
    assert "P011" in codes(read(f"---\n### Task 1.1: Lost\n---\n{task('x', '1.2')}"))


def test_batch_one_and_a_half_is_not_batch_one() -> None:
    plan = sound(
        f"## Batch 1: A\n{task('x')}\n## Batch 1.5: B\n{task('x', '1.5')}\n"
        f"## Batch 2: C\n**Dependencies:** Batch 1.5\n{task('x', '2.1')}"
    )
    assert [b.id for b in plan.batches] == ["1", "1.5", "2"]
    assert ("2.1", "1.5", Why.BARRIER) in pairs(plan)


def test_test_colon_is_not_part_of_the_file_name() -> None:
    plan = sound(task("**Files:**\n- Test: tests/test_x.py\n- Read: docs/a.md\n- Update: b.py"))
    uses = plan.tasks[0].files
    assert [(f.op.value, f.path) for f in uses] == [
        ("test", "tests/test_x.py"),
        ("read", "docs/a.md"),
        ("modify", "b.py"),
    ]


def test_bold_words_in_a_list_of_files_say_what_is_done_to_them() -> None:
    body = "**Files:**\n- **Create:** `a.py`\n- *Modify:* `b.py`\n- **Test:** `tests/test_a.py`"
    uses = sound(task(body)).tasks[0].files
    assert [(f.op.value, f.path) for f in uses] == [
        ("create", "a.py"),
        ("modify", "b.py"),
        ("test", "tests/test_a.py"),
    ]


def test_bold_words_in_a_list_of_checks_do_not_end_it() -> None:
    text = "### Task 1.1: A\n\n**Verification:**\n- **Unit:** fast ones\n- `pytest -q`\n"
    found = sound(text).tasks[0]
    assert [v.text for v in found.verification] == ["**Unit:** fast ones", "pytest -q"]


def test_a_list_of_fields_is_as_good_as_paragraphs() -> None:
    body = "- **Files:** `a.py`\n- **Objective:** it works\n- **Status:** completed\n"
    found = sound(f"### Task 1.1: A\n\n{body}").tasks[0]
    assert [f.path for f in found.files] == ["a.py"]
    assert found.done is Done.DONE


def test_all_named_dependencies_count_and_dots_at_their_end_do_not() -> None:
    plan = sound(
        "## Batch 1: A\n**Execution Mode:** parallel\n"
        f"{task('x', '1.1')}\n{task('x', '1.2')}\n{task('x', '1.3')}\n"
        f"{task('**Depends on:** Task 1.1, Task 1.2 and 1.3.', '1.4')}"
    )
    assert pairs(plan) == {("1.4", f"1.{n}", Why.EXPLICIT) for n in (1, 2, 3)}


@pytest.mark.parametrize(
    "above",
    ["**Files:**\n- Create: b", "1. x\n   - y", "> quoted", "| a | b |\n|---|---|\n| 1 | 2 |"],
    ids=["list", "nested list", "quotation", "table"],
)
def test_a_label_directly_below_another_block_begins_a_field(above: str) -> None:
    plan = sound(
        f"## Batch 1: A\n**Execution Mode:** parallel\n{task('x')}\n{task('x', '1.2')}\n"
        f"{task(f'{above}{NEW_LINE}**Depends on:** Task 1.1', '1.3')}"
    )
    assert pairs(plan) == {("1.3", "1.1", Why.EXPLICIT)}


def test_a_status_directly_below_a_list_counts() -> None:
    plan = sound(task("**Files:**\n- Create: b\n**Status:** completed"))
    assert plan.tasks[0].done is Done.DONE
    assert [f.path for f in plan.tasks[0].files] == ["b"]


def test_a_verification_directly_below_a_list_of_files_is_one() -> None:
    plan = sound("### Task 1.1: A\n**Files:**\n- Create: a.py\n**Verification:**\n- `true`\n")
    assert plan.tasks[0].commands == ("true",)
    assert [f.path for f in plan.tasks[0].files] == ["a.py"]


def test_items_below_another_label_are_no_verification() -> None:
    body = "**Verification:**\n- `pytest -q`\n**Rollback:**\n- `git revert HEAD`\n"
    assert sound(f"### Task 1.1: A\n{body}").tasks[0].commands == ("pytest -q",)


def test_a_commit_message_directly_below_a_list_is_kept() -> None:
    text = "### Task 1.1: A\n**Verification:**\n- `true`\n**Commit:** feat: x\n"
    assert sound(text).tasks[0].commit == "feat: x"


def test_dependencies_of_a_batch_directly_below_a_list_count() -> None:
    text = f"## Batch 1: A\n{task('x')}\n## Batch 2: B\n- why\n**Dependencies:** None\n"
    assert pairs(sound(text + task("x", "2.1"))) == set()


def test_a_cell_that_begins_with_a_label_stays_in_its_table() -> None:
    table = "Name | Value\n---|---\n**Status:** | completed\n"
    assert sound(task(table)).tasks[0].done is Done.TODO


def test_a_label_inside_a_list_item_is_not_used_and_told() -> None:
    found = one(read(task("- Create: b\n  **Depends on:** Task 9.9")), "W128")
    assert found.line == 4


def test_none_inside_other_text_does_not_drop_the_dependency() -> None:
    plan = sound(
        f"## Batch 1: A\n{task('x')}\n## Batch 2: B\n"
        f"**Dependencies:** Batch 1 (none of the others)\n{task('x', '2.1')}"
    )
    assert pairs(plan) == {("2.1", "1.1", Why.BARRIER)}


def test_none_alone_drops_the_dependency() -> None:
    plan = sound(
        f"## Batch 1: A\n{task('x')}\n## Batch 2: B\n**Dependencies:** `None`.\n{task('x', '2.1')}"
    )
    assert pairs(plan) == set()


def test_no_verification_is_ever_invented() -> None:
    result = read("### Task 1.1: Do it\n\nJust do it.\n")
    assert result.plan is not None
    assert result.plan.tasks[0].verification == ()
    assert "W110" in codes(result)


def test_a_task_without_a_colon_is_a_task_and_a_warning() -> None:
    result = read("## Batch 1: A\n### Task 1.1 Do it\n\n**Verification:** `true`\n")
    assert result.ok
    assert result.plan is not None
    assert result.plan.tasks[0].title == "Do it"
    assert "W126" in codes(result)


def test_a_task_without_a_number_is_an_error() -> None:
    assert one(read(f"{task('x')}\n### Task: Do more\n"), "P003").line == 7


def test_a_task_without_a_title_is_an_error() -> None:
    assert "P003" in codes(read("### Task 1.1:\n\nx\n"))


def test_tasks_outside_a_batch_get_one() -> None:
    assert sound(task("x")).batches[0].id == "1"
    result = read(f"{task('x', '0.1')}\n## Batch 1: A\n{task('x', '1.1')}")
    assert result.plan is not None
    assert [(t.id, t.batch) for t in result.plan.tasks] == [("0.1", "0"), ("1.1", "1")]
    assert "W115" in codes(result)


def test_a_task_below_another_heading_stays_in_its_batch() -> None:
    result = read(f"## Batch 1: A\n{task('x')}\n## Notes\n\nHm.\n\n{task('x', '1.2')}")
    assert result.plan is not None
    assert pairs(result.plan) == {("1.2", "1.1", Why.SEQUENCE)}
    assert "W114" in codes(result)


def test_tasks_keep_their_reading_order() -> None:
    ids = ["1.10", "1.2", "1.1a", "3.1.1", "1.1"]
    plan = sound("## Batch 1: A\n" + "\n".join(task("x", i) for i in ids))
    assert [t.id for t in plan.tasks] == ids


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("Task 1.9", "P004"),
        ("Task 1.1", "P006"),
        ("Task 2.1", "P007"),
        ("Batch 1", "P004"),
    ],
)
def test_a_wrong_dependency_is_an_error(field: str, code: str) -> None:
    text = f"## Batch 1: A\n{task(f'**Depends on:** {field}')}\n## Batch 2: B\n{task('', '2.1')}"
    found = one(read(text), code)
    assert found.line == 4
    assert field.split()[1] in text.split("\n")[3]


def test_an_unknown_dependency_names_the_nearest() -> None:
    text = f"{task('x', '1.12')}\n{task('**Depends on:** Task 1.21', '1.13')}"
    assert one(read(text), "P004").hint == "did you mean `1.12`?"


def test_a_dependency_cycle_names_the_whole_path_with_its_lines() -> None:
    text = (
        f"{task('**Depends on:** Task 1.3', '1.1')}{task('**Depends on:** Task 1.1', '1.2')}"
        f"{task('**Depends on:** Task 1.2', '1.3')}"
    )
    message = one(read(text), "P008").message
    assert "1.1 -> 1.3 -> 1.2 -> 1.1" in message
    assert "(line 3)" in message
    assert "(line 8)" in message


def test_a_cycle_of_batches_is_an_error() -> None:
    text = (
        f"## Batch 1: A\n**Dependencies:** Batch 2\n{task('x')}\n"
        f"## Batch 2: B\n**Dependencies:** Batch 1\n{task('x', '2.1')}"
    )
    assert "1 -> 2 -> 1" in one(read(text), "P008").message


def test_a_batch_that_waits_for_a_later_one_is_an_error() -> None:
    text = (
        f"## Batch 1: A\n**Dependencies:** Batch 2\n{task('x')}\n"
        f"## Batch 2: B\n**Dependencies:** None\n{task('x', '2.1')}"
    )
    assert one(read(text), "P007").line == 2


def test_an_unknown_batch_is_an_error() -> None:
    text = f"## Batch 1: A\n**Dependencies:** Batch 7\n{task('x')}"
    assert one(read(text), "P005").column == 25


def test_the_same_task_or_batch_twice_is_an_error() -> None:
    twice = read(f"## Batch 1: A\n{task('x', '1.1a')}\n## Batch 1: B\n{task('x', '1.1A')}")
    messages = [d.message for d in twice.diagnostics if d.code == "P002"]
    assert messages == [
        "batch 1 is there twice; first on line 1",
        "task 1.1A is there twice; first on line 2",
    ]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/etc/passwd", "P020"),
        ("~/x", "P020"),
        ("C:\\x", "P020"),
        ("\\\\host\\share", "P020"),
        ("../x", "P021"),
        ("a/../../x", "P021"),
        ("a\\..\\..\\x", "P021"),
        (".git/config", "P022"),
        ("sub/.GIT/hooks/x", "P022"),
        (".git./config", "P022"),
        (".commandcenter/x", "P022"),
        ("a\x07b.py", "P022"),
    ],
)
def test_a_path_outside_the_repository_is_an_error(path: str, code: str) -> None:
    assert one(read(task(f"**Files:**\n- Create: `{path}`")), code).line == 4


def test_a_batch_without_tasks_is_a_warning_and_a_plan_without_tasks_an_error() -> None:
    assert "W120" in codes(read(f"## Batch 1: A\n{task('x')}\n## Batch 2: B\n"))
    nothing = read("# Plan\n\n## Batch 1: A\n\n- [ ] do this\n")
    assert nothing.plan is None
    assert "do this" in one(nothing, "P001").hint


def test_a_plan_inside_a_fence_has_no_task_and_says_where_they_are() -> None:
    found = one(read(f"```md\n{task('x')}```\n"), "P001")
    assert "line 2: task 1.1 is in a code block" in found.hint


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "P001"),
        (b"\xef\xbb\xbf \n\n", "P001"),
        (b"### Task 1.1: A\n\x00", "P014"),
        (b"\x7fELF\x02\x01\xff\xfe", "P014"),
        ("### Task 1.1: A\n".encode("utf-16"), "P014"),
        (b"x" * (5 * 2**20 + 1), "P014"),
    ],
)
def test_an_empty_or_binary_plan_is_refused(content: bytes, code: str) -> None:
    result = read(content)
    assert result.plan is None
    assert one(result, code).is_error


def test_invalid_bytes_are_named_by_offset_line_and_column() -> None:
    found = one(read(b"\xef\xbb\xbf# A\r\n\r\nab\xe9 x\n"), "P014")
    assert (found.line, found.column) == (3, 3)
    assert "0xe9) at byte 12" in found.message


# What was ignored, and means something


@pytest.mark.parametrize(
    ("written", "mode", "workspace"),
    [
        ("local", Mode.SEQUENTIAL, WorkspaceMode.LOCAL),
        ("`worktree`", Mode.SEQUENTIAL, WorkspaceMode.LOCAL),
        ("parallel", Mode.PARALLEL, None),
        ("`dagger`", Mode.SEQUENTIAL, WorkspaceMode.DAGGER),
        ("parallel, container", Mode.PARALLEL, WorkspaceMode.CONTAINER),
        ("Sequential (local)", Mode.SEQUENTIAL, WorkspaceMode.LOCAL),
    ],
)
def test_execution_modes(written: str, mode: Mode, workspace: WorkspaceMode | None) -> None:
    batch = sound(f"## Batch 1: A\n**Execution Mode:** {written}\n{task('x')}").batches[0]
    assert (batch.mode, batch.workspace) == (mode, workspace)


@pytest.mark.parametrize("written", ["nonsense", "paralel", "local dagger", ""])
def test_an_execution_mode_that_is_not_understood_is_an_error(written: str) -> None:
    text = f"## Batch 1: A\n**Execution Mode:** {written}\n{task('x')}"
    assert one(read(text), "P013").line == 2


@pytest.mark.parametrize(
    "field",
    [
        "**Pattern:** vote",
        "**Pattern:** singel",
        "**Pattern:**",
        "**Handoff:** codex, max=20",
        "**Review:** by Anna",
        "**Limits:** 3",
        "**Agent:** one of them",
        "**Roles:** jugde=opus",
    ],
)
def test_a_pattern_that_is_not_understood_is_refused_rather_than_ignored(field: str) -> None:
    assert "P013" in codes(read(task(field)))
    assert "P013" in codes(read(f"## Batch 1: A\n{field}\n{task('x')}"))


@pytest.mark.parametrize("said", ["maybe", "", "after review"])
def test_a_word_on_merging_that_is_neither_yes_nor_no_is_an_error(said: str) -> None:
    field = f"**Auto Merge:** {said}"
    assert one(read(task(field)), "P019").line > 0
    assert "P019" in codes(read(f"## Batch 1: A\n{field}\n{task('x')}"))


@pytest.mark.parametrize("said", ["P1", "", "very high"])
def test_a_priority_that_is_not_understood_is_a_warning(said: str) -> None:
    field = f"**Priority:** {said}"
    assert one(read(task(field)), "W129").line > 0
    assert "W129" in codes(read(f"## Batch 1: A\n{field}\n{task('x')}"))


def test_the_pattern_single_is_fine() -> None:
    sound(task("**Pattern:** single"))


@pytest.mark.parametrize(
    ("title", "body", "done"),
    [
        ("A", "**Status:** completed", Done.DONE),
        ("A (COMPLETE)", "", Done.DONE),
        ("A ✅", "", Done.DONE),
        ("A", "- [x] one\n- [X] two", Done.DONE),
        ("A", "- [x] one\n- [ ] two", Done.TODO),
        ("A", "**Status:** in progress", Done.IN_PROGRESS),
        ("A", "**Status:** skipped", Done.SKIPPED),
        ("A ✅", "**Status:** pending", Done.TODO),
        ("A", "**Acceptance Criteria:**\n- [x] one", Done.TODO),
    ],
)
def test_what_is_done_in_the_plan(title: str, body: str, done: Done) -> None:
    found = sound(f"### Task 1.1: {title}\n\n{body}\n\n**Verification:** `true`\n").tasks[0]
    assert (found.title, found.done) == ("A", done)


def test_a_complete_batch_makes_its_tasks_done() -> None:
    plan = sound(f"## Phase 1: A (COMPLETE)\n{task('x')}\n## Phase 2: B\n{task('x', '2.1')}")
    assert [t.done for t in plan.tasks] == [Done.DONE, Done.TODO]


def test_a_dependency_on_a_cancelled_task_is_an_error() -> None:
    text = f"{task('**Status:** cancelled')}\n{task('**Depends on:** 1.1', '1.2')}"
    assert "P040" in codes(read(text))


def test_a_box_in_an_unknown_state_is_an_error() -> None:
    assert one(read(task("- [v] done?")), "P030").line == 3


def test_the_commit_message_is_kept() -> None:
    assert sound(task("**Commit:** feat(x): add y")).tasks[0].commit == "feat(x): add y"
    assert sound(task("**Commit:**\n```\nfeat: y\n\nwhy\n```")).tasks[0].commit == "feat: y\n\nwhy"
    done = sound(task("**Commit:** `8bab254`")).tasks[0]
    assert (done.commit, done.labels["commit"]) == ("", "8bab254")


@pytest.mark.parametrize("rule", ["---", "-", "==="])
def test_a_rule_directly_below_a_field_does_not_end_the_task(rule: str) -> None:
    text = f"## Batch 1: A\n{task('x')}\n**Commit:** feat: y\n{rule}\n\n{task('x', '1.2')}"
    result = read(text)
    assert result.plan is not None
    assert result.plan.tasks[0].commit.startswith("feat: y")
    assert [t.batch for t in result.plan.tasks] == ["1", "1"]
    assert codes(result) == set()


def test_a_task_may_have_an_underlined_heading() -> None:
    text = "Batch 1: A\n======\n\nTask 1.1: B\n------\n\n**Verification:** `true`\n"
    assert sound(text).tasks[0].title == "B"


def test_further_fields_are_labels() -> None:
    labels = sound(task("**Agent:** codex\n**Auto Merge:** no")).tasks[0].labels
    assert labels == {"agent": "codex", "auto_merge": "no"}


def test_a_short_field_of_a_plans_own_is_a_label_and_a_long_one_is_text() -> None:
    body = f"**Area:** `db`\n**Story:** As a user {'I want it ' * 10}"
    found = sound(task(body)).tasks[0]

    assert dict(found.labels) == {"area": "db"}
    assert "**Story:**" in found.instructions


def test_a_misspelt_field_is_a_warning() -> None:
    assert "W127" in codes(read("### Task 1.1: A\n\n**Verfication:**\n- `true`\n"))


def test_a_list_of_batches_is_read() -> None:
    head = "".join(f"## Batch {n}: A\n{task('x', f'{n}.1')}\n" for n in (1, 2, 3))
    for written in ("Batches 1, 2", "Batch 1 and Batch 2", "Batches 1-2", "1, 2", "Batch 1 & 2."):
        plan = sound(f"{head}## Batch 4: B\n**Dependencies:** {written}\n{task('x', '4.1')}")
        assert {e.on for e in edges(plan) if e.task == "4.1"} == {"1.1", "2.1"}


def test_text_that_names_no_id_keeps_the_order() -> None:
    result = read(f"{task('x')}\n{task('**Depends on:** the first one', '1.2')}")
    assert result.plan is not None
    assert pairs(result.plan) == {("1.2", "1.1", Why.SEQUENCE)}
    assert "W104" in codes(result)


def test_all_errors_are_told_at_once_in_order_of_lines() -> None:
    first, second = task("**Depends on:** Task 9.9"), task("**Files:**\n- /abs")
    text = f"{first}\n{second}\n### Task 1.2:\n\n- [v] x\n"
    result = read(text)
    lines = [d.line for d in result.diagnostics]
    assert {"P002", "P003", "P004", "P020", "P030"} <= codes(result)
    assert lines == sorted(lines)


def test_a_diagnostic_reads_like_a_compilers() -> None:
    text = f"{task('**Depends on:** Task 1.2, Task 1.4')}\n{task('x', '1.2')}"
    found = [str(d) for d in read(text).diagnostics if d.code == "P004"]
    assert found == [
        "plan.md:3:32: error[P004]: task 1.1 depends on unknown task 1.4\nhint: did you mean `1.2`?"
    ]


# Whole plans


def test_a_whole_plan() -> None:
    content = (SAMPLES / "guestbook.md").read_bytes()
    plan = sound(content.decode())
    assert plan.title == "Guestbook"
    assert plan.defaults.verify == ("python -m compileall -q src",)
    assert plan.defaults.limits.timeout_s == 2700
    assert "standard library" in plan.context
    assert "Everything later builds on this." in plan.batches[0].description
    assert plan.task("1.1").instructions.startswith("**Files:**")
    assert plan.task("1.1").files[1].lines == "1-40"
    assert plan.task("1.2").files[1].path == "migrations/file with spaces & (special).sql"
    assert plan.commands_of(plan.task("1.2")) == (
        'cat "migrations/file with spaces & (special).sql"',
        "python -m guestbook.migrate --check",
        "python -m compileall -q src",
    )
    assert Edge("2.1", "1.2", Why.BARRIER, 55) in edges(plan)


def test_a_master_plan_with_phases_batches_and_tables_is_read_whole() -> None:
    text = (SAMPLES / "master_plan.md").read_text()
    plan = sound(text.replace("## Phase 3: Final", "## Phase 3: Final (COMPLETE)"))
    found = [(t.id, t.batch, t.done.value) for t in plan.tasks]
    assert found == [
        ("1.1", "phase-1", "done"),
        ("1.2", "phase-1", "done"),
        ("2.1.1", "1", "todo"),
        ("2.1.2", "1", "todo"),
        ("2.2.1", "2", "todo"),
    ]
    assert [f.path for f in plan.task("2.2.1").files] == ["App.tsx", "routes/index.tsx"]
    assert pairs(plan) == {
        ("2.1.2", "2.1.1", Why.SEQUENCE),
        ("2.2.1", "2.1.2", Why.BARRIER),
    }


def test_a_master_plan_whose_last_phase_has_no_task_is_refused() -> None:
    text = (SAMPLES / "master_plan.md").read_text()
    found = one(read(text), "P018")
    assert "Phase 3" in text.split("\n")[found.line - 3]
    assert text.split("\n")[found.line - 1] == "### Tasks"


def test_a_table_that_repeats_the_headings_adds_no_task() -> None:
    table = "| Task | Description |\n|---|---|\n| 1.1 | Do it |\n\n"
    assert len(sound(f"## Batch 1: A\n{table}{task('x')}").tasks) == 1
