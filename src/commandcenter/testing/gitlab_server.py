"""A stand-in for GitLab: real git, and merge requests that live by that forge's rules.

It follows the published API (`/api/v4`), with its statuses, words and oddities: a new merge request
has no head for a moment, empty ones can be opened, lines of a text that begin with `/close` are
orders, nobody can request changes, an approval is given once, a comment on a line must say where
that line was, and a commit status that is pending cannot be made pending.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from commandcenter.core.diff import diff_lines
from commandcenter.core.forge import StatusState
from commandcenter.core.pull_request import Closed, Merged, PullQuery, PullRequest
from commandcenter.hub.history import ChangedFile, FileChange, Method
from commandcenter.hub.pulls import Draft, Edit, MergeOrder, Pulls
from commandcenter.hub.refusal import RefusalError
from commandcenter.testing.forges import GitGround, SeenLineComment, SeenReview, SeenStatus

PAGE_MAX = 50
"""GitLab gives up to 100; with half of it, a list is longer than a page in half the time."""
_PAGE = 20
_TITLE_MAX = 255
_ORDER = re.compile(r"^/(?P<name>close|title)\b ?(?P<text>.*)\n?", re.MULTILINE)
_NO_LINE = (
    """400 Bad request - Note {:line_code=>["can't be blank", "must be a valid line code"]}"""
)
_REPORTED = {StatusState.FAILURE: "failed", StatusState.ERROR: "failed"}
_STATES = {"opened": True, "closed": False, "merged": False}
Json = Any  # Any: JSON in GitLab's shape
R = TypeVar("R")


@dataclass
class GitLabPulls(Pulls):
    """Merge requests by GitLab's rules."""

    async def _check_news(
        self, head_branch: str, base_branch: str, *, head: str, base: str
    ) -> None:
        """Let every merge request be opened, also one that changes nothing."""

    async def _replay(self, head: str, old: str, new: str) -> str | None:
        """Find none: a forge of somebody else's does not read our trailers."""


@dataclass(frozen=True)
class _Note:
    author: str
    body: str
    position: Json = None
    system: bool = False
    id: int = field(default_factory=count(1).__next__)


@dataclass
class _CommitStatus:
    id: int
    name: str
    status: str
    description: str
    target_url: str = ""
    is_job: bool = False
    """Whether the forge's own CI runs it, which can run it again."""
    allow_failure: bool = False


@dataclass
class GitLabServer:
    """One project and its API, as an application that can be served."""

    pulls: GitLabPulls
    tokens: Mapping[str, str]
    """The username of each token."""
    approvers: frozenset[str] | None = None
    """Who may approve; None is everybody."""
    pipeline_must_succeed: bool = False
    """The project's setting "pipelines must succeed"."""
    trains: bool = False
    """The project's setting "merge trains"."""
    train: list[int] = field(default_factory=list)
    """The merge requests on the train, in order."""
    push_levels: dict[str, list[Json]] = field(default_factory=dict)
    """Who may push to each protected branch."""
    _labelled: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    _pipelines: list[str] = field(default_factory=list)
    """The commit of each pipeline, whose id is 500 and its place."""
    _notes: dict[int, list[_Note]] = field(default_factory=lambda: defaultdict(list))
    _approvals: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    _statuses: dict[str, list[_CommitStatus]] = field(default_factory=lambda: defaultdict(list))
    _looked_at: set[tuple[int, str, str]] = field(default_factory=set)

    def application(self) -> Starlette:
        """Return the application."""
        one = "merge_requests/{number:int}"
        calls: tuple[tuple[str, str, Callable[[Request, str], Awaitable[Response]]], ...] = (
            ("GET", "merge_requests", self._list),
            ("POST", "merge_requests", self._create),
            ("GET", one, self._get),
            ("PUT", one, self._edit),
            ("PUT", f"{one}/merge", self._merge),
            ("GET", f"{one}/diffs", self._diffs),
            ("GET", f"{one}/notes", self._list_notes),
            ("POST", f"{one}/notes", self._add_note),
            ("POST", f"{one}/discussions", self._discuss),
            ("GET", f"{one}/approvals", self._get_approvals),
            ("POST", f"{one}/approve", self._approve),
            ("POST", f"{one}/unapprove", self._unapprove),
            ("GET", "repository/compare", self._compare),
            ("DELETE", "repository/branches/{name:path}", self._delete_branch),
            ("GET", "repository/commits/{sha}/statuses", self._list_statuses),
            ("POST", "statuses/{sha}", self._set_status),
            ("GET", "protected_branches/{name:path}", self._protected_branch),
            ("GET", "merge_trains/merge_requests/{number:int}", self._car),
            ("POST", "merge_trains/merge_requests/{number:int}", self._board),
            ("GET", "pipelines/{id:int}/jobs", self._jobs),
            ("POST", "pipelines/{id:int}/retry", self._retry),
        )
        name = self.pulls.repository
        root = f"/api/v4/projects/{name.owner}/{name.name}"
        routes = [
            Route("/api/v4/user", self._endpoint(self._user), methods=["GET"]),
            Route(root, self._endpoint(self._project), methods=["GET"]),
        ]
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
        name = self.pulls.repository
        project = f"/projects/{name.owner}%2F{name.name}/".encode()

        async def answer(request: Request) -> Response:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            login = self.tokens.get(token) if scheme.lower() == "bearer" else None
            if login is None:
                raise HTTPException(401, "401 Unauthorized")
            # A project is one part of the path, with its slashes written as %2F.
            asked = request.scope["raw_path"] + b"/"
            if "/projects/" in request.url.path and project not in asked:
                raise HTTPException(404, "404 Project Not Found")
            return await call(request, login)

        return answer

    async def _user(self, _request: Request, login: str) -> Response:
        return JSONResponse(_user_json(login))

    async def _list(self, request: Request, _login: str) -> Response:
        asked = request.query_params
        state = asked.get("state", "all")
        query = PullQuery(open=_STATES.get(state), head_branch=asked.get("source_branch"))
        found = [
            each for each in (await self.pulls.listed(query))[0] if state in ("all", _state(each))
        ]
        page = _page(request, found)
        return _listed(request, [await self._json(pull) for pull in page], len(found))

    async def _create(self, request: Request, login: str) -> Response:
        body = await request.json()
        source, target = body["source_branch"], body["target_branch"]
        tips = await self.pulls.history.tips([source, target])
        if len(tips) != 2:
            raise HTTPException(409, f'["Source branch \\"{source}\\" does not exist"]')
        _check_title(body["title"])
        draft = Draft(body["title"], body.get("description", ""), source, target, draft=False)
        try:
            pull = await self.pulls.create(login, draft)
        except RefusalError as refusal:
            words = "Another open merge request already exists for this source branch: !1"
            raise HTTPException(409, words) from refusal
        pull = await self._obeyed(pull)
        new = {"sha": None, "diff_refs": None, "detailed_merge_status": "preparing"}
        return JSONResponse(await self._json(pull) | new, status_code=201)

    async def _get(self, request: Request, _login: str) -> Response:
        return JSONResponse(await self._json(await self._pull(request)))

    async def _edit(self, request: Request, _login: str) -> Response:
        body, pull = await request.json(), await self._pull(request)
        if not body:
            raise HTTPException(400, "title, description, state_event are missing")
        _check_title(body.get("title", ""))
        opened = {"close": False, "reopen": True}.get(body.get("state_event", ""))
        edit = Edit(body.get("title"), body.get("description"), body.get("target_branch"), opened)
        added = body.get("add_labels", "")
        self._labelled[pull.number] |= {each for each in added.split(",") if each}
        changed = await self._obeyed(await self.pulls.edit(pull.number, edit))
        return JSONResponse(await self._json(changed))

    async def _merge(self, request: Request, login: str) -> Response:
        body, pull = await request.json(), await self._pull(request)
        looked = self._has_looked(pull)
        if pull.ending is not None or not looked or pull.title.startswith("Draft:"):
            raise HTTPException(405, "405 Method Not Allowed")
        if not await self.pulls.mergeable(pull):
            raise HTTPException(422, "Branch cannot be merged")
        _check_sha(body, pull)
        if self.pipeline_must_succeed and not self._pipeline_succeeded(pull):
            raise HTTPException(405, "405 Method Not Allowed")
        method = Method.SQUASH if body.get("squash") else Method.MERGE
        await self.pulls.merge(pull.number, login, MergeOrder(method, pull.head, None, None))
        return JSONResponse(await self._json(await self._pull(request)))

    async def _diffs(self, request: Request, _login: str) -> Response:
        files = await self._files(await self._pull(request))
        shown = [
            {"old_path": _old_path(each), "new_path": each.path, "diff": each.patch or ""}
            for each in _page(request, files)
        ]
        return _listed(request, shown, len(files))

    async def _list_notes(self, request: Request, _login: str) -> Response:
        notes = self._notes[(await self._pull(request)).number]
        if request.query_params.get("sort", "desc") == "desc":
            notes = notes[::-1]
        shown = [_note_json(note) for note in _page(request, notes)]
        return _listed(request, shown, len(notes))

    async def _add_note(self, request: Request, login: str) -> Response:
        pull, body = await self._pull(request), (await request.json())["body"]
        rest = await self._orders(pull, body)
        if not rest.strip():
            return JSONResponse({"commands_changes": {}, "summary": ["Done."]}, status_code=202)
        note = _Note(login, rest)
        self._notes[pull.number].append(note)
        return JSONResponse(_note_json(note), status_code=201)

    async def _discuss(self, request: Request, login: str) -> Response:
        pull, body = await self._pull(request), await request.json()
        position = body["position"]
        if not {"base_sha", "start_sha", "head_sha", "position_type"} <= position.keys():
            raise HTTPException(400, "position[base_sha] is missing")
        files = {each.path: each for each in await self._files(pull)}
        if position["new_path"] not in files or not _is_line(files, position):
            raise HTTPException(400, _NO_LINE)
        note = _Note(login, await self._orders(pull, body["body"]), position)
        self._notes[pull.number].append(note)
        return JSONResponse({"id": "d", "notes": [_note_json(note)]}, status_code=201)

    async def _get_approvals(self, request: Request, _login: str) -> Response:
        given = sorted(self._approvals[(await self._pull(request)).number])
        return JSONResponse({"approved_by": [{"user": _user_json(each)} for each in given]})

    async def _approve(self, request: Request, login: str) -> Response:
        pull = await self._pull(request)
        _check_sha(await request.json(), pull)
        may = self.approvers is None or login in self.approvers
        if not may or login in self._approvals[pull.number] or pull.ending is not None:
            raise HTTPException(401, "401 Unauthorized")
        self._approvals[pull.number].add(login)
        return JSONResponse({"approved_by": []}, status_code=201)

    async def _unapprove(self, request: Request, login: str) -> Response:
        given = self._approvals[(await self._pull(request)).number]
        if login not in given:
            raise HTTPException(404, "404 Not found")
        given.remove(login)
        return JSONResponse({"approved_by": []}, status_code=201)

    async def _compare(self, request: Request, _login: str) -> Response:
        base, head = request.query_params["from"], request.query_params["to"]
        tips = await self.pulls.history.tips([base, head])
        if len(tips) != 2:
            raise HTTPException(404, "404 Ref Not Found")
        commits = await self.pulls.history.commits(tips[base], tips[head])
        return JSONResponse({"commits": [{"id": each.id} for each in commits], "diffs": []})

    async def _delete_branch(self, request: Request, _login: str) -> Response:
        branch = request.path_params["name"]
        if await self.pulls.history.tip(branch) is None:
            raise HTTPException(404, "404 Branch Not Found")
        await self.pulls.delete_branch(branch)
        return Response(status_code=204)

    async def _list_statuses(self, request: Request, _login: str) -> Response:
        newest = {each.name: each for each in self._statuses[request.path_params["sha"]]}
        name = request.query_params.get("name")
        shown = [
            {
                "id": each.id,
                "name": each.name,
                "status": each.status,
                "description": each.description,
                "target_url": each.target_url,
                "allow_failure": each.allow_failure,
            }
            for each in newest.values()
            if name in (None, each.name)
        ]
        return _listed(request, _page(request, shown), len(shown))

    async def _set_status(self, request: Request, _login: str) -> Response:
        body, commit = await request.json(), request.path_params["sha"]
        if body["state"] not in ("pending", "running", "success", "failed", "canceled"):
            raise HTTPException(400, "state does not have a valid value")
        tips = (await self.pulls.history.branches()).values()
        held = [await self.pulls.history.contains(tip, commit) for tip in tips]
        if not any(held):
            raise HTTPException(404, "404 References for commit Not Found")
        url = body.get("target_url", "")
        status = self._new(body["name"], body["state"], body.get("description", ""), url)
        known = [each for each in self._statuses[commit] if each.name == status.name]
        if known and known[-1].status == status.status == "pending":
            words = "Cannot transition status via :enqueue from :pending"
            raise HTTPException(400, f'{words} (Reason(s): Status cannot transition via "enqueue")')
        self._add(commit, status)
        return JSONResponse({"name": status.name, "status": status.status}, status_code=201)

    def run_job(
        self, commit: str, name: str, status: str, words: str = "", *, allow_failure: bool = False
    ) -> None:
        """Have the forge's own CI run a job on a commit, with this result."""
        job = self._new(name, status, words, "https://gitlab.example/-/jobs/1")
        self._add(commit, replace(job, is_job=True, allow_failure=allow_failure))

    def _new(self, name: str, status: str, words: str, url: str) -> _CommitStatus:
        number = 1 + sum(map(len, self._statuses.values()))
        return _CommitStatus(number, name, status, words, url)

    def _add(self, commit: str, status: _CommitStatus) -> None:
        if commit not in self._pipelines:
            self._pipelines.append(commit)
        self._statuses[commit].append(status)

    def _newest(self, commit: str) -> list[_CommitStatus]:
        return [*{each.name: each for each in self._statuses[commit]}.values()]

    def _pipeline_succeeded(self, pull: PullRequest) -> bool:
        counted = [each for each in self._newest(pull.head) if not each.allow_failure]
        return bool(counted) and all(each.status == "success" for each in counted)

    async def _project(self, _request: Request, _login: str) -> Response:
        return JSONResponse(
            {
                "id": 7,
                "only_allow_merge_if_pipeline_succeeds": self.pipeline_must_succeed,
                "merge_trains_enabled": self.trains,
                "permissions": {"project_access": {"access_level": 30}, "group_access": None},
            }
        )

    async def _protected_branch(self, request: Request, _login: str) -> Response:
        levels = self.push_levels.get(request.path_params["name"])
        if levels is None:
            raise HTTPException(404, "404 Not found")
        return JSONResponse({"name": request.path_params["name"], "push_access_levels": levels})

    async def _car(self, request: Request, _login: str) -> Response:
        number = (await self._pull(request)).number
        if number not in self.train:
            raise HTTPException(404, "404 Not Found")
        return JSONResponse({"id": 1, "status": "fresh", "merge_request": {"iid": number}})

    async def _board(self, request: Request, _login: str) -> Response:
        body, pull = await request.json(), await self._pull(request)
        _check_sha(body, pull)
        if not self.trains or pull.number in self.train or pull.ending is not None:
            raise HTTPException(400, "400 Bad request - Failed to add the merge request")
        self.train.append(pull.number)
        return JSONResponse([{"id": 1, "status": "idle"}], status_code=201)

    async def drive(self, number: int, login: str) -> None:
        """Merge what is on the train."""
        self.train.remove(number)
        pull = await self.pulls.get(number)
        await self.pulls.merge(number, login, MergeOrder(Method.MERGE, pull.head, None, None))

    def throw_off(self, number: int, reason: str) -> None:
        """Take off the train what is on it."""
        self.train.remove(number)
        words = f"removed this merge request from the merge train because {reason}"
        self._notes[number].append(_Note("GitLab", words, system=True))

    async def _jobs(self, request: Request, _login: str) -> Response:
        jobs = [each for each in self._newest(self._commit(request)) if each.is_job]
        shown = [{"id": each.id, "name": each.name, "status": each.status} for each in jobs]
        return _listed(request, _page(request, shown), len(shown))

    async def _retry(self, request: Request, _login: str) -> Response:
        commit = self._commit(request)
        for each in self._newest(commit):
            if each.is_job and each.status in ("failed", "canceled"):
                self.run_job(commit, each.name, "pending")
        identity = request.path_params["id"]
        return JSONResponse({"id": identity, "status": "running"}, status_code=201)

    def _commit(self, request: Request) -> str:
        place = int(request.path_params["id"]) - 500
        if not 0 <= place < len(self._pipelines):
            raise HTTPException(404, "404 Not found")
        return self._pipelines[place]

    async def _pull(self, request: Request) -> PullRequest:
        return await self.pulls.get(request.path_params["number"])

    async def _obeyed(self, pull: PullRequest) -> PullRequest:
        """Return the merge request once the orders in its description are carried out."""
        rest = await self._orders(pull, pull.body)
        return await self.pulls.edit(pull.number, Edit(body=rest)) if rest != pull.body else pull

    async def _orders(self, pull: PullRequest, text: str) -> str:
        """Do what lines of a text order; return the others."""
        text = text.replace("\r", "") if _ORDER.search(text.replace("\r", "")) else text
        for order in _ORDER.finditer(text):
            edit = Edit(open=False) if order["name"] == "close" else Edit(title=order["text"])
            await self.pulls.edit(pull.number, edit)
        return _ORDER.sub("", text)

    async def _files(self, pull: PullRequest) -> tuple[ChangedFile, ...]:
        return await self.pulls.history.files(pull.base, pull.head)

    def _has_looked(self, pull: PullRequest) -> bool:
        """Say whether this forge looked whether it merges: it does when it is first asked."""
        state = (pull.number, pull.head, pull.base)
        looked = state in self._looked_at
        self._looked_at.add(state)
        return looked

    async def _json(self, pull: PullRequest) -> Json:
        name = self.pulls.repository
        merged = pull.ending if isinstance(pull.ending, Merged) else None
        start = await self.pulls.history.merge_base(pull.base, pull.head)
        return {
            "id": 1000 + pull.number,
            "iid": pull.number,
            "web_url": f"https://gitlab.example/{name.owner}/{name.name}/-/merge_requests/1",
            "title": pull.title,
            "description": pull.body or None,
            "labels": sorted(self._labelled[pull.number]),
            "state": _state(pull),
            "author": _user_json(pull.author),
            "source_branch": pull.head_branch,
            "target_branch": pull.base_branch,
            "source_project_id": 7,
            "target_project_id": 7,
            "sha": pull.head,
            "merge_commit_sha": merged.commit if merged else None,
            "squash_commit_sha": None,
            "detailed_merge_status": await self._merge_status(pull),
            "head_pipeline": self._head_pipeline(pull.head),
            "diff_refs": {"base_sha": start, "head_sha": pull.head, "start_sha": pull.base},
        }

    def _head_pipeline(self, commit: str) -> Json:
        if commit not in self._pipelines:
            return None
        return {"id": 500 + self._pipelines.index(commit), "sha": commit, "status": "running"}

    async def _merge_status(self, pull: PullRequest) -> str:
        if pull.ending is not None:
            return "not_open"
        if not self._has_looked(pull):
            return "checking"
        if not await self.pulls.mergeable(pull):
            return "conflict"
        if self.pipeline_must_succeed and not self._pipeline_succeeded(pull):
            return "ci_must_pass"
        return "draft_status" if pull.title.startswith("Draft:") else "mergeable"


@dataclass(frozen=True)
class GitLabGround(GitGround):
    """A ground that is seen through GitLab's API: a review is a note, and may be an approval."""

    server: GitLabServer

    async def reviews(self, number: int) -> list[SeenReview]:
        """Return the reviews, oldest first."""
        answer = await self.client.get(f"merge_requests/{number}/approvals")
        approved = [each["user"]["username"] for each in answer.json()["approved_by"]]
        return [
            SeenReview(
                each["author"]["username"],
                "APPROVED" if each["author"]["username"] in approved else "COMMENTED",
                re.findall(r"\bat ([0-9a-f]{40})\b", each["body"])[0],
                each["body"],
            )
            for each in await self._notes(number)
            if _is_review(each)
        ]

    async def line_comments(self, number: int) -> list[SeenLineComment]:
        """Return the line comments, oldest first."""
        return [
            SeenLineComment(
                each["position"]["new_path"], each["position"]["new_line"], each["body"]
            )
            for each in await self._notes(number)
            if each["type"] == "DiffNote"
        ]

    async def comments(self, number: int) -> list[str]:
        """Return the conversation, oldest first."""
        return [
            each["body"]
            for each in await self._notes(number)
            if each["type"] is None and not _is_review(each)
        ]

    async def statuses(self, commit: str) -> dict[str, SeenStatus]:
        """Return the newest status of each context."""
        words = {"failed": "failure"}
        return {
            each["name"]: SeenStatus(words.get(each["status"], each["status"]), each["description"])
            for each in await self.listed(f"repository/commits/{commit}/statuses")
        }

    async def require(self, branch: str, check: str) -> None:
        """Have the forge require a check: this one requires all that are there."""
        self.server.pipeline_must_succeed = True

    async def report(self, commit: str, check: str, state: StatusState, words: str = "") -> None:
        """Report how a check went, as somebody's CI does, from `https://ci.example/CHECK`."""
        body = {"name": check, "state": _REPORTED.get(state, state.value), "description": words}
        told = body | {"target_url": f"https://ci.example/{check}"}
        (await self.client.post(f"statuses/{commit}", json=told)).raise_for_status()

    async def _notes(self, number: int) -> list[Json]:
        return await self.listed(f"merge_requests/{number}/notes", sort="asc")


def _is_review(note: Json) -> bool:
    return note["type"] is None and "<!-- commandcenter:review:" in note["body"]


def _state(pull: PullRequest) -> str:
    match pull.ending:
        case None:
            return "opened"
        case Merged():
            return "merged"
        case Closed():
            return "closed"


def _old_path(file: ChangedFile) -> str:
    return file.previous_path if file.change is FileChange.RENAMED else file.path


def _is_line(files: Mapping[str, ChangedFile], position: Json) -> bool:
    """Say whether a position is one: of an unchanged line, both numbers must be given."""
    file = files[position["new_path"]]
    lines = diff_lines(file.patch or "")
    line = position["new_line"]
    old_line = lines.unchanged.get(line)
    return (
        line in lines.new
        and position.get("old_line") == old_line
        and position["old_path"] == _old_path(file)
    )


def _check_title(title: str) -> None:
    if len(title) > _TITLE_MAX:
        raise HTTPException(400, "title is too long (maximum is 255 characters)")


def _check_sha(body: Json, pull: PullRequest) -> None:
    if body.get("sha") not in (None, pull.head):
        raise HTTPException(409, f"SHA does not match HEAD of source branch: {pull.head}")


def _page(request: Request, entries: Sequence[R]) -> Sequence[R]:
    number, size = _asked_page(request)
    return entries[(number - 1) * size : number * size]


def _asked_page(request: Request) -> tuple[int, int]:
    asked = request.query_params
    return int(asked.get("page") or 1), min(int(asked.get("per_page") or _PAGE), PAGE_MAX)


def _listed(request: Request, entries: Sequence[Json], total: int) -> Response:
    number, size = _asked_page(request)
    following = str(number + 1) if number * size < total else ""
    headers = {"X-Next-Page": following, "X-Page": str(number), "X-Total": str(total)}
    if following:
        headers["Link"] = f'<https://gitlab.example{request.url.path}?page=2>; rel="next"'
    return JSONResponse(list(entries), headers=headers)


def _user_json(login: str) -> Json:
    return {"id": sum(login.encode()), "username": login, "name": login.title()}


def _note_json(note: _Note) -> Json:
    kind = {"type": "DiffNote", "position": note.position} if note.position else {"type": None}
    told = {"id": note.id, "body": note.body, "author": _user_json(note.author)}
    return {**told, "system": note.system, **kind}


async def _answer_refusal(_request: Request, refusal: RefusalError) -> Response:
    words = "404 Not found" if refusal.status == 404 else refusal.message
    return JSONResponse({"message": words}, status_code=refusal.status)


async def _answer_http(_request: Request, error: HTTPException) -> Response:
    # What a merge request lacks is listed, everything else is said.
    said = [error.detail] if error.status_code == 409 else error.detail
    return JSONResponse({"message": said}, status_code=error.status_code)
