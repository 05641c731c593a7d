"""A forge: proposals (pull requests), reviews, statuses, merges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol


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


class Forge(Protocol):
    """One repository on a forge. Every call is safe to repeat.

    Raises:
        ForgeError: the forge refused, or did not answer. Its `refusal` is `TOKEN` for a wrong
            token, `ABSENT` for an unknown number or branch, `NOTHING_NEW` for a branch without a
            change, and of a merge `MOVED` or `UNMERGEABLE`.
    """

    kind: str

    async def propose(
        self, *, head_branch: str, base_branch: str, title: str, body: str
    ) -> Proposal:
        """Open a proposal for this branch, or update the open one that it already has."""

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

    async def comment(self, number: int, body: str) -> None:
        """Add a comment."""

    async def merge(self, number: int, *, head: str) -> str:
        """Let the forge merge it if its head is still `head`; return the merge commit."""

    async def close(self, number: int) -> None:
        """Close it unmerged; closing what is closed or merged is fine."""

    async def delete_branch(self, branch: str) -> None:
        """Delete a branch; one that is gone is fine."""

    async def proposals(self, *, head_branch: str | None = None) -> Sequence[Proposal]:
        """Return all proposals, open and ended, newest first; or those of one head branch."""

    async def aclose(self) -> None:
        """Release connections."""
