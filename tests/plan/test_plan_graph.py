"""Who waits for whom, what is ready, and what a range of batches leaves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commandcenter.core.errors import InputError
from commandcenter.core.plan import (
    Batch,
    Done,
    FileOp,
    FileUse,
    Mode,
    Plan,
    Reference,
    Task,
    Why,
    check,
    edges,
    layers,
    order,
    ready,
    restrict,
)


def batch(number: int, *on: str, mode: Mode = Mode.PARALLEL, follows: bool | None = None) -> Batch:
    references = tuple(Reference(i) for i in on)
    follows_previous = not on if follows is None else follows
    return Batch(str(number), "B", number, "batch", "", references, follows_previous, True, mode)


def task(
    name: str, *on: str, done: Done = Done.TODO, files: str = "", follows: bool | None = None
) -> Task:
    return Task(
        name,
        "T",
        name.split(".")[0],
        depends_on=tuple(Reference(i) for i in on),
        follows_previous=not on if follows is None else follows,
        files=tuple(FileUse(f, FileOp.MODIFY) for f in files.split()),
        done=done,
    )


def plan(batches: list[Batch], tasks: list[Task]) -> Plan:
    return Plan(batches=tuple(batches), tasks=tuple(tasks))


def drawn(found: Plan) -> set[str]:
    return {f"{e.task}<{e.on} {e.why}" for e in edges(found)}


def names(tasks: tuple[Task, ...]) -> list[str]:
    return [t.id for t in tasks]


SEQUENCE = Mode.SEQUENTIAL


def test_a_sequential_batch_is_a_chain() -> None:
    found = plan([batch(1, mode=SEQUENCE)], [task("1.1"), task("1.2"), task("1.3")])
    assert drawn(found) == {"1.2<1.1 sequence", "1.3<1.2 sequence"}


def test_an_explicit_dependency_replaces_the_sequence() -> None:
    tasks = [task("1.1"), task("1.2"), task("1.3", "1.1")]
    found = plan([batch(1, mode=SEQUENCE)], tasks)
    assert drawn(found) == {"1.2<1.1 sequence", "1.3<1.1 explicit"}


def test_depends_on_none_removes_the_sequence() -> None:
    found = plan([batch(1, mode=SEQUENCE)], [task("1.1"), task("1.2", follows=False)])
    assert drawn(found) == set()


def test_a_forward_reference_turns_the_order_round_without_a_cycle() -> None:
    tasks = [task("1.1", "1.2"), task("1.2"), task("1.3")]
    found = plan([batch(1, mode=SEQUENCE)], tasks)
    assert drawn(found) == {"1.1<1.2 explicit", "1.3<1.1 sequence"}
    assert names(order(found)) == ["1.2", "1.1", "1.3"]
    assert {"W103"} == {d.code for d in check(found)} - {"W110"}


def test_barriers_join_only_the_ends_to_the_starts() -> None:
    batches = [batch(1, mode=SEQUENCE), batch(2, mode=SEQUENCE)]
    found = plan(batches, [task("1.1"), task("1.2"), task("2.1"), task("2.2")])
    assert drawn(found) == {"1.2<1.1 sequence", "2.2<2.1 sequence", "2.1<1.2 barrier"}


def test_a_barrier_does_not_lean_on_tasks_that_are_done() -> None:
    tasks = [task("1.1"), task("1.2", "1.1", done=Done.DONE), task("2.1")]
    assert "2.1<1.1 barrier" in drawn(plan([batch(1), batch(2)], tasks))


def test_a_barrier_reaches_through_an_empty_batch_and_one_that_is_done() -> None:
    tasks = [task("1.1"), task("3.1", done=Done.DONE), task("4.1")]
    found = plan([batch(1), batch(2), batch(3), batch(4)], tasks)
    assert drawn(found) == {"4.1<1.1 barrier"}


def test_batches_without_dependencies_run_side_by_side() -> None:
    found = plan([batch(1), batch(2, follows=False)], [task("1.1"), task("2.1")])
    assert drawn(found) == set()
    assert names(ready(found, frozenset())) == ["1.1", "2.1"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("a.py", "a.py"), ("a.py", "./A.py"), ("src/", "src/a.py"), ("src/*.py", "src/b.py")],
)
def test_parallel_tasks_that_share_a_file_are_serialised(first: str, second: str) -> None:
    found = plan([batch(1)], [task("1.1", files=first), task("1.2", files=second)])
    assert drawn(found) == {"1.2<1.1 overlap"}
    assert "W107" in {d.code for d in check(found)}


def test_batches_side_by_side_that_share_a_file_are_serialised() -> None:
    tasks = [task("1.1", files="a"), task("2.1", files="a")]
    assert drawn(plan([batch(1), batch(2, follows=False)], tasks)) == {"2.1<1.1 overlap"}


def test_tasks_that_are_ordered_already_get_no_edge_for_a_shared_file() -> None:
    tasks = [task("1.1", "1.3", files="a"), task("1.2"), task("1.3", files="a")]
    assert drawn(plan([batch(1)], tasks)) == {"1.1<1.3 explicit"}


def test_tasks_that_only_read_a_file_do_not_wait_for_each_other() -> None:
    uses = (FileUse("a", FileOp.READ),)
    tasks = [Task(i, "T", "1", files=uses) for i in ("1.1", "1.2")]
    assert drawn(plan([batch(1)], tasks)) == set()


def test_ready_tasks_have_all_their_dependencies_done() -> None:
    tasks = [task("1.1", done=Done.DONE), task("1.2", "1.1"), task("1.3", "1.2"), task("1.4")]
    found = plan([batch(1)], tasks)
    assert names(ready(found, frozenset())) == ["1.2", "1.4"]
    assert names(ready(found, frozenset({"1.2"}))) == ["1.3", "1.4"]


def test_layers_are_waves() -> None:
    tasks = [task("1.1"), task("1.2"), task("1.3", "1.1", "1.2"), task("2.1")]
    assert [names(layer) for layer in layers(plan([batch(1), batch(2)], tasks))] == [
        ["1.1", "1.2"],
        ["1.3"],
        ["2.1"],
    ]


def ranged() -> Plan:
    batches = [batch(1), batch(2), batch(3, "1", "2")]
    return plan(batches, [task("1.1"), task("2.1"), task("3.1", "1.1"), task("3.2", follows=True)])


def test_a_range_counts_what_lies_outside_as_satisfied_and_says_so() -> None:
    cut = restrict(ranged(), 3, 99)
    assert names(ready(cut.plan, frozenset())) == ["3.1", "3.2"]
    assert cut.notes == (
        "Batch 3 depends on batch 1, which is outside the range: satisfied.",
        "Batch 3 depends on batch 2, which is outside the range: satisfied.",
        "Task 3.1 depends on task 1.1, which is outside the range: satisfied.",
    )


def test_a_range_keeps_the_dependencies_inside_it() -> None:
    cut = restrict(ranged(), 2, 3)
    assert drawn(cut.plan) == {"3.1<2.1 barrier", "3.2<2.1 barrier"}
    assert not [d for d in check(cut.plan) if d.is_error]


def test_the_whole_range_is_the_plan() -> None:
    assert restrict(ranged(), None, None).plan == ranged()
    assert restrict(ranged(), 1, 6) == restrict(ranged(), None, 3)


@pytest.mark.parametrize(("start", "end"), [(4, 9), (3, 2), (0, 0)])
def test_a_range_without_a_task_is_refused(start: int, end: int) -> None:
    with pytest.raises(InputError, match="No task is in the batches"):
        restrict(ranged(), start, end)


def test_a_batch_between_two_numbers_is_in_the_range_that_spans_it() -> None:
    batches = [Batch(i, "B", n) for n, i in enumerate(("1", "1.5", "2"), 1)]
    found = plan(batches, [Task(f"t{b.id}", "T", b.id) for b in batches])
    assert names(restrict(found, 1, 1).plan.tasks) == ["t1"]
    assert names(restrict(found, 1, 2).plan.tasks) == ["t1", "t1.5", "t2"]


def test_too_many_barrier_edges_are_refused() -> None:
    tasks = [task(f"{b}.{n}") for b in (1, 2) for n in range(600)]
    assert "P014" in {d.code for d in check(plan([batch(1), batch(2)], tasks))}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    batches: list[Batch] = []
    tasks: list[Task] = []
    for number in range(1, draw(st.integers(1, 4)) + 1):
        before = [str(n) for n in range(1, number)]
        on = draw(st.lists(st.sampled_from(before), unique=True)) if before else []
        mode = draw(st.sampled_from(list(Mode)))
        batches.append(batch(number, *on, mode=mode, follows=draw(st.booleans())))
        own = [f"{number}.{n}" for n in range(draw(st.integers(0, 4)))]
        for n, name in enumerate(own):
            known = [t.id for t in tasks]
            explicit = draw(st.lists(st.sampled_from(known), unique=True)) if known else []
            forward = draw(st.booleans()) and n == 0 and len(own) > 1
            done = draw(st.sampled_from([Done.TODO, Done.TODO, Done.DONE, Done.SKIPPED]))
            files = draw(st.sampled_from(["", "a", "b", "a b", "d/x", "d"]))
            on_tasks = [*explicit, own[1]] if forward else explicit
            # 1 never names 0 when 0 names it, so the explicit graph has no cycle.
            on_tasks = [i for i in on_tasks if not (n == 1 and i == own[0])]
            follows = draw(st.booleans())
            tasks.append(task(name, *on_tasks, done=done, files=files, follows=follows))
    return plan(batches, tasks)


def all_before(found: Plan) -> dict[str, set[str]]:
    above: dict[str, set[str]] = {}
    waits: dict[str, list[str]] = {}
    for edge in edges(found):
        waits.setdefault(edge.task, []).append(edge.on)
    for one in order(found):
        above[one.id] = set().union(*({i} | above[i] for i in waits.get(one.id, [])))
    return above


@settings(deadline=None, max_examples=100)
@given(plans())
def test_the_graph_holds_every_declared_edge_and_every_barrier(found: Plan) -> None:
    above = all_before(found)
    open_tasks = [t for t in found.tasks if not t.done.settled]
    for one in found.tasks:
        assert {r.id for r in one.depends_on} <= above[one.id]
    for own in found.batches:
        for reference in own.depends_on:
            for one in (t for t in open_tasks if t.batch == own.id):
                held_by = {t.id for t in open_tasks if t.batch == reference.id}
                assert held_by <= above[one.id]


@settings(deadline=None, max_examples=100)
@given(plans())
def test_tasks_that_may_run_together_share_no_file(found: Plan) -> None:
    above = all_before(found)
    for edge in edges(found):
        if edge.why is Why.OVERLAP:
            assert edge.on in above[edge.task]
    open_tasks = [t for t in found.tasks if not t.done.settled]
    for n, one in enumerate(open_tasks):
        for other in open_tasks[n + 1 :]:
            if one.id not in above[other.id] and other.id not in above[one.id]:
                assert not {f.path for f in one.files} & {f.path for f in other.files}


@settings(deadline=None, max_examples=100)
@given(plans())
def test_doing_what_is_ready_does_everything_once(found: Plan) -> None:
    done: set[str] = set()
    while now := ready(found, frozenset(done)):
        assert not done & {t.id for t in now}
        done |= {t.id for t in now[:1]}
    assert done == {t.id for t in found.tasks if not t.done.settled}
