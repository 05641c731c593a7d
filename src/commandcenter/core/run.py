"""A run's state as a function of its events, and what people are shown of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any


class State(StrEnum):
    """State of a task, a batch or a run."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Say whether nothing more will happen by itself."""
        return self not in (State.PENDING, State.IN_PROGRESS)


class Phase(StrEnum):
    """What is being done for a task that is in progress."""

    PROVISIONING = "provisioning"
    WORKING = "working"
    VERIFYING = "verifying"
    PUBLISHING = "publishing"
    REVIEWING = "reviewing"
    MERGING = "merging"
    WAITING = "waiting"
    RECOVERING = "recovering"
    """No live owner holds the task: it goes on when a service runs again."""


class Reason(StrEnum):
    """Why a task ended as it did."""

    MERGED = "merged"
    ALREADY_DONE = "already-done"
    DONE_IN_PLAN = "done-in-plan"
    LANDED_BEFORE = "landed-before"
    """An earlier run has landed it, and what it asks for is the same."""
    DEPENDENCY = "dependency"
    AGENT = "agent"
    CHECKS = "checks"
    EXTERNAL = "external-checks"
    NOTHING_CHANGED = "nothing-changed"
    REFUSED = "capture-refused"
    REVIEW = "review"
    REJECTED = "rejected"
    """A pattern made nothing that could be accepted."""
    EXHAUSTED = "exhausted"
    """A bound of a pattern, or of review, was reached."""
    STALLED = "stalled"
    """Asking again changed nothing any more."""
    BLOCKED = "blocked"
    """An agent says that it cannot go on without people."""
    JOINED = "joined"
    """Its sub-tasks have landed, and its own checks passed on the result."""
    CONFLICT = "conflict"
    CLOSED = "proposal-closed"
    LANDING = "landing-refused"
    INFRASTRUCTURE = "infrastructure"
    CANCELLED = "cancelled"


WAITS_FOR_A_PERSON = "a person to merge its pull request"
"""What a task waits for whose change is ready, with why if nobody asked for it.

It is stored; told is how to approve it.
"""


WAITS_FOR_CHECKS = "external-checks"
"""What a task waits for whose change other checks than ours look at; their names follow."""


WAITS_FOR_QUEUE = "merge-queue of the forge"
"""What a task waits for whose change the forge itself lands."""


WAITS_FOR_MERGE = "merge by the forge"
"""What a task waits for whose change the forge does not merge yet; its words follow."""


WAITS_FOR_TASKS = "its sub-tasks"
"""What a task waits for that was split into others."""


WAITS_OUTSIDE = (WAITS_FOR_CHECKS, WAITS_FOR_QUEUE, WAITS_FOR_MERGE)
"""What is waited for that others do, at the forge."""


AWAITS_APPROVAL = "approval"
"""How it is told, followed by what to do."""


_DONE_BEFORE = (Reason.DONE_IN_PLAN, Reason.LANDED_BEFORE)


class EventKind(StrEnum):
    """What can happen. The name is stored: it is a schema, and changes like one."""

    RUN_SUBMITTED = "run.submitted"
    RUN_CANCEL_REQUESTED = "run.cancel_requested"
    RUN_RETRIED = "run.retried"
    RUN_LANDING_MOVED = "run.landing_moved"
    RUN_ENDED = "run.ended"
    TASK_STARTED = "task.started"
    TASK_PHASE = "task.phase"
    TASK_ROUND = "task.round"
    """A pattern asks agents, side by side, or splits its task into others."""
    TASK_ANSWERED = "task.answered"
    """One of them has answered, and what it left was measured."""
    TASK_JOINED = "task.joined"
    """The sub-tasks of a task have ended."""
    TASK_CONCLUDED = "task.concluded"
    """A pattern has ended, with its outcome."""
    TASK_CAPTURED = "task.captured"
    TASK_USED = "task.used"
    TASK_CHECKED = "task.checked"
    TASK_LOOKED_AT = "task.external_checks"
    """What is known of the checks of others that its commit must pass."""
    TASK_HANDED_OVER = "task.handed_over"
    """The forge is to land it."""
    TASK_PROPOSED = "task.proposed"
    TASK_REVIEWED = "task.reviewed"
    TASK_DECIDED = "task.decided"
    """A person approved, sent back or rejected a change that waits for that."""
    TASK_TRY_FAILED = "task.try_failed"
    TASK_COMPLETED = "task.completed"
    TASK_FAILED = "task.failed"
    TASK_SKIPPED = "task.skipped"
    TASK_CANCELLED = "task.cancelled"
    TASK_REOPENED = "task.reopened"
    AGENT = "agent"
    """Live words and tool calls of an agent; `data.events` holds several."""


ENDS = (
    EventKind.TASK_COMPLETED,
    EventKind.TASK_FAILED,
    EventKind.TASK_SKIPPED,
    EventKind.TASK_CANCELLED,
)
"""The events by which a task ends."""


@dataclass(frozen=True)
class Event:
    """One thing that happened. Appended once, never changed."""

    run: str
    kind: EventKind
    at_ms: int
    """Milliseconds since 1970, UTC."""
    task: str = ""
    """Empty for events of the run itself."""
    attempt: int = 0
    data: Mapping[str, Any] = field(  # Any: JSON, its shape depends on the kind
        default_factory=lambda: MappingProxyType({})
    )
    seq: int = 0
    """Position in the log, ascending over all runs; 0 before it is stored."""


@dataclass(frozen=True)
class TaskStatus:
    """What is known of one task: the fold of its events."""

    run: str
    id: str
    title: str
    batch: str
    ordinal: int
    state: State = State.PENDING
    phase: Phase | None = None
    waiting_for: str = ""
    reason: Reason | None = None
    explanation: str = ""
    """One sentence that a person can act on; for ended tasks."""
    attempt: int = 0
    branch: str = ""
    head: str = ""
    tree: str = ""
    proposal: int = 0
    proposal_url: str = ""
    merge_commit: str = ""
    checks: str = ""
    """Judgement of the last checks: passed, failed, not_run, unverified; empty before."""
    checks_passed: int = 0
    checks_total: int = 0
    review: str = ""
    """Decision of the last review: approve, revise, reject, none; empty before."""
    parent: str = ""
    """Id of the task that was split into this one and others."""
    pattern: str = ""
    """How agents work together on it, as a plan writes it; empty: one agent."""
    rounds: int = 0
    """Rounds of its pattern that have begun, in the last try that played it."""
    outcome: str = ""
    """How its pattern ended: accepted, rejected, exhausted, stalled, blocked. Tries that go on with
    what it accepted leave it as it is."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    started_ms: int = 0
    ended_ms: int = 0


def fold(status: TaskStatus, event: Event) -> TaskStatus:
    """Return the status of a task after one of its events."""
    data = event.data
    match event.kind:
        case EventKind.TASK_STARTED:
            return replace(
                status,
                state=State.IN_PROGRESS,
                phase=Phase.PROVISIONING,
                waiting_for="",
                attempt=event.attempt,
                started_ms=status.started_ms or event.at_ms,
                checks="",
                checks_passed=0,
                checks_total=0,
                review="",
            )
        case EventKind.TASK_ROUND:
            return replace(status, pattern=data["pattern"], rounds=data["round"], outcome="")
        case EventKind.TASK_CONCLUDED:
            return replace(status, outcome=data["result"])
        case EventKind.TASK_PHASE if status.state.ended:
            return status  # told by a stage that did not know yet
        case EventKind.TASK_PHASE:
            return replace(
                status,
                phase=Phase(data["phase"]),
                waiting_for=str(data.get("waiting_for", "")),
            )
        case EventKind.TASK_CAPTURED:
            return replace(
                status,
                branch=data["branch"],
                head=data["head"],
                tree=data["tree"],
                input_tokens=status.input_tokens + data["input_tokens"],
                output_tokens=status.output_tokens + data["output_tokens"],
                cost_usd=status.cost_usd + (data["cost_usd"] or 0.0),
            )
        case EventKind.TASK_USED | EventKind.TASK_ANSWERED:
            return replace(
                status,
                input_tokens=status.input_tokens + data["input_tokens"],
                output_tokens=status.output_tokens + data["output_tokens"],
                cost_usd=status.cost_usd + (data["cost_usd"] or 0.0),
            )
        case EventKind.TASK_CHECKED:
            return replace(
                status,
                checks=data["judgement"],
                checks_passed=sum(r["found"] == "passed" for r in data["receipts"]),
                checks_total=len(data["receipts"]),
            )
        case EventKind.TASK_PROPOSED:
            return replace(status, proposal=data["number"], proposal_url=data["url"])
        case EventKind.TASK_REVIEWED:
            return replace(
                status,
                review=data["decision"],
                input_tokens=status.input_tokens + data["input_tokens"],
                output_tokens=status.output_tokens + data["output_tokens"],
                cost_usd=status.cost_usd + (data["cost_usd"] or 0.0),
            )
        case EventKind.TASK_COMPLETED:
            return replace(
                _ended(status, event, State.COMPLETED),
                merge_commit=str(data.get("merge_commit", "")),
            )
        case EventKind.TASK_FAILED:
            return _ended(status, event, State.FAILED)
        case EventKind.TASK_SKIPPED:
            # Only of what an earlier run has landed a commit is told.
            head = str(data.get("head", status.head))
            return replace(_ended(status, event, State.SKIPPED), head=head)
        case EventKind.TASK_CANCELLED:
            return _ended(status, event, State.CANCELLED)
        case EventKind.TASK_REOPENED:
            return replace(
                status,
                state=State.PENDING,
                phase=None,
                waiting_for="",
                reason=None,
                explanation="",
                rounds=0,
                outcome="",
                ended_ms=0,
            )
        case _:
            return status


def _ended(status: TaskStatus, event: Event, state: State) -> TaskStatus:
    return replace(
        status,
        state=state,
        phase=None,
        waiting_for="",
        reason=Reason(event.data["reason"]),
        explanation=str(event.data.get("explanation", "")),
        ended_ms=max(event.at_ms, status.started_ms),  # the clock may have been put back
    )


def satisfied(status: TaskStatus) -> bool:
    """Say whether tasks that wait for this one may start."""
    if status.state is State.COMPLETED:
        return True
    return status.state is State.SKIPPED and status.reason in _DONE_BEFORE


def overall(states: Iterable[TaskStatus]) -> State:
    """Return the state of a batch or a run from its tasks' states.

    What a task was split into counts through that task once it has ended: it may have been split
    anew.
    """
    given = list(states)
    ended = {task.id for task in given if task.state.ended}
    tasks = [task for task in given if not (task.parent in ended and task.state.ended)]
    found = {task.state for task in tasks}
    if State.PENDING in found and found <= {State.PENDING, State.SKIPPED}:
        return State.PENDING  # what was done before is no progress
    if any(not task.state.ended for task in tasks):
        return State.IN_PROGRESS
    if any(task.state is State.CANCELLED for task in tasks):
        return State.CANCELLED
    if all(satisfied(task) for task in tasks):
        return State.COMPLETED
    return State.FAILED


@dataclass(frozen=True)
class Submission:
    """What a person asks for when a run is started."""

    plan_path: str | None = None
    """Absolute, or relative to the caller's folder or the repository."""
    plan: Mapping[str, Any] | None = None  # Any: JSON of `cc.plan/1`, validated by the reader
    repository: str | None = None
    """Path or URL; by default the repository that holds the plan."""
    execution_mode: str | None = None
    """local, container or dagger; by default the plan's, else the settings'."""
    into: str | None = None
    """Target branch; by default the one that is checked out, or a URL's default branch."""
    start_batch: int | None = None
    end_batch: int | None = None
    auto_merge: bool = True
    agent: str | None = None
    """Profile for the work role."""
    agent_command: str | None = None
    """A command line used as the agent for the work role instead of a profile."""
    reviewer: str | None = None
    """Profile for the review role; `none` for no review."""
    review_command: str | None = None
    pattern: str | None = None
    """How agents work together on every task, whatever the plan says: `vote(3)`."""
    roles: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Profiles by the name of their role, whatever the plan says."""
    overrides: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What is said of single tasks: `2.1.pattern` to `vote(3)`."""
    rerun: str | None = None
    """Tasks to run although they are done: ids with commas between, or `done` for all of those."""
    continues: str | None = None
    """An earlier run: what it has landed of the plan is not run again."""
    request: str | None = None
    """A name of the caller's own: a second submission of this name is the first one."""
    folder: str | None = None
    """The caller's folder, for relative paths."""


@dataclass(frozen=True)
class Started:
    """The answer to a submission."""

    execution_id: str
    status: str
    batches_scheduled: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    preview: str = ""
    """What it can come to: `at most 9 agent runs, at most $36`."""


@dataclass(frozen=True)
class RunStatus:
    """What is known of one run: computed from stored facts when it is asked."""

    execution_id: str
    status: State
    phase: Phase | None
    """`recovering` when work is in progress but no live service owns it."""
    title: str
    plan_path: str
    repository: str
    upstream: str
    target: str
    """The branch that tasks land on."""
    landed_on: str
    """Same as `target`, or the branch that holds the result when `target` could not be moved."""
    execution_mode: str
    auto_merge: bool
    current_batch: str
    tasks: tuple[TaskStatus, ...]
    notes: tuple[str, ...]
    """Sentences for people: what was degraded, what to do next."""
    started_ms: int
    ended_ms: int

    @property
    def counted(self) -> tuple[TaskStatus, ...]:
        """Return the tasks of the plan: what one was split into counts through that one."""
        return tuple(task for task in self.tasks if not task.parent)

    def count(self, *states: State) -> int:
        """Return how many tasks of the plan are in one of these states."""
        return sum(task.state in states for task in self.counted)


@dataclass(frozen=True)
class BatchStatus:
    """What is known of one batch."""

    run: str
    id: str
    title: str
    ordinal: int
    state: State
    tasks: tuple[TaskStatus, ...]
    depends_on: Sequence[str] = ()


@dataclass(frozen=True)
class Log:
    """One stream that a command of a task printed."""

    task: str
    attempt: int
    name: str
    """Which command: `try-1`, `review-1`, `check-...`."""
    stream: str
    """`stdout`, `stderr`, or `egress`: the connections that it asked for, a line of JSON each."""
    path: Path
    size_bytes: int


class Health(StrEnum):
    """What `doctor` found of one prerequisite."""

    OK = "ok"
    DEGRADED = "degraded"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One line of `doctor`."""

    name: str
    health: Health
    detail: str
    hint: str = ""
    """What it costs, and the command that mends it."""
