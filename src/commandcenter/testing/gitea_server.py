"""A stand-in for Gitea and Forgejo: real git, and pull requests that live by that forge's rules.

It follows the published API (`/api/v1`), with its statuses, words and oddities where they differ
from GitHub's: empty pull requests can be opened, the list knows no filter by branch, an ended one
shows where its branch is now, "not mergeable" is said before anybody looked, and a push to the
base branch is noticed only where the repository's "autodetect manual merge" is on.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from commandcenter.core.forge import StatusState
from commandcenter.core.pull_request import (
    Merged,
    NewLineComment,
    NewReview,
    NewStatus,
    PullQuery,
    PullRequest,
    ReviewState,
    Side,
)
from commandcenter.hub.history import Method
from commandcenter.hub.pulls import Draft, Edit, MergeOrder, Pulls
from commandcenter.hub.refusal import RefusalError
from commandcenter.hub.wire import iso, newest_by_context
from commandcenter.testing.forges import GitGround, SeenLineComment, SeenReview, SeenStatus

PAGE_MAX = 50
_PAGE = 30
_UNWANTED_PREFIXES = ("WIP:", "[WIP]")
_EVENTS = {
    "APPROVED": ReviewState.APPROVED,
    "REQUEST_CHANGES": ReviewState.CHANGES_REQUESTED,
    "COMMENT": ReviewState.COMMENTED,
}
_STATES = {state: event for event, state in _EVENTS.items()}
Json = Any  # Any: JSON in Gitea's shape
R = TypeVar("R")


@dataclass
class GiteaPulls(Pulls):
    """Pull requests by Gitea's rules."""

    autodetect: bool = True
    """The repository's setting "autodetect manual merge"."""

    async def _check_news(
        self, head_branch: str, base_branch: str, *, head: str, base: str
    ) -> None:
        """Let every pull request be opened, also one that changes nothing."""

    async def _replay(self, head: str, old: str, new: str) -> str | None:
        """Find none: a forge of somebody else's does not read our trailers."""

    async def _seen(self, pull: PullRequest, tips: dict[str, str]) -> PullRequest:
        seen = await super()._seen(pull, tips)
        by_a_push = isinstance(seen.ending, Merged) and not pull.merging
        return replace(seen, ending=None) if by_a_push and not self.autodetect else seen


@dataclass
class GiteaServer:
    """One repository and its API, as an application that can be served."""

    pulls: GiteaPulls
    tokens: Mapping[str, str]
    """The login of each token."""
    required: dict[str, list[str]] = field(default_factory=dict)
    """The patterns of checks that each branch requires; none of them is all that are there."""
    closed: set[str] = field(default_factory=set)
    """Branches that take no push."""
    labels: list[str] = field(default_factory=list)
    """Those that there are; the number of each is its place."""
    _labelled: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    _looked_at: set[tuple[int, str, str]] = field(default_factory=set)

    def application(self) -> Starlette:
        """Return the application."""
        calls: tuple[tuple[str, str, Callable[[Request, str], Awaitable[Response]]], ...] = (
            ("GET", "pulls", self._list),
            ("POST", "pulls", self._create),
            ("GET", "pulls/{number:int}", self._get),
            ("PATCH", "pulls/{number:int}", self._edit),
            ("GET", "pulls/{number:int}.diff", self._diff),
            ("POST", "pulls/{number:int}/merge", self._merge),
            ("GET", "pulls/{number:int}/reviews", self._reviews),
            ("POST", "pulls/{number:int}/reviews", self._review),
            ("GET", "pulls/{number:int}/reviews/{id:int}/comments", self._line_comments),
            ("GET", "labels", self._list_labels),
            ("POST", "labels", self._make_label),
            ("GET", "issues/{number:int}/labels", self._labels_of),
            ("POST", "issues/{number:int}/labels", self._add_labels),
            ("GET", "issues/{number:int}/comments", self._comments),
            ("POST", "issues/{number:int}/comments", self._comment),
            ("POST", "statuses/{sha}", self._set_status),
            ("GET", "statuses/{sha}", self._statuses),
            ("GET", "branches/{name:path}", self._branch),
            ("DELETE", "branches/{name:path}", self._delete_branch),
            ("GET", "compare/{between:path}", self._compare),
            ("GET", "git/refs/pull/{number:int}/head", self._kept_head),
        )
        name = self.pulls.repository
        root = f"/api/v1/repos/{name.owner}/{name.name}"
        routes = [Route("/api/v1/user", self._endpoint(self._user), methods=["GET"])]
        routes += [
            Route(f"{root}/{path}", self._endpoint(call), methods=[method])
            for method, path, call in calls
        ]
        handlers = {RefusalError: _answer_refusal, HTTPException: _answer_http}
        # The key types of Starlette's parameter are wider than those of the handlers.
        return Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]

    def _endpoint(
        self, call: Callable[[Request, str], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            login = self.tokens.get(token) if scheme.lower() in ("token", "bearer") else None
            if login is None:
                raise HTTPException(401, "user does not exist [uid: 0, name: ]")
            return await call(request, login)

        return answer

    async def _user(self, _request: Request, login: str) -> Response:
        return JSONResponse(_user_json(login))

    async def _list(self, request: Request, _login: str) -> Response:
        asked = {"open": True, "closed": False}.get(request.query_params.get("state", "open"))
        found, _ = await self.pulls.listed(PullQuery(open=asked))
        page = _page(request, found)
        return _listed(request, [await self._json(pull) for pull in page], len(found))

    async def _create(self, request: Request, login: str) -> Response:
        body = await request.json()
        if not all(body.get(name) for name in ("head", "base", "title")):
            raise HTTPException(422, "[Title]: Required")
        if body["head"] == body["base"]:
            words = "Invalid PullRequest: There are no changes between the head and the base"
            raise HTTPException(422, words)
        tips = await self.pulls.history.tips([body["head"], body["base"]])
        if len(tips) != 2:
            raise HTTPException(404)
        if len(body["title"]) > 255:
            raise HTTPException(500, "Data too long for column 'name'")
        draft = Draft(body["title"], body.get("body", ""), body["head"], body["base"], draft=False)
        try:
            pull = await self.pulls.create(login, draft)
        except RefusalError as refusal:
            raise HTTPException(
                409, f"pull request already exists for these targets [{body['head']}]"
            ) from refusal
        return JSONResponse(await self._json(pull), status_code=201)

    async def _get(self, request: Request, _login: str) -> Response:
        return JSONResponse(await self._json(await self._pull(request)))

    async def _edit(self, request: Request, _login: str) -> Response:
        body, pull = await request.json(), await self._pull(request)
        if "state" in body and isinstance(pull.ending, Merged):
            words = "cannot change state of this pull request, it was already merged"
            raise HTTPException(412, words)
        base = body.get("base")
        if base and await self.pulls.history.tip(base) is None:
            raise HTTPException(404, f"new base '{base}' not exist")
        opened = body["state"] == "open" if "state" in body else None
        edit = Edit(body.get("title") or None, body.get("body"), base, opened)
        changed = await self.pulls.edit(pull.number, edit)
        return JSONResponse(await self._json(changed), status_code=201)

    async def _diff(self, request: Request, _login: str) -> Response:
        pull = await self._pull(request)
        return PlainTextResponse(await self.pulls.history.diff(pull.base, pull.head))

    async def _merge(self, request: Request, login: str) -> Response:
        body, pull = await request.json(), await self._pull(request)
        if body.get("Do") not in ("merge", "squash", "rebase"):
            raise HTTPException(422, "[Do]: Required")
        if pull.ending is not None:
            merged = isinstance(pull.ending, Merged)
            raise HTTPException(405, "") if merged else HTTPException(404)
        if pull.title.upper().startswith(_UNWANTED_PREFIXES):
            raise HTTPException(405, "Work in progress PRs cannot be merged")
        if not await self._mergeable(pull):
            raise HTTPException(405, "Please try again later")
        if body.get("head_commit_id") not in (None, "", pull.head):
            raise HTTPException(409, "head out of date")
        if not await self._has_passed(pull):
            words = "Please try again later"  # what it says of any pull request that is not ready
            raise HTTPException(405, words)
        await self.pulls.merge(
            pull.number, login, MergeOrder(Method(body["Do"]), pull.head, None, None)
        )
        return Response(status_code=200)

    async def _list_labels(self, request: Request, _login: str) -> Response:
        shown = [self._label_json(number) for number in range(len(self.labels))]
        return _listed(request, _page(request, shown), len(shown))

    async def _make_label(self, request: Request, _login: str) -> Response:
        body = await request.json()
        if not body.get("name") or not body.get("color"):
            raise HTTPException(422, "[Color]: Required")
        self.labels.append(body["name"])
        return JSONResponse(self._label_json(len(self.labels) - 1), status_code=201)

    async def _labels_of(self, request: Request, _login: str) -> Response:
        return JSONResponse([*map(self._label_json, sorted(self._labelled[self._n(request)]))])

    async def _add_labels(self, request: Request, login: str) -> Response:
        wanted = (await request.json())["labels"]
        # Older ones ignore names, and numbers that are none of theirs.
        known = range(len(self.labels))
        self._labelled[self._n(request)] |= {each for each in wanted if each in known}
        return await self._labels_of(request, login)

    def _n(self, request: Request) -> int:
        return int(request.path_params["number"])

    def _label_json(self, number: int) -> Json:
        return {"id": number, "name": self.labels[number], "color": "ededed"}

    async def _has_passed(self, pull: PullRequest) -> bool:
        required = self.required.get(pull.base_branch)
        if required is None:
            return True
        shown = newest_by_context(await self.pulls.statuses(pull.head))
        passed = {each.context: each.state is StatusState.SUCCESS for each in shown}
        if not required:
            return bool(passed) and all(passed.values())
        met = [[name for name in passed if fnmatch(name, each)] for each in required]
        return all(names and all(passed[name] for name in names) for names in met)

    async def _branch(self, request: Request, _login: str) -> Response:
        name = request.path_params["name"]
        tip = await self.pulls.history.tip(name)
        if tip is None:
            raise HTTPException(404)
        required = self.required.get(name)
        shown = {
            "name": name,
            "commit": {"id": tip},
            "protected": required is not None or name in self.closed,
            "enable_status_check": required is not None,
            "status_check_contexts": required,
            "user_can_push": name not in self.closed,
            "user_can_merge": True,
        }
        return JSONResponse(shown)

    async def _reviews(self, request: Request, _login: str) -> Response:
        reviews = await self.pulls.reviews((await self._pull(request)).number)
        shown = [
            {
                "id": each.id,
                "user": _user_json(each.author),
                "state": _STATES[each.state],
                "body": each.body,
                "commit_id": each.commit,
                "submitted_at": iso(each.at_ms),
            }
            for each in _page(request, reviews)
        ]
        return _listed(request, shown, len(reviews), links=False)

    async def _review(self, request: Request, login: str) -> Response:
        body, pull = await request.json(), await self._pull(request)
        event, text, lines = body.get("event"), body.get("body", ""), body.get("comments", [])
        if event in ("APPROVED", "REQUEST_CHANGES") and login == pull.author:
            verb = "approve" if event == "APPROVED" else "reject"
            raise HTTPException(422, f"{verb} your own pull is not allowed")
        if event in ("APPROVED", "REQUEST_CHANGES") and pull.ending is not None:
            raise HTTPException(422, "can't submit review for a closed or merged PR")
        if not text.strip() and (event == "REQUEST_CHANGES" or (event == "COMMENT" and not lines)):
            raise HTTPException(422, f"review event {event} requires a body")
        comments = tuple(
            NewLineComment(each["path"], each["new_position"], Side.RIGHT, each["body"])
            for each in lines
        )
        # Not by `Pulls.review`: this forge takes any commit, and any line.
        review = NewReview(
            login, _EVENTS[event], text, body.get("commit_id") or pull.head, self._now(), comments
        )
        made = await self._do(
            self.pulls.records.add_review, self.pulls.repository.key, pull.number, review
        )
        return JSONResponse(
            {"id": made.id, "state": event, "body": text, "user": _user_json(login)}
        )

    async def _line_comments(self, request: Request, _login: str) -> Response:
        comments = await self.pulls.line_comments((await self._pull(request)).number)
        return JSONResponse(
            [
                {"path": each.path, "position": each.line, "body": each.body}
                for each in comments
                if each.review == request.path_params["id"]
            ]
        )

    async def _comments(self, request: Request, _login: str) -> Response:
        comments = await self.pulls.comments((await self._pull(request)).number)
        shown = [{"body": each.body, "user": _user_json(each.author)} for each in comments]
        # All of them: this list has no pages.
        return JSONResponse(shown, headers={"X-Total-Count": str(len(shown))})

    async def _comment(self, request: Request, login: str) -> Response:
        text = (await request.json())["body"]
        made = await self.pulls.add_comment(request.path_params["number"], login, text)
        return JSONResponse({"id": made.id, "body": made.body}, status_code=201)

    async def _set_status(self, request: Request, login: str) -> Response:
        body, commit = await request.json(), request.path_params["sha"]
        status = NewStatus(
            *(commit, body["context"], StatusState(body["state"]), body["description"]),
            *(body.get("target_url", ""), login, self._now()),
        )
        try:
            await self.pulls.add_status(status)
        except RefusalError as refusal:
            raise HTTPException(404, refusal.message) from refusal
        return JSONResponse({"status": body["state"], "context": body["context"]}, status_code=201)

    async def _statuses(self, request: Request, _login: str) -> Response:
        statuses = await self.pulls.statuses(request.path_params["sha"])
        shown = [
            # Not `state`, as everywhere else.
            {
                "id": each.id,
                "status": each.state.value,
                "context": each.context,
                "description": each.description,
                "target_url": each.target_url,
            }
            for each in statuses
        ]
        return _listed(request, _page(request, shown), len(shown))

    async def _delete_branch(self, request: Request, _login: str) -> Response:
        branch = request.path_params["name"]
        if await self.pulls.history.tip(branch) is None:
            raise HTTPException(404)
        if branch == self.pulls.repository.default_branch:
            raise HTTPException(403, "can not delete default branch")
        await self.pulls.delete_branch(branch)
        return Response(status_code=204)

    async def _compare(self, request: Request, _login: str) -> Response:
        base, _, head = request.path_params["between"].partition("...")
        tips = await self.pulls.history.tips([base, head])
        if len(tips) != 2:
            raise HTTPException(404)
        commits = await self.pulls.history.commits(tips[base], tips[head])
        shown = [{"sha": each.id} for each in commits]
        return JSONResponse({"total_commits": len(shown), "commits": shown})

    async def _kept_head(self, request: Request, _login: str) -> Response:
        pull = await self._pull(request)
        kept = {"type": "commit", "sha": pull.head}
        return JSONResponse([{"ref": f"refs/pull/{pull.number}/head", "object": kept}])

    async def _pull(self, request: Request) -> PullRequest:
        return await self.pulls.get(request.path_params["number"])

    async def _mergeable(self, pull: PullRequest) -> bool:
        """Say whether it merges, as far as this forge knows: it looks when it is first asked."""
        state = (pull.number, pull.head, pull.base)
        if pull.ending is not None or state not in self._looked_at:
            self._looked_at.add(state)
            return False
        return bool(await self.pulls.mergeable(pull))

    async def _json(self, pull: PullRequest) -> Json:
        merged = pull.ending if isinstance(pull.ending, Merged) else None
        # Where the branch is now, even if that was after the end.
        tip = await self.pulls.history.tip(pull.head_branch)
        ref = pull.head_branch if tip else f"refs/pull/{pull.number}/head"
        name = self.pulls.repository
        return {
            "id": 1000 + pull.number,
            "number": pull.number,
            "html_url": f"https://gitea.example/{name.owner}/{name.name}/pulls/{pull.number}",
            "title": pull.title,
            "body": pull.body,
            "state": "open" if pull.ending is None else "closed",
            "user": _user_json(pull.author),
            "head": {"label": pull.head_branch, "ref": ref, "sha": tip or pull.head, "repo_id": 1},
            "base": _base_json(pull),
            "merged": merged is not None,
            "merged_at": iso(merged.at_ms) if merged else None,
            "merge_commit_sha": merged.commit if merged else None,
            "mergeable": await self._mergeable(pull),
        }

    def _now(self) -> int:
        return self.pulls.now_ms()

    async def _do(self, call: Callable[..., R], *args: object) -> R:
        return await asyncio.to_thread(call, *args)


@dataclass(frozen=True)
class GiteaGround(GitGround):
    """A ground that is seen through Gitea's API."""

    server: GiteaServer

    async def reviews(self, number: int) -> list[SeenReview]:
        """Return the reviews, oldest first."""
        return [
            SeenReview(
                each["user"]["login"], _EVENTS[each["state"]], each["commit_id"], each["body"]
            )
            for each in await self.listed(f"pulls/{number}/reviews")
        ]

    async def line_comments(self, number: int) -> list[SeenLineComment]:
        """Return the line comments, oldest first."""
        found = [
            await self.listed(f"pulls/{number}/reviews/{each['id']}/comments")
            for each in await self.listed(f"pulls/{number}/reviews")
        ]
        return [
            SeenLineComment(each["path"], each["position"], each["body"])
            for comments in found
            for each in comments
        ]

    async def comments(self, number: int) -> list[str]:
        """Return the conversation, oldest first."""
        return [each["body"] for each in await self.listed(f"issues/{number}/comments")]

    async def statuses(self, commit: str) -> dict[str, SeenStatus]:
        """Return the newest status of each context."""
        return {
            each["context"]: SeenStatus(each["status"], each["description"])
            for each in reversed(await self.listed(f"statuses/{commit}"))
        }

    async def require(self, branch: str, check: str) -> None:
        """Have the forge require a check of what is merged into a branch."""
        self.server.required[branch] = [check]

    async def report(self, commit: str, check: str, state: StatusState, words: str = "") -> None:
        """Report how a check went, as somebody's CI does, from `https://ci.example/CHECK`."""
        body = {"context": check, "state": state.value, "description": words}
        told = body | {"target_url": f"https://ci.example/{check}"}
        (await self.client.post(f"statuses/{commit}", json=told)).raise_for_status()


def _page(request: Request, entries: Sequence[R]) -> Sequence[R]:
    asked = request.query_params
    size = min(int(asked.get("limit") or _PAGE), PAGE_MAX)
    start = (int(asked.get("page") or 1) - 1) * size
    return entries[start : start + size]


def _listed(
    request: Request, entries: Sequence[Json], total: int, *, links: bool = True
) -> Response:
    headers = {"X-Total-Count": str(total)}
    if links:
        # By the address that its administrator gave it, which need not be ours.
        headers["Link"] = f'<https://gitea.example{request.url.path}?page=2>; rel="next"'
    return JSONResponse(list(entries), headers=headers)


def _base_json(pull: PullRequest) -> Json:
    branch = pull.base_branch
    return {"label": branch, "ref": branch, "sha": pull.base, "repo_id": 1}


def _user_json(login: str) -> Json:
    return {"id": sum(login.encode()), "login": login, "full_name": ""}


async def _answer_refusal(_request: Request, refusal: RefusalError) -> Response:
    return _error(refusal.status, refusal.message)


async def _answer_http(_request: Request, error: HTTPException) -> Response:
    words = "The target couldn't be found." if error.status_code == 404 else error.detail
    return _error(error.status_code, words)


def _error(status: int, words: str) -> Response:
    body = {"message": words, "url": "https://gitea.example/api/swagger"}
    return JSONResponse(body | ({"errors": []} if status == 404 else {}), status_code=status)
