"""What the rounds of a pattern came to, read from the events that tell of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from commandcenter.core.check import Verdict
from commandcenter.core.run import Event, EventKind

NOTHING: Mapping[str, Any] = MappingProxyType({})  # Any: JSON


@dataclass(frozen=True)
class Answered:
    """What one run of an agent said, what it left, and what was measured of that."""

    at_ms: int
    profile: str
    outcome: str
    """done, failed or stopped; of a run that does not count, why."""
    reason: str = ""
    words: str = ""
    """The agent's last ones. Never trusted."""
    result: Mapping[str, Any] = field(default_factory=lambda: NOTHING)  # Any: JSON
    """Its structured answer; empty: it gave none that could be used."""
    problem: str = ""
    """Why its answer could not be used."""
    refused: str = ""
    """Why what it left could not be taken."""
    commit: str = ""
    """What its lane held afterwards; empty: nothing was taken."""
    tree: str = ""
    moved: bool = True
    """Whether the lane holds another tree than after the ask before; at first: than the base."""
    files: int = 0
    insertions: int = 0
    deletions: int = 0
    checks: str = ""
    """Judgement of the checks on that commit; empty: they were not run."""
    failing: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    """Tests and checks that it weakened, in sentences."""
    left: tuple[str, ...] = ()
    """Files that it changed although it was only to read; they were thrown away."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True)
class Asked:
    """One agent that was asked in a round."""

    position: int
    role: str
    profile: str
    lane: int
    text: str
    """The beginning of what it was asked beyond the task."""
    answered: Answered | None = None
    uncounted: tuple[Answered, ...] = ()
    """Runs of it that the world ended, or that nobody needed any more."""


@dataclass(frozen=True)
class Subtask:
    """A task that another one was split into, and how it ended when they were joined."""

    id: str
    title: str
    landed: bool | None = None
    """None: they have not been joined."""
    words: str = ""


@dataclass(frozen=True)
class Joined:
    """What came of a split: the parent's own checks on the target."""

    at_ms: int
    checks: str = ""
    """Their judgement; empty: they were not run."""
    failing: tuple[str, ...] = ()
    commit: str = ""
    problem: str = ""


class Standing(StrEnum):
    """How it stands with a round."""

    OPEN = "open"
    """It waits for answers."""
    DECIDED = "decided"
    """What was answered was enough."""
    BROKEN_OFF = "broken off"
    """The try ended before."""


@dataclass(frozen=True)
class Round:
    """Agents that were asked side by side, or a split into tasks."""

    number: int
    at_ms: int
    until: str = "all"
    asks: tuple[Asked, ...] = ()
    subtasks: tuple[Subtask, ...] = ()
    reason: str = ""
    """Why it was split like this, in the planner's words."""
    joined: Joined | None = None


@dataclass(frozen=True)
class Concluded:
    """How a pattern ended, and why."""

    at_ms: int
    result: str
    words: str
    lane: int
    feedback: str = ""
    facts: Mapping[str, Any] = field(default_factory=lambda: NOTHING)  # Any: JSON
    """What the pattern wants to be seen: scores, the ranking, the last ledger."""


@dataclass(frozen=True)
class Played:
    """A pattern as one try of a task played it."""

    attempt: int
    pattern: str
    """As a plan writes it; empty: it ended before anybody was asked."""
    rounds: tuple[Round, ...] = ()
    concluded: Concluded | None = None
    broken_off: bool = False
    """The try ended before the pattern did."""

    def standing(self, number: int) -> Standing:
        """Return how it stands with one of its rounds."""
        if self.concluded is not None or number != self.rounds[-1].number:
            return Standing.DECIDED
        return Standing.BROKEN_OFF if self.broken_off else Standing.OPEN


def played(events: Iterable[Event]) -> tuple[Played, ...]:
    """Return what every try that played a pattern came to, from the events of one task."""
    found: dict[int, Played] = {}
    for event in events:
        before = found.get(event.attempt, Played(event.attempt, ""))
        after = _after(before, event)
        if after != before:
            found[event.attempt] = after
    return tuple(found.values())


def _after(one: Played, event: Event) -> Played:
    data = event.data
    match event.kind:
        case EventKind.TASK_ROUND:
            return replace(one, pattern=data["pattern"], rounds=(*one.rounds, _round(event)))
        case EventKind.TASK_ANSWERED:
            before = [each for each in one.rounds if each.number < data["round"]]
            return _in_round(one, data["round"], lambda each: _with_answer(each, event, before))
        case EventKind.TASK_JOINED:
            number = data["round"]
            if not any(each.number == number for each in one.rounds):
                # There was no room for so many tasks, so that nothing was split.
                one = replace(one, rounds=(*one.rounds, Round(number, event.at_ms)))
            return _in_round(one, number, lambda each: _with_joined(each, event))
        case EventKind.TASK_CONCLUDED:
            return replace(one, concluded=_concluded(event))
        case EventKind.TASK_TRY_FAILED | EventKind.TASK_FAILED | EventKind.TASK_CANCELLED:
            return replace(one, broken_off=bool(one.rounds) and one.concluded is None)
        case _:
            return one


def _in_round(one: Played, number: int, change: Callable[[Round], Round]) -> Played:
    rounds = tuple(change(each) if each.number == number else each for each in one.rounds)
    return replace(one, rounds=rounds)


def _round(event: Event) -> Round:
    data = event.data
    return Round(
        number=data["round"],
        at_ms=event.at_ms,
        until=data.get("until", "all"),
        asks=tuple(
            Asked(position, each["role"], each["profile"], each["lane"], each.get("text", ""))
            for position, each in enumerate(data.get("asks", ()), 1)
        ),
        subtasks=tuple(Subtask(each["id"], each["title"]) for each in data.get("tasks", ())),
        reason=data.get("reason", ""),
    )


def _with_answer(one: Round, event: Event, before: Sequence[Round]) -> Round:
    position = event.data["position"]
    asks = (
        _answer_to(each, event, before) if each.position == position else each for each in one.asks
    )
    return replace(one, asks=tuple(asks))


def _answer_to(asked: Asked, event: Event, before: Sequence[Round]) -> Asked:
    answered = _answered(event, asked.profile)
    if event.data.get("counts", True):
        tree = _tree_before(asked.lane, before)
        moved = answered.tree != tree if tree else answered.files > 0
        return replace(asked, answered=replace(answered, moved=moved))
    return replace(asked, uncounted=(*asked.uncounted, answered))


def _tree_before(lane: int, rounds: Sequence[Round]) -> str:
    """Return what a lane held before a round; empty: the base."""
    asks = [asked for one in rounds for asked in one.asks if asked.lane == lane]
    trees = [asked.answered.tree for asked in asks if asked.answered and asked.answered.tree]
    return trees[-1] if trees else ""


def _answered(event: Event, profile: str) -> Answered:
    data = event.data
    return Answered(
        at_ms=event.at_ms,
        profile=data.get("profile") or profile,
        outcome=data["outcome"],
        reason=data.get("reason", ""),
        words=data.get("words", ""),
        result=data.get("result") or NOTHING,
        problem=data.get("problem", ""),
        refused=data.get("refused", ""),
        commit=data.get("head", ""),
        tree=data.get("tree", ""),
        files=data.get("files", 0),
        insertions=data.get("insertions", 0),
        deletions=data.get("deletions", 0),
        checks=data.get("checks", ""),
        failing=_texts(data.get("failing")),
        flags=_texts(data.get("flags")),
        left=_texts(data.get("left")),
        input_tokens=data.get("input_tokens", 0),
        output_tokens=data.get("output_tokens", 0),
        cost_usd=data.get("cost_usd"),
    )


def _with_joined(one: Round, event: Event) -> Round:
    data = event.data
    ended = {each["id"]: each for each in data.get("children", ())}
    subtasks = (
        replace(
            subtask, landed=ended[subtask.id]["satisfied"], words=ended[subtask.id].get("words", "")
        )
        if subtask.id in ended
        else subtask
        for subtask in one.subtasks
    )
    verdict = Verdict.from_json(data["verdict"]) if data.get("verdict") else None
    joined = Joined(
        at_ms=event.at_ms,
        checks=verdict.judgement.value if verdict else "",
        failing=tuple(sorted(verdict.failed)) if verdict else (),
        commit=data.get("commit", ""),
        problem=data.get("problem", ""),
    )
    return replace(one, subtasks=tuple(subtasks), joined=joined)


def _concluded(event: Event) -> Concluded:
    data = event.data
    return Concluded(
        at_ms=event.at_ms,
        result=data["result"],
        words=data["words"],
        lane=data.get("lane", 1),
        feedback=data.get("feedback", ""),
        facts=data.get("facts") or NOTHING,
    )


def _texts(given: Sequence[Any] | None) -> tuple[str, ...]:  # Any: JSON
    return tuple(map(str, given or ()))
