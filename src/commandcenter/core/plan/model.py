"""The canonical plan `cc.plan/1`: what every reader gives and everything else uses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from commandcenter.core.merge_queue import Strategy

SCHEMA = "cc.plan/1"
"""Name and version of the canonical JSON form."""
TASKS_MAX = 5_000
SIZE_BYTES_MAX = 5 * 2**20

_NO_LABELS: Mapping[str, str] = MappingProxyType({})
_NO_LINES: Mapping[str, int] = MappingProxyType({})


class Mode(StrEnum):
    """Whether the tasks of a batch wait for each other."""

    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"


class WorkspaceMode(StrEnum):
    """The kind of workspace that a batch asks for."""

    LOCAL = "local"
    CONTAINER = "container"
    DAGGER = "dagger"


class FileOp(StrEnum):
    """What a task does with a file it names."""

    CREATE = "create"
    MODIFY = "modify"
    DELETE = "delete"
    TEST = "test"
    READ = "read"
    UNKNOWN = "unknown"


class VerificationKind(StrEnum):
    """Whether a verification item is run, or only told to the agent and the reviewer."""

    COMMAND = "command"
    PROSE = "prose"


class Done(StrEnum):
    """What the plan itself says about a task's progress."""

    TODO = "todo"
    IN_PROGRESS = "in_progress"
    """Said to be under way: runs like `TODO`."""
    DONE = "done"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    """Will never run; nothing may depend on it."""

    @property
    def settled(self) -> bool:
        """Say whether the task is never run."""
        return self not in (Done.TODO, Done.IN_PROGRESS)


AUTO_MERGE = "auto_merge"
"""The label of a task or batch that says whether it lands without a person's approval."""
YES_OR_NO: Mapping[str, bool] = MappingProxyType(
    {
        **dict.fromkeys(("yes", "true", "on"), True),
        **dict.fromkeys(("no", "false", "off"), False),
    }
)


class Priority(StrEnum):
    """Which of the changes that wait in the merge queue go first; the first one here does."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


PRIORITY = "priority"
"""The label of a task or batch that says its priority."""
PRIORITIES: Mapping[str, Priority] = MappingProxyType(
    {
        **dict.fromkeys(("high", "highest", "critical", "urgent"), Priority.HIGH),
        **dict.fromkeys(("normal", "medium", "default"), Priority.NORMAL),
        **dict.fromkeys(("low", "lowest"), Priority.LOW),
    }
)


@dataclass(frozen=True)
class Span:
    """Lines of the source, 1-based, both included; 0 to 0 when there is no source."""

    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Reference:
    """The id of a task or batch, named on a line of the plan."""

    id: str
    line: int = 0


@dataclass(frozen=True)
class FileUse:
    """A file that a task declares."""

    path: str
    """Relative to the repository's root, with `/`; as written, `check` judges it."""
    op: FileOp = FileOp.UNKNOWN
    lines: str = ""
    """Line range as written after the path: `12-40`."""
    line: int = 0


@dataclass(frozen=True)
class Verification:
    """One item by which a task is verified."""

    kind: VerificationKind
    text: str
    """A command is run by `/bin/sh -c` in the root of the checkout."""
    line: int = 0


@dataclass(frozen=True)
class Step:
    """A checkbox inside a task."""

    title: str
    done: bool
    line: int = 0


@dataclass(frozen=True)
class Task:
    """One piece of work for one agent."""

    id: str
    title: str
    batch: str
    """Id of its batch."""
    instructions: str = ""
    """Markdown below the heading, as written, fields included."""
    depends_on: tuple[Reference, ...] = ()
    """Tasks that are named explicitly."""
    follows_previous: bool = True
    """Whether, in a sequential batch, it also waits for the task before it."""
    files: tuple[FileUse, ...] = ()
    verification: tuple[Verification, ...] = ()
    steps: tuple[Step, ...] = ()
    done: Done = Done.TODO
    commit: str = ""
    """Commit message that the plan asks for, if any."""
    labels: Mapping[str, str] = field(default_factory=lambda: _NO_LABELS)
    """Further fields as written, by lower-case name: `agent`, `pattern`, `priority` …"""
    parent: str = ""
    """Id of the task that was split into this one and others, if one was."""
    span: Span = Span()
    label_lines: Mapping[str, int] = field(default_factory=lambda: _NO_LINES)
    """The line of each label."""

    @property
    def commands(self) -> tuple[str, ...]:
        """Return the commands of its own verification, in reading order."""
        return tuple(v.text for v in self.verification if v.kind is VerificationKind.COMMAND)

    @property
    def open_steps(self) -> tuple[Step, ...]:
        """Return the checkboxes that are not ticked."""
        return tuple(step for step in self.steps if not step.done)

    @property
    def sha256(self) -> str:
        """Return a digest of what it asks for, to see on resume whether it was edited."""
        parts = [self.title, self.instructions, self.commit]
        parts += [f"{f.op} {f.path} {f.lines}" for f in self.files]
        parts += [f"{v.kind} {v.text}" for v in self.verification]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Batch:
    """An ordered group of tasks, and a barrier for the batches that depend on it."""

    id: str
    title: str
    ordinal: int
    """Position in the plan, from 1."""
    kind: str = "batch"
    """The word used for it, `batch` or `phase`; `container` is a phase that holds batches."""
    description: str = ""
    """Markdown between its heading and its first task."""
    depends_on: tuple[Reference, ...] = ()
    follows_previous: bool = True
    """Whether it waits for the batch before it, as it does when it names no dependencies."""
    barrier: bool = True
    """Whether its dependencies hold back all of its tasks."""
    mode: Mode = Mode.SEQUENTIAL
    workspace: WorkspaceMode | None = None
    labels: Mapping[str, str] = field(default_factory=lambda: _NO_LABELS)
    span: Span = Span()
    label_lines: Mapping[str, int] = field(default_factory=lambda: _NO_LINES)

    @property
    def number(self) -> tuple[int, ...]:
        """Return the numbers in its id (`1.5` gives 1, 5), or its ordinal when it has none."""
        digits = "".join(c if c.isascii() and c.isdigit() else " " for c in self.id).split()
        return tuple(int(d) for d in digits) or (self.ordinal,)


@dataclass(frozen=True)
class ReviewPolicy:
    """How a plan wants its changes reviewed."""

    rounds: int | None = None
    """Most reviews; 0 is no review, None as many as are configured."""
    reviewer: str = ""
    """Profile of the reviewer, or empty for the configured one."""


@dataclass(frozen=True)
class TaskLimits:
    """Bounds that a plan sets for each of its tasks; None leaves the configured one."""

    attempts: int | None = None
    timeout_s: float | None = None
    budget_usd: float | None = None


@dataclass(frozen=True)
class Defaults:
    """What a plan's front matter sets for all of its tasks."""

    agent: str = ""
    review: ReviewPolicy | None = None
    verify: tuple[str, ...] = ()
    """Commands that verify every task, after its own."""
    limits: TaskLimits = TaskLimits()
    auto_merge: bool | None = None
    """Whether changes land without a person's approval; None leaves it to who starts a run."""
    strategy: Strategy | None = None
    """How changes become a part of the target's history; None leaves it to the configuration."""
    pattern: str = ""
    """How agents work together on a task, as written; empty leaves it to the configuration."""
    handoff: str = ""
    """Whom an agent may pass its work on to, as written."""
    roles: Mapping[str, str] = field(default_factory=lambda: _NO_LABELS)
    """Profiles by the name of their role."""
    lines: Mapping[str, int] = field(default_factory=lambda: _NO_LINES)
    """The line of each key that is there."""


@dataclass(frozen=True)
class Origin:
    """Where a plan was read from."""

    path: str = ""
    sha256: str = ""
    dialect: str = ""


@dataclass(frozen=True)
class Plan:
    """A whole plan: batches and tasks in reading order."""

    title: str = ""
    context: str = ""
    """Markdown outside batches and tasks: the goal, constraints, notes."""
    source: Origin = Origin()
    defaults: Defaults = Defaults()
    batches: tuple[Batch, ...] = ()
    tasks: tuple[Task, ...] = ()

    def batch(self, batch_id: str) -> Batch:
        """Return the batch of this id."""
        return next(b for b in self.batches if b.id == batch_id)

    def task(self, task_id: str) -> Task:
        """Return the task of this id."""
        return next(t for t in self.tasks if t.id == task_id)

    def tasks_of(self, batch_id: str) -> tuple[Task, ...]:
        """Return the tasks of a batch, in reading order."""
        return tuple(t for t in self.tasks if t.batch == batch_id)

    def auto_merge_of(self, task: Task) -> bool | None:
        """Return whether a task's change lands without a person's approval, if the plan says so.

        The task's own word counts, else its batch's, else the plan's.
        """
        said = self._nearest(AUTO_MERGE, task)
        return self.defaults.auto_merge if said is None else YES_OR_NO.get(said.casefold())

    def priority_of(self, task: Task) -> Priority:
        """Return a task's priority: its own word counts, else its batch's; without one, normal."""
        said = self._nearest(PRIORITY, task) or ""
        return PRIORITIES.get(said.casefold(), Priority.NORMAL)

    def _nearest(self, label: str, task: Task) -> str | None:
        words = (task.labels.get(label), self.batch(task.batch).labels.get(label))
        return next((word for word in words if word is not None), None)

    def commands_of(self, task: Task) -> tuple[str, ...]:
        """Return all commands that verify a task: its own, then the plan's, each once."""
        return tuple(dict.fromkeys(task.commands + self.defaults.verify))
