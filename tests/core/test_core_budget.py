"""What a task may cost, what it has cost so far, and where nobody can know that."""

from __future__ import annotations

from commandcenter.core.agent import Profile
from commandcenter.core.budget import allowance, family, uncertain
from commandcenter.core.plan import Batch, Plan, Task
from commandcenter.core.prices import Price
from commandcenter.core.run import Event, EventKind

PRICES = (Price("priced*", input=3, output=15, cache_read=0.3, cache_write=3.75),)


def used(task: str, cost_usd: float | None, kind: EventKind = EventKind.TASK_USED) -> Event:
    return Event("r", kind, 0, task, 1, {"cost_usd": cost_usd})


def test_what_is_left_is_the_budget_without_all_that_was_used() -> None:
    events = [
        used("1.1", 1.0),
        used("1.1", None),
        used("1.1/1", 0.5, EventKind.TASK_CAPTURED),
        used("1.1", 0.25, EventKind.TASK_REVIEWED),
    ]

    found = allowance("r", ("1.1", "1.1/1"), 4.0, events)

    assert found.left_usd == 2.25
    assert found.words == "the budget of task 1.1 ($4) is reached"


def test_a_task_that_a_person_retries_has_its_budget_anew() -> None:
    before = [used("1.1", 5.0)]
    after = [*before, Event("r", EventKind.TASK_REOPENED, 0, "1.1"), used("1.1", 1.0)]

    first, second = (allowance("r", ("1.1",), 4.0, events) for events in (before, after))

    assert (first.left_usd, second.left_usd) == (-1.0, 3.0)
    assert first.name != second.name


def test_a_task_shares_its_budget_with_those_it_was_split_into() -> None:
    tasks = (Task("1.1", "A", "1"), Task("1.1.1", "B", "1", parent="1.1"), Task("1.2", "C", "1"))
    plan = Plan(batches=(Batch("1", "B", 1),), tasks=tasks)

    assert family(plan, tasks[0]) == family(plan, tasks[1]) == ("1.1", "1.1.1")
    assert family(plan, tasks[2]) == ("1.2",)


def test_whose_price_is_unknown_is_told() -> None:
    profiles = {
        "claude": Profile("claude", "claude"),
        "mine": Profile("mine", "shell"),
        "good": Profile("good", "claude", model="priced-1"),
    }

    (told,) = uncertain(profiles, PRICES)

    assert "the model of `claude`, `mine` is not configured" in told
    assert uncertain({"good": profiles["good"]}, PRICES) == ()
