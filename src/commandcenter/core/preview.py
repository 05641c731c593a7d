"""How much a run can come to at most, counted before it starts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from commandcenter.core.assignment import Assignment, Choices, assign
from commandcenter.core.pattern import DELEGATED_MAX, Handoff, Pattern, Single
from commandcenter.core.plan import Plan, Task
from commandcenter.core.words import count

ASKED_TWICE = 2
"""Runs of a reviewer for one review: one, and one more when its answer is no verdict."""
BESIDES = "not counted: runs that the world ended, and what people ask for meanwhile"


@dataclass(frozen=True)
class Counting:
    """How a pattern is counted; the patterns themselves know."""

    runs_max: Callable[[Pattern, Handoff, int], int]
    """Agent runs of a pattern, its handoff, and so many checkboxes, but for delegated tasks."""
    subtasks_max: Callable[[Pattern], int]
    """Tasks that it delegates to."""


@dataclass(frozen=True)
class TaskPreview:
    """What one task can come to."""

    id: str
    runs_max: int
    """Agent runs, those of tasks that it is split into included."""
    budget_usd: float | None
    """None: nobody set a bound."""


@dataclass(frozen=True)
class Preview:
    """What a run can come to."""

    tasks: tuple[TaskPreview, ...]
    """Those that are to be run."""

    @property
    def runs_max(self) -> int:
        """Return how many agent runs there are at most."""
        return sum(task.runs_max for task in self.tasks)

    @property
    def budget_usd(self) -> float | None:
        """Return what all may cost; None when a task has no bound."""
        budgets = [task.budget_usd for task in self.tasks if task.budget_usd is not None]
        return sum(budgets) if len(budgets) == len(self.tasks) else None

    @property
    def words(self) -> str:
        """Return the bounds for people: `at most 9 agent runs, at most $36`."""
        return words(self.runs_max, self.budget_usd)


def words(runs_max: int, budget_usd: float | None) -> str:
    """Return bounds for people."""
    money = "no bound on money" if budget_usd is None else f"at most ${budget_usd:,.2f}"
    return f"at most {count(runs_max, 'agent run')}, {money.removesuffix('.00')}"


def preview(plan: Plan, choices: Choices, counting: Counting) -> Preview:
    """Return what a run of the plan can come to."""
    tasks = [task for task in plan.tasks if not task.done.settled]
    return Preview(tuple(_task(task, assign(plan, task, choices), counting) for task in tasks))


def _task(task: Task, assignment: Assignment, counting: Counting) -> TaskPreview:
    parts = counting.subtasks_max(assignment.pattern)
    whole = _runs(assignment, _pattern_runs(task, assignment, counting))
    tries = assignment.attempts or 1
    runs = whole + min(DELEGATED_MAX, tries * parts) * _runs(assignment, 1)
    return TaskPreview(task.id, runs, assignment.budget_usd)


def _pattern_runs(task: Task, assignment: Assignment, counting: Counting) -> int:
    if isinstance(assignment.pattern, Single) and not assignment.handoff.to:
        return 1  # its own tries are the ones that are bounded
    return counting.runs_max(assignment.pattern, assignment.handoff, len(task.open_steps))


def _runs(assignment: Assignment, pattern_runs: int) -> int:
    """Return the agent runs of all tries of a task.

    Every try may begin afresh, and be reviewed; a review that asks for more, but the last one,
    leads to one run more.
    """
    tries, rounds = assignment.attempts or 1, assignment.review_rounds or 0
    revised = max(0, rounds - 1)
    reviews = ASKED_TWICE * (tries + revised) if rounds else 0
    return tries * pattern_runs + revised + reviews


def told(previewed: Preview) -> Sequence[str]:
    """Return the bounds of a run in sentences, for its notes."""
    return (f"This run can come to {previewed.words} ({BESIDES}).",)
