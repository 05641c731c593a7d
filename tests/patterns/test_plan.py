"""A task that is split into others: what the planner is told, and when the parent is done."""

from __future__ import annotations

from typing import Any

from commandcenter.core.agent import Role
from commandcenter.core.pattern import (
    READ_ONLY,
    Answer,
    Delegate,
    Goal,
    Joined,
    Orchestrate,
    Reply,
    Result,
)
from commandcenter.patterns import flow_of
from commandcenter.testing.playing import (
    Played,
    answered,
    broken,
    came_of,
    goal,
    play,
    task,
    unusable,
)


def part(name: str, *after: str, files: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "id": name,
        "title": f"Part {name}",
        "instructions": f"Do {name}",
        "depends_on": list(after),
        "files": list(files),
        "verification": ["true"],
    }


def split(*parts: dict[str, Any]) -> Reply:
    return answered("cc.subplan/1", tasks=list(parts), rationale="apart")


TWO = split(part("a"), part("b", "a"))


def played(*answers: Answer | Reply, of: Goal | None = None) -> Played:
    return play(flow_of(Orchestrate(), of or goal()), *answers)


def test_a_planner_that_only_reads_is_asked_first() -> None:
    (ask,) = played().asks

    assert (ask.role, ask.lane, ask.gate) == (Role.PLAN, READ_ONLY, False)


def test_its_tasks_take_the_place_of_the_task() -> None:
    step = played(TWO).steps[1]

    assert isinstance(step, Delegate)
    assert [(each.id, each.parent, each.title) for each in step.tasks] == [
        ("1.1-1", "1.1", "Part a"),
        ("1.1-2", "1.1", "Part b"),
    ]
    assert [reference.id for reference in step.tasks[1].depends_on] == ["1.1-1"]


def test_all_landed_and_green_is_accepted_without_a_change_of_its_own() -> None:
    end = played(TWO, came_of({"1.1-1": True, "1.1-2": True})).end

    assert end is not None
    assert end.result is Result.ACCEPTED
    assert end.change is None


def test_a_split_with_a_cycle_is_asked_again_with_what_is_wrong() -> None:
    cycle = split(part("a", "b"), part("b", "a"))

    second = played(cycle).asks[1]

    assert second.role is Role.PLAN
    assert "P008: dependency cycle of tasks: a -> b -> a" in second.text
    assert '"title": "Part b"' in second.text


def test_two_useless_answers_are_a_rejection_and_delegate_nothing() -> None:
    outside = split(part("a", files=("../x",)))

    result = played(outside, unusable(), of=goal(task("src/")))

    assert len(result.steps) == 2
    assert result.end is not None
    assert result.end.result is Result.REJECTED


def test_a_planner_whose_runs_fail_is_a_rejection() -> None:
    end = played(broken(), broken()).end

    assert end is not None
    assert end.result is Result.REJECTED


def test_what_failed_is_split_once_more_and_what_landed_stays() -> None:
    result = played(TWO, came_of({"1.1-1": True, "1.1-2": False}), split(part("c")))

    again, delegated = result.asks[1], result.steps[3]
    assert again.commit == "tip"
    assert "`1.1-1` Task 1.1-1: landed" in again.text
    assert "`1.1-2` Task 1.1-2: failed. 1.1-2 broke" in again.text
    assert isinstance(delegated, Delegate)
    assert [each.id for each in delegated.tasks] == ["1.1-3"]


def test_failing_checks_of_the_whole_task_are_told_to_the_planner() -> None:
    result = played(TWO, came_of({"1.1-1": True, "1.1-2": True}, failing=["tests"]))

    assert result.end is None
    assert "$ run tests" in result.asks[1].text


def test_a_second_failure_is_a_rejection() -> None:
    result = played(TWO, came_of({"1.1-1": False}), split(part("c")), came_of({"1.1-3": False}))

    assert result.end is not None
    assert result.end.result is Result.REJECTED
    assert result.end.words == "After 2 splits, `1.1-3` did not land."
    assert [each["tasks"] for each in result.end.facts["splits"]] == [
        ["1.1-1", "1.1-2"],
        ["1.1-3"],
    ]


def test_no_room_for_its_tasks_is_a_rejection() -> None:
    end = played(TWO, Joined((), problem="The plan has 5000 tasks.")).end

    assert end is not None
    assert end.result is Result.REJECTED
    assert end.words == "Nothing was delegated: The plan has 5000 tasks."


def test_no_child_at_all_is_never_a_success() -> None:
    result = played(TWO, Joined((), came_of({"x": True}).verdict))

    assert result.end is None


def test_ids_go_on_after_those_of_earlier_tries() -> None:
    step = played(TWO, of=goal(delegated=5)).steps[1]

    assert isinstance(step, Delegate)
    assert [each.id for each in step.tasks] == ["1.1-6", "1.1-7"]
