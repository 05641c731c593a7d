"""GitHub, and what speaks its REST dialect: the hub, and GitHub Enterprise."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import TypeVar, assert_never
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from commandcenter.core.diff import diff_lines
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
    Way,
)
from commandcenter.core.merge_queue import Strategy
from commandcenter.forges.dialect import (
    MERGEABLE_WAITS_S,
    SUMMARY_CHARACTERS_MAX,
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
from commandcenter.forges.github_app import HEADERS, AppSignIn
from commandcenter.forges.github_graphql import GraphQl, graphql_url
from commandcenter.forges.pull_requests import PullRequests, User
from commandcenter.forges.rest import Json, Pause, RestApi, parsed

TITLE_CHARACTERS_MAX = 256
_REVIEW_TRIES_MAX = 3


class GitHub(PullRequests):
    """One repository on GitHub. Implements `core.forge.Forge`."""

    kind = "github"

    def __init__(
        self,
        api_url: str,
        owner: str,
        repository: str,
        token: str | AppSignIn,
        *,
        client: httpx.AsyncClient | None = None,
        user_agent: str = "commandcenter",
        pause: Pause = asyncio.sleep,
        beside: bool = False,
    ) -> None:
        """A `client` that is given is only borrowed; `pause` is how to wait between tries.

        `beside` says that pushes go past the forge, which cannot refuse them: the hub.
        """
        headers = {**HEADERS, "User-Agent": user_agent}
        if isinstance(token, str):
            headers["Authorization"] = f"Bearer {token.strip()}"
        self._app = None if isinstance(token, str) else token
        api = RestApi(api_url, headers, client=client, pause=pause, auth=self._app)
        self._pause = pause
        self._owner = owner
        self._beside = beside
        self._graphql = GraphQl(api, graphql_url(api_url), owner, repository)
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
            try:
                made = await self._api.send(
                    "POST", f"{self._path}/pulls", {**wanted, "head": head_branch, "draft": draft}
                )
                return _proposal(_pull(made))
            except ForgeError as error:
                # Somebody was faster, or our first request got through and its answer did not.
                if error.status != 422 or "already exists" not in error.message:
                    raise _understood(error) from error
                found = await self._open_pull(head_branch, base_branch)
                if found is None:
                    raise
        return _proposal(await self._updated(found, wanted))

    async def proposal(self, number: int) -> Proposal:
        """Return what the forge says of it now."""
        return _proposal(await self._pull_now(number))

    async def ready(self, number: int) -> None:
        """Make a draft one that can be merged; what is none stays as it is."""
        pull = await self._pull_now(number)
        if not pull.draft:
            return
        if self._beside:
            # The hub knows no GraphQL, and GitHub no other way.
            await self._api.send("PATCH", f"{self._path}/pulls/{number}", {"draft": False})
        else:
            await self._graphql.ready(pull.node_id)

    async def label(self, number: int, labels: Sequence[str]) -> None:
        """Add labels; GitHub makes those that it lacks. The hub has none."""
        if labels and not self._beside:
            body = {"labels": list(labels)}
            await self._api.send("POST", f"{self._path}/issues/{number}/labels", body)

    async def merge(self, number: int, *, head: str, strategy: Strategy = Strategy.MERGE) -> str:
        """Let the forge merge it if its head is still `head`; return the merge commit."""
        pull = await self._settled(number)
        if landed := _landed(pull, head):
            return landed
        check_can_merge(_proposal(pull), head, mergeable=pull.mergeable)
        try:
            order = {"sha": head, "merge_method": strategy.value}
            answer = await self._api.send("PUT", f"{self._path}/pulls/{number}/merge", order)
            return str(answer["sha"])
        except ForgeError as error:
            # An answer that got lost, or somebody who was faster: what counts is what is so now.
            if landed := _landed(await self._pull_now(number), head):
                return landed
            meaning = _MERGE_REFUSALS.get(error.status or 0)
            raise error.meaning(meaning) if meaning else error from error

    async def protection(self, branch: str) -> Protection:
        """Return what is demanded of a change before it is on a branch, as far as we may read."""
        checks = [*await self._required_by_branch(branch)]
        rules = await self._rules(branch)
        for rule in rules:
            checks += [each.context for each in rule.parameters.required_status_checks]
        way = self._way({rule.type for rule in rules}, required=bool(checks))
        return Protection(tuple(dict.fromkeys(checks)), way=way, merges=not self._beside)

    async def external_checks(self, number: int, commit: str) -> Sequence[ExternalCheck]:
        """Return the newest run of every check of a commit that is not ours."""
        pages = self._api.pages(f"{self._path}/commits/{commit}/statuses")
        statuses = [_status(entry) async for entry in pages]
        runs = [_check(run) for run in await self._check_runs(commit)]
        return [each for each in (*newest(statuses), *runs) if not each.name.startswith(OURS)]

    async def rerun(self, number: int, checks: Sequence[ExternalCheck]) -> Sequence[str]:
        """Ask for another run of checks that failed; return the names of those that get one.

        A commit status has nothing behind it that could be asked.
        """
        calls: dict[str, list[str]] = {}
        for check in checks:
            kind, _, identity = check.run.partition("/")
            if kind in _RERUNS:
                call = _RERUNS[kind].format(identity.partition("/")[0])
                calls.setdefault(call, []).append(check.name)
        asked = [names for call, names in calls.items() if await self._taken(call)]
        return [name for names in asked for name in names]

    async def enqueue(self, number: int, *, head: str) -> None:
        """Put it into GitHub's merge queue if its head is still `head`."""
        await self._graphql.enqueue(number, head)

    async def queued(self, number: int) -> Queued:
        """Return where it stands in GitHub's merge queue."""
        return await self._graphql.queued(number)

    async def close(self, number: int) -> None:
        """Close it unmerged; closing what is closed or merged is fine."""
        if (await self._pull_now(number)).state == "open":
            await self._api.send("PATCH", f"{self._path}/pulls/{number}", {"state": "closed"})

    async def delete_branch(self, branch: str) -> None:
        """Delete a branch; one that is gone is fine."""
        try:
            await self._api.send("DELETE", f"{self._path}/git/refs/heads/{quote(branch)}")
        except ForgeError as error:
            gone = error.status == 422 and "does not exist" in error.message
            if error.status != 404 and not gone:
                raise

    async def proposals(
        self, *, head_branch: str | None = None, only_open: bool = False
    ) -> Sequence[Proposal]:
        """Return all pull requests, open and ended, newest first; or those of one head branch."""
        asked = {"state": "open" if only_open else "all", "sort": "created", "direction": "desc"}
        return [_proposal(pull) for pull in await self._pulls(asked, head_branch)]

    async def _me(self) -> str:
        """Return our login; GitHub tells an App's only to the App itself."""
        return await super()._me() if self._app is None else await self._app.login()

    def _way(self, rules: set[str], *, required: bool) -> Way:
        if "merge_queue" in rules:
            return Way.QUEUE
        takes_push = self._beside or not (required or rules & _NO_PUSH)
        return Way.PUSH if takes_push else Way.MERGE

    async def _required_by_branch(self, branch: str) -> Sequence[str]:
        try:
            answer = await self._api.get(f"{self._path}/branches/{quote(branch)}")
        except ForgeError as error:
            if error.refusal is not Refusal.ABSENT:
                raise
            return ()
        found = parsed(_Branch, answer).protection
        return found.required_status_checks.contexts if found.required_status_checks else ()

    async def _rules(self, branch: str) -> list[_Rule]:
        path = f"{self._path}/rules/branches/{quote(branch)}"
        try:
            return [parsed(_Rule, entry) async for entry in self._api.pages(path)]
        except ForgeError as error:
            # A server that is older than rules, or an account without them, has none.
            if error.refusal is Refusal.ABSENT or "Upgrade to" in error.message:
                return []
            raise

    async def _check_runs(self, commit: str) -> list[_CheckRun]:
        path = f"{self._path}/commits/{commit}/check-runs"
        try:
            found = await self._counted(path, _CheckRuns, {"filter": "latest"})
        except ForgeError as error:
            # No personal token can be given this right but the classic ones.
            if error.status != 403:
                raise
            return await self._jobs(commit)
        return [run for page in found for run in page.check_runs]

    async def _jobs(self, commit: str) -> list[_CheckRun]:
        """Return the jobs of Actions on a commit: each of them is a check run."""
        path = f"{self._path}/actions/runs"
        workflows = await self._counted(path, _Workflows, {"head_sha": commit})
        jobs: list[_CheckRun] = []
        for each in (each for page in workflows for each in page.workflow_runs):
            asked = {"filter": "latest"}
            pages = await self._counted(f"{path}/{each.id}/jobs", _Jobs, asked)
            jobs += [job.as_check_run() for page in pages for job in page.jobs]
        return jobs

    async def _counted(self, path: str, model: type[C], asked: dict[str, str]) -> list[C]:
        """Return all pages of what is counted instead of listed."""
        pages: list[C] = []
        for page in range(1, _CHECK_PAGES_MAX + 1):
            params = {**asked, "per_page": "100", "page": str(page)}
            pages.append(parsed(model, await self._api.get(path, params)))
            if pages[-1].size < 100:
                return pages
        raise ForgeError(f"{path} has more than {100 * _CHECK_PAGES_MAX} entries.")

    async def _taken(self, call: str) -> bool:
        """Order another run; say whether the forge took it."""
        try:
            await self._api.send("POST", f"{self._path}/{call}")
        except ForgeError as error:
            if error.status not in _NO_RERUN:
                raise
            return False
        return True

    async def _pull_now(self, number: int) -> _Pull:
        return _pull(await self._api.get(f"{self._path}/pulls/{number}"))

    async def _settled(self, number: int) -> _Pull:
        """Return it once the forge has worked out whether it merges, or after a bounded wait."""
        pull = await self._pull_now(number)
        for wait_s in MERGEABLE_WAITS_S:
            if pull.mergeable is not None or pull.state != "open":
                break
            await self._pause(wait_s)
            pull = await self._pull_now(number)
        return pull

    async def _open_pull(self, head_branch: str, base_branch: str) -> _Pull | None:
        """Return the open pull request of this branch, rather into this base than another."""
        pulls = await self._pulls({"state": "open"}, head_branch)
        into_base = [pull for pull in pulls if pull.base.ref == base_branch]
        return next(iter([*into_base, *pulls]), None)

    async def _pulls(self, asked: dict[str, str], head_branch: str | None) -> list[_Pull]:
        if head_branch is not None:
            asked = {**asked, "head": f"{self._owner}:{head_branch}"}
        pages = self._api.pages(f"{self._path}/pulls", asked)
        pulls = [_pull(entry) async for entry in pages]
        # GitHub ignores a head filter that it does not understand, and then returns everything.
        return [pull for pull in pulls if head_branch in (None, pull.head.ref) and pull.ours]

    async def _updated(self, pull: _Pull, wanted: dict[str, str]) -> _Pull:
        is_now = {"title": pull.title, "body": pull.body or "", "base": pull.base.ref}
        changed = {name: text for name, text in wanted.items() if text != is_now[name]}
        if not changed:
            return pull
        return _pull(await self._api.send("PATCH", f"{self._path}/pulls/{pull.number}", changed))

    async def _published(self, number: int, review: Review) -> str | None:
        """Return how this very review was published before, if it was."""
        this = mark(review)
        async for entry in self._api.pages(f"{self._path}/pulls/{number}/reviews"):
            known = _remark(entry)
            if known.commit_id == review.commit and this in (known.body or ""):
                return _PUBLISHED.get(known.state or "", "comment")
        return None

    async def _publish(self, number: int, review: Review) -> str:
        pull = await self._pull_now(number)
        own = pull.user is not None and pull.user.login == await self._me()
        event = _event(review.decision, own=own)
        placed = await self._placed(pull, review)
        for _ in range(_REVIEW_TRIES_MAX):
            try:
                await self._send_review(number, review, event, placed)
                return event.lower()
            except ForgeError as error:
                if error.status != 422:
                    raise
                if "your own pull request" in error.message and event != "COMMENT":
                    event = "COMMENT"
                elif placed.on_lines:
                    # The forge sees the diff differently than we do: no word is lost over that.
                    placed = Placed((), review.issues)
                else:
                    raise
        raise AssertionError("each refusal changes what is sent, and there are two to change")

    async def _send_review(self, number: int, review: Review, event: str, placed: Placed) -> None:
        body = {
            "commit_id": review.commit,
            "event": event,
            "body": review_text(review, placed.in_summary),
            "comments": [_line_comment(issue) for issue in placed.on_lines],
        }
        await self._api.send("POST", f"{self._path}/pulls/{number}/reviews", body)

    async def _placed(self, pull: _Pull, review: Review) -> Placed:
        # The list of files is that of the head: it says nothing about an older commit.
        if not has_lines(review) or pull.head.sha != review.commit:
            return Placed((), review.issues)
        pages = self._api.pages(f"{self._path}/pulls/{pull.number}/files")
        files = [_file(entry) async for entry in pages]
        return placed(review, {each.filename: diff_lines(each.patch or "").new for each in files})


class _Repository(BaseModel):
    full_name: str


class _End(BaseModel):
    ref: str
    sha: str
    repo: _Repository | None = None


class _Pull(BaseModel):
    number: int
    node_id: str
    draft: bool = False
    html_url: str
    title: str
    body: str | None
    state: str
    user: User | None
    head: _End
    base: _End
    merged_at: str | None
    merge_commit_sha: str | None
    mergeable: bool | None = None

    @property
    def ours(self) -> bool:
        """Say whether its head is in the repository itself, not in a fork."""
        base = self.base.repo
        return base is None or (self.head.repo is not None and self.head.repo == base)


class _Remark(BaseModel):
    body: str | None
    user: User | None
    state: str | None = None
    commit_id: str | None = None


class _File(BaseModel):
    filename: str
    patch: str | None = None


class _RequiredByBranch(BaseModel):
    contexts: list[str] = []


class _BranchProtection(BaseModel):
    required_status_checks: _RequiredByBranch | None = None


class _Branch(BaseModel):
    protection: _BranchProtection = _BranchProtection()


class _RequiredByRule(BaseModel):
    context: str


class _Parameters(BaseModel):
    required_status_checks: list[_RequiredByRule] = []


class _Rule(BaseModel):
    type: str
    parameters: _Parameters = _Parameters()


class _Status(BaseModel):
    id: int
    context: str
    state: str
    description: str | None
    target_url: str | None


class _Output(BaseModel):
    title: str | None = None
    summary: str | None = None


class _App(BaseModel):
    slug: str = ""


class _CheckRun(BaseModel):
    id: int
    name: str
    status: str
    conclusion: str | None
    completed_at: str | None
    html_url: str | None = None
    details_url: str | None = None
    output: _Output = _Output()
    app: _App | None = None


class _CheckRuns(BaseModel):
    check_runs: list[_CheckRun]

    @property
    def size(self) -> int:
        """Give how many there are on this page."""
        return len(self.check_runs)


class _Workflow(BaseModel):
    id: int


class _Workflows(BaseModel):
    workflow_runs: list[_Workflow]

    @property
    def size(self) -> int:
        """Give how many there are on this page."""
        return len(self.workflow_runs)


class _Job(BaseModel):
    id: int
    run_id: int
    name: str
    status: str
    conclusion: str | None
    completed_at: str | None
    html_url: str | None

    def as_check_run(self) -> _CheckRun:
        """Return it as the check run that it is."""
        return _CheckRun(
            id=self.id,
            name=self.name,
            status=self.status,
            conclusion=self.conclusion,
            completed_at=self.completed_at,
            html_url=self.html_url,
            details_url=f"/actions/runs/{self.run_id}/job/{self.id}",
            app=_App(slug="github-actions"),
        )


class _Jobs(BaseModel):
    jobs: list[_Job]

    @property
    def size(self) -> int:
        """Give how many there are on this page."""
        return len(self.jobs)


C = TypeVar("C", _CheckRuns, _Workflows, _Jobs)


_NO_PUSH = {"required_status_checks", "pull_request", "update", "workflows", "required_deployments"}
"""Rules by which a branch takes no push of what it was not asked about."""
_NO_RERUN = (403, 404, 409, 422)
_CHECK_PAGES_MAX = 30
_RERUNS = {"actions": "actions/runs/{}/rerun-failed-jobs", "check-run": "check-runs/{}/rerequest"}
_ACTIONS = re.compile(r"/actions/runs/(\d+)")
_CONCLUSIONS = {
    **dict.fromkeys(("success", "neutral", "skipped"), CheckState.PASSED),
    # Waits for a person.
    "action_required": CheckState.PENDING,
}
_MERGE_REFUSALS = {405: Refusal.UNMERGEABLE, 409: Refusal.MOVED}
_PUBLISHED = {"APPROVED": "approve", "CHANGES_REQUESTED": "request_changes"}


def _understood(error: ForgeError) -> ForgeError:
    """Return what a refusal to open a pull request means."""
    if error.status == 422 and "No commits between" in error.message:
        return error.meaning(Refusal.NOTHING_NEW)
    if error.status == 422 and ("head invalid" in error.message or "base invalid" in error.message):
        return error.meaning(Refusal.ABSENT)
    return error


def _pull(answer: Json) -> _Pull:
    return parsed(_Pull, answer)


def _remark(answer: Json) -> _Remark:
    return parsed(_Remark, answer)


def _file(answer: Json) -> _File:
    return parsed(_File, answer)


def _status(answer: Json) -> SeenStatus:
    found = parsed(_Status, answer)
    return SeenStatus(
        *(found.id, found.context, found.state),
        found.description or "",
        found.target_url or "",
    )


def _check(run: _CheckRun) -> ExternalCheck:
    state = CheckState.PENDING
    if run.status == "completed":
        state = _CONCLUSIONS.get(run.conclusion or "", CheckState.FAILED)
    said = "\n".join(part for part in (run.output.title, run.output.summary) if part)
    url = run.html_url or run.details_url or ""
    return ExternalCheck(run.name, state, _run_name(run), said[:SUMMARY_CHARACTERS_MAX], url)


def _run_name(run: _CheckRun) -> str:
    """Return what tells this run from others, and by what another one is ordered."""
    workflow = _ACTIONS.search(run.details_url or run.html_url or "")
    if run.app and run.app.slug == "github-actions" and workflow:
        return f"actions/{workflow[1]}/{run.id}"
    # An app may report another run under the same id.
    return f"check-run/{run.id}/{run.completed_at}"


def _proposal(pull: _Pull) -> Proposal:
    return Proposal(
        number=pull.number,
        url=pull.html_url,
        title=pull.title,
        body=pull.body or "",
        author=pull.user.login if pull.user else "",
        state=_state(pull),
        head=pull.head.sha,
        head_branch=pull.head.ref,
        base_branch=pull.base.ref,
        draft=pull.draft,
    )


def _state(pull: _Pull) -> ProposalState:
    if pull.merged_at is not None:
        return ProposalState.MERGED
    return ProposalState.OPEN if pull.state == "open" else ProposalState.CLOSED


def _landed(pull: _Pull, head: str) -> str | None:
    """Return the merge commit if exactly this head was merged."""
    if _state(pull) is not ProposalState.MERGED or pull.head.sha != head:
        return None
    return pull.merge_commit_sha


def _event(decision: Decision, *, own: bool) -> str:
    if own:
        return "COMMENT"
    match decision:
        case Decision.APPROVE:
            return "APPROVE"
        case Decision.REVISE | Decision.REJECT:
            return "REQUEST_CHANGES"
        case _:
            assert_never(decision)


def _line_comment(issue: Issue) -> dict[str, str | int]:
    path = sendable(issue.file)
    return {"path": path, "line": issue.line, "side": "RIGHT", "body": line_text(issue)}
