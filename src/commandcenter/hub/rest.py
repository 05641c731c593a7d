"""The REST calls: each reads a request, asks the pull requests, and shapes the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from commandcenter.core.pull_request import Hook, Merged, PullRequest
from commandcenter.hub import asked, wire
from commandcenter.hub.hooks import Hooks
from commandcenter.hub.pulls import Pulls
from commandcenter.hub.refusal import RefusalError

_NUMBER_MAX = 2**31 - 1


@dataclass(frozen=True)
class Call:
    """One authenticated request to one repository."""

    request: Request
    login: str
    pulls: Pulls
    links: wire.Links
    hooks: Hooks

    @property
    def number(self) -> int:
        """Give the number of the pull request or hook in the path."""
        number = int(self.request.path_params["number"])
        if number > _NUMBER_MAX:
            raise RefusalError(404, "Not Found")
        return number

    @property
    def path(self) -> str:
        """Give the branch, reference or commit in the path."""
        return str(self.request.path_params["name"])

    async def body(self) -> asked.Body:
        """Return the JSON object in the request."""
        return await asked.body_of(self.request)

    async def tell(self, event: str, action: str, pull: PullRequest, **more: wire.Json) -> None:
        """Tell the hooks that want it what was done to a pull request."""
        found = await self.hooks.all(self.links.repository.key)
        if wanting := [each for each in found if each.wants(event)]:
            whole = await _whole(self, pull)
            about = {"action": action, "number": pull.number, "pull_request": whole, **more}
            self.hooks.tell(wanting, event, {**about, **self.source})

    @property
    def source(self) -> wire.Json:
        """Give what a hook is always told: where it was, and who did it."""
        return {
            "repository": wire.repository_json(self.links),
            "sender": wire.user_json(self.login, self.links.root),
        }

    def page(self, entries: tuple[wire.Json, ...]) -> Response:
        """Answer with the asked part of these entries."""
        return answer_part(self.request, self.links.root, entries)


def answer_part(request: Request, root: str, entries: tuple[wire.Json, ...]) -> Response:
    """Answer with the asked part of these entries."""
    page = asked.page_of(request)
    return answer_page(request, root, page.of(entries), page, len(entries))


def answer_page(
    request: Request, root: str, entries: tuple[wire.Json, ...], page: asked.Page, total: int
) -> Response:
    """Answer with one page and links to the others."""
    pages = max(1, -(-total // page.size))
    others = {"prev": page.number - 1, "next": page.number + 1, "first": 1, "last": pages}
    if page.number >= pages:
        del others["next"], others["last"]
    if page.number <= 1:
        del others["prev"], others["first"]
    links = [
        f'<{_address(request, root, page, number)}>; rel="{rel}"' for rel, number in others.items()
    ]
    return JSONResponse(list(entries), headers={"Link": ", ".join(links)} if links else None)


def _address(request: Request, root: str, page: asked.Page, number: int) -> str:
    kept = [
        (name, value)
        for name, value in request.query_params.multi_items()
        if name not in ("page", "per_page")
    ]
    query = urlencode([*kept, ("per_page", page.size), ("page", number)])
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    return f"{root}{path}?{query}"


Handler = Callable[[Call], Awaitable[Response]]


async def get_repository(call: Call) -> Response:
    """Answer with the repository."""
    return JSONResponse(wire.repository_json(call.links))


async def list_pulls(call: Call) -> Response:
    """Answer with pull requests."""
    page = asked.page_of(call.request)
    query = asked.pull_query(call.request, page, owner=call.links.repository.owner)
    pulls, total = await call.pulls.listed(query) if query else ((), 0)
    shown = tuple(wire.pull_json(pull, call.links) for pull in pulls)
    return answer_page(call.request, call.links.root, shown, page, total)


async def create_pull(call: Call) -> Response:
    """Open a pull request."""
    pull = await call.pulls.create(call.login, asked.draft_of(await call.body()))
    await call.tell("pull_request", "opened", pull)
    return JSONResponse(await _whole(call, pull), status_code=201)


async def get_pull(call: Call) -> Response:
    """Answer with a pull request: as JSON, or as diff or patch when that is accepted."""
    accepted = call.request.headers.get("accept", "")
    if "diff" in accepted:
        return await get_diff(call)
    if "patch" in accepted:
        return await get_patch(call)
    return JSONResponse(await _whole(call, await call.pulls.get(call.number)))


async def get_diff(call: Call) -> Response:
    """Answer with what a pull request changes, as one diff."""
    pull = await call.pulls.get(call.number)
    diff = await call.pulls.history.diff(pull.base, pull.head)
    return Response(diff, media_type="text/plain; charset=utf-8")


async def get_patch(call: Call) -> Response:
    """Answer with the commits of a pull request, as mails."""
    pull = await call.pulls.get(call.number)
    patch = await call.pulls.history.patch(pull.base, pull.head)
    return Response(patch, media_type="text/plain; charset=utf-8")


async def edit_pull(call: Call) -> Response:
    """Change a pull request."""
    edit = asked.edit_of(await call.body())
    pull = await call.pulls.edit(call.number, edit)
    action = {None: "edited", True: "reopened", False: "closed"}[edit.open]
    await call.tell("pull_request", action, pull)
    return JSONResponse(await _whole(call, pull))


async def list_files(call: Call) -> Response:
    """Answer with the files of a pull request."""
    pull = await call.pulls.get(call.number)
    files = await call.pulls.history.files(pull.base, pull.head)
    return call.page(tuple(wire.file_json(file, call.links, pull.head) for file in files))


async def list_commits(call: Call) -> Response:
    """Answer with the commits of a pull request."""
    pull = await call.pulls.get(call.number)
    commits = await call.pulls.commits(pull)
    return call.page(tuple(wire.commit_json(commit, call.links) for commit in commits))


async def list_reviews(call: Call) -> Response:
    """Answer with the reviews of a pull request."""
    reviews = await call.pulls.reviews(call.number)
    return call.page(tuple(wire.review_json(each, call.links, call.number) for each in reviews))


async def create_review(call: Call) -> Response:
    """Record a review."""
    opinion = asked.opinion_of(await call.body())
    review = await call.pulls.review(call.number, call.login, opinion)
    shown = wire.review_json(review, call.links, call.number)
    pull = await call.pulls.get(call.number)
    await call.tell("pull_request_review", "submitted", pull, review=shown)
    return JSONResponse(shown)


async def list_line_comments(call: Call) -> Response:
    """Answer with the line comments of a pull request."""
    comments = await call.pulls.line_comments(call.number)
    shown = (wire.line_comment_json(each, call.links, call.number) for each in comments)
    return call.page(tuple(shown))


async def merge_pull(call: Call) -> Response:
    """Land a pull request."""
    order = asked.merge_order_of(await call.body())
    commit = await call.pulls.merge(call.number, call.login, order)
    await call.tell("pull_request", "closed", await call.pulls.get(call.number))
    return JSONResponse(
        {"sha": commit, "merged": True, "message": "Pull Request successfully merged"}
    )


async def is_merged(call: Call) -> Response:
    """Answer 204 when it is merged."""
    pull = await call.pulls.get(call.number)
    if not isinstance(pull.ending, Merged):
        raise RefusalError(404, "Not Found")
    return Response(status_code=204)


async def list_comments(call: Call) -> Response:
    """Answer with the conversation of a pull request."""
    comments = await call.pulls.comments(call.number)
    return call.page(tuple(wire.comment_json(each, call.links, call.number) for each in comments))


async def create_comment(call: Call) -> Response:
    """Record a comment."""
    text = asked.comment_of(await call.body())
    comment = await call.pulls.add_comment(call.number, call.login, text)
    return JSONResponse(wire.comment_json(comment, call.links, call.number), status_code=201)


async def create_status(call: Call) -> Response:
    """Record a commit status."""
    status = asked.status_of(
        await call.body(), commit=call.path, author=call.login, at_ms=call.pulls.now_ms()
    )
    recorded = await call.pulls.add_status(status)
    return JSONResponse(wire.status_json(recorded, call.links), status_code=201)


async def list_hooks(call: Call) -> Response:
    """Answer with the hooks."""
    hooks = await call.hooks.all(call.links.repository.key)
    return call.page(tuple(wire.hook_json(hook, call.links) for hook in hooks))


async def create_hook(call: Call) -> Response:
    """Record a hook, and try it."""
    new = asked.hook_of(await call.body(), at_ms=call.pulls.now_ms())
    hook = await call.hooks.add(call.links.repository.key, new)
    ping = {"zen": "Mind your words, they are important.", "hook_id": hook.id, **call.source}
    call.hooks.tell([hook], "ping", ping)
    return JSONResponse(wire.hook_json(hook, call.links), status_code=201)


async def get_hook(call: Call) -> Response:
    """Answer with a hook."""
    return JSONResponse(wire.hook_json(await _hook(call), call.links))


async def delete_hook(call: Call) -> Response:
    """Forget a hook."""
    await call.hooks.remove(call.links.repository.key, (await _hook(call)).id)
    return Response(status_code=204)


async def list_statuses(call: Call) -> Response:
    """Answer with all statuses of a commit."""
    statuses = await call.pulls.statuses(await _commit(call))
    return call.page(tuple(wire.status_json(status, call.links) for status in statuses))


async def combined_status(call: Call) -> Response:
    """Answer with what the newest statuses of a commit say together."""
    commit = await _commit(call)
    newest = wire.newest_by_context(await call.pulls.statuses(commit))
    return JSONResponse(wire.combined_status_json(commit, newest, call.links))


async def get_commit(call: Call) -> Response:
    """Answer with a commit."""
    commit = await call.pulls.history.commit(await _commit(call))
    return JSONResponse(wire.commit_json(commit, call.links))


async def get_reference(call: Call) -> Response:
    """Answer with the git reference of a branch."""
    tip = await call.pulls.history.tip(call.path)
    if tip is None:
        raise RefusalError(404, "Not Found")
    return JSONResponse(wire.reference_json(call.path, tip, call.links))


async def delete_reference(call: Call) -> Response:
    """Delete a branch."""
    await call.pulls.delete_branch(call.path)
    return Response(status_code=204)


async def list_branches(call: Call) -> Response:
    """Answer with the branches."""
    branches = sorted((await call.pulls.history.branches()).items())
    protections = await call.pulls.protections()
    return call.page(
        tuple(
            wire.branch_json(name, tip, call.links, protected=name in protections)
            for name, tip in branches
        )
    )


async def get_branch(call: Call) -> Response:
    """Answer with a branch."""
    tip = await call.pulls.history.tip(call.path)
    if tip is None:
        raise RefusalError(404, "Branch not found")
    commit = await call.pulls.history.commit(tip)
    required = (await call.pulls.protections()).get(call.path)
    return JSONResponse(wire.whole_branch_json(call.path, commit, call.links, required))


async def get_protection(call: Call) -> Response:
    """Answer with how a branch is protected."""
    required = (await call.pulls.protections()).get(call.path)
    if required is None:
        raise RefusalError(404, "Branch not protected")
    return JSONResponse(wire.protection_json(call.path, required, call.links))


async def protect_branch(call: Call) -> Response:
    """Require checks of what is merged into a branch."""
    required = asked.required_of(await call.body())
    if await call.pulls.history.tip(call.path) is None:
        raise RefusalError(404, "Branch not found")
    await call.pulls.protect(call.path, required)
    return JSONResponse(wire.protection_json(call.path, required, call.links))


async def unprotect_branch(call: Call) -> Response:
    """Protect a branch no more."""
    if call.path not in await call.pulls.protections():
        raise RefusalError(404, "Branch not protected")
    await call.pulls.protect(call.path, None)
    return Response(status_code=204)


async def list_rules(call: Call) -> Response:
    """Answer with the rules of a branch: the hub knows protected branches only."""
    return call.page(())


async def list_check_runs(call: Call) -> Response:
    """Answer with the check runs of a commit: the hub keeps commit statuses only."""
    await _commit(call)
    return JSONResponse({"total_count": 0, "check_runs": []})


_REPOSITORY = "/repos/{owner}/{repository}"
_PULL = f"{_REPOSITORY}/pulls/{{number:int}}"

CALLS: tuple[tuple[str, str, Handler], ...] = (
    ("GET", _REPOSITORY, get_repository),
    ("GET", f"{_REPOSITORY}/pulls", list_pulls),
    ("POST", f"{_REPOSITORY}/pulls", create_pull),
    ("GET", _PULL, get_pull),
    ("PATCH", _PULL, edit_pull),
    ("GET", f"{_PULL}/files", list_files),
    ("GET", f"{_PULL}/commits", list_commits),
    ("GET", f"{_PULL}/reviews", list_reviews),
    ("POST", f"{_PULL}/reviews", create_review),
    ("GET", f"{_PULL}/comments", list_line_comments),
    ("GET", f"{_PULL}/merge", is_merged),
    ("PUT", f"{_PULL}/merge", merge_pull),
    ("GET", f"{_REPOSITORY}/issues/{{number:int}}/comments", list_comments),
    ("POST", f"{_REPOSITORY}/issues/{{number:int}}/comments", create_comment),
    ("POST", f"{_REPOSITORY}/statuses/{{name}}", create_status),
    # No more documented by GitHub, answered all the same, and asked by PyGithub.
    ("GET", f"{_REPOSITORY}/statuses/{{name}}", list_statuses),
    ("GET", f"{_REPOSITORY}/commits/{{name:path}}/status", combined_status),
    ("GET", f"{_REPOSITORY}/commits/{{name:path}}/statuses", list_statuses),
    ("GET", f"{_REPOSITORY}/commits/{{name:path}}/check-runs", list_check_runs),
    # After those that are below it, since a branch may have slashes.
    ("GET", f"{_REPOSITORY}/commits/{{name:path}}", get_commit),
    ("GET", f"{_REPOSITORY}/git/ref/heads/{{name:path}}", get_reference),
    ("GET", f"{_REPOSITORY}/git/refs/heads/{{name:path}}", get_reference),
    ("DELETE", f"{_REPOSITORY}/git/refs/heads/{{name:path}}", delete_reference),
    ("GET", f"{_REPOSITORY}/hooks", list_hooks),
    ("POST", f"{_REPOSITORY}/hooks", create_hook),
    ("GET", f"{_REPOSITORY}/hooks/{{number:int}}", get_hook),
    ("DELETE", f"{_REPOSITORY}/hooks/{{number:int}}", delete_hook),
    ("GET", f"{_REPOSITORY}/branches", list_branches),
    ("GET", f"{_REPOSITORY}/branches/{{name:path}}/protection", get_protection),
    ("PUT", f"{_REPOSITORY}/branches/{{name:path}}/protection", protect_branch),
    ("DELETE", f"{_REPOSITORY}/branches/{{name:path}}/protection", unprotect_branch),
    ("GET", f"{_REPOSITORY}/branches/{{name:path}}", get_branch),
    ("GET", f"{_REPOSITORY}/rules/branches/{{name:path}}", list_rules),
)
"""Every call: method, path and what answers it."""


async def _whole(call: Call, pull: PullRequest) -> wire.Json:
    return wire.whole_pull_json(
        pull,
        call.links,
        mergeable=await call.pulls.mergeable(pull),
        size=await call.pulls.history.size(pull.base, pull.head),
        comments=len(await call.pulls.comments(pull.number)),
        line_comments=len(await call.pulls.line_comments(pull.number)),
    )


async def _hook(call: Call) -> Hook:
    for hook in await call.hooks.all(call.links.repository.key):
        if hook.id == call.number:
            return hook
    raise RefusalError(404, "Not Found")


async def _commit(call: Call) -> str:
    commit = await call.pulls.history.commit_of(call.path)
    if commit is None:
        raise RefusalError(422, f"No commit found for SHA: {call.path}")
    return commit
