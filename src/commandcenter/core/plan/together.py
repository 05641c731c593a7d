"""What a plan says of how agents work together on its tasks, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from commandcenter.core.agent import Role
from commandcenter.core.pattern import (
    Chain,
    Handoff,
    Magentic,
    Orchestrate,
    Pattern,
    Single,
    Vote,
)
from commandcenter.core.plan.diagnostic import Diagnostic
from commandcenter.core.plan.model import Batch, Defaults, Plan, Task
from commandcenter.core.plan.notation import (
    PARSERS,
    Fault,
    limits_text,
    parse_handoff,
    parse_pattern,
    pattern_text,
    profile_text,
    review_text,
    roles_text,
)

_FRONT_MATTER = "front matter"
_NO_LINES: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Place:
    """Where something is said: a task, a batch, the front matter, the settings."""

    name: str
    words: Mapping[str, str]
    """By the name of a label, a key of `PARSERS`."""
    lines: Mapping[str, int] = field(default_factory=lambda: _NO_LINES)

    def origin(self, label: str) -> str:
        """Return where this label stands, for people: `task 2.1, line 40`."""
        line = self.lines.get(label)
        return f"{self.name}, line {line}" if line else self.name


def places(plan: Plan, task: Task) -> tuple[Place, ...]:
    """Return where a plan speaks of a task, the nearest place first."""
    parent = [t for t in plan.tasks if t.id == task.parent] if task.parent else []
    batch = plan.batch(task.batch)
    return (
        *(_place(f"task {each.id}", each) for each in (task, *parent)),
        _place(f"batch {batch.id}", batch),
        Place(_FRONT_MATTER, _default_words(plan.defaults), plan.defaults.lines),
    )


def unfit(pattern: Pattern, handoff: Handoff) -> bool:
    """Say whether no agent of this pattern could pass its work on, though one may."""
    return bool(handoff.to) and isinstance(pattern, Vote | Orchestrate | Magentic)


def together(plan: Plan) -> Iterable[Diagnostic]:
    """Return what is wrong with what a plan says of agents that work together."""
    open_tasks = [task for task in plan.tasks if not task.done.settled]
    used = {task.batch for task in open_tasks}
    found = [
        *_faults(Place(_FRONT_MATTER, _default_words(plan.defaults), plan.defaults.lines), 1),
        *(
            fault
            for batch in plan.batches
            if batch.id in used
            for fault in _faults(_place(f"batch {batch.id}", batch), batch.span.start)
        ),
        *(
            fault
            for task in open_tasks
            for fault in _faults(_place(f"task {task.id}", task), task.span.start)
        ),
    ]
    yield from found
    if not found and {task.batch for task in plan.tasks} <= {batch.id for batch in plan.batches}:
        for task in open_tasks:
            yield from _combined(plan, task)


def _place(name: str, thing: Task | Batch) -> Place:
    words = {label: thing.labels[label] for label in PARSERS if label in thing.labels}
    return Place(name, words, thing.label_lines)


def _default_words(defaults: Defaults) -> Mapping[str, str]:
    words = {
        "pattern": defaults.pattern,
        "handoff": defaults.handoff,
        "review": review_text(defaults.review) if defaults.review else "",
        "agent": profile_text(defaults.agent),
        "limits": limits_text(defaults.limits),
        "roles": roles_text({r: defaults.roles[r] for r in Role if r in defaults.roles}),
    }
    return MappingProxyType({label: text for label, text in words.items() if text})


def _faults(place: Place, start: int) -> Iterable[Diagnostic]:
    front = place.name == _FRONT_MATTER
    for label, text in place.words.items():
        if front and label in ("limits", "review"):
            continue  # their numbers have a code of their own
        fault = PARSERS[label](text)
        if isinstance(fault, Fault):
            line = place.lines.get(label, start)
            whose = f"`{label}` of the" if front else f"**{label.capitalize()}:** of"
            message = f"{whose} {place.name}: {fault.message}"
            subject = fault.word(text)
            yield Diagnostic("P013", message, line, hint=fault.hint, subject=subject)


def _combined(plan: Plan, task: Task) -> Iterable[Diagnostic]:
    """Return what does not go together, though each word of it is right."""
    if task.parent:
        return
    spoken = places(plan, task)
    pattern_at = _nearest(spoken, "pattern")
    pattern = parse_pattern(pattern_at.words["pattern"]) if pattern_at else Single()
    handoff_at = _nearest(spoken, "handoff")
    handoff = parse_handoff(handoff_at.words["handoff"]) if handoff_at else Handoff()
    if isinstance(pattern, Fault) or isinstance(handoff, Fault) or pattern_at is None:
        return
    if handoff_at and unfit(pattern, handoff):
        # What is said further away is overruled, as ever.
        if spoken.index(handoff_at) <= spoken.index(pattern_at):
            yield _unfit(task, pattern, handoff_at)
    elif isinstance(pattern, Chain) and not pattern.stages and len(task.open_steps) < 2:
        yield _stageless(task, pattern_at)


def _nearest(spoken: tuple[Place, ...], label: str) -> Place | None:
    return next((place for place in spoken if label in place.words), None)


def _unfit(task: Task, pattern: Pattern, place: Place) -> Diagnostic:
    name = pattern_text(pattern).partition("(")[0]
    message = f"task {task.id} has a handoff, which `{name}` does not allow"
    hint = "remove one of them; single, chain and route allow it"
    line = place.lines.get("handoff", task.span.start)
    return Diagnostic("P013", message, line, hint=hint, subject=place.words["handoff"])


def _stageless(task: Task, place: Place) -> Diagnostic:
    count = "one open checkbox" if task.open_steps else "no open checkbox"
    message = f"task {task.id} is a chain without stages, and has {count} to be one"
    hint = 'name them: chain("write the tests", "make them pass")'
    line = place.lines.get("pattern", task.span.start)
    return Diagnostic("W130", message, line, hint=hint, subject=place.words["pattern"])
