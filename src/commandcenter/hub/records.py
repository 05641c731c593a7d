"""What the hub needs remembered, and where its repositories lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from commandcenter.core.pull_request import (
    Comment,
    CommitStatus,
    Hook,
    LineComment,
    NewHook,
    NewPull,
    NewReview,
    NewStatus,
    PullQuery,
    PullRequest,
    PullReview,
    RepositoryName,
)


@dataclass(frozen=True)
class HubRepository:
    """A bare repository that the hub serves pull requests for."""

    owner: str
    name: str
    git_dir: Path
    heads: str = "refs/heads/"
    """Where its branches are: `main` is `refs/heads/main`."""
    default_branch: str = "main"

    @property
    def key(self) -> RepositoryName:
        """Give the name that its records are kept under."""
        return RepositoryName(self.owner, self.name)


Repositories = Callable[[str, str], HubRepository | None]
"""Finds a repository by owner and name; called on the event loop, so it must not wait."""


class HubRecords(Protocol):
    """The hub's memory. Calls are synchronous and thread-safe; each is one transaction."""

    def repositories(self) -> tuple[RepositoryName, ...]:
        """Return the repositories that had a pull request, by name."""

    def add_pull(self, repository: RepositoryName, pull: NewPull) -> PullRequest | None:
        """Record a pull request under the repository's next number.

        Returns None when these two branches already have an open one.
        """

    def pull(self, repository: RepositoryName, number: int) -> PullRequest | None:
        """Return one pull request."""

    def pulls(self, repository: RepositoryName, query: PullQuery) -> tuple[PullRequest, ...]:
        """Return the pull requests that match."""

    def count_pulls(self, repository: RepositoryName, query: PullQuery) -> int:
        """Return how many match, regardless of the query's offset and limit."""

    def save_pull(self, repository: RepositoryName, pull: PullRequest) -> PullRequest | None:
        """Replace the stored pull request if its revision is still `pull.revision`.

        Returns None when it is not, or when it would be the second open one of its branches.
        """

    def add_review(self, repository: RepositoryName, number: int, review: NewReview) -> PullReview:
        """Record a review with its line comments."""

    def reviews(self, repository: RepositoryName, number: int) -> tuple[PullReview, ...]:
        """Return the reviews, oldest first."""

    def line_comments(self, repository: RepositoryName, number: int) -> tuple[LineComment, ...]:
        """Return the line comments of all reviews, oldest first."""

    def add_comment(
        self, repository: RepositoryName, number: int, *, author: str, body: str, at_ms: int
    ) -> Comment:
        """Record a comment."""

    def comments(self, repository: RepositoryName, number: int) -> tuple[Comment, ...]:
        """Return the comments, oldest first."""

    def add_status(self, repository: RepositoryName, status: NewStatus) -> CommitStatus:
        """Record a commit status."""

    def protect(
        self, repository: RepositoryName, branch: str, contexts: Sequence[str] | None
    ) -> None:
        """Record which checks a branch requires; None: it is not protected any more."""

    def protections(self, repository: RepositoryName) -> Mapping[str, tuple[str, ...]]:
        """Return the checks that each protected branch requires."""

    def statuses(self, repository: RepositoryName, commit: str) -> tuple[CommitStatus, ...]:
        """Return the statuses of a commit, newest first."""

    def add_hook(self, repository: RepositoryName, hook: NewHook) -> Hook:
        """Record a hook."""

    def hooks(self, repository: RepositoryName) -> tuple[Hook, ...]:
        """Return the hooks, oldest first."""

    def remove_hook(self, repository: RepositoryName, id_: int) -> None:
        """Forget a hook; one that is not there is fine."""
