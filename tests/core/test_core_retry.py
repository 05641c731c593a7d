"""Which tasks a retry opens again."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from commandcenter.core.retry import to_retry
from commandcenter.core.run import Reason, State, TaskStatus, satisfied

RUN = "exec_1"


def ended(task: str, state: State, reason: Reason | None = None) -> TaskStatus:
    return TaskStatus(RUN, task, task, "1", 0, state=state, reason=reason)


def failed(task: str) -> TaskStatus:
    return ended(task, State.FAILED, Reason.CHECKS)


def skipped(task: str) -> TaskStatus:
    return ended(task, State.SKIPPED, Reason.DEPENDENCY)


def cancelled(task: str) -> TaskStatus:
    return ended(task, State.CANCELLED, Reason.CANCELLED)


def completed(task: str) -> TaskStatus:
    return ended(task, State.COMPLETED, Reason.MERGED)


def test_without_a_task_everything_that_did_not_make_it_is_opened_in_order() -> None:
    tasks = [completed("a"), failed("b"), skipped("c"), cancelled("d")]
    assert to_retry(tasks, [("a", "b"), ("b", "c")], None) == ("b", "c", "d")


def test_what_the_plan_had_done_stays_done() -> None:
    done = ended("a", State.SKIPPED, Reason.DONE_IN_PLAN)
    assert to_retry([done, failed("b")], [("a", "b")], None) == ("b",)


def test_a_skipped_task_is_opened_though_another_that_it_needs_is_still_at_work() -> None:
    working = ended("b", State.IN_PROGRESS)
    tasks = [failed("a"), working, skipped("c")]
    edges = [("a", "c"), ("b", "c")]
    assert to_retry(tasks, edges, None) == ("a", "c")
    assert to_retry(tasks, edges, "a") == ("a", "c")


def test_one_task_brings_what_was_skipped_for_want_of_it() -> None:
    tasks = [failed("a"), skipped("b"), skipped("c"), failed("x")]
    assert to_retry(tasks, [("a", "b"), ("b", "c")], "a") == ("a", "b", "c")


def test_a_dependant_that_needs_another_lost_task_stays_closed() -> None:
    tasks = [failed("a"), failed("x"), skipped("c")]
    assert to_retry(tasks, [("a", "c"), ("x", "c")], "a") == ("a",)


def test_a_cancelled_task_brings_the_cancelled_one_that_it_needs() -> None:
    assert to_retry([cancelled("a"), cancelled("b")], [("a", "b")], "b") == ("a", "b")


def test_a_skipped_task_can_be_named_and_brings_the_cause() -> None:
    assert to_retry([failed("a"), skipped("b")], [("a", "b")], "b") == ("a", "b")


def test_a_cancelled_dependant_is_not_opened_by_itself() -> None:
    assert to_retry([failed("a"), cancelled("b")], [("a", "b")], "a") == ("a",)


def test_there_is_nothing_to_retry_of_tasks_that_made_it_or_still_may() -> None:
    tasks = [completed("a"), ended("b", State.PENDING), ended("c", State.IN_PROGRESS)]
    assert to_retry(tasks, [], None) == ()
    assert to_retry(tasks, [], "a") == ()
    assert to_retry(tasks, [], "b") == ()


Maker = Callable[[str], TaskStatus]


@given(
    st.lists(st.sampled_from((failed, skipped, cancelled, completed)), min_size=1, max_size=12),
    st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40),
    st.integers(0, 11),
)
def test_nothing_that_is_opened_waits_for_what_stays_lost(
    makers: list[Maker], pairs: set[tuple[int, int]], named: int
) -> None:
    tasks = [make(str(n)) for n, make in enumerate(makers)]
    edges = [(str(a), str(b)) for a, b in pairs if a < b < len(tasks)]
    lost = {task.id for task in tasks if not satisfied(task)}

    for asked in (None, str(named)):
        chosen = to_retry(tasks, edges, asked)
        needed = {before for before, after in edges if after in chosen}
        assert list(chosen) == [task.id for task in tasks if task.id in chosen]
        assert set(chosen) <= lost
        assert needed & lost <= set(chosen)
