"""What GitHub has and the hub has not, in front of the hub: rules, check runs, a merge queue.

It follows GitHub's description of its API, by which its answers are checked in tests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
from graphql import GraphQLError, GraphQLSchema, build_schema, graphql
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

Json = Any  # Any: JSON in GitHub's shape
_AT = "2026-11-01T00:00:00Z"
_URL = "https://github.example"


@dataclass
class GitHubServer:
    """One repository, `acme/project`, whose pull requests the hub keeps."""

    hub: ASGIApp
    rules: list[Json] = field(default_factory=list)
    """Those of every branch: `rule` makes one."""
    takes_reruns: bool = True
    shows_checks: bool = True
    """Whether the token may read check runs, which no fine-grained one may."""
    waiting: list[int] = field(default_factory=list)
    """The pull requests in the merge queue, in order."""
    _labels: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    _removals: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    _runs: dict[str, list[Json]] = field(default_factory=lambda: defaultdict(list))

    def application(self) -> Starlette:
        """Return the application."""
        root = "/repos/acme/project"
        return Starlette(
            routes=[
                Route(f"{root}/rules/branches/{{name:path}}", self._list_rules),
                Route(f"{root}/commits/{{sha}}/check-runs", self._list_runs),
                Route(f"{root}/actions/runs", self._list_workflows),
                Route(f"{root}/actions/runs/{{id:int}}/jobs", self._list_jobs),
                Route(f"{root}/check-runs/{{id:int}}/rerequest", self._rerequest, methods=["POST"]),
                Route(
                    f"{root}/actions/runs/{{id:int}}/rerun-failed-jobs",
                    self._rerun,
                    methods=["POST"],
                ),
                Route(f"{root}/pulls/{{number:int}}/merge", self._merge, methods=["PUT"]),
                Route(f"{root}/issues/{{number:int}}/labels", self._label, methods=["GET", "POST"]),
                Route("/graphql", self._graphql, methods=["POST"]),
                Mount("/", self.hub),
            ]
        )

    def check_run(
        self,
        commit: str,
        name: str,
        conclusion: str | None,
        *,
        words: str = "",
        workflow: int | None = None,
    ) -> None:
        """Have a check run on a commit: in a workflow of Actions, or by another app."""
        number = 1 + sum(map(len, self._runs.values()))
        self._runs[commit].append(_run(number, commit, name, conclusion, words, workflow))

    async def land(self, number: int, token: str) -> None:
        """Merge what is in the queue, as somebody whose token this is."""
        self.waiting.remove(number)
        answer = await self._asked_hub(f"pulls/{number}/merge", f"Bearer {token}", "PUT")
        assert answer.status_code == 200, answer.text

    def throw_out(self, number: int, reason: str) -> None:
        """Take out of the queue what is in it."""
        self.waiting.remove(number)
        self._removals[number].append(reason)

    async def _asked_hub(
        self, path: str, authorization: str, method: str, body: Json = None
    ) -> httpx.Response:
        hub = httpx.ASGITransport(app=self.hub)
        async with httpx.AsyncClient(transport=hub, base_url="http://hub") as client:
            headers = {"Authorization": authorization}
            url = f"/repos/acme/project/{path}"
            return await client.request(method, url, headers=headers, json=body)

    async def _label(self, request: Request) -> Response:
        given = self._labels[request.path_params["number"]]
        if request.method == "POST":
            given += [each for each in (await request.json())["labels"] if each not in given]
        return JSONResponse([_label(number, name) for number, name in enumerate(given, 1)])

    async def _merge(self, request: Request) -> Response:
        if any(each["type"] == "merge_queue" for each in self.rules):
            words = "Changes must be made through the merge queue"
            return JSONResponse({"message": f"Repository rule violations found\n\n{words}"}, 405)
        number = request.path_params["number"]
        hub = httpx.ASGITransport(app=self.hub)
        async with httpx.AsyncClient(transport=hub, base_url="http://hub") as client:
            answer = await client.put(
                f"/repos/acme/project/pulls/{number}/merge",
                content=await request.body(),
                headers={"Authorization": request.headers.get("authorization", "")},
            )
        return Response(answer.content, answer.status_code, media_type="application/json")

    async def _graphql(self, request: Request) -> Response:
        authorization = request.headers.get("authorization", "")
        if (await self._asked_hub("pulls", authorization, "GET")).status_code == 401:
            return JSONResponse({"message": "Bad credentials"}, 401)
        body = await request.json()
        answer = await graphql(
            _schema(),
            body["query"],
            root_value={
                "repository": self._repository,
                "enqueuePullRequest": self._enqueue,
                "markPullRequestReadyForReview": self._ready,
            },
            context_value=authorization,
            variable_values=body["variables"],
        )
        return JSONResponse(answer.formatted)

    async def _repository(self, _info: Json, owner: str, name: str) -> Json:
        assert (owner, name) == ("acme", "project")
        return {"pullRequest": self._pull}

    async def _pull(self, info: Json, number: int) -> Json:
        shown = (await self._asked_hub(f"pulls/{number}", info.context, "GET")).json()
        removals = self._removals[number]
        nodes = [
            {
                "__typename": "RemovedFromMergeQueueEvent",
                "id": f"RFMQE_{number}_{len(removals)}",
                "reason": reason,
            }
            for reason in removals[-1:]
        ]
        state = "AWAITING_CHECKS" if self.waiting[:1] == [number] else "QUEUED"
        return {
            "id": f"PR_{number}",
            "headRefOid": shown["head"]["sha"],
            "mergeQueueEntry": {"state": state} if number in self.waiting else None,
            "timelineItems": {"nodes": nodes},
        }

    async def _ready(self, info: Json, input: Json) -> Json:  # noqa: A002 - GitHub's name
        number = _number(input)
        await self._asked_hub(f"pulls/{number}", info.context, "PATCH", {"draft": False})
        return {"pullRequest": {"isDraft": False}}

    async def _enqueue(self, info: Json, input: Json) -> Json:  # noqa: A002 - GitHub's name
        number = _number(input)
        pull = (await self._asked_hub(f"pulls/{number}", info.context, "GET")).json()
        if input.get("expectedHeadOid") not in (None, pull["head"]["sha"]):
            raise GraphQLError("The head of the pull request is not the expected one")
        if number in self.waiting:
            raise GraphQLError("Pull request is already in the queue")
        if not any(each["type"] == "merge_queue" for each in self.rules):
            raise GraphQLError("The base branch does not have a merge queue")
        if pull["state"] != "open" or not pull["mergeable"]:
            raise GraphQLError("Pull request is in an unmergeable state")
        self.waiting.append(number)
        return {"mergeQueueEntry": {"state": "QUEUED"}}

    async def _list_rules(self, _request: Request) -> Response:
        return JSONResponse(self.rules)

    async def _list_workflows(self, request: Request) -> Response:
        runs = self._runs[request.query_params["head_sha"]]
        found = dict.fromkeys(each for each in map(_workflow_of, runs) if each)
        shown = [{"id": each} for each in found]
        return JSONResponse({"total_count": len(shown), "workflow_runs": shown})

    async def _list_jobs(self, request: Request) -> Response:
        runs = {run["name"]: run for runs in self._runs.values() for run in runs}
        kept = ("id", "name", "status", "conclusion", "completed_at", "html_url")
        jobs = [
            {name: run[name] for name in kept} | {"run_id": _workflow_of(run)}
            for run in runs.values()
            if _workflow_of(run) == request.path_params["id"]
        ]
        return JSONResponse({"total_count": len(jobs), "jobs": jobs})

    async def _list_runs(self, request: Request) -> Response:
        if not self.shows_checks:
            words = "Resource not accessible by personal access token"
            return JSONResponse({"message": words}, 403)
        newest = {run["name"]: run for run in self._runs[request.path_params["sha"]]}
        size = int(request.query_params.get("per_page", 30))
        start = (int(request.query_params.get("page", 1)) - 1) * size
        shown = [*newest.values()][start : start + size]
        return JSONResponse({"total_count": len(newest), "check_runs": shown})

    async def _rerequest(self, request: Request) -> Response:
        return self._run_again(lambda run: bool(run["id"] == request.path_params["id"]))

    async def _rerun(self, request: Request) -> Response:
        workflow = f"/actions/runs/{request.path_params['id']}/"
        return self._run_again(
            lambda run: workflow in run["details_url"] and run["conclusion"] == "failure"
        )

    def _run_again(self, chosen: Any) -> Response:  # Any: a predicate of runs
        if not self.takes_reruns:
            return JSONResponse({"message": "This check run is not rerequestable"}, 422)
        for commit, runs in [*self._runs.items()]:
            for run in [run for run in runs if chosen(run)]:
                self.check_run(commit, run["name"], None, workflow=_workflow_of(run))
        return JSONResponse({}, 201)


SCHEMA = """
scalar GitObjectID
type Query { repository(owner: String!, name: String!): Repository }
type Repository { pullRequest(number: Int!): PullRequest }
type PullRequest {
  id: ID!
  headRefOid: GitObjectID!
  isDraft: Boolean!
  mergeQueueEntry: MergeQueueEntry
  timelineItems(
    last: Int, itemTypes: [PullRequestTimelineItemsItemType!]
  ): PullRequestTimelineItemsConnection!
}
type MergeQueueEntry { state: MergeQueueEntryState! }
enum MergeQueueEntryState { AWAITING_CHECKS LOCKED MERGEABLE QUEUED UNMERGEABLE }
enum PullRequestTimelineItemsItemType { REMOVED_FROM_MERGE_QUEUE_EVENT }
type PullRequestTimelineItemsConnection { nodes: [PullRequestTimelineItems] }
union PullRequestTimelineItems = RemovedFromMergeQueueEvent
type RemovedFromMergeQueueEvent { id: ID! reason: String }
type Mutation {
  enqueuePullRequest(input: EnqueuePullRequestInput!): EnqueuePullRequestPayload
  markPullRequestReadyForReview(
    input: MarkPullRequestReadyForReviewInput!
  ): MarkPullRequestReadyForReviewPayload
}
input MarkPullRequestReadyForReviewInput { pullRequestId: ID! }
type MarkPullRequestReadyForReviewPayload { pullRequest: PullRequest }
input EnqueuePullRequestInput { pullRequestId: ID! expectedHeadOid: GitObjectID }
type EnqueuePullRequestPayload { mergeQueueEntry: MergeQueueEntry }
"""
"""The part of GitHub's schema that is answered here; whether it is one, a test tells."""


def _number(order: Json) -> int:
    return int(order["pullRequestId"].rpartition("_")[2])


@cache
def _schema() -> GraphQLSchema:
    return build_schema(SCHEMA)


def rule(kind: str, **parameters: Json) -> Json:
    """Return a rule as GitHub tells it of a branch."""
    shown = {"type": kind, "ruleset_source_type": "Repository", "ruleset_source": "acme/project"}
    return shown | {"ruleset_id": 42} | ({"parameters": parameters} if parameters else {})


def merge_queue() -> Json:
    """Return the rule that changes land by the merge queue."""
    return rule(
        "merge_queue",
        check_response_timeout_minutes=60,
        grouping_strategy="ALLGREEN",
        max_entries_to_build=5,
        max_entries_to_merge=5,
        merge_method="MERGE",
        min_entries_to_merge=1,
        min_entries_to_merge_wait_minutes=5,
    )


def required_checks(*contexts: str) -> Json:
    """Return the rule that checks must have passed."""
    return rule(
        "required_status_checks",
        required_status_checks=[{"context": context} for context in contexts],
        strict_required_status_checks_policy=False,
    )


def _workflow_of(run: Json) -> int | None:
    found = run["details_url"].partition("/actions/runs/")[2].partition("/")[0]
    return int(found) if found else None


def _label(number: int, name: str) -> Json:
    url = f"https://api.github.example/repos/acme/project/labels/{name}"
    shown = {"id": number, "node_id": f"LA_{number}", "url": url, "name": name}
    return shown | {"description": None, "color": "ededed", "default": False}


def _run(
    number: int, commit: str, name: str, conclusion: str | None, words: str, workflow: int | None
) -> Json:
    api = "https://api.github.example/repos/acme/project"
    page = f"{_URL}/acme/project"
    actions = f"{page}/actions/runs/{workflow}/job/{number}"
    return {
        "id": number,
        "name": name,
        "head_sha": commit,
        "node_id": f"CR_{number}",
        "external_id": "",
        "url": f"{api}/check-runs/{number}",
        "html_url": f"{page}/runs/{number}",
        "details_url": actions if workflow else f"https://ci.example/{number}",
        "status": "completed" if conclusion else "queued",
        "conclusion": conclusion,
        "started_at": _AT,
        "completed_at": _AT if conclusion else None,
        "output": {
            "title": words or None,
            "summary": None,
            "text": None,
            "annotations_count": 0,
            "annotations_url": f"{api}/check-runs/{number}/annotations",
        },
        "check_suite": {"id": 5},
        "app": _app("github-actions" if workflow else "some-ci"),
        "pull_requests": [],
    }


def _app(slug: str) -> Mapping[str, Json]:
    return {
        "id": 1,
        "slug": slug,
        "node_id": "A_1",
        "owner": _owner(),
        "name": slug,
        "description": None,
        "external_url": _URL,
        "html_url": f"{_URL}/apps/{slug}",
        "created_at": _AT,
        "updated_at": _AT,
        "permissions": {"checks": "write"},
        "events": [],
    }


def _owner() -> Mapping[str, Json]:
    api = "https://api.github.example/users/acme"
    lists = ("followers", "following", "gists", "starred", "subscriptions", "organizations")
    others = ("repos", "events", "received_events")
    return {
        "login": "acme",
        "id": 1,
        "node_id": "U_1",
        "avatar_url": _URL,
        "gravatar_id": None,
        "url": api,
        "html_url": f"{_URL}/acme",
        **{f"{name}_url": f"{api}/{name}" for name in (*lists, *others)},
        "type": "User",
        "site_admin": False,
    }
