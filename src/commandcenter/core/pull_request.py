"""What the hub remembers of a pull request; git remembers the rest.

Times are milliseconds since 1970, UTC. Commits are full hexadecimal object ids.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from commandcenter.core.forge import StatusState


@dataclass(frozen=True)
class RepositoryName:
    """Names a repository on the hub."""

    owner: str
    name: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True)
class Merged:
    """It landed on its base branch."""

    at_ms: int
    commit: str
    """The commit of the base branch that brought it in."""
    by: str = ""
    """Who merged it; empty when it was seen to be merged by a push."""


@dataclass(frozen=True)
class Closed:
    """It ended without landing."""

    at_ms: int


@dataclass(frozen=True)
class NewPull:
    """What somebody proposes, with the commits that the branches had when it was looked at."""

    title: str
    body: str
    author: str
    head_branch: str
    base_branch: str
    head: str
    base: str
    draft: bool
    at_ms: int


@dataclass(frozen=True)
class PullRequest:
    """A pull request as last observed."""

    number: int
    title: str
    body: str
    author: str
    head_branch: str
    base_branch: str
    head: str
    """Tip of the head branch when it was last seen; stays after the branch is gone."""
    base: str
    """Tip of the base branch when it was last seen while this was open."""
    draft: bool
    created_ms: int
    updated_ms: int
    ending: Merged | Closed | None = None
    merging: str = ""
    """The merge commit that somebody set out to land: intent, written before the branch moves."""
    revision: int = 0
    """Counts the writes: a write names the revision it read, or it is refused."""


class PullOrder(StrEnum):
    """What a list of pull requests is ordered by."""

    CREATED = "created"
    UPDATED = "updated"


@dataclass(frozen=True)
class PullQuery:
    """Which pull requests of a repository, in which order."""

    open: bool | None = None
    """None: both open and ended."""
    head_branch: str | None = None
    base_branch: str | None = None
    order: PullOrder = PullOrder.CREATED
    descending: bool = True
    offset: int = 0
    limit: int | None = None


class ReviewState(StrEnum):
    """What a review says, in GitHub's words."""

    APPROVED = "APPROVED"
    CHANGES_REQUESTED = "CHANGES_REQUESTED"
    COMMENTED = "COMMENTED"


class Side(StrEnum):
    """Which file of a diff a line number counts in."""

    LEFT = "LEFT"
    RIGHT = "RIGHT"


@dataclass(frozen=True)
class NewLineComment:
    """A remark on one line of the diff."""

    path: str
    line: int
    side: Side
    body: str


@dataclass(frozen=True)
class NewReview:
    """A review to record, pinned to a commit."""

    author: str
    state: ReviewState
    body: str
    commit: str
    at_ms: int
    comments: tuple[NewLineComment, ...] = ()


@dataclass(frozen=True)
class PullReview:
    """A recorded review."""

    id: int
    author: str
    state: ReviewState
    body: str
    commit: str
    at_ms: int


@dataclass(frozen=True)
class LineComment:
    """A recorded remark on one line of the diff."""

    id: int
    review: int
    author: str
    path: str
    line: int
    side: Side
    body: str
    commit: str
    at_ms: int


@dataclass(frozen=True)
class Comment:
    """A recorded comment in the conversation."""

    id: int
    author: str
    body: str
    at_ms: int


@dataclass(frozen=True)
class NewStatus:
    """A commit status to record."""

    commit: str
    context: str
    state: StatusState
    description: str
    target_url: str
    author: str
    at_ms: int


@dataclass(frozen=True)
class CommitStatus:
    """A recorded commit status; the newest of a context counts."""

    id: int
    commit: str
    context: str
    state: StatusState
    description: str
    target_url: str
    author: str
    at_ms: int


@dataclass(frozen=True)
class NewHook:
    """A place that wants to be told what happens to the pull requests of a repository."""

    url: str
    secret: str = field(repr=False)
    """What is told is signed with it, unless it is empty."""
    events: tuple[str, ...]
    created_ms: int

    def wants(self, event: str) -> bool:
        """Say whether it is to be told of this kind of event."""
        return event in self.events or "*" in self.events


@dataclass(frozen=True)
class Hook(NewHook):
    """A recorded hook."""

    id: int
