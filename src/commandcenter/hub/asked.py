"""Reads what clients send: JSON bodies and query parameters, in GitHub's dialect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request

from commandcenter.core.forge import StatusState
from commandcenter.core.pull_request import (
    NewHook,
    NewLineComment,
    NewStatus,
    PullOrder,
    PullQuery,
    ReviewState,
    Side,
)
from commandcenter.hub.history import Method
from commandcenter.hub.hooks import is_allowed
from commandcenter.hub.pulls import Draft, Edit, MergeOrder, Opinion
from commandcenter.hub.refusal import RefusalError, refuse_validation

TEXT_CHARACTERS_MAX = 65_536
TITLE_CHARACTERS_MAX = 256
DESCRIPTION_CHARACTERS_MAX = 140
REQUEST_BYTES_MAX = 4 * 2**20
_PER_PAGE = 30
_PER_PAGE_MAX = 100
_PAGES_MAX = 10**6

_EVENTS = {
    "APPROVE": ReviewState.APPROVED,
    "REQUEST_CHANGES": ReviewState.CHANGES_REQUESTED,
    "COMMENT": ReviewState.COMMENTED,
}

Body = Mapping[str, Any]  # Any: JSON as the client wrote it, read field by field below
T = TypeVar("T")


@dataclass(frozen=True)
class Page:
    """Which part of a list is asked for."""

    number: int
    size: int

    @property
    def offset(self) -> int:
        """Give how many entries come before it."""
        return (self.number - 1) * self.size

    def of(self, entries: tuple[T, ...]) -> tuple[T, ...]:
        """Return this part of the entries."""
        return entries[self.offset : self.offset + self.size]


async def body_of(request: Request) -> Body:
    """Return the JSON object in the request; nothing is an empty one."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > REQUEST_BYTES_MAX:
            raise RefusalError(413, "Request body is too large")
    try:
        body = json.loads(content or b"{}")
    except (ValueError, RecursionError) as error:
        raise RefusalError(400, "Problems parsing JSON") from error
    if not isinstance(body, dict):
        raise RefusalError(400, "Body should be a JSON object")
    return body


def page_of(request: Request) -> Page:
    """Return the part of the list that the request asks for; odd numbers give the defaults."""
    size = min(_number(request, "per_page", _PER_PAGE), _PER_PAGE_MAX)
    return Page(min(_number(request, "page", 1), _PAGES_MAX), size)


def pull_query(request: Request, page: Page, *, owner: str) -> PullQuery | None:
    """Return which pull requests the request asks for; None when none can match."""
    asked = request.query_params
    head_owner, _, head = asked.get("head", "").rpartition(":")
    if head_owner and head_owner.lower() != owner.lower():
        return None
    states = {"open": True, "closed": False, "all": None}
    if (state := asked.get("state", "open")) not in states:
        refuse_validation("PullRequest", "state", code="invalid")
    order = PullOrder.UPDATED if asked.get("sort") == "updated" else PullOrder.CREATED
    # GitHub: descending by creation is the default, by any other key ascending is.
    direction = asked.get("direction", "asc" if asked.get("sort") == "updated" else "desc")
    return PullQuery(
        open=states[state],
        head_branch=head or None,
        base_branch=asked.get("base") or None,
        order=order,
        descending=direction != "asc",
        offset=page.offset,
        limit=page.size,
    )


def draft_of(body: Body) -> Draft:
    """Return the pull request that is to be opened."""
    title = _text(body, "title", TITLE_CHARACTERS_MAX)
    if not title or not title.strip():
        refuse_validation("PullRequest", "title", code="missing_field")
    for name in ("head", "base"):
        if not _text(body, name):
            refuse_validation("PullRequest", name, code="missing_field")
    return Draft(
        title=title,
        body=_text(body, "body") or "",
        head=body["head"],
        base=body["base"],
        draft=_flag(body, "draft"),
    )


def edit_of(body: Body) -> Edit:
    """Return what is to be changed of a pull request."""
    title = _text(body, "title", TITLE_CHARACTERS_MAX)
    if title is not None and not title.strip():
        refuse_validation("PullRequest", "title", code="missing_field")
    state = _text(body, "state")
    if state not in (None, "open", "closed"):
        refuse_validation("PullRequest", "state", code="invalid")
    return Edit(
        title=title,
        body=(_text(body, "body") or "") if "body" in body else None,
        base=_text(body, "base"),
        open=None if state is None else state == "open",
        # GitHub changes this by GraphQL only, which is not spoken here.
        draft=_flag(body, "draft") if "draft" in body else None,
    )


def opinion_of(body: Body) -> Opinion:
    """Return the review that is to be recorded. Pending ones (without event) are not kept."""
    event = _text(body, "event")
    if event not in _EVENTS:
        refuse_validation("PullRequestReview", "event", code="invalid")
    text = _text(body, "body") or ""
    comments = body.get("comments") or []
    if not isinstance(comments, list):
        refuse_validation("PullRequestReview", "comments", code="invalid")
    state = _EVENTS[event]
    if not text.strip() and not comments and state is not ReviewState.APPROVED:
        raise RefusalError(422, "Unprocessable Entity", ["Review body can't be blank"])
    lines = tuple(_line_comment(comment) for comment in comments)
    return Opinion(state, text, _text(body, "commit_id"), lines)


def merge_order_of(body: Body) -> MergeOrder:
    """Return how a pull request is to be merged."""
    method = _text(body, "merge_method") or Method.MERGE
    if method not in list(Method):
        refuse_validation("PullRequest", "merge_method", code="invalid")
    return MergeOrder(
        method=Method(method),
        head=_text(body, "sha"),
        title=_text(body, "commit_title"),
        message=_text(body, "commit_message"),
    )


def comment_of(body: Body) -> str:
    """Return the text of a comment."""
    text = _text(body, "body")
    if not text or not text.strip():
        refuse_validation("IssueComment", "body", code="missing_field")
    return text


def status_of(body: Body, *, commit: str, author: str, at_ms: int) -> NewStatus:
    """Return the commit status that is to be recorded."""
    state = _text(body, "state")
    if state not in list(StatusState):
        refuse_validation("Status", "state", "state is not included in the list")
    return NewStatus(
        commit=commit,
        context=_text(body, "context", TITLE_CHARACTERS_MAX) or "default",
        state=StatusState(state),
        description=_text(body, "description", DESCRIPTION_CHARACTERS_MAX) or "",
        target_url=_text(body, "target_url") or "",
        author=author,
        at_ms=at_ms,
    )


def required_of(body: Body) -> tuple[str, ...]:
    """Return the checks that a branch is to require; what else GitHub knows is refused."""
    for name in ("required_pull_request_reviews", "restrictions"):
        if body.get(name) is not None:
            refuse_validation("ProtectedBranch", name, "the hub keeps required checks only")
    checks = body.get("required_status_checks") or {}
    if not isinstance(checks, dict) or checks.get("strict"):
        refuse_validation("ProtectedBranch", "strict", "the hub does not ask for up-to-date heads")
    given = checks.get("contexts") or checks.get("checks") or []
    if not isinstance(given, list):
        refuse_validation("ProtectedBranch", "contexts", code="invalid")
    named = [each.get("context") if isinstance(each, dict) else each for each in given]
    contexts = [each for each in named if isinstance(each, str) and each]
    if contexts != named:
        refuse_validation("ProtectedBranch", "contexts", code="invalid")
    return tuple(dict.fromkeys(contexts))


def hook_of(body: Body, *, at_ms: int) -> NewHook:
    """Return the hook that is to be recorded."""
    config = body.get("config")
    if not isinstance(config, dict) or _text(body, "name") not in (None, "web"):
        refuse_validation("Hook", "config", code="missing_field")
    url = _text(config, "url") or ""
    if not is_allowed(url):
        refuse_validation("Hook", "url", "url must be http:// at a loopback address of the hub")
    if _text(config, "content_type") != "json":
        refuse_validation("Hook", "content_type", "content_type must be json")
    events = body.get("events", ["push"])
    if not isinstance(events, list) or not all(_is_event(each) for each in events):
        refuse_validation("Hook", "events", code="invalid")
    return NewHook(url, _text(config, "secret") or "", tuple(events), at_ms)


def _is_event(name: object) -> bool:
    return isinstance(name, str) and (name == "*" or name.replace("_", "").isalnum())


def _line_comment(comment: object) -> NewLineComment:
    if not isinstance(comment, dict):
        refuse_validation("PullRequestReviewComment", "comments", code="invalid")
    path, text, line = _text(comment, "path"), _text(comment, "body"), comment.get("line")
    side = _text(comment, "side") or Side.RIGHT
    if not path or not text or side not in list(Side):
        refuse_validation("PullRequestReviewComment", "path", code="missing_field")
    if not isinstance(line, int) or isinstance(line, bool) or not 0 < line < 2**31:
        refuse_validation("PullRequestReviewComment", "line", code="invalid")
    return NewLineComment(path, line, Side(side), text)


def _text(body: Body, name: str, characters_max: int = TEXT_CHARACTERS_MAX) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        shown = json.dumps(value)[:80]
        raise RefusalError(
            422, f"Invalid request.\n\nFor 'properties/{name}', {shown} is not a string."
        )
    if len(value) > characters_max:
        words = f"{name} is too long (maximum is {characters_max} characters)"
        refuse_validation("Request", name, words)
    # No database or page can hold a lone surrogate, and PostgreSQL no NUL.
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        refuse_validation("Request", name, f"{name} contains characters that are not allowed")
    return value


def _flag(body: Body, name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise RefusalError(
            422, f"Invalid request.\n\nFor 'properties/{name}', it is not a boolean."
        )
    return value


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    usable = text.isascii() and text.isdigit() and len(text) < 10
    return (int(text) if usable else 0) or default
