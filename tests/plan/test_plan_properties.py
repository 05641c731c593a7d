"""What holds for every plan text, however odd."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commandcenter.core.plan import Diagnostic, Origin, Plan, edges, from_json, order, to_json
from commandcenter.readers import PlanSource, ReadResult, read_plan

SAMPLES = [p.read_text() for p in sorted((Path(__file__).parent / "samples").glob("*.md"))]

WORDS = st.text(st.sampled_from("abc XYZ-/.`*_()'é "), min_size=1, max_size=30)
ITEMS = st.lists(st.one_of(WORDS, st.sampled_from(["`pytest -q`", "cat a.txt"])), max_size=3)


@st.composite
def documents(draw: st.DrawFn) -> str:
    parts = ["# A plan", ""]
    for number in range(1, draw(st.integers(1, 3)) + 1):
        parts += [f"## Batch {number}: {draw(WORDS)}", ""]
        parts += draw(st.sampled_from([[], ["**Dependencies:** None", ""]]))
        parts += draw(st.sampled_from([[], ["**Execution Mode:** parallel", ""]]))
        for n in range(1, draw(st.integers(1, 3)) + 1):
            parts += [f"### Task {number}.{n}: T{draw(WORDS)}", "", "**Files:**"]
            parts += [f"- Create: `src/{n}.py`", "", draw(WORDS), "", "**Verification:**"]
            parts += [*(f"- {item}" for item in draw(ITEMS)), ""]
            parts += draw(st.sampled_from([[], [f"**Depends on:** Task {number}.1", ""]]))
            parts += draw(st.sampled_from([[], ["```", "### Task 7.7: Example", "```", ""]]))
    return "\n".join(parts)


def read(text: str | bytes) -> ReadResult:
    return read_plan(PlanSource(text, "plan.md"))


def shapeless(plan: Plan | None) -> Plan | None:
    return replace(plan, source=Origin()) if plan is not None else None


def said(result: ReadResult, shift: int = 0) -> list[Diagnostic]:
    """Return the diagnostics as if the text began `shift` lines further up, without messages."""
    return [replace(d, line=d.line - shift, message="") for d in result.diagnostics]


@settings(deadline=None, max_examples=60)
@given(documents(), st.integers(1, 5))
def test_blank_lines_above_shift_all_lines_and_change_nothing_else(text: str, count: int) -> None:
    plain, shifted = read(text), read("\n" * count + text)
    assert said(shifted, count) == said(plain)
    assert plain.plan is not None
    assert shifted.plan is not None
    before = [(t.id, t.span.start, t.sha256) for t in plain.plan.tasks]
    after = [(t.id, t.span.start - count, t.sha256) for t in shifted.plan.tasks]
    assert after == before
    moved = [replace(e, line=e.line - count) for e in edges(shifted.plan)]
    assert moved == list(edges(plain.plan))


@settings(deadline=None, max_examples=60)
@given(documents())
def test_line_ends_and_a_byte_order_mark_make_no_difference(text: str) -> None:
    plain = read(text)
    for other in (
        text.replace("\n", "\r\n").encode(),
        text.replace("\n", "\r").encode(),
        b"\xef\xbb\xbf" + text.encode(),
    ):
        variant = read(other)
        assert variant.diagnostics == plain.diagnostics
        assert shapeless(variant.plan) == shapeless(plain.plan)


FIELDS = st.sampled_from(
    [
        "**Files:**\n- Create: `a.py`\n- Modify: b.py",
        "**File:** `c.py`",
        "**Depends on:** Task 1.1",
        "**Depends on:**\n1. Task 1.1",
        "**Status:** skipped",
        "**Implementation:**\nDo it.\n\n```python\nx = 1\n```",
        "**Implementation:**\n- one\n  - two\n\n    deep",
        "**Implementation:**\n> quoted",
        "**Implementation:**\n| a | b |\n|---|---|\n| 1 | 2 |",
        "**Verification:**\n- `pytest -q`\n- Page loads",
        "**Verification:**\n1. `true`\n2. python a.py",
        "**Verification:** `mypy src`",
        "**Rollback:**\n- `git revert HEAD`",
        "*Note:* mind the gap",
        "**Commit:** feat: x",
    ]
)


@settings(deadline=None, max_examples=100)
@given(st.lists(FIELDS, max_size=6, unique=True))
def test_blank_lines_between_fields_make_no_difference(body: list[str]) -> None:
    head = "### Task 1.1: A\n\n### Task 1.2: B\n\n"
    apart, together = read(head + "\n\n".join(body)), read(head + "\n".join(body))
    assert [(d.code, d.message) for d in together.diagnostics] == [
        (d.code, d.message) for d in apart.diagnostics
    ]
    assert understood(together) == understood(apart)


def understood(result: ReadResult) -> object:
    """Return what was understood of the second task, without its lines."""
    assert result.plan is not None
    task = result.plan.tasks[1]
    return (
        [(f.path, f.op) for f in task.files],
        [(v.kind, v.text) for v in task.verification],
        [r.id for r in task.depends_on],
        (task.done, task.commit, task.labels, task.follows_previous),
    )


@settings(deadline=None, max_examples=60)
@given(documents())
def test_there_and_back_through_json_is_the_same(text: str) -> None:
    plan = read(text).plan
    assert plan is not None
    assert from_json(to_json(plan)) == plan


@settings(deadline=None, max_examples=60)
@given(documents(), st.data())
def test_a_fence_around_any_part_never_loses_a_task_silently(
    text: str, data: st.DataObject
) -> None:
    lines = text.split("\n")
    whole = read(text).plan
    assert whole is not None
    start = data.draw(st.integers(0, len(lines)))
    end = data.draw(st.one_of(st.none(), st.integers(start, len(lines))))
    fenced = [*lines[:start], "~~~~", *lines[start:end]]
    fenced += ["~~~~", *lines[end:]] if end is not None else []
    result = read("\n".join(fenced))
    found = {t.id for t in result.plan.tasks} if result.plan else set()
    for lost in {t.id for t in whole.tasks} - found:
        told = [d for d in result.diagnostics if d.code in ("P001", "P010", "P011", "W117")]
        assert any(d.code in ("P001", "P010") or d.subject == lost for d in told)


@settings(deadline=None, max_examples=60)
@given(documents())
def test_every_diagnostic_lies_in_the_file_and_points_at_its_subject(text: str) -> None:
    lines = text.split("\n")
    for found in read(text).diagnostics:
        assert 1 <= found.line <= len(lines)
        assert 1 <= found.column <= len(lines[found.line - 1]) + 1
        if found.subject:
            assert lines[found.line - 1][found.column - 1 :].startswith(found.subject)


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    result = read(text)
    assert result.plan is not None or any(d.is_error for d in result.diagnostics)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    result = read(content)
    assert result.plan is not None or any(d.is_error for d in result.diagnostics)


def mutated(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(lines))
        match chance.randrange(8):
            case 0:
                del lines[at : at + chance.randint(1, 4)]
            case 1:
                lines.insert(
                    at, chance.choice(["```", "~~~", "<!--", "---", "> ", "- [x] a", "\t"])
                )
            case 2:
                lines[at] = lines[at][: chance.randint(0, len(lines[at]))]
            case 3:
                lines[at] = chance.choice(["    ", "- ", "> ", "#", "| ", "\x0b"]) + lines[at]
            case 4:
                other = chance.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 5:
                lines.insert(at, chance.choice(lines))
            case 6:
                marks = list(lines[at])
                chance.shuffle(marks)
                lines[at] = "".join(marks)
            case _:
                lines[at] = lines[at].replace("1", chance.choice(["2", "9", "1.1", "", "1a"]))
        lines = lines or [""]
    return "\n".join(lines)


SMALL = """## Batch 1: A

**Execution Mode:** parallel

### Task 1.1: One

**Files:**
- Create: `a.py`

**Verification:**
- `true`

## Batch 2: B

### Task 2.1: Two

**Depends on:** Task 1.1
"""


@pytest.mark.slow
def test_no_mutation_of_a_plan_crashes_the_reader() -> None:
    chance = random.Random(20)
    for number in range(1_200):
        text = SAMPLES[number % len(SAMPLES)] if number < 200 else SMALL
        result = read(mutated(text, chance))
        assert result.plan is not None or any(d.is_error for d in result.diagnostics)
        if result.plan is not None and number % 10 == 0:
            assert from_json(to_json(result.plan)) == result.plan
        if result.ok and result.plan is not None:
            assert len(order(result.plan)) == len(result.plan.tasks)


@pytest.mark.slow
def test_a_plan_of_the_greatest_size_is_read() -> None:
    parts = []
    for number in range(1, 51):
        parts.append(f"## Batch {number}: B\n")
        parts += [
            f"### Task {number}.{n}: T\n\n**Files:**\n- Create: `src/{number}/{n}.py`\n\n"
            f"**Verification:**\n- `true`\n"
            for n in range(1, 101)
        ]
    result = read("\n".join(parts))
    assert result.ok
    assert result.plan is not None
    assert len(result.plan.tasks) == 5_000
    assert len(order(result.plan)) == 5_000


def test_one_task_more_is_refused() -> None:
    text = "\n".join(f"### Task {n}: T\n\n**Verification:** `true`\n" for n in range(5_001))
    assert [d.code for d in read(text).diagnostics] == ["P014"]
