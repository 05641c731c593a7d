"""The hub as an ASGI application: who may call, what answers, how errors look."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from commandcenter.core.errors import WorldError
from commandcenter.hub import pages, rest, wire
from commandcenter.hub.history import open_history
from commandcenter.hub.hooks import Hooks
from commandcenter.hub.pulls import Pulls
from commandcenter.hub.records import HubRecords, HubRepository, Repositories
from commandcenter.hub.refusal import RefusalError
from commandcenter.system.git import Git

_log = logging.getLogger(__name__)
_SIGN_IN = {"WWW-Authenticate": 'Basic realm="commandcenter hub", charset="UTF-8"'}

_PULL = "/{owner}/{repository}/pull/{number:int}"
_PAGES: tuple[tuple[str, rest.Handler], ...] = (
    ("/{owner}/{repository}/pulls", pages.pulls_page),
    (_PULL, pages.pull_page),
    (f"{_PULL}.diff", rest.get_diff),
    (f"{_PULL}.patch", rest.get_patch),
)

Endpoint = Callable[[Request], Awaitable[Response]]


def create_hub(
    records: HubRecords,
    repositories: Repositories,
    git: Git,
    tokens: Mapping[str, str],
    *,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6,
) -> Starlette:
    """Return the hub as an application that can be served alone or mounted below a path.

    `tokens` maps each token to the login that it stands for. The API always needs one; the pages
    for people need none when both the client and the address it used are this machine's loopback.
    """
    hub = _Hub(records, repositories, git, tokens, now_ms)
    methods: dict[str, dict[str, rest.Handler]] = {}
    for method, path, handler in rest.CALLS:
        methods.setdefault(path, {})[method] = handler
    routes = [
        Route("/", hub.index, methods=["GET"]),
        Route("/user", hub.user, methods=["GET"]),
        Route("/user/repos", hub.own_repositories, methods=["GET"]),
        *(Route(path, hub.api(by), methods=list(by)) for path, by in methods.items()),
        *(Route(path, hub.page(handler), methods=["GET"]) for path, handler in _PAGES),
    ]
    handlers = {
        RefusalError: _answer_refusal,
        HTTPException: _answer_http,
        WorldError: _answer_world,
    }
    # The key types of Starlette's parameter are wider than those of the handlers.
    return Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]


class _Hub:
    """Authenticates, finds the repository, and passes the call on."""

    def __init__(
        self,
        records: HubRecords,
        repositories: Repositories,
        git: Git,
        tokens: Mapping[str, str],
        now_ms: Callable[[], int],
    ) -> None:
        self._records = records
        self._hooks = Hooks(records)
        self._repositories = repositories
        self._git = git
        self._tokens = tokens
        self._now_ms = now_ms
        self._open: dict[HubRepository, Pulls] = {}

    async def user(self, request: Request) -> Response:
        """Answer with who the token stands for."""
        return JSONResponse(wire.account_json(self._login(request), _root(request)))

    async def own_repositories(self, request: Request) -> Response:
        """Answer with the repositories that had a pull request."""
        self._login(request)
        root = _root(request)
        links = [wire.Links(root, each) for each in await self._served()]
        return rest.answer_part(request, root, tuple(map(wire.repository_json, links)))

    def api(self, handlers: Mapping[str, rest.Handler]) -> Endpoint:
        """Return the endpoint of one path of the API."""

        async def answer(request: Request) -> Response:
            login = self._login(request)
            method = "GET" if request.method == "HEAD" else request.method
            return await handlers[method](self._call(request, login))

        return answer

    async def index(self, request: Request) -> Response:
        """Answer with the repositories that can be looked at."""
        if not _is_local(request):
            self._login(request, sign_in=True)
        return pages.index_page(_root(request), [each.key for each in await self._served()])

    async def _served(self) -> list[HubRepository]:
        """Return the repositories that had a pull request and are there."""
        known = await asyncio.to_thread(self._records.repositories)
        found = (self._repositories(name.owner, name.name) for name in known)
        return [each for each in found if each is not None]

    def page(self, handler: rest.Handler) -> Endpoint:
        """Return the endpoint of a page for people."""

        async def answer(request: Request) -> Response:
            login = "" if _is_local(request) else self._login(request, sign_in=True)
            return await handler(self._call(request, login))

        return answer

    def _call(self, request: Request, login: str) -> rest.Call:
        names = request.path_params
        repository = self._repositories(names["owner"], names["repository"])
        if repository is None:
            raise RefusalError(404, "Not Found")
        pulls = self._pulls(repository)
        links = wire.Links(_root(request), repository)
        return rest.Call(request, login, pulls, links, self._hooks)

    def _pulls(self, repository: HubRepository) -> Pulls:
        """Return the pull requests of a repository: one object each, for it holds the lock."""
        if repository not in self._open:
            history = open_history(repository, self._git)
            self._open[repository] = Pulls(history, self._records, self._now_ms)
        return self._open[repository]

    def _login(self, request: Request, *, sign_in: bool = False) -> str:
        token = _token_of(request.headers.get("authorization", ""))
        if not token:
            _refuse("Requires authentication", sign_in=sign_in)
        # All are compared, in constant time, so that time tells nothing about any.
        found = [
            login
            for known, login in self._tokens.items()
            if hmac.compare_digest(known.encode(), token.encode(errors="surrogateescape"))
        ]
        if not found:
            _refuse("Bad credentials", sign_in=sign_in)
        return found[0]


def _refuse(words: str, *, sign_in: bool) -> NoReturn:
    if sign_in:
        raise HTTPException(401, words, headers=_SIGN_IN)
    raise RefusalError(401, words)


def _token_of(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    match scheme.lower():
        case "bearer" | "token":
            return value.strip()
        case "basic":
            try:
                pair = base64.b64decode(value.strip(), validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                return ""
            return pair.partition(":")[2]
        case _:
            return ""


def _is_local(request: Request) -> bool:
    """Say whether a browser on this machine asks for this machine by a loopback name.

    The name counts as well: a hostile web page can make its own name resolve to 127.0.0.1.
    """
    client = request.client.host if request.client else ""
    return _is_loopback(client) and _is_loopback(request.url.hostname or "")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _root(request: Request) -> str:
    # Not `base_url`: that one leaves out the path below which we are mounted.
    path = request.scope.get("root_path", "")
    return str(request.url.replace(path=path, query="", fragment="")).rstrip("/")


async def _answer_refusal(_request: Request, refusal: RefusalError) -> Response:
    return JSONResponse(wire.refusal_json(refusal), status_code=refusal.status)


async def _answer_http(_request: Request, error: HTTPException) -> Response:
    # GitHub answers a method that a path does not have like a path that is not there.
    status = 404 if error.status_code == 405 else error.status_code
    refusal = RefusalError(status, "Not Found" if status == 404 else error.detail)
    return JSONResponse(
        wire.refusal_json(refusal), status_code=status, headers=dict(error.headers or {})
    )


async def _answer_world(request: Request, error: WorldError) -> Response:
    _log.error("The hub cannot answer %s %s: %s", request.method, request.url.path, error)
    refusal = RefusalError(503, "The repository cannot be read or written right now.")
    return JSONResponse(wire.refusal_json(refusal), status_code=503)
