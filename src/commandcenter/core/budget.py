"""What a task may cost, what it has cost so far, and where nobody can know that. Pure."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from commandcenter.core.agent import Profile
from commandcenter.core.plan import Plan, Task
from commandcenter.core.prices import Price
from commandcenter.core.run import Event, EventKind
from commandcenter.core.spending import KINDS as _SPENDING

KINDS = (*_SPENDING, EventKind.TASK_REOPENED)
"""The events that tell what is spent."""


@dataclass(frozen=True)
class Allowance:
    """What the agents of a task may cost together, those of the tasks it is split into included."""

    name: str
    """Of the task, and of its beginning: a task that a person retries has its budget anew."""
    task: str
    budget_usd: float
    left_usd: float
    """As far as is known."""

    @property
    def words(self) -> str:
        """Say that there is nothing left, for people and agents."""
        return f"the budget of task {self.task} (${self.budget_usd:g}) is reached"


def family(plan: Plan, task: Task) -> tuple[str, ...]:
    """Return the ids of all tasks that share a budget with this one, the whole one first."""
    whole = task.parent or task.id
    return (whole, *(each.id for each in plan.tasks if each.parent == whole))


def allowance(
    run: str, tasks: Sequence[str], budget_usd: float, events: Iterable[Event]
) -> Allowance:
    """Return what a family of tasks may cost yet; `events` are theirs of `KINDS`, in order."""
    spent: dict[str, float] = defaultdict(float)
    beginnings = 0
    for event in events:
        if event.kind is EventKind.TASK_REOPENED:
            spent.pop(event.task, None)
            beginnings += 1
        else:
            spent[event.task] += event.data["cost_usd"] or 0.0
    name = f"{run}/{tasks[0]}/{beginnings}"
    return Allowance(name, tasks[0], budget_usd, budget_usd - sum(spent.values()))


def uncertain(profiles: Mapping[str, Profile], prices: Sequence[Price]) -> tuple[str, ...]:
    """Return in sentences which profiles can go beyond a budget, since nobody knows the price."""
    unpriced = [name for name, profile in profiles.items() if not _priced(profile, prices)]
    if not unpriced:
        return ()
    return (
        f"The price of the model of {_listed(unpriced)} is not configured: a budget is kept "
        "between runs only, by what the agent itself says that they cost, and not at all if it "
        "says nothing. Name its `model`, and what that costs in [prices].",
    )


def _priced(profile: Profile, prices: Sequence[Price]) -> bool:
    return bool(profile.model) and any(
        fnmatch.fnmatchcase(profile.model, price.model) for price in prices
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
