"""Who works on a task, and how: chosen from all places that speak of it, each with its origin.

The command line counts before the task, its batch, the front matter, the settings, and what is
built in. For a task that another one was split into, the words of that one count behind its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeVar

from commandcenter.core.agent import Role
from commandcenter.core.attempt import Bounds
from commandcenter.core.errors import InputError, newer_record
from commandcenter.core.pattern import (
    Chain,
    Handoff,
    Magentic,
    Orchestrate,
    Pattern,
    Route,
    Single,
    Vote,
)
from commandcenter.core.plan import Plan, ReviewPolicy, Task, TaskLimits
from commandcenter.core.plan.notation import (
    NONE,
    PARSERS,
    Fault,
    handoff_text,
    limits_text,
    pattern_text,
    profile_text,
    review_text,
    roles_text,
)
from commandcenter.core.plan.spelling import closest
from commandcenter.core.plan.together import Place, places, unfit
from commandcenter.core.run import Submission

AGENT_COMMAND = "command"
"""Profile of a command line that is used as the agent."""
REVIEW_COMMAND = "review-command"
COMMAND_LINE = "command line"
SETTINGS = "settings"
BUILT_IN = "built-in"

_NOTHING: Mapping[str, str] = MappingProxyType({})
_T = TypeVar("_T")


@dataclass(frozen=True)
class Choices:
    """What the command line and the settings say, in the words of a plan's labels.

    Stored with the run, so that what is configured later makes no difference to it.
    """

    command_line: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    """For all tasks, by the name of a label."""
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    """For some tasks, by their id."""
    settings: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    """What differs from what is built in."""
    built_in: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    bare: bool = False
    """The agent is a command line, of which no answer in a given form can be expected: nobody
    reviews or judges unless the plan or the command line asks for it."""

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the stored form."""
        return {
            "schema": 1,
            "command_line": dict(self.command_line),
            "overrides": {task: dict(words) for task, words in self.overrides.items()},
            "settings": dict(self.settings),
            "built_in": dict(self.built_in),
            "bare": self.bare,
        }

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Choices:  # Any: JSON written by `to_json`
        """Return what `to_json` stored.

        Raises:
            InputError: a newer version stored it.
        """
        if record["schema"] != 1:
            raise newer_record("the choices of a run")
        return Choices(**{key: value for key, value in record.items() if key != "schema"})


def chosen(
    submission: Submission, *, settings: Mapping[str, str], built_in: Mapping[str, str]
) -> Choices:
    """Return what a submission chooses, over what is configured.

    Raises:
        InputError: one of its words cannot be read.
    """
    bare = bool(submission.agent_command)
    words = {
        "pattern": submission.pattern or "",
        "agent": AGENT_COMMAND if bare else profile_text(submission.agent or ""),
        "review": _review_words(submission),
        "roles": _role_words(submission.roles),
    }
    said = {label: text for label, text in words.items() if text}
    for label, text in said.items():
        _parsed(f"--{label}", label, text)
    overrides: dict[str, dict[str, str]] = {}
    for key, text in submission.overrides.items():
        task, _, label = key.rpartition(".")
        if not task or label not in PARSERS:
            hint = closest(label, PARSERS) or f"what can be set is {', '.join(PARSERS)}"
            raise InputError(f"`{key}` is nothing that can be set: write TASK.pattern.", hint=hint)
        _parsed(key, label, text)
        overrides.setdefault(task, {})[label] = text
    return Choices(said, overrides, settings, built_in, bare)


def _review_words(submission: Submission) -> str:
    if submission.review_command:
        return review_text(ReviewPolicy(None, REVIEW_COMMAND))
    reviewer = submission.reviewer or ""
    return reviewer if reviewer == NONE else review_text(ReviewPolicy(None, reviewer))


def _role_words(roles: Mapping[str, str]) -> str:
    for role in roles:
        if role not in tuple(Role):
            hint = closest(role, tuple(Role)) or f"roles are {', '.join(Role)}"
            raise InputError(f"There is no role `{role}`.", hint=hint)
    return roles_text({Role(role): profile for role, profile in roles.items()})


@lru_cache(maxsize=1024)
def _read(label: str, text: str) -> object:
    """Return what a text says, or its fault; thousands of tasks mostly have the same ones."""
    return PARSERS[label](text)


def _parsed(where: str, label: str, text: str) -> object:
    found = _read(label, text)
    if isinstance(found, Fault):
        place = f"{where}: `{text[:200]}`, column {found.column}"
        raise InputError(f"{place}: {found.message}.", hint=found.hint)
    return found


@dataclass(frozen=True)
class Assignment:
    """Who works on a task, and how."""

    pattern: Pattern = field(default_factory=Single)
    handoff: Handoff = field(default_factory=Handoff)
    review_rounds: int | None = None
    """Most reviews; 0 is none. None, of a run that an older version stored: as configured."""
    roles: Mapping[Role, str] = field(default_factory=lambda: MappingProxyType({}))
    """The profile of every role."""
    attempts: int | None = None
    """None, of a run that an older version stored: as configured."""
    timeout_s: float | None = None
    """Of one run of who works; None: as its profile says."""
    budget_usd: float | None = None
    origins: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    """Where each came from, for people, by `pattern`, `handoff`, `review_rounds`, `attempts`,
    `timeout_s`, `budget_usd`, and the names of roles."""

    def bounds(self, configured: Bounds) -> Bounds:
        """Return the bounds of the task's tries."""
        return replace(
            configured,
            tries_max=self.attempts or configured.tries_max,
            review_rounds_max=self.review_rounds or configured.review_rounds_max,
        )

    @property
    def profiles(self) -> Mapping[str, str]:
        """Return the names of all profiles that can come to work, and where they were named."""
        used = [(self.roles[role], self.origins[role]) for role in self._roles_used()]
        named = [(name, self.origins["pattern"]) for name in _named(self.pattern)]
        passed = [(name, self.origins["handoff"]) for name in self.handoff.to]
        found: dict[str, str] = {}
        for name, origin in (*used, *named, *passed):
            found.setdefault(name, origin)
        return MappingProxyType(found)

    def _roles_used(self) -> Iterator[Role]:
        yield Role.WORK
        if self.review_rounds:
            yield Role.REVIEW
        match self.pattern:
            case Vote(judged=True, judge=""):
                yield Role.JUDGE
            case Route(ask=True):
                yield Role.ROUTE
            case Orchestrate(planner=""):
                yield Role.PLAN
            case Magentic(manager=""):
                yield Role.MANAGE


def _named(pattern: Pattern) -> tuple[str, ...]:
    """Return the profiles that a pattern names itself."""
    match pattern:
        case Single():
            names: tuple[str, ...] = ()
        case Chain(stages):
            names = tuple(stage.profile for stage in stages)
        case Route(profiles, rules, _, fallback):
            names = (*profiles, *(rule.profile for rule in rules), fallback)
        case Vote(_, agents, _, judge):
            names = (*agents, judge)
        case Orchestrate(_, planner):
            names = (planner,)
        case Magentic(team, manager):
            names = (*team, manager)
    return tuple(filter(None, names))


def assign(plan: Plan, task: Task, choices: Choices) -> Assignment:
    """Return who works on a task, and how.

    Raises:
        InputError: the words do not go together; a plan that was checked has none such.
    """
    return _Said(plan, task, choices).assignment()


@dataclass(frozen=True)
class _Found:
    """A value, and the place that says it: the lower `rank`, the sooner it counts."""

    value: Any  # Any: of the kind that its parser gives
    origin: str
    rank: int


class _Said:
    """All that is said of one task, the weightiest place first."""

    def __init__(self, plan: Plan, task: Task, choices: Choices) -> None:
        self._task = task
        self._choices = choices
        own = [choices.overrides[i] for i in (task.id, task.parent) if i in choices.overrides]
        bare = Place(f"{BUILT_IN} for a command line", {"review": NONE})
        self._places = (
            *(Place(COMMAND_LINE, words) for words in own),
            Place(COMMAND_LINE, choices.command_line),
            *places(plan, task),
            *([bare] if choices.bare else []),
            Place(SETTINGS, choices.settings),
            Place(BUILT_IN, choices.built_in),
        )

    def assignment(self) -> Assignment:
        """Return what all of it comes to."""
        pattern, handoff = self._pattern_and_handoff()
        rounds = self._rounds()
        roles = self._roles(rounds)
        limits = {name: self._limit(name) for name in ("attempts", "timeout_s", "budget_usd")}
        origins = {
            "pattern": pattern.origin,
            "handoff": handoff.origin,
            "review_rounds": rounds.origin,
            **{name: found.origin for name, found in limits.items()},
            **{role.value: found.origin for role, found in roles.items()},
        }
        return Assignment(
            pattern.value,
            handoff.value,
            rounds.value,
            MappingProxyType({role: found.value for role, found in roles.items()}),
            limits["attempts"].value,
            limits["timeout_s"].value,
            limits["budget_usd"].value,
            MappingProxyType(origins),
        )

    def _all(self, label: str) -> Iterator[_Found]:
        for rank, place in enumerate(self._places):
            if label in place.words:
                value = _parsed(place.origin(label), label, place.words[label])
                yield _Found(value, place.origin(label), rank)

    def _first(self, label: str, usual: object) -> _Found:
        return next(self._all(label), _Found(usual, BUILT_IN, len(self._places)))

    def _pattern_and_handoff(self) -> tuple[_Found, _Found]:
        if self._task.parent:
            origin = f"part of task {self._task.parent}"
            return _Found(Single(), origin, 0), _Found(Handoff(), origin, 0)
        pattern = self._first("pattern", Single())
        handoff = self._first("handoff", Handoff())
        if not unfit(pattern.value, handoff.value):
            return pattern, handoff
        name = pattern_text(pattern.value).partition("(")[0]
        if handoff.rank <= pattern.rank:
            raise InputError(
                f"Task {self._task.id} has a handoff ({handoff.origin}), which `{name}` "
                f"({pattern.origin}) does not allow.",
                hint="remove one of them; single, chain and route allow it",
            )
        return pattern, _Found(Handoff(), f"`{name}` has none", 0)

    def _rounds(self) -> _Found:
        """Return how often is reviewed: the first place says whether, the first number how often.

        Who only names a reviewer wants a review.
        """
        said = list(self._all("review"))
        if not said or said[0].value.rounds == 0:
            return replace(said[0], value=0) if said else self._first("review", 0)
        counts = (replace(each, value=each.value.rounds) for each in said if each.value.rounds)
        return next(counts, replace(said[0], value=1))

    def _limit(self, name: str) -> _Found:
        for each in self._all("limits"):
            value = getattr(each.value, name)
            if value is not None:
                return replace(each, value=value)
        return _Found(None, BUILT_IN, len(self._places))

    def _roles(self, rounds: _Found) -> dict[Role, _Found]:
        work = self._first_of(
            [*self._all("agent"), *self._role(Role.WORK)], _Found("", BUILT_IN, len(self._places))
        )
        reviewers = [
            replace(each, value=each.value.reviewer)
            for each in self._all("review")
            if each.value.reviewer
        ]
        as_work = replace(work, origin="as for work")
        review = self._first_of([*reviewers, *self._role(Role.REVIEW)], as_work)
        unasked = self._choices.bare and not rounds.value
        as_review = as_work if unasked else replace(review, origin="as for review")
        return {
            Role.WORK: work,
            Role.REVIEW: review,
            Role.JUDGE: self._first_of(self._role(Role.JUDGE), as_review),
            Role.ROUTE: self._first_of(self._role(Role.ROUTE), as_work),
            Role.PLAN: self._first_of(self._role(Role.PLAN), as_work),
            Role.MANAGE: self._first_of(self._role(Role.MANAGE), as_work),
        }

    def _role(self, role: Role) -> list[_Found]:
        return [
            replace(each, value=each.value[role])
            for each in self._all("roles")
            if role in each.value
        ]

    @staticmethod
    def _first_of(found: Sequence[_Found], otherwise: _Found) -> _Found:
        # `min` keeps the first of equals: **Agent:** counts before **Roles:** of the same place.
        return min(found, key=lambda each: each.rank, default=otherwise)


@dataclass(frozen=True)
class Shown:
    """One value of an assignment, in the words of a plan, and where it came from."""

    label: str
    text: str
    origin: str


def shown(assignment: Assignment) -> tuple[Shown, ...]:
    """Return what an assignment has that is not built in, for people."""
    limits = {
        "attempts": TaskLimits(attempts=assignment.attempts),
        "timeout_s": TaskLimits(timeout_s=assignment.timeout_s),
        "budget_usd": TaskLimits(budget_usd=assignment.budget_usd),
    }
    rounds = assignment.review_rounds
    every = [
        ("pattern", pattern_text(assignment.pattern), "pattern"),
        ("handoff", handoff_text(assignment.handoff), "handoff"),
        ("review", review_text(ReviewPolicy(rounds)), "review_rounds"),
        *(
            ("role", roles_text({role: name}), role.value)
            for role, name in assignment.roles.items()
        ),
        *(("limits", limits_text(limit), name) for name, limit in limits.items()),
    ]
    return tuple(
        Shown(label, text, origin)
        for label, text, key in every
        if text and not _built_in(origin := assignment.origins.get(key, BUILT_IN))
    )


def _built_in(origin: str) -> bool:
    return origin == BUILT_IN or origin.startswith("as for ")


def refuse_tasks(plan: Plan, choices: Choices) -> None:
    """Make sure that the plan has all tasks of which something is said.

    Raises:
        InputError: one is not there.
    """
    ids = [task.id for task in plan.tasks]
    for task in choices.overrides:
        if task not in ids:
            raise InputError(
                f"The plan has no task {task}, for which something is set.",
                hint=closest(task, ids) or "write its id as the plan has it",
            )


def profiles_of(plan: Plan, choices: Choices) -> Mapping[str, str]:
    """Return the names of all profiles that tasks can use, and where each is named first."""
    found: dict[str, str] = {}
    for task in plan.tasks:
        if not task.done.settled:
            for name, origin in assign(plan, task, choices).profiles.items():
                own = origin.startswith(f"task {task.id},")
                found.setdefault(name, origin if own else f"task {task.id}; {origin}")
    return MappingProxyType(found)


def refuse_unknown(plan: Plan, choices: Choices, configured: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all profiles that the plan's tasks can use.

    Raises:
        InputError: a profile is not configured, a task is not there, or words do not go together.
    """
    refuse_tasks(plan, choices)
    found = profiles_of(plan, choices)
    for name, origin in found.items():
        if name not in configured:
            raise InputError(
                f"There is no agent profile `{name}` ({origin}).",
                hint=closest(name, configured) or f"profiles are: {', '.join(configured)}",
            )
    return tuple(found)
