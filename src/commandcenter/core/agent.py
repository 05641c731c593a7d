"""What an agent is asked, what it is started with, and what it claims afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

from commandcenter.core.workspace import Command, Completed


class Role(StrEnum):
    """What an agent is asked to do; the role decides which profile is used."""

    WORK = "work"
    REVIEW = "review"
    JUDGE = "judge"
    """Ranks candidates."""
    ROUTE = "route"
    """Names who is to do a task."""
    PLAN = "plan"
    """Splits a task into tasks."""
    MANAGE = "manage"
    """Keeps a ledger, and names who acts next."""

    @property
    def reads_only(self) -> bool:
        """Say whether what it changes is thrown away."""
        return self is not Role.WORK


@dataclass(frozen=True)
class Limits:
    """Bounds of one agent run, all finite."""

    timeout_s: float = 3600.0
    idle_s: float = 900.0
    output_bytes_max: int = 256 * 2**20
    turns_max: int = 200


@dataclass(frozen=True)
class Profile:
    """A configured agent: which plug-in, model, command and limits."""

    name: str
    agent: str
    """Name of the agent plug-in: `claude`, `shell`."""
    model: str = ""
    command: str = ""
    """`shell` only: the command line, run by `/bin/sh -c`."""
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    programs: tuple[str, ...] = ()
    """Host programs that the agent needs besides its own, by name or path."""
    limits: Limits = field(default_factory=Limits)
    egress: tuple[str, ...] | None = None
    """Presets and hosts that it may reach, in place of the project's; None: the project's."""
    models: tuple[str, ...] = ()
    """Globs over the models that the gateway passes on; none is any."""
    provider: str = ""
    """Name of the model provider that answers it; empty: the first that is configured."""


@dataclass(frozen=True)
class Prompt:
    """One request to an agent."""

    text: str
    role: Role
    session: str
    """A UUID; the same one continues the conversation where the agent can."""
    resume: bool = False
    schema: Mapping[str, Any] | None = None  # Any: a JSON schema
    """What its structured answer must fit, if there is one way to answer. An agent that has a way
    of its own to give such an answer is held to it; the text tells every other one."""


class EventKind(StrEnum):
    """Kinds of live events that every agent's output is read into."""

    STARTED = "started"
    TEXT = "text"
    TOOL = "tool"
    TOOL_RESULT = "tool_result"
    RETRY = "retry"
    RESULT = "result"
    LOG = "log"


@dataclass(frozen=True)
class AgentEvent:
    """One thing an agent said or did, for people who watch."""

    kind: EventKind
    text: str = ""
    """At most 4,000 characters."""
    tool: str = ""
    ok: bool | None = None


@dataclass(frozen=True)
class Usage:
    """What a run used, as the agent or the model gateway counted it."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    requests: int = 0
    cost_usd: float | None = None


class Outcome(StrEnum):
    """How an agent run ended."""

    DONE = "done"
    """The agent says it is finished. A claim: only checks decide."""
    FAILED = "failed"
    """The agent gave up, crashed or broke a limit."""
    TRY_AGAIN = "try_again"
    """The world's fault (rate limit, overload): does not use up an attempt."""
    STOPPED = "stopped"
    """We stopped it: cancelled, or the service went down."""


@dataclass(frozen=True)
class Report:
    """What an agent claims. Never trusted: see `Verdict`."""

    outcome: Outcome
    reason: str = ""
    """One of: exit, timeout, idle, output, memory, disk, turns, rate_limit, overloaded, auth,
    context, api, budget, no_program, no_result, no_schema (it cannot be held to `Prompt.schema`),
    lost, stopped; empty when done."""
    text: str = ""
    """The agent's last words, or what it printed last."""
    result: Mapping[str, Any] | None = None  # Any: JSON as the agent wrote it, not yet validated
    """The structured result (JSON object) that the agent gave, if any."""
    session: str = ""
    turns: int = 0
    usage: Usage = field(default_factory=Usage)
    problem: str = ""
    """Which limit it broke, in a sentence; not the agent's word, but `Completed.problem`."""
    session_cost_usd: float = 0.0
    """What the agent says that the whole conversation has cost."""


class Agent(Protocol):
    """An agent plug-in: phrases a prompt as a command, and reads what came back. Pure."""

    name: str
    program: str
    """The executable that must exist on the host, or empty when the profile names it."""

    def command(self, prompt: Prompt, profile: Profile) -> Command:
        """Return the command that asks this, for the inside of a workspace."""

    def read(self, line: bytes) -> tuple[AgentEvent, ...]:
        """Return the events in one line of output; unknown lines give none, or a log event."""

    def report(self, completed: Completed, result: bytes | None) -> Report:
        """Return what the agent claims, from its output and the result file if it wrote one."""
