"""A task that is split into others: what a planner may, and what the plan is afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commandcenter.core.plan import (
    Batch,
    Diagnostic,
    FileUse,
    Plan,
    Reference,
    Task,
    Why,
    check,
    edges,
    to_json,
)
from commandcenter.core.plan.paths import matches, within
from commandcenter.core.plan.subplan import grafted, subplan, subplan_edges

PARENT = Task(
    "1.1",
    "Do it",
    "1",
    files=(FileUse("src"), FileUse("docs/*.md")),
    labels={"auto_merge": "no", "pattern": "plan(8)"},
)
NEXT = Task("1.2", "Next", "1", files=(FileUse("a.py"),))
PLAN = Plan("A plan", batches=(Batch("1", "First", 1),), tasks=(PARENT, NEXT))


def part(name: str, *files: str, after: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "title": f"Part {name}",
        "instructions": "Do",
        "files": list(files),
        "depends_on": list(after),
        **more,
    }


def split(
    *parts: dict[str, Any], plan: Plan = PLAN, delegated: int = 0, tasks_max: int = 8
) -> tuple[Task, ...] | tuple[Diagnostic, ...]:
    return subplan({"tasks": list(parts)}, plan, plan.tasks[0], delegated, tasks_max)


def tasks(*parts: dict[str, Any], plan: Plan = PLAN, delegated: int = 0) -> tuple[Task, ...]:
    found = split(*parts, plan=plan, delegated=delegated)
    return tuple(each for each in found if isinstance(each, Task))


def codes(*parts: dict[str, Any], tasks_max: int = 8) -> list[str]:
    found = split(*parts, tasks_max=tasks_max)
    return sorted({each.code for each in found if isinstance(each, Diagnostic)})


def test_tasks_are_named_after_their_parent_and_belong_to_its_batch() -> None:
    first, second = tasks(part("x"), part("y", after=("x",), verification=["make y"]))

    assert (first.id, first.parent, first.batch) == ("1.1-1", "1.1", "1")
    assert not first.follows_previous
    assert second.depends_on == (Reference("1.1-1"),)
    assert second.commands == ("make y",)


def test_they_have_the_parents_labels_but_not_its_pattern() -> None:
    (only,) = tasks(part("x"))

    assert dict(only.labels) == {"auto_merge": "no"}


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ((), "P001"),
        ((part("x"), part("x")), "P002"),
        ((part("x", after=("1.2",)),), "P004"),
        ((part("x", after=("x",)),), "P006"),
        ((part("x", after=("y",)), part("y", after=("x",))), "P008"),
        ((part("x y"),), "P009"),
        ((part("x"), part("y"), part("z")), "P014"),
        ((part("x", "/etc/passwd"),), "P020"),
        ((part("x", "../x"),), "P021"),
        ((part("x", ".git/config"),), "P022"),
        ((part("x", "other.py"),), "P023"),
        ((part("x", "docs/deep/a.md"),), "P023"),
        ((part("x", "src/../a.py"),), "P023"),
    ],
)
def test_what_is_wrong_is_told_like_of_a_plan(parts: tuple[dict[str, Any], ...], code: str) -> None:
    assert code in codes(*parts, tasks_max=2)


def test_a_parent_that_declares_no_file_bounds_nothing() -> None:
    free = replace(PLAN, tasks=(replace(PARENT, files=()), NEXT))

    assert len(tasks(part("x", "anywhere.py"), plan=free)) == 1


def test_ids_that_the_plan_has_are_passed_over_now_and_in_later_splits() -> None:
    taken = replace(PLAN, tasks=(PARENT, replace(NEXT, id="1.1-2")))

    first = tasks(part("x"), part("y"), plan=taken)
    second = tasks(part("z"), plan=taken, delegated=2)

    assert [each.id for each in (*first, *second)] == ["1.1-1", "1.1-3", "1.1-4"]


def test_an_id_that_becomes_too_long_is_refused() -> None:
    long = replace(PLAN, tasks=(replace(PARENT, id="x" * 40), NEXT))

    assert [each.code for each in split(part("a"), plan=long) if isinstance(each, Diagnostic)] == [
        "P009"
    ]


def test_they_wait_for_each_other_as_named_and_where_they_share_a_file() -> None:
    found = tasks(part("x", "src/a.py"), part("y", after=("x",)), part("z", "src/a.py"))

    assert [(edge.task, edge.on, edge.why) for edge in subplan_edges(found)] == [
        ("1.1-2", "1.1-1", Why.EXPLICIT),
        ("1.1-3", "1.1-1", Why.OVERLAP),
    ]


def test_they_stand_right_behind_their_parent_and_its_earlier_ones() -> None:
    once = grafted(PLAN, tasks(part("x"), part("y")))
    twice = grafted(once, tasks(part("z"), delegated=2))

    assert [each.id for each in twice.tasks] == ["1.1", "1.1-1", "1.1-2", "1.1-3", "1.2"]


PATHS = st.sampled_from(["src/a.py", "src/b.py", "docs/a.md", "a.py", "../x", "src", "/x", "src/*"])
NAMES = st.sampled_from(["a", "b", "c", "d", "A", "1.1", "e f"])
PARTS = st.builds(
    lambda name, files, after: part(name, *files, after=tuple(after)),
    NAMES,
    st.lists(PATHS, max_size=2),
    st.lists(NAMES, max_size=2),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(PARTS, max_size=6), st.integers(0, 3))
def test_whatever_a_planner_says_the_plan_stays_sound_or_as_it_was(
    parts: list[dict[str, Any]], delegated: int
) -> None:
    before = to_json(PLAN)
    found = tasks(*parts, delegated=delegated)

    after = grafted(PLAN, found)
    waits = [*edges(PLAN), *subplan_edges(found)]
    joins = [(PARENT.id, each.id) for each in found]
    declared = [use.path for use in PARENT.files]

    assert to_json(PLAN) == before
    assert found or after == PLAN
    assert not [each for each in check(after) if each.is_error]
    assert len({each.id.casefold() for each in after.tasks}) == len(PLAN.tasks) + len(found)
    assert acyclic([*((edge.task, edge.on) for edge in waits), *joins])
    assert all(
        any(within(use.path, path) for path in declared) for each in found for use in each.files
    )


def acyclic(pairs: list[tuple[str, str]]) -> bool:
    """Say whether taking away who waits for nobody, again and again, leaves nobody."""
    while pairs:
        waiting = {task for task, _ in pairs}
        fewer = [(task, on) for task, on in pairs if on in waiting]
        if len(fewer) == len(pairs):
            return False
        pairs = fewer
    return True


@pytest.mark.parametrize(
    ("path", "declared", "inside"),
    [
        ("src/a.py", "src/a.py", True),
        ("./src/a.py", "src/a.py", True),
        ("src/a/b.py", "src/", True),
        ("src", "src/**", True),
        ("src/**", "src/**", True),
        ("src/*.py", "src", True),
        ("srcs/a.py", "src", False),
        ("src/a/b.py", "src/*.py", False),
        ("src/**", "src/*", False),
        ("src/a.py", "src/[a-c].py", True),
        ("a.py", ".", True),
        ("docs/a.md", "**/*.md", True),
    ],
)
def test_one_path_lies_in_another(path: str, declared: str, inside: bool) -> None:
    assert within(path, declared) is inside


@pytest.mark.parametrize(
    ("pattern", "path", "fitting"),
    [
        ("*.py", "deep/in/a.py", True),
        ("./a.py", "deep/a.py", False),
        ("src/*.py", "src/deep/a.py", False),
        ("src/**/a.py", "src/a.py", True),
        ("src/**", "src/deep/a.py", True),
        ("a?.py", "ab.py", True),
        ("x/a[!b]c", "x/a/c", False),
        ("a[!b].py", "ac.py", True),
        ("[z-a].py", "[z-a].py", False),
        ("a.py", "aXpy", False),
    ],
)
def test_a_glob_fits_a_whole_path(pattern: str, path: str, fitting: bool) -> None:
    assert matches(pattern, path) is fitting
