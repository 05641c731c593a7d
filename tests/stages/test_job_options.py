"""The options of a run, as they are stored with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from commandcenter.core.agent import Limits, Profile, Role
from commandcenter.core.assignment import Choices
from commandcenter.core.attempt import Bounds
from commandcenter.core.errors import InputError
from commandcenter.core.pattern import Single
from commandcenter.core.plan import Batch, Plan, Task
from commandcenter.core.run import TaskStatus
from commandcenter.stages.job import Job, Options, profile_from_json, profile_to_json
from commandcenter.store.views import RunRecord

WORK, REVIEW, OTHER = (Profile(name, "shell") for name in ("work", "review", "other"))
PLAN = Plan(
    batches=(Batch("1", "B", 1),),
    tasks=(Task("1.1", "A", "1", labels={"pattern": "vote(3)", "agent": "somebody"}),),
)


def test_a_profiles_egress_is_stored_also_when_it_is_none_at_all() -> None:
    options = Options(
        Profile("a", "shell", egress=()),
        Profile("b", "claude", egress=("forge", "x.test"), models=("m-*",), provider="other"),
    )

    assert Options.from_json(options.to_json()) == options


def test_a_profile_that_an_older_version_stored_has_the_projects_egress() -> None:
    record = profile_to_json(Profile("a", "shell"))
    del record["egress"], record["models"]

    assert profile_from_json(record) == Profile("a", "shell")


def test_what_was_chosen_is_stored_with_the_run() -> None:
    claude, codex = Profile("claude", "claude"), Profile("codex", "shell", command="codex")
    choices = Choices(command_line={"pattern": "vote(3)"}, built_in={"review": "3"})
    options = Options(claude, None, True, (claude, codex), choices)

    assert Options.from_json(options.to_json()) == options
    assert options.used == (claude, codex)


def older() -> dict[str, object]:
    """Return what a version stored that gave all tasks the same profiles."""
    record = Options(WORK, REVIEW).to_json()
    del record["profiles"], record["choices"]
    return record


def test_a_run_that_an_older_version_stored_goes_on_as_it_was_meant() -> None:
    options = Options.from_json(older())
    assignment = options.assignment(PLAN, PLAN.tasks[0])

    assert options.used == (WORK, REVIEW)
    assert assignment.pattern == Single()
    assert assignment.bounds(Bounds(4, 5, 6)) == Bounds(4, 5, 6)
    assert assignment.roles[Role.WORK] == "work"
    assert assignment.roles[Role.JUDGE] == assignment.roles[Role.REVIEW] == "review"


def job_of(options: Options, plan: Plan = PLAN) -> Job:
    run = RunRecord(
        id="run",
        plan_path="",
        title="",
        repository="",
        upstream="",
        target="",
        landed_on="",
        mode="local",
        options=options.to_json(),
        notes=(),
        created_ms=0,
        ended_ms=0,
        cancel_requested=False,
    )
    task = plan.tasks[0]
    return Job(run, plan, task, TaskStatus("run", task.id, task.title, task.batch, 0), ())


def test_the_job_has_the_profiles_of_its_roles_with_the_tasks_own_time() -> None:
    plan = replace(PLAN, tasks=(replace(PLAN.tasks[0], labels={"limits": "timeout=90s"}),))
    choices = Choices(built_in={"review": "2", "roles": "work=work, review=review"})
    job = job_of(Options(WORK, REVIEW, True, (WORK, REVIEW, OTHER), choices), plan)

    assert job.profile_of(Role.WORK) == replace(WORK, limits=Limits(timeout_s=90.0))
    assert job.profile_of(Role.WORK, "other").limits.timeout_s == 90.0
    assert job.reviewer == job.profile_of(Role.REVIEW) == REVIEW


def test_a_task_without_review_has_no_reviewer() -> None:
    assert job_of(Options(WORK, None)).reviewer is None
    assert job_of(Options(WORK, REVIEW)).reviewer == REVIEW


def test_a_profile_that_the_run_was_not_submitted_with_is_refused() -> None:
    with pytest.raises(InputError, match="no agent profile `other`"):
        job_of(Options(WORK, REVIEW)).profile_of(Role.WORK, "other")
