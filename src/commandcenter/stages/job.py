"""One try of one task, as stages see it: read from the store at the start of every stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from sqlalchemy.orm import Session

from commandcenter.core.agent import Limits, Profile, Role
from commandcenter.core.assignment import Assignment, Choices, assign
from commandcenter.core.attempt import Attempt
from commandcenter.core.errors import InputError
from commandcenter.core.forge import Decision
from commandcenter.core.plan import Plan, Task
from commandcenter.core.run import Event, EventKind, Phase, State, TaskStatus
from commandcenter.core.workspace import WorkspaceKey, Workspaces
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.plans import Plans
from commandcenter.store import facts, views
from commandcenter.store.views import RunRecord

Record = dict[str, Any]  # Any: JSON, a stage's result; a schema that the engine stores
WORK = "work"
"""Purpose of the workspace that holds an agent's work; further lanes are `work-2`, `work-3`, ..."""


@dataclass(frozen=True)
class Options:
    """What was chosen when the run was submitted. Stored as JSON with the run."""

    work: Profile
    """What works on a task of which nothing else is said."""
    review: Profile | None
    """The same for reviews; None: nobody reviews."""
    auto_merge: bool = True
    profiles: tuple[Profile, ...] = ()
    """All that any task of the plan can use."""
    choices: Choices | None = None
    """None: an older version stored it, which gave all tasks the same."""

    def to_json(self) -> Record:
        """Return the stored form."""
        return {
            "schema": 1,
            "work": profile_to_json(self.work),
            "review": profile_to_json(self.review) if self.review else None,
            "auto_merge": self.auto_merge,
            "profiles": [profile_to_json(profile) for profile in self.profiles],
            "choices": self.choices.to_json() if self.choices else None,
        }

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Options:  # Any: JSON written by `to_json`
        """Return what `to_json` stored."""
        review = record["review"]
        choices = record.get("choices")
        return Options(
            profile_from_json(record["work"]),
            profile_from_json(review) if review else None,
            record["auto_merge"],
            tuple(map(profile_from_json, record.get("profiles", ()))),
            Choices.from_json(choices) if choices else None,
        )

    @property
    def used(self) -> tuple[Profile, ...]:
        """Return all profiles that the run can use."""
        if self.choices is not None:
            return self.profiles
        return tuple(filter(None, (self.work, self.review)))

    def assignment(self, plan: Plan, task: Task) -> Assignment:
        """Return who works on a task of the run's plan, and how."""
        if self.choices is not None:
            return assign(plan, task, self.choices)
        work = self.work.name
        review = self.review.name if self.review else work
        names = dict.fromkeys(Role, work) | {Role.REVIEW: review, Role.JUDGE: review}
        return Assignment(review_rounds=None if self.review else 0, roles=names)


def profile_to_json(profile: Profile) -> Record:
    """Return a profile's stored form."""
    return {
        "name": profile.name,
        "agent": profile.agent,
        "model": profile.model,
        "command": profile.command,
        "environment": dict(profile.environment),
        "programs": list(profile.programs),
        "egress": None if profile.egress is None else list(profile.egress),
        "models": list(profile.models),
        "provider": profile.provider,
        "limits": asdict(profile.limits),
    }


def profile_from_json(record: Mapping[str, Any]) -> Profile:  # Any: JSON
    """Return what `profile_to_json` stored."""
    values = dict(record)
    limits = Limits(**values.pop("limits"))
    programs = tuple(values.pop("programs"))
    # Older records have none of these, nor `provider`.
    egress, models = values.pop("egress", None), values.pop("models", ())
    return Profile(
        **values,
        limits=limits,
        programs=programs,
        egress=None if egress is None else tuple(egress),
        models=tuple(models),
    )


@dataclass(frozen=True)
class Job:
    """A try, with the run, plan and task it belongs to."""

    run: RunRecord
    plan: Plan
    task: Task
    status: TaskStatus
    tries: tuple[Attempt, ...]
    """All tries of the task up to this one, which is the last."""
    approved: bool = False
    """A person approved exactly this change."""

    @property
    def attempt(self) -> Attempt:
        """Return the try itself."""
        return self.tries[-1]

    @cached_property
    def options(self) -> Options:
        """Return what was chosen when the run was submitted."""
        return Options.from_json(self.run.options)

    @cached_property
    def assignment(self) -> Assignment:
        """Return who works on the task, and how."""
        return self.options.assignment(self.plan, self.task)

    def profile_of(self, role: Role, name: str = "") -> Profile:
        """Return the profile of a role, or the one of this name when the pattern names one.

        Raises:
            InputError: the run was not submitted with it.
        """
        wanted = name or self.assignment.roles[role]
        found = next((each for each in self.options.used if each.name == wanted), None)
        if found is None:
            raise InputError(f"This run has no agent profile `{wanted}`.")
        timeout_s = self.assignment.timeout_s
        if role.reads_only or timeout_s is None:
            return found
        return replace(found, limits=replace(found.limits, timeout_s=timeout_s))

    @property
    def reviewer(self) -> Profile | None:
        """Return who reviews the task's changes, if anybody does."""
        return None if self.assignment.review_rounds == 0 else self.profile_of(Role.REVIEW)

    @property
    def may_land(self) -> bool:
        """Say whether the change needs no approval of a person, or has it."""
        asked = not self.options.auto_merge or self.plan.auto_merge_of(self.task) is False
        return self.approved or not asked

    @property
    def mode(self) -> str:
        """Return the kind of workspace that the run uses."""
        return self.run.mode

    @property
    def date(self) -> int:
        """Return the date that all commits of the run carry, so that a repeat gives the same."""
        return self.run.created_ms // 1000

    @property
    def commit(self) -> str:
        """Return the commit that stands for the try's tree."""
        return self.attempt.head or self.attempt.base

    def workspace(self, purpose: str) -> WorkspaceKey:
        """Return the key of a workspace of this try."""
        return WorkspaceKey(self.run.id, self.task.id, self.attempt.number, purpose)

    @property
    def work_key(self) -> WorkspaceKey:
        """Return the key of the agent's own workspace, which a generation's tries share."""
        return self.lane_key(self.attempt.lane)

    def lane_key(self, lane: int) -> WorkspaceKey:
        """Return the key of a workspace in which agents work: 1 is the task's own."""
        return lane_key(self.run.id, self.task.id, self.attempt.generation, lane)

    @property
    def pin(self) -> str:
        """Return the key under which the vault keeps the base."""
        return f"{self.run.id}/{self.task.id}"


def lane_key(run: str, task: str, generation: int, lane: int) -> WorkspaceKey:
    """Return the key of a workspace of a generation of tries in which agents work."""
    return WorkspaceKey(run, task, generation, WORK if lane == 1 else f"{WORK}-{lane}")


def is_lane(key: WorkspaceKey) -> bool:
    """Say whether agents' work lies in a workspace; others hold what is made again."""
    return key.purpose == WORK or key.purpose.startswith(f"{WORK}-")


async def load(equipment: Equipment, run: str, task: str, number: int) -> Job:
    """Return a try as it stands now."""
    return await equipment.database.transact(read, equipment.plans, run, task, number)


def read(session: Session, plans: Plans, run: str, task: str, number: int) -> Job:
    """Return a try as it stands in this transaction."""
    record = views.read_run(session, run)
    plan = plans.of(session, run)
    tries = tuple(views.read_attempt(session, run, task, n) for n in range(1, number + 1))
    return Job(
        run=record,
        plan=plan,
        task=plan.task(task),
        status=views.read_task(session, run, task),
        tries=tries,
        approved=_approved(session, run, task, tries[-1]),
    )


def _approved(session: Session, run: str, task: str, attempt: Attempt) -> bool:
    said = views.last_event_of(session, run, task, attempt.number, EventKind.TASK_DECIDED)
    if said is None:
        return False
    return (said.data["decision"], said.data["head"]) == (Decision.APPROVE.value, attempt.head)


async def enter(equipment: Equipment, job: Job, phase: Phase, waiting_for: str = "") -> None:
    """Note what is being done now, unless the task has ended or already says so."""
    await equipment.database.transact(_enter, equipment.now_ms(), job, phase, waiting_for)


def _enter(session: Session, now_ms: int, job: Job, phase: Phase, waiting_for: str) -> None:
    facts.lock(session, job.run.id)
    status = views.read_task(session, job.run.id, job.task.id)
    told = (status.phase, status.waiting_for) == (phase, waiting_for)
    if told or status.state is not State.IN_PROGRESS:
        return
    data = {"phase": phase.value, "waiting_for": waiting_for}
    number = job.attempt.number
    event = Event(job.run.id, EventKind.TASK_PHASE, now_ms, job.task.id, number, data)
    facts.append(session, event)


def workspaces(equipment: Equipment, job: Job) -> Workspaces:
    """Return the kind of workspaces that the try runs in."""
    return equipment.workspaces[job.mode]
