"""How agents work together on one task: what a pattern is, what it asks, and what comes back.

A pattern is a pure generator. It yields steps, each a round of `Ask`s that run side by side or a
`Delegate`, is sent what came of it, and returns a `Conclusion`. It can neither wait nor race, so
that the same answers always make it ask the same: a crash is survived by asking it again.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from commandcenter.core.agent import Outcome, Role
from commandcenter.core.change import Change
from commandcenter.core.check import Verdict

if TYPE_CHECKING:
    # A plan's words are checked by what they choose here, so the plan needs these values first.
    from commandcenter.core.plan import Plan, Task

# What is chosen

CANDIDATES_MAX = 7
STAGES_MAX = 12
SUBTASKS_MAX = 20
DELEGATED_MAX = 200
"""Most tasks that those of one run are split into, all together."""
ROUNDS_MAX = 100
HANDOFFS_MAX = 10
TEAM_MAX = 12


@dataclass(frozen=True)
class Single:
    """One agent with its tools: the default."""


@dataclass(frozen=True)
class Stage:
    """One link of a chain."""

    text: str = ""
    """What this stage is to do; empty: the whole task, after the stages before it."""
    profile: str = ""
    """Who does it; empty: the work role's."""


@dataclass(frozen=True)
class Chain:
    """Stages after one another in one workspace, with the checks between them."""

    stages: tuple[Stage, ...] = ()
    """None: the checkboxes of the task, in their order."""
    attempts: int = 2
    """Runs of one stage at most."""


@dataclass(frozen=True)
class Rule:
    """Who is chosen without asking anybody."""

    pattern: str
    """A glob that all files of the task match, or `LABEL=VALUE` of the task's own labels."""
    profile: str


@dataclass(frozen=True)
class Route:
    """One profile among several is chosen, by rules first, else by an agent that is asked once."""

    profiles: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    ask: bool = True
    """Whether an agent is asked when no rule fits (`by=agent`), or the fallback taken."""
    fallback: str = ""


class Pick(StrEnum):
    """When a vote is over."""

    RANKED = "ranked"
    """All candidates are there; the best one wins."""
    FIRST_GREEN = "first-green"
    """One candidate passed the checks; the others are stopped."""


@dataclass(frozen=True)
class Vote:
    """Several candidates for the same task, of which one is chosen by what was verified."""

    candidates: int
    agents: tuple[str, ...] = ()
    """Profiles of the candidates in turn; none: the work role's."""
    judged: bool = True
    """Whether a judge ranks those that pass; else the smallest diff wins."""
    judge: str = ""
    """Its profile; empty: the judge role's."""
    pick: Pick = Pick.RANKED
    quorum: int = 1
    """So many candidates must pass the checks."""


@dataclass(frozen=True)
class Orchestrate:
    """A planner splits the task into tasks of their own; the parent joins them (`plan`)."""

    tasks_max: int = 8
    planner: str = ""
    """Its profile; empty: the plan role's."""


@dataclass(frozen=True)
class Magentic:
    """A manager keeps a ledger and names, round after round, who of a team acts next."""

    team: tuple[str, ...] = ()
    """Profiles; none: the work role's alone."""
    manager: str = ""
    rounds_max: int = 12
    stalls_max: int = 3
    resets_max: int = 2


Pattern = Single | Chain | Route | Vote | Orchestrate | Magentic


@dataclass(frozen=True)
class Handoff:
    """Whom an agent may pass its work on to."""

    to: tuple[str, ...] = ()
    """Profiles; none: nobody."""
    handoffs_max: int = 3


# What is asked

READ_ONLY = 0
"""The lane of who only reads."""


@dataclass(frozen=True)
class Shown:
    """A change that is shown to who is asked, under a label that tells nothing of its author."""

    label: str
    commit: str


@dataclass(frozen=True)
class Ask:
    """One run of an agent (and one more when its answer cannot be used)."""

    role: Role
    text: str
    """What is asked beyond the task itself, in Markdown."""
    profile: str = ""
    """Empty: the role's."""
    lane: int = 1
    """Workspace 1, 2, ... that goes on from ask to ask; `READ_ONLY`: a throw-away checkout."""
    commit: str = ""
    """What a throw-away checkout holds; empty: the base."""
    shown: tuple[Shown, ...] = ()
    """Changes, as diffs against the base."""
    answers: tuple[str, ...] = ()
    """Schemas that its structured answer may have, `cc.choice/1` say; who works need not give
    one, who only reads must."""
    options: tuple[str, ...] = ()
    """Names that the answer may choose among: labels of candidates, profiles."""
    fresh: bool = False
    """Whether a new conversation begins, in place of the lane's own."""
    gate: bool = True
    """Whether the task's checks run on what a lane holds afterwards."""

    @property
    def schema(self) -> str:
        """Return the one schema that the answer must have; empty: there is none, or a choice."""
        return self.answers[0] if self.role.reads_only and len(self.answers) == 1 else ""


class Until(StrEnum):
    """When a round is over."""

    ALL = "all"
    GREEN = "green"
    """One of its asks left something that can be accepted; the others are stopped."""


@dataclass(frozen=True)
class Round:
    """Asks that run side by side; what comes back has their order."""

    asks: tuple[Ask, ...]
    until: Until = Until.ALL


@dataclass(frozen=True)
class Delegate:
    """Tasks that take the place of this one; it waits for all of them, then its checks run."""

    tasks: tuple[Task, ...]
    """As `core.plan.subplan` gives them: with ids of the plan's own, parented."""
    reason: str = ""


Step = Round | Delegate


# What comes back


@dataclass(frozen=True)
class Reply:
    """What came of an ask: what the agent claims, and what was measured."""

    outcome: Outcome
    """`DONE`, `FAILED`, or `STOPPED` when it was not needed any more."""
    reason: str = ""
    """As in `Report`."""
    words: str = ""
    """The agent's last ones, 4,000 characters at most."""
    result: Mapping[str, Any] | None = None  # Any: JSON, valid by one of the schemas asked for
    problem: str = ""
    """Why there is no result though one had to be, in a sentence."""
    change: Change | None = None
    """What the lane holds against the base; None: it only read, or the capture refused it."""
    refused: str = ""
    """Why the capture refused what it left."""
    verdict: Verdict | None = None
    """Of the checks, on exactly the change's tree; None: they were not run."""
    flags: tuple[str, ...] = ()
    """Tests and checks that it weakened though the task does not name them, in sentences."""

    @property
    def green(self) -> bool:
        """Say whether what it left may land as far as checks are concerned."""
        return self.change is not None and self.verdict is not None and self.verdict.mergeable

    @property
    def lines(self) -> int:
        """Return how many lines its change adds and deletes."""
        return 0 if self.change is None else self.change.insertions + self.change.deletions


@dataclass(frozen=True)
class Child:
    """How a task ended that another one had delegated to."""

    id: str
    title: str
    satisfied: bool
    words: str = ""
    """Why it did not land."""


@dataclass(frozen=True)
class Joined:
    """What came of a `Delegate`."""

    children: tuple[Child, ...]
    verdict: Verdict | None = None
    """Of the parent's own checks on the target, with the children's changes; None: a child failed,
    so they were not run."""
    commit: str = ""
    """The target's tip with what has landed, on which they ran if they did."""
    problem: str = ""
    """Why nothing was delegated: the plan had no room for so many tasks, say."""


Answer = tuple[Reply, ...] | Joined


# How it ends


class Result(StrEnum):
    """The outcome of a pattern; only what is accepted can merge."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    EXHAUSTED = "exhausted"
    """A bound was reached."""
    STALLED = "stalled"
    BLOCKED = "blocked"
    """An agent says that it cannot go on without people."""
    CANCELLED = "cancelled"
    INFRA_ERROR = "infra_error"


@dataclass(frozen=True)
class Conclusion:
    """How a pattern ended."""

    result: Result
    words: str
    """Why, in sentences that people understand."""
    lane: int = 1
    """Accepted: whose work is taken."""
    change: Change | None = None
    """Accepted: what is taken. None: the children of a delegation have landed."""
    feedback: str = ""
    """What failed, for whoever tries again."""
    facts: Mapping[str, Any] = field(  # Any: JSON
        default_factory=lambda: MappingProxyType({})
    )
    """What people may want to see: scores, the ranking, the last ledger."""


Flow = Generator[Step, Answer, Conclusion]


@dataclass(frozen=True)
class Goal:
    """What a pattern is for. The same for every replay."""

    plan: Plan
    """As it was submitted, without tasks that were delegated to."""
    task: Task
    profiles: tuple[str, ...] = ()
    """Names of all profiles that this run knows."""
    work: str = ""
    """Profile of the work role."""
    handoff: Handoff = Handoff()
    feedback: str = ""
    """What an earlier try of the task got back."""
    delegated: int = 0
    """How many tasks earlier tries of it delegated to; their ids are numbered through."""
