"""The wire schema: what goes over HTTP, and how it is made from the core's values.

Clients written for the pipelines before this one find their fields here under their old names.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from commandcenter.core.explanation import Explanation
from commandcenter.core.run import (
    AWAITS_APPROVAL,
    BatchStatus,
    Event,
    Finding,
    Health,
    Log,
    Phase,
    Reason,
    RunStatus,
    Started,
    State,
    Submission,
    TaskStatus,
)
from commandcenter.core.spending import Spending
from commandcenter.core.upkeep import Item, Restored, Salvaged, Thing

Number = int | float | str
"""A batch number: 1 or 1.5, and text where a number would not be what its plan writes: `1.10`."""

PREFIX = "/api/v1"
PIPELINE = f"{PREFIX}/autonomous"
_TEXT_MAX = 100_000
_WHOLE_MAX = 2**53
"""Greater whole numbers are not exact in JavaScript."""


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL")
    return text


Text = Annotated[str, Field(max_length=_TEXT_MAX), AfterValidator(_without_nul)]


class StartRequest(BaseModel):
    """What starts a run: a plan by path or by value, and how to run it."""

    model_config = ConfigDict(extra="ignore")

    plan_path: Text | None = Field(None, description="Path of the plan on the service's machine.")
    plan: dict[str, Any] | None = Field(None, description="A plan in the form `cc.plan/1`.")
    repository: Text | None = Field(
        None, description="Path or URL; by default the repository that holds the plan."
    )
    execution_mode: Text | None = Field(None, description="`local`, `container` or `dagger`.")
    start_batch: int | None = Field(None, ge=0)
    end_batch: int | None = Field(None, ge=1, description="May be past the last batch.")
    auto_merge: bool = True
    into: Text | None = Field(
        None, description="Target branch; by default the one that is checked out."
    )
    agent: Text | None = Field(None, description="Profile of the agent that does the work.")
    agent_command: Text | None = Field(None, description="A command line used as the agent.")
    reviewer: Text | None = Field(None, description="Profile of the reviewer, or `none`.")
    review_command: Text | None = Field(None, description="A command line used as the reviewer.")
    pattern: Text | None = Field(
        None, description="How agents work together on every task: `vote(3)`."
    )
    roles: dict[Text, Text] = Field({}, description="Profiles by role: work, review, judge ...")
    overrides: dict[Text, Text] = Field(
        {}, description="What is said of single tasks: `2.1.pattern` to `vote(3)`."
    )
    rerun: Text | None = Field(
        None, description="Tasks to run although they are done: `1.1,2.3`, or `done` for all."
    )
    continues: Text | None = Field(
        None, description="An earlier run; what it has landed of the plan is not run again."
    )
    request: Text | None = Field(
        None, description="A name of your own; a second start of this name is the first one."
    )

    @model_validator(mode="after")
    def _one_plan(self) -> Self:
        if (self.plan_path is None) == (self.plan is None):
            raise ValueError("give either plan_path or plan")
        return self

    def submission(self) -> Submission:
        """Return the same as a value of the core."""
        return Submission(**{name: getattr(self, name) for name in type(self).model_fields})


class RetryRequest(BaseModel):
    """Which task to try again; by default every one that did not land."""

    model_config = ConfigDict(extra="ignore")

    task: Text | None = None


class DecideRequest(BaseModel):
    """What is said of a change that waits for approval."""

    model_config = ConfigDict(extra="ignore")

    task: Text | None = None
    """By default every one of the run that waits."""
    words: Text = ""
    """For the pull request, and for the agent."""
    by: Text = "a person"


class StartAnswer(BaseModel):
    """A run was started."""

    execution_id: str
    status: str
    batches_scheduled: list[Number]
    warnings: list[str]
    preview: str = Field("", description="`at most 9 agent runs, at most $36`")

    @classmethod
    def of(cls, started: Started) -> Self:
        """Return the wire form."""
        return cls(
            execution_id=started.execution_id,
            status=started.status,
            batches_scheduled=[_number(batch) for batch in started.batches_scheduled],
            warnings=list(started.warnings),
            preview=started.preview,
        )


class ActiveProposal(BaseModel):
    """A pull request that is open."""

    task: str
    pr_number: int
    status: str
    url: str


class StatusAnswer(BaseModel):
    """A run, as far as it has come.

    Tasks outside `start_batch` and `end_batch` are no part of it, and counted nowhere. What a task
    was split into counts through that task.
    """

    execution_id: str
    status: State
    phase: Phase | None = Field(description="`recovering` while no live service owns the work.")
    waiting_for: str | None = Field(description="Set when nothing goes on without a person.")
    title: str
    plan_path: str
    repository: str
    target: str
    landed_on: str
    execution_mode: str
    auto_merge: bool
    current_batch: Number | None = Field(description="After the end, the last batch.")
    total_batches: int
    tasks_completed: int
    tasks_failed: int
    tasks_skipped: int
    tasks_cancelled: int
    tasks_total: int
    progress: float = Field(description="Ended tasks of the plan over all of them, 0 to 1.")
    active_prs: list[ActiveProposal]
    notes: list[str]
    report: str = Field(description="Where all that became of it can be read.")
    started_at: str | None
    completed_at: str | None

    @classmethod
    def of(cls, run: RunStatus) -> Self:
        """Return the wire form."""
        tasks, counted = run.tasks, run.counted
        return cls(
            execution_id=run.execution_id,
            status=run.status,
            phase=run.phase,
            waiting_for=_person(tasks),
            title=run.title,
            plan_path=run.plan_path,
            repository=run.repository,
            target=run.target,
            landed_on=run.landed_on,
            execution_mode=run.execution_mode,
            auto_merge=run.auto_merge,
            current_batch=_current_batch(run, tasks),
            total_batches=len({task.batch for task in tasks}),
            tasks_completed=run.count(State.COMPLETED),
            tasks_failed=run.count(State.FAILED),
            tasks_skipped=run.count(State.SKIPPED),
            tasks_cancelled=run.count(State.CANCELLED),
            tasks_total=len(counted),
            progress=sum(task.state.ended for task in counted) / len(counted) if counted else 1.0,
            active_prs=[_active(task) for task in tasks if _is_open(task)],
            notes=list(run.notes),
            report=f"{PIPELINE}/{run.execution_id}/report?format=html",
            started_at=iso(run.started_ms),
            completed_at=iso(run.ended_ms),
        )


class Checks(BaseModel):
    """What the last checks found."""

    judgement: str = Field(description="passed, failed, not_run or unverified")
    passed: int
    total: int


class Tokens(BaseModel):
    """What the agents of a task used, as the model gateway counted it."""

    input: int
    output: int


class TaskAnswer(BaseModel):
    """A task, as far as it has come."""

    id: str
    task_number: str
    task_title: str
    batch_number: Number
    status: State
    phase: Phase | None
    waiting_for: str | None
    reason: Reason | None
    explanation: str | None
    attempt: int
    branch_name: str | None
    pr_number: int | None
    pr_url: str | None
    commits: list[str]
    merge_commit: str | None
    checks: Checks | None
    review: str | None
    parent: str | None = Field(description="The task that was split into this one and others.")
    pattern: str | None = Field(description="How agents work together on it; null: one agent.")
    rounds: int = Field(description="Rounds of its pattern that have begun.")
    outcome: str | None = Field(
        description="How its pattern ended: accepted, rejected, exhausted, stalled, blocked."
    )
    tokens: Tokens
    cost_usd: float
    started_at: str | None
    completed_at: str | None
    error: str | None = Field(description="Why it did not complete; null when it did.")

    @classmethod
    def of(cls, task: TaskStatus) -> Self:
        """Return the wire form."""
        bad = task.state in (State.FAILED, State.SKIPPED, State.CANCELLED)
        return cls(
            id=f"{_batch_id(task.run, task.batch)}_task_{task.id.replace('.', '_')}",
            task_number=task.id,
            task_title=task.title,
            batch_number=_number(task.batch),
            status=task.state,
            phase=task.phase,
            waiting_for=task.waiting_for or None,
            reason=task.reason,
            explanation=task.explanation or None,
            attempt=task.attempt,
            branch_name=task.branch or None,
            pr_number=task.proposal or None,
            pr_url=task.proposal_url or None,
            commits=[task.head] if task.head else [],
            merge_commit=task.merge_commit or None,
            checks=_checks(task),
            review=task.review or None,
            parent=task.parent or None,
            pattern=task.pattern or None,
            rounds=task.rounds,
            outcome=task.outcome or None,
            tokens=Tokens(input=task.input_tokens, output=task.output_tokens),
            cost_usd=task.cost_usd,
            started_at=iso(task.started_ms),
            completed_at=iso(task.ended_ms),
            error=(task.explanation or task.reason) if bad else None,
        )


class ExplanationAnswer(BaseModel):
    """Why a task stands where it does."""

    task: TaskAnswer
    outcome: str | None = Field(
        description="How its pattern ended; null: it played none, or goes on."
    )
    sentences: list[str] = Field(
        description="Where it stands, what led there in order, and what a person can do."
    )

    @classmethod
    def of(cls, explanation: Explanation) -> Self:
        """Return the wire form."""
        return cls(
            task=TaskAnswer.of(explanation.task),
            outcome=explanation.task.outcome or None,
            sentences=list(explanation.sentences),
        )


class SpendingAnswer(BaseModel):
    """What the agents of one profile used in a run."""

    profile: str
    asked: int = Field(description="Times that an agent was asked and used something.")
    tokens: Tokens
    cached_tokens: int = Field(description="Of the tokens in.")
    cost_usd: float = Field(description="Of what has a price.")
    unpriced: int = Field(description="Times of which nobody knows what it cost.")

    @classmethod
    def of(cls, spending: Spending) -> Self:
        """Return the wire form."""
        return cls(
            profile=spending.profile,
            asked=spending.asked,
            tokens=Tokens(input=spending.input_tokens, output=spending.output_tokens),
            cached_tokens=spending.cached_tokens,
            cost_usd=spending.cost_usd,
            unpriced=spending.unpriced,
        )


class BatchAnswer(BaseModel):
    """A batch with its tasks."""

    id: str
    batch_number: Number
    title: str
    status: State
    depends_on: list[Number]
    tasks: list[TaskAnswer]
    started_at: str | None
    completed_at: str | None

    @classmethod
    def of(cls, batch: BatchStatus) -> Self:
        """Return the wire form."""
        started = [task.started_ms for task in batch.tasks if task.started_ms]
        ended = [task.ended_ms for task in batch.tasks if task.ended_ms]
        return cls(
            id=_batch_id(batch.run, batch.id),
            batch_number=_number(batch.id),
            title=batch.title,
            status=batch.state,
            depends_on=[_number(other) for other in batch.depends_on],
            tasks=[TaskAnswer.of(task) for task in batch.tasks],
            started_at=iso(min(started, default=0)),
            completed_at=iso(max(ended, default=0) if batch.state.ended else 0),
        )


class EventAnswer(BaseModel):
    """One thing that happened; `seq` ascends, and is the `id` of the stream."""

    seq: int
    execution_id: str
    kind: str
    at: str
    task: str | None
    attempt: int | None
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> Self:
        """Return the wire form."""
        return cls(
            seq=event.seq,
            execution_id=event.run,
            kind=event.kind,
            at=iso(event.at_ms) or "",
            task=event.task or None,
            attempt=event.attempt or None,
            data=dict(event.data),
        )


class LogAnswer(BaseModel):
    """A log that can be read: ask for it with `task`, `attempt`, `name` and `stream`."""

    task: str
    attempt: int
    name: str
    stream: str
    size_bytes: int

    @classmethod
    def of(cls, log: Log) -> Self:
        """Return the wire form."""
        return cls(
            task=log.task,
            attempt=log.attempt,
            name=log.name,
            stream=log.stream,
            size_bytes=log.size_bytes,
        )


class FindingAnswer(BaseModel):
    """One prerequisite, and what is missing if it is."""

    name: str
    health: Health
    detail: str
    hint: str | None

    @classmethod
    def of(cls, finding: Finding) -> Self:
        """Return the wire form."""
        return cls(
            name=finding.name,
            health=finding.health,
            detail=finding.detail,
            hint=finding.hint or None,
        )


class SalvageAnswer(BaseModel):
    """Work that did not land, and that can be restored."""

    id: str
    execution_id: str
    task: str
    commit: str | None = Field(description="None: a folder of files that git does not take.")
    size_bytes: int
    why: str
    since: str

    @classmethod
    def of(cls, salvaged: Salvaged) -> Self:
        """Return the wire form."""
        return cls(
            id=salvaged.id,
            execution_id=salvaged.run,
            task=salvaged.task,
            commit=salvaged.commit or None,
            size_bytes=salvaged.size_bytes,
            why=salvaged.why,
            since=iso(salvaged.since_ms) or "",
        )


class RestoreRequest(BaseModel):
    """What to restore, and where to."""

    id: Text
    repository: Text | None = Field(None, description="Folder or URL; by default the run's own.")
    branch: Text | None = Field(None, description="A name that is not there yet.")


class RestoreAnswer(BaseModel):
    """A branch was made."""

    id: str
    repository: str
    branch: str
    commit: str

    @classmethod
    def of(cls, restored: Restored) -> Self:
        """Return the wire form."""
        return cls(
            id=restored.id,
            repository=restored.repository,
            branch=restored.branch,
            commit=restored.commit,
        )


class DropRequest(BaseModel):
    """What to drop for good."""

    id: Text


class ItemAnswer(BaseModel):
    """One thing that `gc` looked at."""

    what: Thing
    name: str
    size_bytes: int
    free: bool = Field(description="It may go; after a collection: it has gone.")
    why: str


class GcAnswer(BaseModel):
    """All that `gc` looked at."""

    dry_run: bool
    freed_bytes: int = Field(description="What went, or would go.")
    items: list[ItemAnswer]

    @classmethod
    def of(cls, items: Sequence[Item], *, dry_run: bool) -> Self:
        """Return the wire form."""
        return cls(
            dry_run=dry_run,
            freed_bytes=sum(item.size_bytes for item in items if item.free),
            items=[
                ItemAnswer(
                    what=item.what,
                    name=item.name,
                    size_bytes=item.size_bytes,
                    free=item.free,
                    why=item.why,
                )
                for item in items
            ],
        )


class RootAnswer(BaseModel):
    """Who answers here."""

    name: str
    version: str
    status: str
    pipeline: str = Field(description="Where the pipeline's calls are.")


class HealthAnswer(BaseModel):
    """The service lives."""

    status: str
    version: str
    pid: int


class DiagnosticAnswer(BaseModel):
    """One thing that is wrong in a plan, and where."""

    path: str
    line: int
    column: int
    code: str
    severity: str
    message: str
    hint: str | None = None


UNREADY = "urn:problem-type:unready"
"""The type of the problem that the service is starting or stopping."""


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    hint: str | None = None
    diagnostics: list[DiagnosticAnswer] | None = None
    errors: list[dict[str, Any]] | None = None


def _current_batch(run: RunStatus, tasks: Sequence[TaskStatus]) -> Number | None:
    if run.current_batch:
        return _number(run.current_batch)
    return _number(tasks[-1].batch) if tasks else None


def _person(tasks: Sequence[TaskStatus]) -> str | None:
    going = [task for task in tasks if task.state is State.IN_PROGRESS]
    awaited = [task.waiting_for for task in going if task.waiting_for.startswith(AWAITS_APPROVAL)]
    return awaited[0] if awaited and len(awaited) == len(going) else None


def _is_open(task: TaskStatus) -> bool:
    # What has ended is merged, or closed with a word why.
    return task.proposal > 0 and not task.state.ended


def _active(task: TaskStatus) -> ActiveProposal:
    return ActiveProposal(
        task=task.id, pr_number=task.proposal, status="open", url=task.proposal_url
    )


def _checks(task: TaskStatus) -> Checks | None:
    if not task.checks:
        return None
    return Checks(judgement=task.checks, passed=task.checks_passed, total=task.checks_total)


def _batch_id(run: str, batch: str) -> str:
    return f"{run}_batch_{batch.replace('.', '_')}"


def _number(batch: str) -> Number:
    """Return a batch's id as a number, if that says the same in every client."""
    if batch.isdecimal() and str(int(batch)) == batch and int(batch) <= _WHOLE_MAX:
        return int(batch)
    whole, dot, fraction = batch.partition(".")
    if not (dot and whole.isdecimal() and fraction.isdecimal()):
        return batch
    number = float(batch)
    return number if repr(number) == batch and not number.is_integer() else batch


def iso(at_ms: int) -> str | None:
    """Return a time as it goes over the wire; None for 0."""
    if not at_ms:
        return None
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
