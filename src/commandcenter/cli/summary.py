"""What became of a run: a table of its tasks, and where the result is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from commandcenter.api.schema import BatchAnswer, SpendingAnswer, StatusAnswer, TaskAnswer
from commandcenter.cli import wording
from commandcenter.core.run import Phase, Reason, State

STYLES = {
    State.PENDING: "dim",
    State.IN_PROGRESS: "cyan",
    State.COMPLETED: "green",
    State.FAILED: "bold red",
    State.SKIPPED: "yellow",
    State.CANCELLED: "yellow",
}
_LISTED_MAX = 60
_WIDTH_MAX = 120
"""A table wider than this is hard to read across."""


def console(*, stderr: bool = False) -> Console:
    """Return a console that takes no text for markup, and honours NO_COLOR."""
    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    made.width = min(made.width, _WIDTH_MAX)
    return made


def summarize(
    out: Console,
    status: StatusAnswer,
    batches: Sequence[BatchAnswer],
    used: Sequence[SpendingAnswer],
    *,
    whole: bool = False,
) -> None:
    """Print the table of a run and what to know beside it.

    A long run shows what did not complete, unless it is wanted whole.
    """
    tasks = [task for batch in batches for task in batch.tasks]
    listed = tasks if whole or len(tasks) <= _LISTED_MAX else _remarkable(tasks)
    out.print(_table(listed))
    out.print()
    for line in _footer(status, tasks, used, len(listed)):
        # Left to the terminal to wrap, so that a command can be copied whole.
        out.print(Text(wording.one_line(line)), soft_wrap=True)


def _table(tasks: Sequence[TaskAnswer]) -> Table:
    table = plain_table(expand=True)
    table.add_column("Task", overflow="fold", ratio=2)
    for name in ("Status", "PR", "Checks", "Review"):
        table.add_column(name, no_wrap=True)
    table.add_column("Time", justify="right", no_wrap=True)
    table.add_column("Why", overflow="fold", ratio=3)
    now = datetime.now(UTC)
    for task in tasks:
        table.add_row(
            Text(f"{'  ' if task.parent else ''}{titled(task)}"),
            Text(state(task), STYLES[task.status]),
            f"#{task.pr_number}" if task.pr_number else "",
            wording.checks(task.checks),
            task.review or "",
            wording.elapsed(task.started_at, task.completed_at, now),
            Text(why(task)),
        )
    return table


def plain_table(*, expand: bool = False) -> Table:
    """Return a table with a line below its header, and no other."""
    return Table(
        box=SIMPLE_HEAD, expand=expand, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )


def titled(task: TaskAnswer) -> str:
    """Return a task's number and title."""
    return wording.one_line(f"{task.task_number} {task.task_title}")


def state(task: TaskAnswer) -> str:
    """Return where a task stands, in a word."""
    if task.status is State.IN_PROGRESS and task.phase is not None:
        return task.phase
    return task.status.replace("_", " ")


def why(task: TaskAnswer) -> str:
    """Return why a task stands where it does; empty when it simply landed."""
    return ": ".join(filter(None, (wording.pattern(task), _why(task))))


def _why(task: TaskAnswer) -> str:
    if task.reason is Reason.MERGED:
        return ""
    if task.waiting_for:
        return wording.one_line(f"for {task.waiting_for}")
    return wording.one_line(task.explanation or (task.reason or "").replace("-", " "))


def _remarkable(tasks: Sequence[TaskAnswer]) -> list[TaskAnswer]:
    return [task for task in tasks if task.status is not State.COMPLETED][:_LISTED_MAX]


def _footer(
    status: StatusAnswer,
    tasks: Sequence[TaskAnswer],
    used: Sequence[SpendingAnswer],
    listed: int,
) -> Iterator[str]:
    if listed < len(tasks):
        left_out = wording.count(len(tasks) - listed, "task")
        yield f"{left_out} not listed: commandcenter status {status.execution_id}"
    yield _outcome(status)
    yield from _result(status, tasks)
    yield from _used(used)
    yield from _unverified(tasks)
    yield from (f"note: {note}" for note in status.notes)
    yield from _advice(status, tasks)
    run = status.execution_id
    yield f"All of it: commandcenter report {run} --format html --output report.html"


def _outcome(status: StatusAnswer) -> str:
    states = {
        "completed": status.tasks_completed,
        "failed": status.tasks_failed,
        "skipped": status.tasks_skipped,
        "cancelled": status.tasks_cancelled,
    }
    counted = ", ".join(f"{number} {name}" for name, number in states.items() if number)
    took = wording.elapsed(status.started_at, status.completed_at, datetime.now(UTC))
    said = f"{counted or 'none ended'} of {wording.count(status.tasks_total, 'task')}"
    where = status.status.replace("_", " ")
    if status.phase is Phase.RECOVERING:
        where = "interrupted"
    return f"Run {status.execution_id} {_verb(status)} {where}: {said}, in {took or 'no time'}."


def _verb(status: StatusAnswer) -> str:
    ended = status.status in (State.COMPLETED, State.FAILED)
    return "has" if ended else "is"


def _result(status: StatusAnswer, tasks: Sequence[TaskAnswer]) -> Iterator[str]:
    merged = [task for task in tasks if task.merge_commit]
    if merged:
        last = max(merged, key=lambda task: task.completed_at or "")
        commit = (last.merge_commit or "")[:12]
        yield f"Result: branch {status.landed_on} of {status.repository}, commit {commit}"


def _used(used: Sequence[SpendingAnswer]) -> Iterator[str]:
    if not used:
        return
    asked = sum(each.tokens.input for each in used)
    answered = sum(each.tokens.output for each in used)
    unpriced = sum(each.unpriced for each in used)
    cost = wording.price(sum(each.cost_usd for each in used), unpriced)
    yield f"Used: {asked:,} tokens in, {answered:,} out, {cost}"
    if len(used) > 1:
        for each in used:
            tokens = f"{each.tokens.input:,} in, {each.tokens.output:,} out"
            yield f"  by {each.profile}: {tokens}, {wording.price(each.cost_usd, each.unpriced)}"


def _unverified(tasks: Sequence[TaskAnswer]) -> Iterator[str]:
    unverified = [task for task in tasks if task.checks and task.checks.judgement == "unverified"]
    if unverified:
        yield f"note: without any check: {wording.count(len(unverified), 'task')}"


def _advice(status: StatusAnswer, tasks: Sequence[TaskAnswer]) -> Iterator[str]:
    run = status.execution_id
    if status.phase is Phase.RECOVERING:
        yield f"hint: it goes on with: commandcenter serve, or commandcenter run --resume {run}"
    if status.waiting_for and not status.completed_at:
        yield f"hint: it waits for {status.waiting_for}"
    failed = next(_failed(tasks), None)
    if failed is not None:
        yield f"hint: see commandcenter logs {run} {failed.task_number}"
        yield f"hint: how it came to that: commandcenter explain {run} {failed.task_number}"
    if failed is not None and status.completed_at:
        yield f"hint: try again with commandcenter retry {run}"


def _failed(tasks: Sequence[TaskAnswer]) -> Iterator[TaskAnswer]:
    """Give what failed; but for sub-tasks that their task was completed without."""
    completed = {task.task_number for task in tasks if task.status is State.COMPLETED}
    for task in tasks:
        if task.status is State.FAILED and task.parent not in completed:
            yield task
