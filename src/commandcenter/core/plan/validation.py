"""What is wrong with a plan, whatever dialect it was written in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from commandcenter.core.plan.diagnostic import Diagnostic
from commandcenter.core.plan.graph import (
    Edge,
    Why,
    barrier_size,
    batch_dependencies,
    edges,
    explicit_edges,
)
from commandcenter.core.plan.model import (
    AUTO_MERGE,
    PRIORITIES,
    PRIORITY,
    TASKS_MAX,
    YES_OR_NO,
    Batch,
    Done,
    Plan,
    Priority,
    Reference,
    Task,
)
from commandcenter.core.plan.notation import (
    ATTEMPTS_MAX,
    BUDGET_MAX_USD,
    REVIEWS_MAX,
    TIMEOUT_MAX_S,
)
from commandcenter.core.plan.paths import path_fault
from commandcenter.core.plan.spelling import closest
from commandcenter.core.plan.together import together

EDGES_MAX = 250_000
_GUESSES_MAX = 50
"""So many unknown ids get a guess at what was meant, which takes long among thousands."""
_ID = re.compile(r"[A-Za-z0-9._-]{1,40}")


def check(plan: Plan) -> tuple[Diagnostic, ...]:
    """Return everything that is wrong or doubtful, in no particular order of lines.

    A plan without an error in it can be run: its graph has no cycle and no loose end.
    """
    found = [
        *_sizes(plan),
        *_defaults(plan),
        *_ids(plan),
        *_batches(plan),
        *_tasks(plan),
        *_merging(plan),
        *together(plan),
        *_task_references(plan),
        *_batch_references(plan),
        *_cycles(plan),
    ]
    if not any(d.code == "P014" for d in found):
        found += _overlaps(plan)
    return tuple(found)


def _sizes(plan: Plan) -> Iterable[Diagnostic]:
    if not plan.tasks:
        yield Diagnostic("P001", "the plan has no task", hint="write `### Task 1.1: Title`")
    if (count := max(len(plan.tasks), len(plan.batches))) > TASKS_MAX:
        message = f"the plan has {count} tasks or batches; at most {TASKS_MAX} are accepted"
        yield Diagnostic("P014", message, hint="split it into several plans")
    elif (size := barrier_size(plan)) > EDGES_MAX:
        message = f"the barriers between batches make {size} edges; at most {EDGES_MAX} are"
        yield Diagnostic("P014", f"{message} accepted", hint="use more, smaller batches")


def _defaults(plan: Plan) -> Iterable[Diagnostic]:
    limits, review = plan.defaults.limits, plan.defaults.review
    values = {
        "attempts": (limits.attempts, 1, ATTEMPTS_MAX),
        "timeout": (limits.timeout_s, 1, TIMEOUT_MAX_S),
        "budget_usd": (limits.budget_usd, 0, BUDGET_MAX_USD),
        "review rounds": (review.rounds if review else None, 0, REVIEWS_MAX),
    }
    for name, (value, low, high) in values.items():
        if value is not None and not low <= value <= high:
            key = "review" if name == "review rounds" else "limits"
            message = f"{name} is {value}, which is not {low} to {high}"
            yield Diagnostic("P012", message, plan.defaults.lines.get(key, 1))


def _merging(plan: Plan) -> Iterable[Diagnostic]:
    things: tuple[Batch | Task, ...] = (*plan.batches, *plan.tasks)
    for thing in things:
        wanted = thing.labels.get(PRIORITY, Priority.NORMAL)
        if wanted.casefold() not in PRIORITIES:
            message = f"**Priority:** of {thing.id} is not understood; it counts as normal"
            hint = f"write {', '.join(Priority)}"
            yield Diagnostic("W129", message, thing.span.start, hint=hint, subject=wanted)
        said = thing.labels.get(AUTO_MERGE, "yes")
        if said.casefold() not in YES_OR_NO:
            message = f"**Auto Merge:** of {thing.id} is neither yes nor no"
            yield Diagnostic(
                "P019", message, thing.span.start, hint="write yes or no", subject=said
            )


def _ids(plan: Plan) -> Iterable[Diagnostic]:
    yield from _doubles("batch", plan.batches)
    yield from _doubles("task", plan.tasks)
    known = {batch.id for batch in plan.batches}
    for task in plan.tasks:
        if task.batch not in known:
            message = f"task {task.id} is in batch {task.batch}, which the plan does not have"
            yield Diagnostic("P005", message, task.span.start, subject=task.batch)


def _doubles(kind: str, things: Sequence[Batch] | Sequence[Task]) -> Iterable[Diagnostic]:
    first: dict[str, Batch | Task] = {}
    for thing in things:
        line = thing.span.start
        if not _ID.fullmatch(thing.id):
            message = f"{kind} id {thing.id!r} is not 1 to 40 of the characters A-Z a-z 0-9 . _ -"
            yield Diagnostic("P009", message, line, subject=thing.id)
        before = first.setdefault(thing.id.casefold(), thing)
        if before is not thing:
            message = f"{kind} {thing.id} is there twice; first on line {before.span.start}"
            yield Diagnostic("P002", message, line, hint="give one another id", subject=thing.id)


def _batches(plan: Plan) -> Iterable[Diagnostic]:
    used = {task.batch for task in plan.tasks}
    for batch in plan.batches:
        if batch.id not in used and plan.tasks and batch.kind != "container":
            message = f"{batch.kind} {batch.id} has no task"
            hint = "each task needs a heading `### Task N.M: Title`, or a row with its id"
            yield Diagnostic("W120", message, batch.span.start, hint=hint, subject=batch.title)


def _tasks(plan: Plan) -> Iterable[Diagnostic]:
    for task in plan.tasks:
        if not task.title.strip():
            message = f"task {task.id} has no title"
            yield Diagnostic("P003", message, task.span.start, subject=task.id)
        yield from _paths(task)
        if not task.done.settled and not plan.commands_of(task):
            message = f"task {task.id} has no command that verifies it"
            hint = "put one in backticks under **Verification:**; else it lands unverified"
            yield Diagnostic("W110", message, task.span.start, hint=hint, subject=task.id)


def _paths(task: Task) -> Iterable[Diagnostic]:
    for use in task.files:
        if fault := path_fault(use.path):
            message = f"path `{_visible(use.path)}` of task {task.id} {fault.reason}"
            yield Diagnostic(fault.code, message, use.line, hint=fault.hint, subject=use.path)


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _task_references(plan: Plan) -> Iterable[Diagnostic]:
    by_id = {task.id: task for task in plan.tasks}
    batch_at = {batch.id: n for n, batch in enumerate(plan.batches)}
    position = {task.id: n for n, task in enumerate(plan.tasks)}
    guesses = _GUESSES_MAX
    for task in plan.tasks:
        for reference in task.depends_on:
            on = by_id.get(reference.id)
            if on is None:
                guesses -= 1
                yield _unknown("P004", "task", task.id, reference, by_id if guesses > 0 else ())
            elif on.id == task.id:
                yield _itself("task", task.id, reference)
            elif batch_at.get(on.batch, 0) > batch_at.get(task.batch, 0):
                yield _later_batch(task, on, reference)
            else:
                yield from _states(task, on, reference)
                if position[on.id] > position[task.id]:
                    message = f"task {task.id} depends on task {on.id}, which comes after it"
                    hint = "it is legal: they are run in the other order"
                    yield Diagnostic("W103", message, reference.line, hint=hint, subject=on.id)


def _later_batch(task: Task, on: Task, reference: Reference) -> Diagnostic:
    message = f"task {task.id} depends on task {on.id} of the later batch {on.batch}"
    hint = f"move task {task.id} behind it, or task {on.id} into an earlier batch"
    return Diagnostic("P007", message, reference.line, hint=hint, subject=on.id)


def _states(task: Task, on: Task, reference: Reference) -> Iterable[Diagnostic]:
    line = reference.line
    if on.done is Done.CANCELLED and not task.done.settled:
        message = f"task {task.id} depends on task {on.id}, which is cancelled"
        yield Diagnostic("P040", message, line, hint="drop the dependency", subject=on.id)
    if task.done is Done.DONE and not on.done.settled:
        message = f"task {task.id} is done, but task {on.id}, on which it depends, is not"
        yield Diagnostic("W101", message, line, subject=on.id)


def _batch_references(plan: Plan) -> Iterable[Diagnostic]:
    at = {batch.id: n for n, batch in enumerate(plan.batches)}
    cyclic = {i for cycle in _find_cycles(_batch_edges(plan)) for i in (e.task for e in cycle)}
    for batch in plan.batches:
        for reference in batch.depends_on:
            if reference.id not in at:
                yield _unknown("P005", "batch", batch.id, reference, at)
            elif reference.id == batch.id:
                yield _itself("batch", batch.id, reference)
            elif at[reference.id] > at[batch.id] and batch.id not in cyclic:
                message = f"batch {batch.id} depends on the later batch {reference.id}"
                hint = "batches run in reading order: move it up"
                yield Diagnostic("P007", message, reference.line, hint=hint, subject=reference.id)


def _unknown(
    code: str, kind: str, waiting: str, reference: Reference, known: Iterable[str]
) -> Diagnostic:
    message = f"{kind} {waiting} depends on unknown {kind} {reference.id}"
    hint = closest(reference.id, (i for i in known if i != waiting))
    return Diagnostic(code, message, reference.line, hint=hint, subject=reference.id)


def _itself(kind: str, name: str, reference: Reference) -> Diagnostic:
    message = f"{kind} {name} depends on itself"
    return Diagnostic("P006", message, reference.line, hint="remove it", subject=name)


def _cycles(plan: Plan) -> Iterable[Diagnostic]:
    for kind, found in (("task", explicit_edges(plan)), ("batch", _batch_edges(plan))):
        for cycle in _find_cycles(found):
            path = " -> ".join([*(e.task for e in cycle), cycle[0].task])
            lines = ", ".join(f"{e.task} waits for {e.on} (line {e.line})" for e in cycle)
            yield Diagnostic(
                "P008",
                f"dependency cycle of {kind}s: {path}; {lines}",
                cycle[0].line,
                hint="remove one of these dependencies",
                subject=cycle[0].on,
            )


def _batch_edges(plan: Plan) -> tuple[Edge, ...]:
    known = {batch.id for batch in plan.batches}
    return tuple(
        Edge(batch, reference.id, Why.BARRIER, reference.line)
        for batch, references in batch_dependencies(plan).items()
        for reference in references
        if reference.id in known
    )


def _find_cycles(found: Sequence[Edge]) -> list[list[Edge]]:
    """Return one cycle through each knot of edges; a task that waits for itself is not one."""
    waits: dict[str, list[Edge]] = {}
    for edge in found:
        if edge.task != edge.on:
            waits.setdefault(edge.task, []).append(edge)
    cycles, finished = [], set[str]()
    for start in waits:
        if start not in finished and (cycle := _walk(start, waits, finished)):
            cycles.append(cycle)
    return cycles


def _walk(start: str, waits: dict[str, list[Edge]], finished: set[str]) -> list[Edge] | None:
    """Go down from `start`, marking what is finished, and return the first cycle met."""
    trail: list[Edge] = []
    on_trail = {start}
    branches = [iter(waits[start])]
    cycle: list[Edge] | None = None
    while branches:
        edge = next(branches[-1], None)
        if edge is None:
            branches.pop()
            current = trail.pop().on if trail else start
            on_trail.discard(current)
            finished.add(current)
        elif cycle is None and edge.on in on_trail:
            whole = [*trail, edge]
            first = next(n for n, e in enumerate(whole) if e.task == edge.on)
            cycle = whole[first:]
        elif edge.on not in finished and edge.on not in on_trail:
            trail.append(edge)
            on_trail.add(edge.on)
            branches.append(iter(waits.get(edge.on, ())))
    return cycle


def _overlaps(plan: Plan) -> Iterable[Diagnostic]:
    for edge in edges(plan):
        if edge.why is Why.OVERLAP:
            message = f"tasks {edge.on} and {edge.task} both declare `{edge.about}`"
            hint = f"{edge.task} waits for {edge.on}; name the dependency to say it yourself"
            yield Diagnostic("W107", message, edge.line, hint=hint, subject=edge.task)
