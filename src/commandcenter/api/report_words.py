"""Sentences that every format of a report has."""

from __future__ import annotations

from datetime import UTC, datetime

from commandcenter.core.run import Phase, State, TaskStatus
from commandcenter.core.run_report import RunReport
from commandcenter.core.words import count, duration, playing, price


def at(at_ms: int) -> str:
    """Return a time to the second, in UTC, wherever it is read."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def outcome(report: RunReport) -> str:
    """Return how the run ended, or how far it has come, in a sentence or two."""
    run = report.run
    states = (State.COMPLETED, State.FAILED, State.SKIPPED, State.CANCELLED)
    numbers = {state.value: run.count(state) for state in states}
    counted = ", ".join(f"{number} {name}" for name, number in numbers.items() if number)
    said = f"{counted or 'none ended'} of {count(len(run.counted), 'task')}"
    took = duration((report.end_ms - run.started_ms) / 1000)
    if not report.going:
        return f"The run {_ended(run.status)}: {said}, in {took}."
    how = "was interrupted" if run.phase is Phase.RECOVERING else "is not over"
    return f"The run {how}: {said}, {took} after its start. This is as of {at(report.made_ms)}."


def _ended(state: State) -> str:
    return "was cancelled" if state is State.CANCELLED else f"has {state.replace('_', ' ')}"


def stands(task: TaskStatus) -> str:
    """Return where a task stands, with its phase or reason."""
    state = task.state.replace("_", " ")
    if task.state is State.IN_PROGRESS and task.phase is not None:
        return f"{state}, {task.phase}"
    return f"{state}, {task.reason.replace('-', ' ')}" if task.reason else state


def plays(task: TaskStatus) -> str:
    """Return how far its pattern has come, or how it ended; empty without one."""
    return playing(task.pattern, task.rounds, task.outcome)


def judged(task: TaskStatus) -> str:
    """Return what its last checks found."""
    if task.checks in ("passed", "failed"):
        return f"{task.checks_passed}/{task.checks_total} passed"
    return task.checks.replace("_", " ")


def spent(task: TaskStatus) -> str:
    """Return how long it took; empty unless it began and ended."""
    if not (task.started_ms and task.ended_ms):
        return ""
    return duration((task.ended_ms - task.started_ms) / 1000)


def used_words(report: RunReport) -> str:
    """Return what all agents used together."""
    asked = sum(each.input_tokens for each in report.used)
    answered = sum(each.output_tokens for each in report.used)
    unpriced = sum(each.unpriced for each in report.used)
    cost = price(sum(each.cost_usd for each in report.used), unpriced)
    return f"Together: {asked:,} tokens in, {answered:,} out, {cost}."
