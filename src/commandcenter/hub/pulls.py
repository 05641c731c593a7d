"""The life of pull requests: proposed, looked at, reviewed, merged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn, ParamSpec, TypeVar

from commandcenter.core.diff import diff_lines
from commandcenter.core.forge import StatusState
from commandcenter.core.pull_request import (
    Closed,
    Comment,
    CommitStatus,
    LineComment,
    Merged,
    NewLineComment,
    NewPull,
    NewReview,
    NewStatus,
    PullQuery,
    PullRequest,
    PullReview,
    ReviewState,
    Side,
)
from commandcenter.hub.history import Commit, History, Landing, Method
from commandcenter.hub.records import HubRecords, HubRepository
from commandcenter.hub.refusal import RefusalError, refuse_validation
from commandcenter.hub.wire import newest_by_context

_TRIES_MAX = 8
_CANNOT = {
    Method.MERGE: "Pull Request is not mergeable",
    Method.SQUASH: "Pull Request is not mergeable",
    Method.REBASE: "This branch can't be rebased",
}

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Draft:
    """A request to open a pull request."""

    title: str
    body: str
    head: str
    """`branch` or `owner:branch`."""
    base: str
    draft: bool


@dataclass(frozen=True)
class Edit:
    """What to change of a pull request; None leaves it."""

    title: str | None = None
    body: str | None = None
    base: str | None = None
    open: bool | None = None
    draft: bool | None = None


@dataclass(frozen=True)
class Opinion:
    """A request to review."""

    state: ReviewState
    body: str
    commit: str | None
    comments: tuple[NewLineComment, ...]


@dataclass(frozen=True)
class MergeOrder:
    """A request to merge."""

    method: Method
    head: str | None
    title: str | None
    message: str | None


@dataclass
class Pulls:
    """The pull requests of one repository. All instances of it share git and the records."""

    history: History
    records: HubRecords
    now_ms: Callable[[], int]
    _merging: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def repository(self) -> HubRepository:
        """Give the repository."""
        return self.history.repository

    async def get(self, number: int) -> PullRequest:
        """Return a pull request as it is now."""
        return await self._observed(await self._stored(number))

    async def listed(self, query: PullQuery) -> tuple[tuple[PullRequest, ...], int]:
        """Return one page of pull requests as they are now, and how many match in all."""
        await self.observe(head_branch=query.head_branch)
        key = self.repository.key
        page = await self._do(self.records.pulls, key, query)
        return page, await self._do(self.records.count_pulls, key, query)

    async def observe(self, *, head_branch: str | None = None) -> None:
        """Look at all open pull requests (of one head branch), and record what became of them."""
        query = PullQuery(open=True, head_branch=head_branch)
        pulls = await self._do(self.records.pulls, self.repository.key, query)
        branches = {name for pull in pulls for name in (pull.head_branch, pull.base_branch)}
        tips = await self.history.tips(branches)
        for pull in pulls:
            if await self._seen(pull, tips) != pull:
                await self._observed(pull)

    async def create(self, author: str, draft: Draft) -> PullRequest:
        """Open a pull request."""
        head_branch = self._head_branch(draft.head)
        tips = await self.history.tips([head_branch, draft.base])
        for field_name, branch in (("head", head_branch), ("base", draft.base)):
            if branch not in tips:
                refuse_validation("PullRequest", field_name, code="invalid")
        head, base = tips[head_branch], tips[draft.base]
        await self._check_news(head_branch, draft.base, head=head, base=base)
        await self.observe(head_branch=head_branch)
        new = NewPull(
            title=draft.title,
            body=draft.body,
            author=author,
            head_branch=head_branch,
            base_branch=draft.base,
            head=head,
            base=base,
            draft=draft.draft,
            at_ms=self.now_ms(),
        )
        pull = await self._do(self.records.add_pull, self.repository.key, new)
        return pull or self._refuse_second(head_branch)

    async def edit(self, number: int, edit: Edit) -> PullRequest:
        """Change title, body, base or state of a pull request."""

        async def edited(pull: PullRequest) -> PullRequest:
            changed = replace(
                pull,
                title=pull.title if edit.title is None else edit.title,
                body=pull.body if edit.body is None else edit.body,
                draft=pull.draft if edit.draft is None else edit.draft,
            )
            changed = await self._opened_or_closed(changed, edit.open)
            changed = await self._with_base(changed, edit.base)
            return changed if changed == pull else replace(changed, updated_ms=self.now_ms())

        return await self._change(number, edited)

    async def review(self, number: int, author: str, opinion: Opinion) -> PullReview:
        """Record a review, pinned to a commit of the pull request."""
        pull = await self.get(number)
        if author == pull.author and opinion.state is not ReviewState.COMMENTED:
            verb = "approve" if opinion.state is ReviewState.APPROVED else "request changes on"
            raise RefusalError(
                422, "Unprocessable Entity", [f"Can not {verb} your own pull request"]
            )
        commit = opinion.commit or pull.head
        if not await self._is_of(commit, pull):
            raise RefusalError(
                422, "Unprocessable Entity", ["The commit_id is not part of the pull request"]
            )
        await self._check_lines(opinion.comments, pull.base, commit)
        new = NewReview(
            author, opinion.state, opinion.body, commit, self.now_ms(), opinion.comments
        )
        return await self._do(self.records.add_review, self.repository.key, number, new)

    async def reviews(self, number: int) -> tuple[PullReview, ...]:
        """Return its reviews, oldest first."""
        await self._stored(number)
        return await self._do(self.records.reviews, self.repository.key, number)

    async def line_comments(self, number: int) -> tuple[LineComment, ...]:
        """Return its line comments, oldest first."""
        await self._stored(number)
        return await self._do(self.records.line_comments, self.repository.key, number)

    async def add_comment(self, number: int, author: str, body: str) -> Comment:
        """Record a comment."""
        await self._stored(number)
        add = self.records.add_comment
        return await self._do(
            add, self.repository.key, number, author=author, body=body, at_ms=self.now_ms()
        )

    async def comments(self, number: int) -> tuple[Comment, ...]:
        """Return its comments, oldest first."""
        await self._stored(number)
        return await self._do(self.records.comments, self.repository.key, number)

    async def add_status(self, status: NewStatus) -> CommitStatus:
        """Record a status of a commit that exists."""
        if await self.history.commit_of(status.commit) != status.commit:
            raise RefusalError(422, f"No commit found for SHA: {status.commit}")
        return await self._do(self.records.add_status, self.repository.key, status)

    async def statuses(self, commit: str) -> tuple[CommitStatus, ...]:
        """Return the statuses of a commit, newest first."""
        return await self._do(self.records.statuses, self.repository.key, commit)

    async def protect(self, branch: str, contexts: Sequence[str] | None) -> None:
        """Require checks of what is merged into a branch, or with None protect it no more."""
        await self._do(self.records.protect, self.repository.key, branch, contexts)

    async def protections(self) -> Mapping[str, tuple[str, ...]]:
        """Return the checks that each protected branch requires."""
        return await self._do(self.records.protections, self.repository.key)

    async def mergeable(self, pull: PullRequest) -> bool | None:
        """Say whether it merges without conflict; None once it has ended."""
        if pull.ending is not None:
            return None
        return await self.history.mergeable(pull.base, pull.head)

    async def merge(self, number: int, by: str, order: MergeOrder) -> str:
        """Land it on its base branch, and return the commit that brought it in."""
        async with self._merging:
            pull = await self.get(number)
            _check_can_merge(pull, order)
            await self._check_required(pull)
            commit = await self._landed(pull, by, order)
            if not await self.history.move(pull.base_branch, old=pull.base, new=commit):
                raise RefusalError(405, "Base branch was modified. Review and try the merge again.")
            merged = Merged(self.now_ms(), commit, by)

            async def ended(now: PullRequest) -> PullRequest:
                return replace(now, ending=merged, head=pull.head, updated_ms=merged.at_ms)

            await self._change(number, ended)
            return commit

    async def delete_branch(self, branch: str) -> None:
        """Delete a branch; what was open for it is seen as merged if it landed, else closed."""
        tip = await self.history.tip(branch)
        if tip is None:
            raise RefusalError(422, "Reference does not exist")
        if branch == self.repository.default_branch:
            raise RefusalError(422, f"Cannot delete the default branch {branch}")
        await self.observe(head_branch=branch)
        if not await self.history.delete(branch, old=tip):
            raise RefusalError(409, "The branch was modified while it was being deleted")
        await self.observe(head_branch=branch)

    async def commits(self, pull: PullRequest) -> tuple[Commit, ...]:
        """Return its commits, oldest first."""
        return await self.history.commits(pull.base, pull.head)

    async def _stored(self, number: int) -> PullRequest:
        pull = await self._do(self.records.pull, self.repository.key, number)
        if pull is None:
            raise RefusalError(404, "Not Found")
        return pull

    async def _observed(self, pull: PullRequest) -> PullRequest:
        if pull.ending is not None:
            return pull

        async def seen(stored: PullRequest) -> PullRequest:
            if stored.ending is not None:
                return stored
            tips = await self.history.tips([stored.head_branch, stored.base_branch])
            return await self._seen(stored, tips)

        return await self._change(pull.number, seen, known=pull)

    async def _seen(self, pull: PullRequest, tips: dict[str, str]) -> PullRequest:
        """Return what these branch tips make of an open pull request."""
        base = tips.get(pull.base_branch)
        head = tips.get(pull.head_branch)
        if base is None or (head, base) == (pull.head, pull.base):
            return pull
        now = self.now_ms()
        if pull.merging and await self.history.contains(base, pull.merging):
            return replace(pull, ending=Merged(now, pull.merging), updated_ms=now)
        last = head or pull.head
        if await self.history.contains(base, last):
            # Nothing of its own since before we looked: somebody reset the branch, nothing landed.
            if await self.history.contains(pull.base, last):
                return replace(pull, ending=Closed(now), updated_ms=now)
            arrival = await self.history.arrival(last, base)
            return replace(pull, head=last, ending=Merged(now, arrival), updated_ms=now)
        if landing := await self._replay(last, pull.base, base):
            return replace(pull, head=last, ending=Merged(now, landing), updated_ms=now)
        if head is None:
            return replace(pull, ending=Closed(now), updated_ms=now)
        updated_ms = pull.updated_ms if head == pull.head else now
        return replace(pull, head=head, base=base, updated_ms=updated_ms)

    async def _replay(self, head: str, old: str, new: str) -> str | None:
        """Return the commit that came to a base branch and stands for a head."""
        return await self.history.replay(head, old, new)

    async def _change(
        self,
        number: int,
        change: Callable[[PullRequest], Awaitable[PullRequest]],
        *,
        known: PullRequest | None = None,
    ) -> PullRequest:
        """Store what `change` makes of the pull request; asked again when it changed meanwhile."""
        for _ in range(_TRIES_MAX):
            stored = known or await self._stored(number)
            known = None
            changed = await change(stored)
            if changed == stored:
                return stored
            saved = await self._do(self.records.save_pull, self.repository.key, changed)
            if saved is not None:
                return saved
        raise RefusalError(503, "The pull request changes faster than it can be written")

    async def _check_required(self, pull: PullRequest) -> None:
        """Refuse to merge what has not passed the checks that its base branch requires."""
        required = (await self.protections()).get(pull.base_branch, ())
        shown = newest_by_context(await self.statuses(pull.head)) if required else ()
        passed = {each.context for each in shown if each.state is StatusState.SUCCESS}
        for context in required:
            if context not in passed:
                known = any(each.context == context for each in shown)
                state = "failing" if known else "expected"
                raise RefusalError(405, f'Required status check "{context}" is {state}.')

    async def _landed(self, pull: PullRequest, by: str, order: MergeOrder) -> str:
        """Write the commit that lands it, as nobody's branch yet, and note the intent."""
        landing = Landing(
            base=pull.base,
            head=pull.head,
            method=order.method,
            message=await self._message(pull, order),
            name=by,
            email=f"{by}@users.noreply.localhost",
        )
        commit = await self.history.landed(landing)
        if commit is None:
            raise RefusalError(405, _CANNOT[order.method])

        # Intent first: a squash is not reachable from the head, so after a crash between moving
        # the branch and recording it nothing else would tell that it landed.
        async def intended(now: PullRequest) -> PullRequest:
            return replace(now, merging=commit)

        await self._change(pull.number, intended)
        return commit

    async def _message(self, pull: PullRequest, order: MergeOrder) -> str:
        match order.method:
            case Method.MERGE:
                branch = f"{self.repository.owner}/{pull.head_branch}"
                title = f"Merge pull request #{pull.number} from {branch}"
                message = pull.title
            case Method.SQUASH:
                title = f"{pull.title} (#{pull.number})"
                commits = await self.history.commits(pull.base, pull.head)
                message = "\n\n".join(commit.message for commit in commits)
            case Method.REBASE:
                title = message = ""
        parts = (order.title or title, message if order.message is None else order.message)
        return "\n\n".join(part for part in parts if part) + "\n"

    async def _opened_or_closed(self, pull: PullRequest, wanted: bool | None) -> PullRequest:
        if wanted is None or wanted is (pull.ending is None) or isinstance(pull.ending, Merged):
            if wanted and isinstance(pull.ending, Merged):
                refuse_validation("PullRequest", "state", "state cannot be changed.")
            return pull
        if not wanted:
            return replace(pull, ending=Closed(self.now_ms()))
        return await self._reopened(pull)

    async def _reopened(self, pull: PullRequest) -> PullRequest:
        tips = await self.history.tips([pull.head_branch, pull.base_branch])
        if len(tips) != 2:
            refuse_validation("PullRequest", "state", "state cannot be changed.")
        query = PullQuery(open=True, head_branch=pull.head_branch, base_branch=pull.base_branch)
        if await self._do(self.records.count_pulls, self.repository.key, query):
            self._refuse_second(pull.head_branch)
        head, base = tips[pull.head_branch], tips[pull.base_branch]
        await self._check_news(pull.head_branch, pull.base_branch, head=head, base=base)
        return replace(pull, ending=None, head=head, base=base, merging="")

    async def _with_base(self, pull: PullRequest, branch: str | None) -> PullRequest:
        if branch is None or branch == pull.base_branch:
            return pull
        base = await self.history.tip(branch)
        if base is None or pull.ending is not None:
            refuse_validation("PullRequest", "base", code="invalid")
        await self._check_news(pull.head_branch, branch, head=pull.head, base=base)
        return replace(pull, base_branch=branch, base=base)

    async def _check_news(
        self, head_branch: str, base_branch: str, *, head: str, base: str
    ) -> None:
        """Refuse when the head has nothing that the base lacks."""
        common = await self.history.merge_base(base, head)
        if common is None:
            words = f"The {head_branch} branch has no history in common with {base_branch}"
            refuse_validation("PullRequest", "head", words)
        if common == head:
            words = f"No commits between {base_branch} and {head_branch}"
            refuse_validation("PullRequest", "head", words)

    async def _is_of(self, commit: str, pull: PullRequest) -> bool:
        """Say whether the commit is one that the pull request would bring, or its head."""
        if commit == pull.head:
            return True
        if await self.history.commit_of(commit) != commit:
            return False
        known = await self.history.contains(pull.base, commit)
        return not known and await self.history.contains(pull.head, commit)

    async def _check_lines(
        self, comments: Sequence[NewLineComment], base: str, commit: str
    ) -> None:
        """Refuse comments on lines that the diff does not show."""
        if not comments:
            return
        shown = {file.path: file for file in await self.history.files(base, commit)}
        for comment in comments:
            if comment.path not in shown:
                raise RefusalError(422, "Unprocessable Entity", ["Path could not be resolved"])
            lines = diff_lines(shown[comment.path].patch or "")
            if comment.line not in (lines.new if comment.side is Side.RIGHT else lines.old):
                raise RefusalError(422, "Unprocessable Entity", ["Line could not be resolved"])

    def _head_branch(self, head: str) -> str:
        owner, colon, branch = head.rpartition(":")
        if colon and owner.lower() != self.repository.owner.lower():
            refuse_validation("PullRequest", "head", code="invalid")
        return branch

    def _refuse_second(self, head_branch: str) -> NoReturn:
        label = f"{self.repository.owner}:{head_branch}"
        refuse_validation("PullRequest", "head", f"A pull request already exists for {label}.")

    async def _do(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(call, *args, **kwargs)


def _check_can_merge(pull: PullRequest, order: MergeOrder) -> None:
    if pull.ending is not None:
        raise RefusalError(405, "Pull Request is not mergeable")
    if pull.draft:
        raise RefusalError(405, "Pull Request is still a draft")
    if order.head is not None and order.head != pull.head:
        raise RefusalError(409, "Head branch was modified. Review and try the merge again.")
