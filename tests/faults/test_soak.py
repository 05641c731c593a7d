"""Random schedules of trouble, each judged; and that the laws they are judged by can be broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from commandcenter.core.run import Event, EventKind
from commandcenter.readers import PlanSource, read_plan
from commandcenter.testing.soak.laws import ATTEMPTS_MAX, too_early, unexpected, unlawful
from commandcenter.testing.soak.life import live
from commandcenter.testing.soak.schedule import CANCELLED, ENDS, MERGED, SKIPPED, Act, Kind, draw

SEED = 20261126
SCHEDULES = 8


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(SCHEDULES))
async def test_whatever_disturbs_them_runs_end_as_they_must(number: int, tmp_path: Path) -> None:
    assert await live(draw(SEED, number), tmp_path) == ()


def test_a_seed_gives_the_same_schedule_each_time() -> None:
    assert draw(SEED, 3) == draw(SEED, 3)
    assert draw(SEED, 3) != draw(SEED, 4)
    assert draw(SEED, 3) != draw(SEED + 1, 3)


def test_a_few_hundred_schedules_have_every_kind_of_task_and_of_trouble() -> None:
    drawn = [draw(SEED, number) for number in range(200)]
    jobs = [job for each in drawn for scheme in each.schemes for job in scheme.jobs]

    assert {job.kind for job in jobs} == set(Kind) == set(ENDS)
    assert {each.act for one in drawn for each in one.disturbances} == set(Act)


@pytest.mark.parametrize("number", range(40))
def test_every_plan_is_read_whole(number: int) -> None:
    for scheme in draw(SEED, number).schemes:
        read = read_plan(PlanSource(scheme.text))

        assert read.plan is not None, read.diagnostics
        assert [task.id for task in read.plan.tasks] == list(scheme.ends())


# The laws can be broken


def events(*kinds: tuple[EventKind, str, int]) -> tuple[Event, ...]:
    return tuple(Event("r", kind, 0, task, attempt) for kind, task, attempt in kinds)


def test_another_end_is_unexpected() -> None:
    wanted = {"1.1": MERGED, "1.2": SKIPPED}

    assert list(unexpected(wanted, wanted, cancels=False)) == []
    assert len(list(unexpected(wanted, {"1.1": SKIPPED, "1.2": SKIPPED}, cancels=False))) == 1
    assert len(list(unexpected(wanted, {"1.1": CANCELLED, "1.2": MERGED}, cancels=True))) == 1


def test_two_reviews_of_a_try_and_too_many_tries_are_unlawful() -> None:
    reviewed = (EventKind.TASK_REVIEWED, "1.1", 1)
    tries = [(EventKind.TASK_STARTED, "1.1", n) for n in range(ATTEMPTS_MAX + 1)]

    assert list(unlawful(events(reviewed, *tries[1:]))) == []
    assert list(unlawful(events(reviewed, reviewed))) == ["try 1 was reviewed twice"]
    assert len(list(unlawful(events(*tries)))) == 1


def test_a_start_before_a_dependency_is_too_early() -> None:
    started, done = (EventKind.TASK_STARTED, "1.2", 1), (EventKind.TASK_COMPLETED, "1.1", 1)

    assert list(too_early(events(done, started), [("1.1", "1.2")])) == []
    assert list(too_early(events(started, done), [("1.1", "1.2")])) == [
        "task 1.2 was started before ['1.1']"
    ]
