"""What happens in one schedule: drawn from a seed, so that the same seed gives the same one."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from commandcenter.testing.scene import batch, plan, task

End = tuple[str, str]
"""How a task ends, and why."""
MERGED: End = ("completed", "merged")
SKIPPED: End = ("skipped", "dependency")
CANCELLED: End = ("cancelled", "cancelled")
TASKS_MAX = 5
DISTURBANCES_MAX = 5
EVENTS_APART_MAX = 14


class Kind(StrEnum):
    """What a task's agent, checks and reviewer are like. Each ends in one way only."""

    MAKES = "makes"
    DAWDLES = "dawdles"
    MENDS = "mends"
    """The first try fails its check."""
    REVISES = "revises"
    """The reviewer asks for a change once."""
    THERE = "there"
    """There is nothing to do."""
    BREAKS = "breaks"
    FAILS = "fails"
    """The check never passes."""
    REJECTED = "rejected"


ENDS: Mapping[Kind, End] = MappingProxyType(
    {
        Kind.MAKES: MERGED,
        Kind.DAWDLES: MERGED,
        Kind.MENDS: MERGED,
        Kind.REVISES: MERGED,
        Kind.THERE: ("completed", "already-done"),
        Kind.BREAKS: ("failed", "agent"),
        Kind.FAILS: ("failed", "checks"),
        Kind.REJECTED: ("failed", "review"),
    }
)
# Mostly work that lands: that is where there is something to lose.
_WEIGHTS = (5, 3, 3, 3, 1, 1, 1, 1)


class Act(StrEnum):
    """What comes between."""

    KILL = "kill the service"
    STOP = "stop the service"
    SHIM = "kill what supervises an agent or a check"
    CANCEL = "cancel a run"
    RETRY = "retry a run"
    PUSH = "push to the target"


_ACTS = (Act.KILL, Act.KILL, Act.KILL, Act.STOP, Act.SHIM, Act.CANCEL, Act.RETRY, Act.PUSH)


@dataclass(frozen=True)
class Disturbance:
    """One thing that somebody does."""

    after_events: int
    """How many more events there must be since the disturbance before."""
    act: Act


@dataclass(frozen=True)
class Job:
    """One task of a plan."""

    id: str
    kind: Kind
    after: tuple[str, ...]


@dataclass(frozen=True)
class Scheme:
    """One plan."""

    number: int
    """Sets its files apart from those of other plans."""
    jobs: tuple[Job, ...]
    parallel: bool

    @property
    def text(self) -> str:
        """Return the plan as Markdown."""
        tasks = [_task(self.number, job) for job in self.jobs]
        return plan(batch(1, *tasks, mode="parallel" if self.parallel else ""))

    def ends(self) -> dict[str, End]:
        """Return how each task must end when nobody cancels it."""
        found: dict[str, End] = {}
        for index, job in enumerate(self.jobs):
            # What is named replaces the wait for the task before.
            needed = job.after or (() if self.parallel else _before(self.jobs, index))
            met = all(found[each][0] == "completed" for each in needed)
            found[job.id] = ENDS[job.kind] if met else SKIPPED
        return found


@dataclass(frozen=True)
class Schedule:
    """Plans that are run at once on one repository, and what disturbs them."""

    name: str
    schemes: tuple[Scheme, ...]
    disturbances: tuple[Disturbance, ...]
    remote: bool
    workers: int

    @property
    def cancels(self) -> bool:
        """Say whether somebody cancels a run."""
        return any(each.act is Act.CANCEL for each in self.disturbances)


def draw(seed: int, number: int) -> Schedule:
    """Return schedule `number` of a seed."""
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - nothing is secret here
    plans = chance.choices((1, 2), weights=(2, 1))[0]
    disturbances = tuple(
        Disturbance(chance.randint(0, EVENTS_APART_MAX), chance.choice(_ACTS))
        for _ in range(chance.randint(1, DISTURBANCES_MAX))
    )
    pushes = any(each.act is Act.PUSH for each in disturbances)
    return Schedule(
        name=f"{seed}/{number}",
        schemes=tuple(_scheme(chance, each) for each in range(1, plans + 1)),
        disturbances=disturbances,
        # A person does not push to a branch that is checked out.
        remote=pushes or chance.random() < 0.8,
        workers=chance.randint(1, 3),
    )


def _scheme(chance: random.Random, number: int) -> Scheme:
    jobs: list[Job] = []
    for index in range(chance.randint(1, TASKS_MAX)):
        (kind,) = chance.choices(tuple(Kind), weights=_WEIGHTS)
        earlier = [job.id for job in jobs if chance.random() < 0.3]
        jobs.append(Job(f"1.{index + 1}", kind, tuple(earlier)))
    return Scheme(number, tuple(jobs), parallel=chance.random() < 0.7)


def _before(jobs: Sequence[Job], index: int) -> tuple[str, ...]:
    """Return what a sequential batch makes a task wait for."""
    return (jobs[index - 1].id,) if index else ()


def _task(plan_number: int, job: Job) -> str:
    path = f"plan-{plan_number}/{job.id}.txt"
    scripts = {
        Kind.DAWDLES: f"sleep 0.7\nwrite {path}\n| done",
        Kind.MENDS: f"write {path}\n| draft\nwhen-feedback write {path}\n| done",
        Kind.REVISES: f"write {path}\n| done\nwhen-feedback append {path}\n| more\n"
        f'review revise "{path}:1: More" then approve',
        Kind.THERE: "print nothing to do",
        Kind.BREAKS: f"write {path}\n| half\nexit 3",
        Kind.REJECTED: f'write {path}\n| done\nreview reject "{path}:1: Not this"',
    }
    checks = {Kind.FAILS: "false", Kind.THERE: "test -f README.md"}
    return task(
        job.id,
        f"{job.kind.capitalize()} {job.id}",
        files=[path],
        script=scripts.get(job.kind, f"write {path}\n| done"),
        checks=[checks.get(job.kind, f"grep -q done {path}")],
        after=job.after,
    )
