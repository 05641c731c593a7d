"""Gitea and Forgejo: GitHub's dialect in large part, with rules of its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import assert_never
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from commandcenter.core.diff import lines_by_file
from commandcenter.core.errors import ForgeError, Refusal
from commandcenter.core.external_checks import OURS
from commandcenter.core.forge import (
    Decision,
    ExternalCheck,
    Issue,
    Proposal,
    ProposalState,
    Protection,
    Queued,
    Review,
    Way,
)
from commandcenter.core.merge_queue import Strategy
from commandcenter.forges.dialect import (
    MERGEABLE_WAITS_S,
    Placed,
    SeenStatus,
    check_can_merge,
    cut,
    has_lines,
    line_text,
    mark,
    newest,
    placed,
    review_text,
    sendable,
)
from commandcenter.forges.pull_requests import PullRequests, User
from commandcenter.forges.rest import Json, PageSize, Pause, RestApi, parsed

TITLE_CHARACTERS_MAX = 255
_PAGES = PageSize("limit", 50)
"""A server gives no more entries than that, unless its administrator raised the limit."""
_PUBLISHED = {"APPROVED": "approve", "REQUEST_CHANGES": "request_changes"}
_MERGE_REFUSALS = {405: Refusal.UNMERGEABLE, 404: Refusal.UNMERGEABLE, 409: Refusal.UNMERGEABLE}
_MOVED = "head out of date"
_DRAFT = re.compile(r"(WIP:|\[WIP\])\s*", re.IGNORECASE)
_LABEL_COLOUR = "#ededed"


class Gitea(PullRequests):
    """One repository on Gitea or Forgejo. Implements `core.forge.Forge`."""

    kind = "gitea"

    def __init__(
        self,
        api_url: str,
        owner: str,
        repository: str,
        token: str,
        *,
        client: httpx.AsyncClient | None = None,
        user_agent: str = "commandcenter",
        pause: Pause = asyncio.sleep,
    ) -> None:
        """`api_url` ends in `/api/v1`. A `client` that is given is only borrowed."""
        headers = {
            "Accept": "application/json",
            "Authorization": f"token {token.strip()}",
            "User-Agent": user_agent,
        }
        api = RestApi(api_url, headers, client=client, pause=pause, page_size=_PAGES)
        self._pause = pause
        super().__init__(api, f"/repos/{quote(owner, safe='')}/{quote(repository, safe='')}")

    async def propose(
        self, *, head_branch: str, base_branch: str, title: str, body: str, draft: bool = False
    ) -> Proposal:
        """Open a pull request for this branch, or update the open one that it already has."""
        wanted = {
            "title": sendable(title)[:TITLE_CHARACTERS_MAX],
            "body": cut(body),
            "base": base_branch,
        }
        found = await self._open_pull(head_branch, base_branch)
        if found is None:
            await self._check_news(head_branch, base_branch)
            try:
                opened = {**wanted, "head": head_branch}
                opened["title"] = _drafted(wanted["title"], draft=draft)
                made = await self._api.send("POST", f"{self._path}/pulls", opened)
                return await self._proposal(_pull(made))
            except ForgeError as error:
                # Somebody was faster, or our first request got through and its answer did not.
                if error.status != 409:
                    raise
                found = await self._open_pull(head_branch, base_branch)
                if found is None:
                    raise
        return await self._proposal(await self._updated(found, wanted))

    async def proposal(self, number: int) -> Proposal:
        """Return what the forge says of it now."""
        return await self._proposal(await self._pull_now(number))

    async def ready(self, number: int) -> None:
        """Make a draft one that can be merged: its title says that it is one."""
        title = (await self._pull_now(number)).title
        if _is_draft(title):
            body = {"title": _DRAFT.sub("", title)}
            await self._api.send("PATCH", f"{self._path}/pulls/{number}", body)

    async def label(self, number: int, labels: Sequence[str]) -> None:
        """Add labels, by their numbers; those that are missing are made."""
        if not labels:
            return
        pages = self._api.pages(f"{self._path}/labels")
        found = [parsed(_Label, entry) async for entry in pages]
        known = {each.name: each.id for each in found}
        for name in labels:
            if name not in known:
                body = {"name": name, "color": _LABEL_COLOUR}
                made = await self._api.send("POST", f"{self._path}/labels", body)
                known[name] = parsed(_Label, made).id
        numbers = {"labels": [known[name] for name in labels]}
        await self._api.send("POST", f"{self._path}/issues/{number}/labels", numbers)

    async def merge(self, number: int, *, head: str, strategy: Strategy = Strategy.MERGE) -> str:
        """Let the forge merge it if its head is still `head`; return the merge commit."""
        pull = await self._settled(number, head)
        proposal = await self._proposal(pull)
        if landed := _landed(pull, proposal, head):
            return landed
        check_can_merge(proposal, head, mergeable=pull.mergeable)
        refused = await self._merge(number, head, strategy)
        # Also after a refusal: an answer may have got lost, or somebody was faster.
        pull = await self._pull_now(number)
        if landed := _landed(pull, await self._proposal(pull), head):
            return landed
        raise refused or ForgeError(f"Pull request #{number} does not show that it was merged yet.")

    async def protection(self, branch: str) -> Protection:
        """Return what is demanded of a change before it is on a branch."""
        try:
            answer = await self._api.get(f"{self._path}/branches/{quote(branch)}")
        except ForgeError as error:
            if error.refusal is not Refusal.ABSENT:
                raise
            return Protection()
        found = parsed(_Branch, answer)
        way = Way.PUSH if found.user_can_push else Way.MERGE
        if not found.enable_status_check:
            return Protection(way=way)
        # Without names, all that are there must be good, and some must be there.
        names = tuple(found.status_check_contexts or ())
        return Protection(names, globs=True, some=not names, way=way)

    async def external_checks(self, number: int, commit: str) -> Sequence[ExternalCheck]:
        """Return the newest run of every check of a commit that is not ours."""
        pages = self._api.pages(f"{self._path}/statuses/{commit}")
        checks = newest([_status(entry) async for entry in pages])
        return [each for each in checks if not each.name.startswith(OURS)]

    async def rerun(self, number: int, checks: Sequence[ExternalCheck]) -> Sequence[str]:
        """Return no name: there is no call by which a status could be had anew."""
        return ()

    async def enqueue(self, number: int, *, head: str) -> None:
        """Refuse: there is no queue, and `protection` never says so."""
        raise _no_queue()

    async def queued(self, number: int) -> Queued:
        """Refuse: there is no queue."""
        raise _no_queue()

    async def close(self, number: int) -> None:
        """Close it unmerged; closing what is closed or merged is fine."""
        if (await self._pull_now(number)).state == "open":
            await self._api.send("PATCH", f"{self._path}/pulls/{number}", {"state": "closed"})

    async def delete_branch(self, branch: str) -> None:
        """Delete a branch; one that is gone is fine."""
        try:
            await self._api.send("DELETE", f"{self._path}/branches/{quote(branch)}")
        except ForgeError as error:
            if error.refusal is not Refusal.ABSENT:
                raise

    async def proposals(
        self, *, head_branch: str | None = None, only_open: bool = False
    ) -> Sequence[Proposal]:
        """Return all pull requests, open and ended, newest first; or those of one head branch."""
        pulls = await self._pulls("open" if only_open else "all", head_branch)
        newest_first = sorted(pulls, key=lambda pull: pull.number, reverse=True)
        return [await self._proposal(pull) for pull in newest_first]

    async def _pull_now(self, number: int) -> _Pull:
        return _pull(await self._api.get(f"{self._path}/pulls/{number}"))

    async def _settled(self, number: int, head: str) -> _Pull:
        """Return it once the forge sees that it merges, or after a bounded wait.

        "Not mergeable" is also what the forge says while it has not looked yet.
        """
        pull = await self._pull_now(number)
        for wait_s in MERGEABLE_WAITS_S:
            if pull.mergeable or pull.state != "open" or pull.head.sha != head:
                break
            await self._pause(wait_s)
            pull = await self._pull_now(number)
        return pull

    async def _merge(self, number: int, head: str, strategy: Strategy) -> ForgeError | None:
        order = {"Do": strategy.value, "head_commit_id": head}
        try:
            await self._api.send("POST", f"{self._path}/pulls/{number}/merge", order)
        except ForgeError as error:
            if _MOVED in error.message:
                return error.meaning(Refusal.MOVED)
            meaning = _MERGE_REFUSALS.get(error.status or 0)
            return error.meaning(meaning) if meaning else error
        return None

    async def _check_news(self, head_branch: str, base_branch: str) -> None:
        """Refuse a branch without a change: the forge would open an empty pull request."""
        between = quote(f"{base_branch}...{head_branch}")
        compared = parsed(_Comparison, await self._api.get(f"{self._path}/compare/{between}"))
        if not compared.total_commits:
            raise ForgeError(
                f"There are no commits between {base_branch} and {head_branch}.",
                refusal=Refusal.NOTHING_NEW,
            )

    async def _open_pull(self, head_branch: str, base_branch: str) -> _Pull | None:
        """Return the open pull request of this branch, rather into this base than another."""
        pulls = await self._pulls("open", head_branch)
        into_base = [pull for pull in pulls if pull.base.ref == base_branch]
        return next(iter([*into_base, *pulls]), None)

    async def _pulls(self, state: str, head_branch: str | None) -> list[_Pull]:
        pages = self._api.pages(f"{self._path}/pulls", {"state": state})
        pulls = [_pull(entry) async for entry in pages]
        # The forge cannot be asked for those of a branch.
        return [pull for pull in pulls if head_branch in (None, pull.head.label) and pull.ours]

    async def _updated(self, pull: _Pull, wanted: dict[str, str]) -> _Pull:
        wanted = {**wanted, "title": _drafted(wanted["title"], draft=_is_draft(pull.title))}
        is_now = {"title": pull.title, "body": pull.body, "base": pull.base.ref}
        changed = {name: text for name, text in wanted.items() if text != is_now[name]}
        if not changed:
            return pull
        return _pull(await self._api.send("PATCH", f"{self._path}/pulls/{pull.number}", changed))

    async def _proposal(self, pull: _Pull) -> Proposal:
        return Proposal(
            number=pull.number,
            url=pull.html_url,
            title=pull.title,
            body=pull.body,
            author=pull.user.login if pull.user else "",
            state=_state(pull),
            head=await self._head(pull),
            head_branch=pull.head.label,
            base_branch=pull.base.ref,
            draft=_is_draft(pull.title),
        )

    async def _head(self, pull: _Pull) -> str:
        """Return its head, which the forge keeps in a ref of its own.

        Of what has ended, its `sha` is where the branch is now, which may have moved on.
        """
        kept = f"refs/pull/{pull.number}/head"
        if pull.state == "open" or pull.head.ref == kept:
            return pull.head.sha
        found = await self._api.get(f"{self._path}/git/{kept}")
        refs = [parsed(_Ref, entry) for entry in (found if isinstance(found, list) else [found])]
        return next((ref.object.sha for ref in refs if ref.ref == kept), pull.head.sha)

    async def _published(self, number: int, review: Review) -> str | None:
        """Return how this very review was published before, if it was."""
        this = mark(review)
        async for entry in self._api.pages(f"{self._path}/pulls/{number}/reviews"):
            known = _remark(entry)
            if known.commit_id == review.commit and this in known.body:
                return _PUBLISHED.get(known.state, "comment")
        return None

    async def _publish(self, number: int, review: Review) -> str:
        pull = await self._pull_now(number)
        own = pull.user is not None and pull.user.login == await self._me()
        event = _event(review.decision, own=own)
        where = await self._placed(pull, review)
        try:
            await self._send_review(number, review, event, where)
        except ForgeError as error:
            if error.status != 422 or "your own pull" not in error.message or event == "COMMENT":
                raise
            event = "COMMENT"
            await self._send_review(number, review, event, where)
        return _PUBLISHED.get(event, "comment")

    async def _send_review(self, number: int, review: Review, event: str, where: Placed) -> None:
        body = {
            "commit_id": review.commit,
            "event": event,
            "body": review_text(review, where.in_summary),
            "comments": [_line_comment(issue) for issue in where.on_lines],
        }
        await self._api.send("POST", f"{self._path}/pulls/{number}/reviews", body)

    async def _placed(self, pull: _Pull, review: Review) -> Placed:
        # The diff is that of the head: it says nothing about an older commit.
        if not has_lines(review) or pull.head.sha != review.commit:
            return Placed((), review.issues)
        # The forge's list of files has no patches.
        diff = await self._api.text(f"{self._path}/pulls/{pull.number}.diff")
        shown = lines_by_file(diff)
        return placed(review, {file: lines.new for file, lines in shown.items()})


class _End(BaseModel):
    label: str
    """The branch, also when it is gone."""
    ref: str
    sha: str
    repo_id: int


class _Pull(BaseModel):
    number: int
    html_url: str
    title: str
    body: str
    state: str
    user: User | None
    head: _End
    base: _End
    merged: bool
    merge_commit_sha: str | None = None
    mergeable: bool = False

    @property
    def ours(self) -> bool:
        """Say whether its head is in the repository itself, not in a fork."""
        return self.head.repo_id == self.base.repo_id


class _Remark(BaseModel):
    body: str
    user: User | None
    state: str = ""
    commit_id: str = ""


class _Branch(BaseModel):
    enable_status_check: bool = False
    status_check_contexts: list[str] | None = None
    user_can_push: bool = True


class _Label(BaseModel):
    id: int
    name: str


class _Status(BaseModel):
    id: int
    context: str
    status: str
    description: str | None = None
    target_url: str | None = None


class _Comparison(BaseModel):
    total_commits: int


class _Object(BaseModel):
    sha: str


class _Ref(BaseModel):
    ref: str
    object: _Object


def _pull(answer: Json) -> _Pull:
    return parsed(_Pull, answer)


def _remark(answer: Json) -> _Remark:
    return parsed(_Remark, answer)


def _is_draft(title: str) -> bool:
    return _DRAFT.match(title) is not None


def _drafted(title: str, *, draft: bool) -> str:
    return f"WIP: {_DRAFT.sub('', title)}"[:TITLE_CHARACTERS_MAX] if draft else title


def _no_queue() -> ForgeError:
    return ForgeError("Gitea and Forgejo have no merge queue.", refusal=Refusal.UNMERGEABLE)


def _status(answer: Json) -> SeenStatus:
    found = parsed(_Status, answer)
    return SeenStatus(
        *(found.id, found.context, found.status),
        found.description or "",
        found.target_url or "",
    )


def _state(pull: _Pull) -> ProposalState:
    if pull.merged:
        return ProposalState.MERGED
    return ProposalState.OPEN if pull.state == "open" else ProposalState.CLOSED


def _landed(pull: _Pull, proposal: Proposal, head: str) -> str | None:
    """Return the merge commit if exactly this head was merged."""
    return pull.merge_commit_sha if pull.merged and proposal.head == head else None


def _event(decision: Decision, *, own: bool) -> str:
    if own:
        return "COMMENT"
    match decision:
        case Decision.APPROVE:
            return "APPROVED"
        case Decision.REVISE | Decision.REJECT:
            return "REQUEST_CHANGES"
        case _:
            assert_never(decision)


def _line_comment(issue: Issue) -> dict[str, str | int]:
    return {"path": sendable(issue.file), "new_position": issue.line, "body": line_text(issue)}
