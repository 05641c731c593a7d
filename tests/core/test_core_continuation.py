"""Which tasks of a plan a new run begins with as done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from commandcenter.core.continuation import (
    Landed,
    begin,
    landed_before,
    refuse_to_continue,
)
from commandcenter.core.errors import InputError
from commandcenter.core.plan import Batch, Done, Plan, Reference, Task, edges
from commandcenter.core.run import Reason, State, TaskStatus

RUN = "exec_1"
BATCH = Batch("1", "Only", 1)
COMMIT = "0123456789abcdef" * 2
LANDED = Landed(COMMIT, "it landed")


def planned(**done: Done) -> Plan:
    """Return a plan of tasks in one batch, each with the words of its own name."""
    tasks = tuple(Task(name, name, "1", instructions=name, done=d) for name, d in done.items())
    return Plan(batches=(BATCH,), tasks=tasks)


def ended(name: str, state: State, reason: Reason, **more: object) -> TaskStatus:
    return replace(
        TaskStatus(RUN, name, name, "1", 0, state=state, reason=reason),
        **more,  # type: ignore[arg-type]
    )


MERGED = ended("a", State.COMPLETED, Reason.MERGED, merge_commit=COMMIT)
PLAN = planned(a=Done.TODO)


def states(plan: Plan) -> dict[str, Done]:
    return {task.id: task.done for task in plan.tasks}


# Running again


def test_without_a_word_a_plan_is_taken_as_it_is() -> None:
    plan = planned(a=Done.DONE, b=Done.TODO)
    assert begin(plan).plan == plan


def test_all_that_is_done_is_run_again_but_not_what_is_skipped_or_cancelled() -> None:
    plan = planned(a=Done.DONE, b=Done.SKIPPED, c=Done.CANCELLED, d=Done.DONE)
    assert states(begin(plan, "done").plan) == {
        "a": Done.TODO,
        "b": Done.SKIPPED,
        "c": Done.CANCELLED,
        "d": Done.TODO,
    }


def test_named_tasks_are_run_again_and_what_comes_after_them_waits() -> None:
    plan = planned(a=Done.DONE, b=Done.DONE, c=Done.TODO)
    begun = begin(plan, "a, b").plan
    assert [(e.on, e.task) for e in edges(plan)] == []
    assert [(e.on, e.task) for e in edges(begun)] == [("a", "b"), ("b", "c")]


@pytest.mark.parametrize(
    ("rerun", "message", "hint"),
    [
        ("1.12", "The plan has no task 1.12", "did you mean `1.11`?"),
        ("2.1", "Task 2.1 is not done", "it is run anyway: leave it out. did you mean `1.11`?"),
        ("xyz", "Task xyz is not done", "the plan says that it is skipped: change it there."),
        ("1.11,", "is not named", "write `done`, or ids: 1.1,2.3"),
        ("", "is not named", "write `done`, or ids: 1.1,2.3"),
    ],
)
def test_what_cannot_be_run_again_is_refused_with_what_to_do(
    rerun: str, message: str, hint: str
) -> None:
    done = {"1.11": Done.DONE, "2.1": Done.TODO, "xyz": Done.SKIPPED}
    with pytest.raises(InputError, match=message) as refused:
        begin(planned(**done), rerun)
    assert refused.value.hint == hint


# Continuing


@pytest.mark.parametrize(
    ("status", "landed"),
    [
        (MERGED, Landed(COMMIT, "it landed in run exec_1 as 0123456789ab")),
        (
            ended("a", State.COMPLETED, Reason.ALREADY_DONE, head=COMMIT),
            Landed(COMMIT, "run exec_1 found that 0123456789ab has it already"),
        ),
        (
            ended("a", State.SKIPPED, Reason.LANDED_BEFORE, head=COMMIT, explanation="words"),
            Landed(COMMIT, "words"),
        ),
        (ended("a", State.SKIPPED, Reason.DONE_IN_PLAN), None),
        (ended("a", State.SKIPPED, Reason.DEPENDENCY), None),
        (ended("a", State.FAILED, Reason.CHECKS, head=COMMIT), None),
        (ended("a", State.CANCELLED, Reason.CANCELLED, head=COMMIT), None),
    ],
)
def test_what_completed_or_was_landed_before_has_landed(
    status: TaskStatus, landed: Landed | None
) -> None:
    assert landed_before(PLAN, PLAN, [status]).get("a") == landed


@pytest.mark.parametrize(
    "now",
    [
        replace(PLAN, tasks=(replace(PLAN.task("a"), instructions="a, but better"),)),
        replace(PLAN, tasks=(replace(PLAN.task("a"), title="another"),)),
        planned(b=Done.TODO),
    ],
)
def test_what_was_edited_or_has_another_id_has_not_landed(now: Plan) -> None:
    assert landed_before(now, PLAN, [MERGED]) == {}


def test_who_it_waits_for_and_its_box_are_no_part_of_what_a_task_asks_for() -> None:
    task = replace(PLAN.task("a"), done=Done.DONE, depends_on=(Reference("b"),))
    assert list(landed_before(replace(PLAN, tasks=(task,)), PLAN, [MERGED])) == ["a"]


def test_parts_of_a_task_count_through_it_and_with_the_last_that_landed() -> None:
    parent = ended("a", State.COMPLETED, Reason.JOINED)
    parts = [
        ended("b", State.COMPLETED, Reason.MERGED, parent="a", merge_commit="2" * 40, ended_ms=2),
        ended("c", State.COMPLETED, Reason.MERGED, parent="a", merge_commit="1" * 40, ended_ms=1),
        ended("d", State.FAILED, Reason.CHECKS, parent="a", ended_ms=3),
    ]
    plan = planned(a=Done.TODO, b=Done.TODO, c=Done.TODO, d=Done.TODO)
    assert landed_before(plan, plan, [parent, *parts]) == {
        "a": Landed("2" * 40, "its sub-tasks landed in run exec_1, the last as 222222222222")
    }


def test_parts_that_changed_nothing_have_landed_with_what_they_found() -> None:
    parent = ended("a", State.COMPLETED, Reason.JOINED)
    part = ended("b", State.COMPLETED, Reason.ALREADY_DONE, parent="a", head="3" * 40, ended_ms=1)
    plan = planned(a=Done.TODO, b=Done.TODO)
    assert landed_before(plan, plan, [parent, part]) == {
        "a": Landed("3" * 40, "its sub-tasks landed in run exec_1, the last as 333333333333")
    }


def test_what_has_landed_is_done_and_only_that_is_told_of_it() -> None:
    begun = begin(planned(a=Done.TODO, b=Done.TODO, c=Done.DONE), landed={"a": LANDED, "c": LANDED})
    assert states(begun.plan) == {"a": Done.DONE, "b": Done.TODO, "c": Done.DONE}
    assert begun.landed == {"a": LANDED}  # of `c` the plan says it


def test_what_is_named_is_run_again_though_it_has_landed() -> None:
    begun = begin(planned(a=Done.TODO, b=Done.TODO), "a", {"a": LANDED, "b": LANDED})
    assert states(begun.plan) == {"a": Done.TODO, "b": Done.DONE}
    assert list(begun.landed) == ["b"]


def test_a_second_run_of_all_that_is_done_goes_on_where_the_first_one_ended() -> None:
    begun = begin(planned(a=Done.DONE, b=Done.DONE), "done", {"a": LANDED})
    assert states(begun.plan) == {"a": Done.DONE, "b": Done.TODO}
    assert list(begun.landed) == ["a"]


@pytest.mark.parametrize(
    ("ended", "same_upstream", "same_target", "why"),
    [
        (False, True, True, "has not ended"),
        (True, False, True, "another repository"),
        (True, True, False, "another branch"),
    ],
)
def test_a_run_that_goes_on_or_landed_elsewhere_is_not_continued(
    ended: bool, same_upstream: bool, same_target: bool, why: str
) -> None:
    refuse_to_continue(RUN, ended=True, same_upstream=True, same_target=True)
    with pytest.raises(InputError, match=why):
        refuse_to_continue(RUN, ended=ended, same_upstream=same_upstream, same_target=same_target)
