"""A forge: proposals (pull requests), reviews, statuses, merges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Protocol

from commandcenter.core.merge_queue import Strategy


class ProposalState(StrEnum):
    """Where a proposal stands on the forge."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


@dataclass(frozen=True)
class Proposal:
    """A change published on a forge: a pull request."""

    number: int
    url: str
    title: str
    body: str
    author: str
    state: ProposalState
    head: str
    """Commit id."""
    head_branch: str
    base_branch: str
    draft: bool = False


class Decision(StrEnum):
    """What a reviewer decided."""

    APPROVE = "approve"
    REVISE = "revise"
    REJECT = "reject"


class Severity(StrEnum):
    """How much an issue weighs."""

    BLOCKER = "blocker"
    MAJOR = "major"
    MINOR = "minor"


@dataclass(frozen=True)
class Issue:
    """One thing a reviewer found."""

    problem: str
    severity: Severity = Severity.MAJOR
    must_fix: bool = True
    file: str = ""
    line: int = 0
    """1-based line in the new file, or 0 when the issue is not about a line."""
    suggestion: str = ""


@dataclass(frozen=True)
class Review:
    """A reviewer's verdict, pinned to one commit."""

    commit: str
    decision: Decision
    summary: str
    issues: tuple[Issue, ...] = ()
    reviewer: str = ""

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the stored form."""
        return asdict(self)

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Review:  # Any: JSON written by `to_json`
        """Return what `to_json` stored; other keys are ignored."""
        issues = tuple(
            Issue(**{**issue, "severity": Severity(issue["severity"])})
            for issue in record["issues"]
        )
        decision = Decision(record["decision"])
        return Review(record["commit"], decision, record["summary"], issues, record["reviewer"])


class StatusState(StrEnum):
    """State of a commit status, in the words of forges."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"


class CheckState(StrEnum):
    """How a check went that is not ours."""

    PENDING = "pending"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True)
class ExternalCheck:
    """What a forge shows of the newest run of one check that is not ours: CI, as a rule."""

    name: str
    state: CheckState
    run: str = ""
    """Tells this run of the check from an earlier or a later one."""
    summary: str = ""
    url: str = ""


class Way(StrEnum):
    """How a change gets onto a branch."""

    PUSH = "push"
    MERGE = "merge"
    """The branch takes no push: the forge merges, told which commit."""
    QUEUE = "queue"
    """By the forge's own merge queue."""


@dataclass(frozen=True)
class Protection:
    """What a forge demands of a change before it is on a branch."""

    required: tuple[str, ...] = ()
    """Names of checks that must have passed."""
    globs: bool = False
    """Whether these are patterns of names."""
    some: bool = False
    """At least one check must be there, and all of them pass; the forge names none."""
    way: Way = Way.PUSH
    merges: bool = True
    """Whether the forge may merge what the branch refused as a push."""

    def names(self, required: str, check: ExternalCheck) -> bool:
        """Say whether a check is the one, or one of those, that is required by this name."""
        return fnmatchcase(check.name, required) if self.globs else check.name == required


@dataclass(frozen=True)
class Queued:
    """Where a proposal stands in the forge's own merge queue."""

    inside: bool
    removal: str = ""
    """Tells the last time that it was taken out from an earlier one; empty if it never was."""
    reason: str = ""
    """Why it was taken out then, in the forge's words."""


class Forge(Protocol):
    """One repository on a forge. Every call is safe to repeat.

    Raises:
        ForgeError: the forge refused, or did not answer. Its `refusal` is `TOKEN` for a wrong
            token, `ABSENT` for an unknown number or branch, `NOTHING_NEW` for a branch without a
            change, and of a merge `MOVED` or `UNMERGEABLE`.
    """

    kind: str

    async def propose(
        self, *, head_branch: str, base_branch: str, title: str, body: str, draft: bool = False
    ) -> Proposal:
        """Open a proposal for this branch, or update the open one that it already has.

        A new one is a draft if that is wanted; one that is there stays what it is.
        """

    async def ready(self, number: int) -> None:
        """Make a draft one that can be merged; what is none stays as it is."""

    async def label(self, number: int, labels: Sequence[str]) -> None:
        """Add labels, which are made if there are none of these names."""

    async def proposal(self, number: int) -> Proposal:
        """Return what the forge says of it now."""

    async def review(self, number: int, review: Review) -> str:
        """Publish a review, pinned to its commit, and a commit status `commandcenter/review`.

        Returns how it was published: `approve`, `request_changes`, or `comment` when it is one's
        own proposal, where forges refuse the other two, and on forges that cannot ask for changes.
        The status says in any case whether it was approved.
        """

    async def set_status(
        self, commit: str, *, context: str, state: StatusState, description: str
    ) -> None:
        """Set a commit status. Descriptions are cut to 140 characters.

        Where a forge has no `error`, it is shown as a failure.
        """

    async def protection(self, branch: str) -> Protection:
        """Return what is demanded of a change before it is on a branch, as far as we may read."""

    async def external_checks(self, number: int, commit: str) -> Sequence[ExternalCheck]:
        """Return the newest run of every check of a commit that is not ours."""

    async def rerun(self, number: int, checks: Sequence[ExternalCheck]) -> Sequence[str]:
        """Ask for another run of checks that failed; return the names of those that get one."""

    async def enqueue(self, number: int, *, head: str) -> None:
        """Put it into the forge's own merge queue if its head is still `head`."""

    async def queued(self, number: int) -> Queued:
        """Return where it stands in the forge's own merge queue."""

    async def comment(self, number: int, body: str) -> None:
        """Add a comment."""

    async def merge(self, number: int, *, head: str, strategy: Strategy = Strategy.MERGE) -> str:
        """Let the forge merge it if its head is still `head`; return the merge commit."""

    async def close(self, number: int) -> None:
        """Close it unmerged; closing what is closed or merged is fine."""

    async def delete_branch(self, branch: str) -> None:
        """Delete a branch; one that is gone is fine."""

    async def proposals(
        self, *, head_branch: str | None = None, only_open: bool = False
    ) -> Sequence[Proposal]:
        """Return all proposals, open and ended, newest first; or those of one head branch."""

    async def aclose(self) -> None:
        """Release connections."""
