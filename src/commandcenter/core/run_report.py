"""What became of a run, whole: computed from its stored facts. Pure."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from commandcenter.core.check import Found, Receipt
from commandcenter.core.forge import CheckState, ExternalCheck, Issue, Review
from commandcenter.core.rounds import Played, played
from commandcenter.core.run import (
    AWAITS_APPROVAL,
    ENDS,
    Event,
    EventKind,
    Phase,
    RunStatus,
    State,
    TaskStatus,
    satisfied,
)
from commandcenter.core.spending import Spending, by_profile

SCHEMA: Final = "cc.report/1"
KINDS = tuple(kind for kind in EventKind if kind is not EventKind.AGENT)
"""The events that a report is made of."""


@dataclass(frozen=True)
class Span:
    """A time in which one thing was done for a task."""

    phase: Phase
    attempt: int
    start_ms: int
    end_ms: int
    waiting_for: str = ""

    @property
    def seconds(self) -> float:
        """How long it took, or takes so far."""
        return (self.end_ms - self.start_ms) / 1000


@dataclass(frozen=True)
class Captured:
    """What an agent left, as a commit, and what it claims."""

    profile: str
    commit: str
    files: int
    insertions: int
    deletions: int
    claim: str
    notes: tuple[str, ...]
    """What was left out, and why."""


@dataclass(frozen=True)
class Try:
    """One run of the agent at a task, and what became of it."""

    number: int
    start_ms: int
    end_ms: int = 0
    """0 while it goes on."""
    ending: State | None = None
    """How the task ended with it; None when it goes on, or another try followed."""
    why: str = ""
    """Why another try followed, or the explanation of the end."""
    captured: Captured | None = None


@dataclass(frozen=True)
class Checked:
    """What the checks found on one tree."""

    attempt: int
    at_ms: int
    judgement: str
    receipts: tuple[Receipt, ...]
    flaky: tuple[str, ...] = ()


@dataclass(frozen=True)
class External:
    """What a forge showed last of checks that are not ours, for one commit."""

    attempt: int
    at_ms: int
    commit: str
    checks: tuple[ExternalCheck, ...]
    failed: tuple[str, ...]
    """Names of those that failed and were not seen to pass since."""


@dataclass(frozen=True)
class HandedOver:
    """From when on the forge was to land a commit."""

    at_ms: int
    commit: str


@dataclass(frozen=True)
class Reviewed:
    """What a reviewing agent said of one commit."""

    attempt: int
    at_ms: int
    decision: str
    """approve, revise, reject; `none` without a reviewer, `invalid` without a verdict."""
    reviewer: str
    commit: str
    summary: str
    issues: tuple[Issue, ...] = ()


@dataclass(frozen=True)
class Decided:
    """What a person said of a change."""

    attempt: int
    at_ms: int
    decision: str
    by: str
    words: str
    commit: str


@dataclass(frozen=True)
class PullRequestLink:
    """Where a change was proposed."""

    number: int
    url: str


@dataclass(frozen=True)
class Refused:
    """A place that a command of the task asked for and was not let to."""

    where: str
    times: int


@dataclass(frozen=True)
class TaskReport:
    """All that happened to one task."""

    status: TaskStatus
    spans: tuple[Span, ...]
    tries: tuple[Try, ...]
    checks: tuple[Checked, ...]
    external: tuple[External, ...]
    handed_over: tuple[HandedOver, ...]
    reviews: tuple[Reviewed, ...]
    decisions: tuple[Decided, ...]
    pull_requests: tuple[PullRequestLink, ...]
    refused: tuple[Refused, ...]
    commands: tuple[str, ...]
    """What a person can do about it now."""
    played: tuple[Played, ...] = ()
    """The patterns that its tries played, with their rounds."""
    parent: TaskStatus | None = None
    """The task that was split into it and others."""

    @property
    def lost(self) -> bool:
        """Say whether it ended without what it was to bring, and nothing stands in for it."""
        replaced = self.parent is not None and satisfied(self.parent)
        return self.status.state.ended and not satisfied(self.status) and not replaced

    @property
    def seconds(self) -> Mapping[Phase, float]:
        """How long each phase took, in the order of phases."""
        return _seconds(self.spans)

    @property
    def failures(self) -> tuple[Receipt, ...]:
        """Return what kept its last checked tree from landing."""
        held = (Found.FAILED, Found.NOT_RUN)
        last = self.checks[-1].receipts if self.checks else ()
        return tuple(receipt for receipt in last if receipt.found in held)


@dataclass(frozen=True)
class Happened:
    """Something that concerns the run as a whole."""

    at_ms: int
    words: str


@dataclass(frozen=True)
class RunReport:
    """What became of a run, or has so far."""

    run: RunStatus
    tasks: tuple[TaskReport, ...]
    used: tuple[Spending, ...]
    happened: tuple[Happened, ...]
    commands: tuple[str, ...]
    """What a person can do about the run now."""
    made_ms: int

    @property
    def going(self) -> bool:
        """Say whether the run is not over, so that this is how far it has come."""
        return not self.run.ended_ms

    @property
    def end_ms(self) -> int:
        """Return until when it tells."""
        return self.run.ended_ms or max(self.made_ms, self.run.started_ms)

    @property
    def seconds(self) -> Mapping[Phase, float]:
        """How long each phase took, of all tasks together."""
        return _seconds(span for task in self.tasks for span in task.spans)

    @property
    def landed(self) -> tuple[TaskReport, ...]:
        """Return the tasks that completed."""
        return tuple(t for t in self.tasks if t.status.state is State.COMPLETED)

    @property
    def lost(self) -> tuple[TaskReport, ...]:
        """Return the tasks that ended without what they were to bring.

        What failed of a split is none of them when the task was completed all the same.
        """
        return tuple(task for task in self.tasks if task.lost)


def report_of(
    run: RunStatus,
    events: Iterable[Event],
    *,
    refused: Mapping[str, Mapping[str, int]],
    salvaged: Mapping[str, Sequence[str]],
    now_ms: int,
) -> RunReport:
    """Return the report of a run from its status and its events, oldest first.

    `refused`: by task, where its commands were not let to, and how often; `salvaged`: by task,
    the ids of what was kept of it.
    """
    stored = list(events)
    end_ms = run.ended_ms or now_ms
    by_id = {status.id: status for status in run.tasks}
    of_task: dict[str, list[Event]] = defaultdict(list)
    for event in stored:
        of_task[event.task].append(event)
    return RunReport(
        run=run,
        tasks=tuple(
            _task(
                status,
                of_task[status.id],
                tuple(Refused(*each) for each in sorted(refused.get(status.id, {}).items())),
                salvaged.get(status.id, ()),
                end_ms,
                by_id.get(status.parent),
            )
            for status in run.tasks
        ),
        used=by_profile(stored),
        happened=tuple(_happened(event) for event in of_task[""]),
        commands=_run_commands(run),
        made_ms=now_ms,
    )


def _task(
    status: TaskStatus,
    events: Sequence[Event],
    refused: tuple[Refused, ...],
    salvaged: Sequence[str],
    end_ms: int,
    parent: TaskStatus | None,
) -> TaskReport:
    of = defaultdict(list)
    for event in events:
        of[event.kind].append(event)
    return TaskReport(
        status=status,
        spans=_spans(events, end_ms),
        tries=_tries(events),
        checks=tuple(map(_checked, of[EventKind.TASK_CHECKED])),
        external=_newest(map(_external, of[EventKind.TASK_LOOKED_AT])),
        handed_over=_newest(map(_handed_over, of[EventKind.TASK_HANDED_OVER])),
        reviews=tuple(map(_reviewed, of[EventKind.TASK_REVIEWED])),
        decisions=tuple(map(_decided, of[EventKind.TASK_DECIDED])),
        pull_requests=tuple(dict.fromkeys(map(_proposed, of[EventKind.TASK_PROPOSED]))),
        refused=refused,
        commands=task_commands(status, salvaged, parent),
        played=played(events),
        parent=parent,
    )


@dataclass
class _Clock:
    """Cuts the time of a task into spans."""

    spans: list[Span] = field(default_factory=list)
    open: Span | None = None

    def enter(self, phase: Phase, event: Event, waiting_for: str = "") -> None:
        self.leave(event.at_ms)
        last = self.spans[-1] if self.spans else None
        fresh = Span(phase, event.attempt, event.at_ms, event.at_ms, waiting_for)
        if last and last == replace(fresh, start_ms=last.start_ms, end_ms=last.end_ms):
            # It was told twice: a step that is repeated tells its phase again.
            fresh = self.spans.pop()
        self.open = fresh

    def leave(self, at_ms: int) -> None:
        if self.open is not None:
            # The clock may have been put back.
            end_ms = max(at_ms, self.open.start_ms)
            self.spans.append(replace(self.open, end_ms=end_ms))
            self.open = None


def _spans(events: Sequence[Event], end_ms: int) -> tuple[Span, ...]:
    clock, ended = _Clock(), False
    for event in events:
        if event.kind is EventKind.TASK_STARTED:
            ended = False
            clock.enter(Phase.PROVISIONING, event)
        elif event.kind is EventKind.TASK_PHASE and not ended:
            waiting_for = str(event.data.get("waiting_for", ""))
            clock.enter(Phase(event.data["phase"]), event, waiting_for)
        elif event.kind in ENDS:
            ended = True
            clock.leave(event.at_ms)
    clock.leave(end_ms)
    return tuple(span for span in clock.spans if span.end_ms > span.start_ms)


def _tries(events: Sequence[Event]) -> tuple[Try, ...]:
    found: dict[int, Try] = {}
    for event in events:
        if event.kind is EventKind.TASK_STARTED:
            found.setdefault(event.attempt, Try(event.attempt, event.at_ms))
        elif event.attempt in found:
            found[event.attempt] = _after(found[event.attempt], event)
    return tuple(found.values())


def _after(one: Try, event: Event) -> Try:
    data, end_ms = event.data, max(event.at_ms, one.start_ms)
    match event.kind:
        case EventKind.TASK_CAPTURED:
            return replace(one, captured=_captured(event))
        case EventKind.TASK_TRY_FAILED:
            return replace(one, end_ms=end_ms, why=str(data["why"]))
        case EventKind.TASK_COMPLETED:
            return replace(one, end_ms=end_ms, ending=State.COMPLETED, why=_explained(event))
        case EventKind.TASK_FAILED:
            return replace(one, end_ms=end_ms, ending=State.FAILED, why=_explained(event))
        case EventKind.TASK_CANCELLED:
            return replace(one, end_ms=end_ms, ending=State.CANCELLED, why=_explained(event))
        case _:
            return one


def _explained(event: Event) -> str:
    return str(event.data.get("explanation") or event.data["reason"])


def _captured(event: Event) -> Captured:
    data = event.data
    return Captured(
        profile=str(data.get("profile", "")),
        commit=data["head"],
        files=len(data.get("files", ())),
        insertions=data.get("insertions", 0),
        deletions=data.get("deletions", 0),
        claim=str(data.get("claim", "")),
        notes=tuple(data.get("notes", ())),
    )


def _checked(event: Event) -> Checked:
    receipts = tuple(map(Receipt.from_json, event.data["receipts"]))
    flaky = tuple(event.data.get("flaky", ()))
    return Checked(event.attempt, event.at_ms, event.data["judgement"], receipts, flaky)


def _external(event: Event) -> External:
    data = event.data
    checks = tuple(
        ExternalCheck(**{**each, "state": CheckState(each["state"])}) for each in data["checks"]
    )
    return External(event.attempt, event.at_ms, data["head"], checks, tuple(data["failed"]))


def _handed_over(event: Event) -> HandedOver:
    return HandedOver(event.at_ms, event.data["head"])


_T = TypeVar("_T", External, HandedOver)


def _newest(told: Iterable[_T]) -> tuple[_T, ...]:
    """Return what was told last of each commit: it is told again with every change."""
    return tuple({each.commit: each for each in told}.values())


def _reviewed(event: Event) -> Reviewed:
    data, decision = event.data, event.data["decision"]
    if decision in ("none", "invalid"):
        said = str(data.get("problem") or data.get("summary", ""))
        profile = str(data.get("profile", ""))
        return Reviewed(event.attempt, event.at_ms, decision, profile, "", said)
    review = Review.from_json(data)
    by = review.reviewer or str(data.get("profile", ""))
    return Reviewed(
        *(event.attempt, event.at_ms, decision, by, review.commit, review.summary),
        review.issues,
    )


def _decided(event: Event) -> Decided:
    data = event.data
    return Decided(
        *(event.attempt, event.at_ms, data["decision"], data["by"], data["words"], data["head"])
    )


def _proposed(event: Event) -> PullRequestLink:
    return PullRequestLink(event.data["number"], event.data["url"])


def _happened(event: Event) -> Happened:
    data = event.data
    match event.kind:
        case EventKind.RUN_SUBMITTED:
            words = f"submitted, {data['tasks']} tasks"
        case EventKind.RUN_CANCEL_REQUESTED:
            words = "a person cancelled it"
        case EventKind.RUN_RETRIED:
            words = f"tried again: {', '.join(data['tasks'])}"
        case EventKind.RUN_LANDING_MOVED:
            words = f"its result goes to {data.get('branch', 'another branch')}"
        case EventKind.RUN_ENDED:
            words = "ended"
        case _:
            words = str(event.kind)
    return Happened(event.at_ms, words)


def _seconds(spans: Iterable[Span]) -> Mapping[Phase, float]:
    found: dict[Phase, float] = {}
    for span in spans:
        found[span.phase] = found.get(span.phase, 0.0) + span.seconds
    return {phase: found[phase] for phase in Phase if phase in found}


def _run_commands(run: RunStatus) -> tuple[str, ...]:
    if run.phase is Phase.RECOVERING:
        return ("commandcenter serve", f"commandcenter run --resume {run.execution_id}")
    if any(_waits_for_approval(task) for task in run.tasks):
        return (f"commandcenter approve {run.execution_id}",)
    if not run.ended_ms:
        return (f"commandcenter status {run.execution_id}",)
    if any(task.state.ended and not satisfied(task) for task in run.counted):
        return (f"commandcenter retry {run.execution_id}",)
    return ()


def task_commands(
    status: TaskStatus, salvaged: Sequence[str], parent: TaskStatus | None = None
) -> tuple[str, ...]:
    """Return what a person can do about a task now.

    `salvaged`: the ids of what was kept of it; `parent`: the task that was split into it and
    others, which alone can be retried.
    """
    run, task = status.run, shlex.quote(status.id)
    if _waits_for_approval(status):
        verdicts = (f"approve {run} {task}", f"comment {run} {task} -m WORDS")
        return tuple(f"commandcenter {each}" for each in (*verdicts, f"reject {run} {task}"))
    if not status.state.ended or satisfied(status):
        return ()
    if parent is not None and satisfied(parent):
        return ()
    logs = [f"commandcenter logs {run} {task}"] if status.attempt else []
    restored = [f"commandcenter salvage restore {shlex.quote(each)}" for each in salvaged]
    if parent is None:
        return (*logs, *restored, f"commandcenter retry {run} {task}")
    again = [f"commandcenter retry {run} {shlex.quote(parent.id)}"] if parent.state.ended else []
    return (*logs, *restored, *again)


def _waits_for_approval(task: TaskStatus) -> bool:
    return not task.state.ended and task.waiting_for.startswith(AWAITS_APPROVAL)
