"""GitLab: merge requests, notes and approvals as our `Forge`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from commandcenter.core.diff import DiffLines, diff_lines
from commandcenter.core.errors import ForgeError, Refusal
from commandcenter.core.external_checks import OURS
from commandcenter.core.forge import (
    CheckState,
    Decision,
    ExternalCheck,
    Issue,
    Proposal,
    ProposalState,
    Protection,
    Queued,
    Review,
    StatusState,
    Way,
)
from commandcenter.core.merge_queue import Strategy
from commandcenter.forges.dialect import (
    DESCRIPTION_CHARACTERS_MAX,
    MERGEABLE_WAITS_S,
    SUMMARY_CHARACTERS_MAX,
    check_can_merge,
    cut,
    has_lines,
    line_text,
    mark,
    placed,
    review_text,
    sendable,
    tell_verdict,
)
from commandcenter.forges.rest import Json, Pause, RestApi, parsed

TITLE_CHARACTERS_MAX = 255
_DRAFT = re.compile(r"(draft:|\[draft\]|\(draft\))\s*", re.IGNORECASE)
_COMMAND = re.compile(r"^(\s*)/(?=\w)", re.MULTILINE)
_STATES = {
    StatusState.PENDING: "pending",
    StatusState.SUCCESS: "success",
    StatusState.FAILURE: "failed",
    StatusState.ERROR: "failed",
}
_ON_THE_TRAIN = {"idle", "fresh", "stale", "merging"}
_OFF_THE_TRAIN = "removed this merge request from the merge train"
_FAILED = {"failed", "canceled"}
_PASSED = {"success", "skipped"}
_UNDECIDED = {"unchecked", "checking", "preparing", "approvals_syncing", "cannot_be_merged_recheck"}
_CONFLICTS = {"conflict", "cannot_be_merged"}
_MERGE_REFUSALS = {
    # 401 is what who may not merge is told: the token itself is fine.
    **dict.fromkeys((401, 405, 406, 422), Refusal.UNMERGEABLE),
    409: Refusal.MOVED,
}


class GitLab:
    """One project on GitLab. Implements `core.forge.Forge`."""

    kind = "gitlab"

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
        """`api_url` ends in `/api/v4`; `owner` may be a group in a group.

        A `client` that is given is only borrowed; `pause` is how to wait between tries.
        """
        headers = {
            "Accept": "application/json",
            "Authorization": f"Bearer {token.strip()}",
            "User-Agent": user_agent,
        }
        self._api = RestApi(api_url, headers, client=client, pause=pause)
        self._pause = pause
        self._path = f"/projects/{quote(f'{owner}/{repository}', safe='')}"
        self._username: str | None = None

    async def propose(
        self, *, head_branch: str, base_branch: str, title: str, body: str, draft: bool = False
    ) -> Proposal:
        """Open a merge request for this branch, or update the open one that it already has."""
        wanted = {
            "title": sendable(title)[:TITLE_CHARACTERS_MAX],
            "description": inert(cut(body)),
            "target_branch": base_branch,
        }
        found = await self._open_request(head_branch, base_branch)
        if found is None:
            await self._check_news(head_branch, base_branch)
            try:
                opened = {**wanted, "source_branch": head_branch}
                opened["title"] = _drafted(wanted["title"], draft=draft)
                made = await self._api.send("POST", f"{self._path}/merge_requests", opened)
                return _proposal(await self._prepared(_request(made)))
            except ForgeError as error:
                # Somebody was faster, or our first request got through and its answer did not.
                if error.status != 409:
                    raise
                found = await self._open_request(head_branch, base_branch)
                if found is None:
                    raise
        return _proposal(await self._prepared(await self._updated(found, wanted)))

    async def proposal(self, number: int) -> Proposal:
        """Return what the forge says of it now."""
        return _proposal(await self._prepared(await self._request_now(number)))

    async def ready(self, number: int) -> None:
        """Make a draft one that can be merged: its title says that it is one."""
        title = (await self._request_now(number)).title
        if _is_draft(title):
            body = {"title": _DRAFT.sub("", title)}
            await self._api.send("PUT", f"{self._path}/merge_requests/{number}", body)

    async def label(self, number: int, labels: Sequence[str]) -> None:
        """Add labels; GitLab makes those that it lacks."""
        if labels:
            body = {"add_labels": ",".join(labels)}
            await self._api.send("PUT", f"{self._path}/merge_requests/{number}", body)

    async def review(self, number: int, review: Review) -> str:
        """Publish a review as notes, an approval if it is one, and a commit status.

        GitLab cannot be asked by its API to request changes: the note and the status say it.
        """
        request = await self._prepared(await self._request_now(number))
        await self._publish(request, review)
        published = await self._approve(request, review)
        await tell_verdict(self, review)
        return published

    async def set_status(
        self, commit: str, *, context: str, state: StatusState, description: str
    ) -> None:
        """Set a commit status. Descriptions are cut to 140 characters."""
        body = {
            "state": _STATES[state],
            "name": context,
            "description": sendable(description)[:DESCRIPTION_CHARACTERS_MAX],
        }
        try:
            await self._api.send("POST", f"{self._path}/statuses/{commit}", body)
        except ForgeError as error:
            # It refuses to make pending what is pending.
            if error.status != 400 or await self._status(commit, context) != _STATES[state]:
                raise

    async def protection(self, branch: str) -> Protection:
        """Return what is demanded of a change before it is on a branch, as far as we may read.

        GitLab names no checks: where it wants a pipeline, all of it must have passed.
        """
        project = parsed(_Project, await self._api.get(self._path))
        way = Way.PUSH if await self._may_push(project, branch) else Way.MERGE
        way = Way.QUEUE if project.merge_trains_enabled else way
        return Protection(some=project.only_allow_merge_if_pipeline_succeeds, way=way)

    async def external_checks(self, number: int, commit: str) -> Sequence[ExternalCheck]:
        """Return the newest run of every job and status of a commit that is not ours."""
        pages = self._api.pages(f"{self._path}/repository/commits/{commit}/statuses")
        checks = [_check(parsed(_Status, entry)) async for entry in pages]
        return [each for each in checks if not each.name.startswith(OURS)]

    async def rerun(self, number: int, checks: Sequence[ExternalCheck]) -> Sequence[str]:
        """Ask for another run of jobs that failed; return the names of those that get one.

        A status that somebody reported is no job, and has nothing that could be asked.
        """
        pipeline = (await self._request_now(number)).head_pipeline
        if pipeline is None:
            return ()
        path = f"{self._path}/pipelines/{pipeline.id}"
        jobs = {str(parsed(_Job, entry).id) async for entry in self._api.pages(f"{path}/jobs")}
        names = [check.name for check in checks if check.run in jobs]
        try:
            if names:
                await self._api.send("POST", f"{path}/retry")
        except ForgeError as error:
            if error.status not in (403, 404, 409):
                raise
            return ()
        return names

    async def enqueue(self, number: int, *, head: str) -> None:
        """Put it on the merge train of its target if its head is still `head`."""
        if (await self.queued(number)).inside:
            return
        try:
            path = f"{self._path}/merge_trains/merge_requests/{number}"
            await self._api.send("POST", path, {"sha": head})
        except ForgeError as error:
            # An answer that got lost, or somebody who was faster: what counts is what is so now.
            if (await self.queued(number)).inside:
                return
            meaning = {**_MERGE_REFUSALS, 400: Refusal.UNMERGEABLE}.get(error.status or 0)
            raise error.meaning(meaning) if meaning else error from error

    async def queued(self, number: int) -> Queued:
        """Return where it stands on the merge train, and what the forge noted of taking it off."""
        removed = await self._removal(number)
        told = (str(removed.id), removed.body) if removed else ("", "")
        try:
            answer = await self._api.get(f"{self._path}/merge_trains/merge_requests/{number}")
        except ForgeError as error:
            if error.refusal is not Refusal.ABSENT:
                raise
            return Queued(False, *told)
        return Queued(parsed(_Car, answer).status in _ON_THE_TRAIN, *told)

    async def comment(self, number: int, body: str) -> None:
        """Add a comment, unless it is what we said last."""
        text = inert(cut(body))
        ours = [note for note in await self._our_notes(number) if not note.on_line]
        if not ours or ours[-1].body != text:
            await self._note(number, text)

    async def merge(self, number: int, *, head: str, strategy: Strategy = Strategy.MERGE) -> str:
        """Let the forge merge it if its head is still `head`; return the merge commit."""
        request = await self._settled(number)
        if landed := _landed(request, head):
            return landed
        check_can_merge(_proposal(request), head, mergeable=request.mergeable)
        refused = await self._merge(request, head, strategy)
        # Also after a refusal: an answer may have got lost, or somebody was faster.
        for wait_s in (0.0, *MERGEABLE_WAITS_S):
            request = await self._request_now(number)
            if landed := _landed(request, head):
                return landed
            if refused is not None:
                raise refused
            await self._pause(wait_s)
        raise ForgeError(f"Merge request !{number} does not show that it was merged yet.")

    async def close(self, number: int) -> None:
        """Close it unmerged; closing what is closed or merged is fine."""
        if _state(await self._request_now(number)) is ProposalState.OPEN:
            await self._api.send(
                "PUT", f"{self._path}/merge_requests/{number}", {"state_event": "close"}
            )

    async def delete_branch(self, branch: str) -> None:
        """Delete a branch; one that is gone is fine."""
        try:
            await self._api.send(
                "DELETE", f"{self._path}/repository/branches/{quote(branch, safe='')}"
            )
        except ForgeError as error:
            if error.refusal is not Refusal.ABSENT:
                raise

    async def proposals(
        self, *, head_branch: str | None = None, only_open: bool = False
    ) -> Sequence[Proposal]:
        """Return all merge requests, open and ended, newest first; or those of one branch."""
        requests = await self._requests("opened" if only_open else "all", head_branch)
        newest_first = sorted(requests, key=lambda request: request.iid, reverse=True)
        return [_proposal(request) for request in newest_first]

    async def aclose(self) -> None:
        """Release connections."""
        await self._api.aclose()

    async def _may_push(self, project: _Project, branch: str) -> bool:
        path = f"{self._path}/protected_branches/{quote(branch, safe='')}"
        try:
            levels = parsed(_Protected, await self._api.get(path)).push_access_levels
        except ForgeError as error:
            # It is not protected, or we may not read how; then the push will tell.
            if error.status not in (403, 404):
                raise
            return True
        ours = project.permissions.level
        return any(
            # Whether one that names a user or group names us, the push will tell.
            each.names_somebody or 0 < (each.access_level or 0) <= ours
            for each in levels
        )

    async def _request_now(self, number: int) -> _Request:
        return _request(await self._api.get(f"{self._path}/merge_requests/{number}"))

    async def _prepared(self, request: _Request) -> _Request:
        """Return it once the forge has found its head, or after a bounded wait.

        A new one has none for a moment, and one without a change may never have any.
        """
        for wait_s in MERGEABLE_WAITS_S:
            if request.sha or request.state != "opened":
                break
            await self._pause(wait_s)
            request = await self._request_now(request.iid)
        return request

    async def _settled(self, number: int) -> _Request:
        """Return it once the forge has worked out whether it merges, or after a bounded wait."""
        request = await self._prepared(await self._request_now(number))
        for wait_s in MERGEABLE_WAITS_S:
            if request.mergeable is not None or request.state != "opened":
                break
            await self._pause(wait_s)
            request = await self._request_now(number)
        return request

    async def _merge(self, request: _Request, head: str, strategy: Strategy) -> ForgeError | None:
        # Whether it merges or rebases is a setting of the project.
        squash = strategy is Strategy.SQUASH
        order = {"sha": head, "squash": squash, "should_remove_source_branch": False}
        path = f"{self._path}/merge_requests/{request.iid}/merge"
        try:
            await self._api.send("PUT", path, order)
        except ForgeError as error:
            meaning = _MERGE_REFUSALS.get(error.status or 0)
            if meaning is None:
                return error
            said = f"{error.message} (it is `{request.merge_state}`)"
            return ForgeError(said, status=error.status, refusal=meaning)
        return None

    async def _check_news(self, head_branch: str, base_branch: str) -> None:
        """Refuse a branch without a change: the forge would open an empty merge request."""
        asked = {"from": base_branch, "to": head_branch}
        answer = await self._api.get(f"{self._path}/repository/compare", asked)
        if not parsed(_Comparison, answer).commits:
            raise ForgeError(
                f"There are no commits between {base_branch} and {head_branch}.",
                refusal=Refusal.NOTHING_NEW,
            )

    async def _open_request(self, head_branch: str, base_branch: str) -> _Request | None:
        """Return the open merge request of this branch, rather into this base than another."""
        requests = await self._requests("opened", head_branch)
        into_base = [request for request in requests if request.target_branch == base_branch]
        return next(iter([*into_base, *requests]), None)

    async def _requests(self, state: str, head_branch: str | None) -> list[_Request]:
        asked = {"state": state} | ({} if head_branch is None else {"source_branch": head_branch})
        pages = self._api.pages(f"{self._path}/merge_requests", asked)
        requests = [_request(entry) async for entry in pages]
        return [
            each for each in requests if head_branch in (None, each.source_branch) and each.ours
        ]

    async def _updated(self, request: _Request, wanted: dict[str, str]) -> _Request:
        wanted = {**wanted, "title": _drafted(wanted["title"], draft=_is_draft(request.title))}
        is_now = {
            "title": request.title,
            "description": request.description or "",
            "target_branch": request.target_branch,
        }
        changed = {name: text for name, text in wanted.items() if text != is_now[name]}
        if not changed:
            return request
        path = f"{self._path}/merge_requests/{request.iid}"
        return _request(await self._api.send("PUT", path, changed))

    async def _me(self) -> str:
        """Return the name that the token stands for; empty when it may not ask."""
        if self._username is None:
            try:
                self._username = parsed(_User, await self._api.get("/user")).username
            except ForgeError as error:
                if error.status != 403:
                    raise
                self._username = ""
        return self._username

    async def _publish(self, request: _Request, review: Review) -> None:
        """Write the notes of a review that are not there yet; the summary comes last."""
        notes, this = await self._our_notes(request.iid), mark(review)
        if any(this in note.body for note in notes if not note.on_line):
            return
        said = {note.body for note in notes}
        where = await self._placed(request, review)
        texts = {issue: inert(line_text(issue)) + f"\n\n{this}" for issue in where.on_lines}
        refused = [
            issue
            for issue, text in texts.items()
            if text not in said and not await self._discuss(request, where, issue, text)
        ]
        await self._note(request.iid, inert(review_text(review, (*refused, *where.in_summary))))

    async def _placed(self, request: _Request, review: Review) -> _Where:
        # The list of files is that of the head: it says nothing about an older commit.
        if not has_lines(review) or request.sha != review.commit or request.diff_refs is None:
            return _Where((), review.issues, {})
        pages = self._api.pages(f"{self._path}/merge_requests/{request.iid}/diffs")
        files = [parsed(_File, entry) async for entry in pages]
        shown = {each.new_path: _FileLines(each.old_path, diff_lines(each.diff)) for each in files}
        by_line = placed(review, {path: file.lines.new for path, file in shown.items()})
        return _Where(by_line.on_lines, by_line.in_summary, shown)

    async def _discuss(self, request: _Request, where: _Where, issue: Issue, text: str) -> bool:
        """Open a discussion on the issue's line; say whether the forge took it."""
        assert request.diff_refs is not None
        file = where.files[issue.file]
        position = {
            "position_type": "text",
            **request.diff_refs.model_dump(),
            "new_path": issue.file,
            "old_path": file.old_path,
            "new_line": issue.line,
        }
        if issue.line in file.lines.unchanged:
            position["old_line"] = file.lines.unchanged[issue.line]
        path = f"{self._path}/merge_requests/{request.iid}/discussions"
        try:
            await self._api.send("POST", path, {"body": text, "position": position})
        except ForgeError as error:
            # The forge sees the diff differently than we do: no word is lost over that.
            if error.status not in (400, 422):
                raise
            return False
        return True

    async def _approve(self, request: _Request, review: Review) -> str:
        """Give or withdraw our approval, as the review says; return how it was published."""
        me = await self._me()
        if not me or request.author.username == me or request.sha != review.commit:
            return "comment"
        path = f"{self._path}/merge_requests/{request.iid}"
        approvals = parsed(_Approvals, await self._api.get(f"{path}/approvals"))
        approved = me in [each.user.username for each in approvals.approved_by]
        if review.decision is not Decision.APPROVE:
            if approved:
                await self._api.send("POST", f"{path}/unapprove")
            return "comment"
        try:
            if not approved:
                await self._api.send("POST", f"{path}/approve", {"sha": review.commit})
        except ForgeError as error:
            # It was pushed to just now, or this user may not approve: the note and status stay.
            if error.status not in (401, 403, 404, 409):
                raise
            return "comment"
        return "approve"

    async def _removal(self, number: int) -> _Note | None:
        """Return the forge's own note of the last time that it was taken off the train."""
        asked = {"sort": "desc", "order_by": "created_at", "activity_filter": "only_activity"}
        pages = self._api.pages(f"{self._path}/merge_requests/{number}/notes", asked)
        notes = [parsed(_Note, entry) async for entry in pages]
        said = [each for each in notes if each.system and _OFF_THE_TRAIN in each.body]
        return max(said, key=lambda each: each.id, default=None)

    async def _our_notes(self, number: int) -> list[_Note]:
        me = await self._me()
        asked = {"sort": "asc", "order_by": "created_at"}
        pages = self._api.pages(f"{self._path}/merge_requests/{number}/notes", asked)
        notes = [parsed(_Note, entry) async for entry in pages]
        return [note for note in notes if not note.system and me in ("", note.author.username)]

    async def _note(self, number: int, text: str) -> None:
        path = f"{self._path}/merge_requests/{number}/notes"
        await self._api.send("POST", path, {"body": text})

    async def _status(self, commit: str, context: str) -> str:
        path = f"{self._path}/repository/commits/{commit}/statuses"
        pages = self._api.pages(path, {"name": context})
        found = [parsed(_Status, entry) async for entry in pages]
        return next((each.status for each in found if each.name == context), "")


def inert(text: str) -> str:
    """Return the text so that no line of it is an order to GitLab, such as `/merge`.

    GitLab does what a description or note says in such lines, and agents write both.
    """
    # It drops carriage returns before it looks.
    return _COMMAND.sub(r"\1\\/", text.replace("\r\n", "\n").replace("\r", "\n"))


@dataclass(frozen=True)
class _FileLines:
    old_path: str
    lines: DiffLines


@dataclass(frozen=True)
class _Where:
    """The issues of a review by where they are shown, and the files that the diff shows."""

    on_lines: tuple[Issue, ...]
    in_summary: tuple[Issue, ...]
    files: Mapping[str, _FileLines]


class _User(BaseModel):
    username: str


class _DiffRefs(BaseModel):
    base_sha: str
    head_sha: str
    start_sha: str


class _Pipeline(BaseModel):
    id: int


class _Job(BaseModel):
    id: int


class _Access(BaseModel):
    access_level: int


class _Permissions(BaseModel):
    project_access: _Access | None = None
    group_access: _Access | None = None

    @property
    def level(self) -> int:
        """Give how much we may do."""
        given = (self.project_access, self.group_access)
        return max((each.access_level for each in given if each), default=0)


class _Project(BaseModel):
    only_allow_merge_if_pipeline_succeeds: bool = False
    merge_trains_enabled: bool = False
    permissions: _Permissions = _Permissions()


class _PushAccess(BaseModel):
    access_level: int | None = None
    user_id: int | None = None
    group_id: int | None = None

    @property
    def names_somebody(self) -> bool:
        """Say whether it is for one user or group."""
        return self.user_id is not None or self.group_id is not None


class _Protected(BaseModel):
    push_access_levels: list[_PushAccess]


class _Request(BaseModel):
    iid: int
    web_url: str
    title: str
    description: str | None
    state: str
    author: _User
    source_branch: str
    target_branch: str
    source_project_id: int | None
    target_project_id: int
    sha: str | None
    merge_commit_sha: str | None = None
    squash_commit_sha: str | None = None
    detailed_merge_status: str = ""
    merge_status: str = ""
    diff_refs: _DiffRefs | None = None
    head_pipeline: _Pipeline | None = None

    @property
    def ours(self) -> bool:
        """Say whether its head is in the project itself, not in a fork."""
        return self.source_project_id == self.target_project_id

    @property
    def merge_state(self) -> str:
        """Give what the forge says of merging it; GitLab before 15.6 has one word only."""
        return self.detailed_merge_status or self.merge_status

    @property
    def mergeable(self) -> bool | None:
        """Say whether it merges without conflict; None while the forge has not looked."""
        return None if self.merge_state in _UNDECIDED else self.merge_state not in _CONFLICTS


class _Car(BaseModel):
    status: str


class _Note(BaseModel):
    id: int
    body: str
    author: _User
    system: bool = False
    type: str | None = None

    @property
    def on_line(self) -> bool:
        """Say whether it is about a line of the diff."""
        return self.type == "DiffNote"


class _File(BaseModel):
    old_path: str
    new_path: str
    diff: str


class _Comparison(BaseModel):
    commits: list[Json]


class _Approval(BaseModel):
    user: _User


class _Approvals(BaseModel):
    approved_by: list[_Approval]


class _Status(BaseModel):
    id: int
    name: str
    status: str
    description: str | None = None
    target_url: str | None = None
    allow_failure: bool = False


def _request(answer: Json) -> _Request:
    return parsed(_Request, answer)


def _proposal(request: _Request) -> Proposal:
    return Proposal(
        number=request.iid,
        url=request.web_url,
        title=request.title,
        body=request.description or "",
        author=request.author.username,
        state=_state(request),
        head=request.sha or "",
        head_branch=request.source_branch,
        base_branch=request.target_branch,
        draft=_is_draft(request.title),
    )


def _is_draft(title: str) -> bool:
    return _DRAFT.match(title) is not None


def _drafted(title: str, *, draft: bool) -> str:
    return f"Draft: {_DRAFT.sub('', title)}"[:TITLE_CHARACTERS_MAX] if draft else title


def _check(status: _Status) -> ExternalCheck:
    state = CheckState.PENDING
    if status.status in _PASSED or (status.allow_failure and status.status in {*_FAILED, "manual"}):
        state = CheckState.PASSED
    elif status.status in _FAILED:
        state = CheckState.FAILED
    said = (status.description or "")[:SUMMARY_CHARACTERS_MAX]
    return ExternalCheck(status.name, state, str(status.id), said, status.target_url or "")


def _state(request: _Request) -> ProposalState:
    match request.state:
        case "merged":
            return ProposalState.MERGED
        case "closed":
            return ProposalState.CLOSED
        case _:  # `locked` is for as long as it is being merged
            return ProposalState.OPEN


def _landed(request: _Request, head: str) -> str | None:
    """Return the merge commit if exactly this head was merged; a fast-forward has none."""
    if request.state != "merged" or request.sha != head:
        return None
    return request.merge_commit_sha or request.squash_commit_sha or head
