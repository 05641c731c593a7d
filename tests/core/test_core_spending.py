"""What a run has used is the fold of its events, by profile."""

from __future__ import annotations

from commandcenter.core.run import Event, EventKind
from commandcenter.core.spending import KINDS, Spending, by_profile


def used(
    kind: EventKind, profile: str, tokens: tuple[int, int, int], cost_usd: float | None
) -> Event:
    asked, answered, cached = tokens
    data = {
        "profile": profile,
        "input_tokens": asked,
        "output_tokens": answered,
        "cached_tokens": cached,
        "cost_usd": cost_usd,
    }
    return Event("exec_1", kind, 0, "1.1", 1, data)


def test_what_each_profile_used_adds_up_over_every_kind_of_event() -> None:
    events = [
        used(EventKind.TASK_CAPTURED, "work", (100, 10, 50), 0.5),
        used(EventKind.TASK_USED, "work", (200, 20, 0), 0.25),
        used(EventKind.TASK_ANSWERED, "work", (400, 40, 0), 0.25),
        used(EventKind.TASK_REVIEWED, "review", (30, 3, 0), 0.125),
    ]

    assert {event.kind for event in events} == {*KINDS}
    assert by_profile(events) == (
        Spending("review", 1, 30, 3, 0, 0.125),
        Spending("work", 3, 700, 70, 50, 1.0),
    )


def test_what_nobody_knows_the_cost_of_is_counted_and_not_called_free() -> None:
    events = [
        used(EventKind.TASK_CAPTURED, "work", (100, 10, 0), 0.5),
        used(EventKind.TASK_CAPTURED, "work", (100, 10, 0), None),
    ]

    assert by_profile(events) == (Spending("work", 2, 200, 20, 0, 0.5, unpriced=1),)


def test_an_agent_that_asked_no_model_used_nothing() -> None:
    events = [
        used(EventKind.TASK_CAPTURED, "scripted", (0, 0, 0), None),
        Event("exec_1", EventKind.TASK_PHASE, 0, "1.1", 1, {"phase": "working"}),
    ]

    assert by_profile(events) == ()


def test_reviews_of_before_say_nothing_of_a_cache() -> None:
    data = {"profile": "review", "input_tokens": 5, "output_tokens": 1, "cost_usd": None}

    found = by_profile([Event("exec_1", EventKind.TASK_REVIEWED, 0, "1.1", 1, data)])

    assert found == (Spending("review", 1, 5, 1, 0, 0.0, 1),)
