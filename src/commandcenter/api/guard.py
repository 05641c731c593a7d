"""Keeps web pages away: only callers that name this machine get an answer.

Forges, which call from elsewhere, reach one route, and prove there who they are.
The service has no password on loopback. A page that a browser shows could still reach it, by
pointing a name of its own at 127.0.0.1 (DNS rebinding) or by posting a form across sites.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from commandcenter.api.loopback import is_loopback
from commandcenter.api.problem import answer, problem

_NOT_OURS = "This service answers to its own address only."
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Refuses foreign host names, posts from other sites, and bodies that are too large."""

    def __init__(
        self, app: ASGIApp, *, host: str, limits: Mapping[str, int], open_below: str
    ) -> None:
        """`limits` are the bytes that a body may have, by how the path begins.

        What is posted right below `open_below` may come from anywhere: it proves itself.
        """
        self._app = app
        self._host = host
        self._limits = limits
        self._open = re.compile(rf"{re.escape(open_below)}/[a-z]+")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refusal(scope, headers)
        if refused:
            status, detail = refused
            await answer(problem(status, detail))(scope, receive, send)
        else:
            await self._app(scope, self._bounded(scope, receive), send)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[HTTPStatus, str] | None:
        host = headers.get("host", "")
        if not self._is_open(scope):
            if not self._is_ours(host):
                return HTTPStatus.MISDIRECTED_REQUEST, _NOT_OURS
            if scope["method"] not in _SAFE and _is_foreign(headers, host):
                return HTTPStatus.FORBIDDEN, "Requests from other sites are refused."
        length, limit = headers.get("content-length", "0"), self._limit(scope)
        if limit is not None and length.isdecimal() and int(length) > limit:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(limit)
        return None

    def _is_open(self, scope: Scope) -> bool:
        """Say whether forges call this, by whatever name and proxy they reach it."""
        return scope["method"] == "POST" and self._open.fullmatch(str(scope["path"])) is not None

    def _is_ours(self, host: str) -> bool:
        name = _hostname(host)
        return name is not None and (name == self._host.lower() or is_loopback(name))

    def _limit(self, scope: Scope) -> int | None:
        # What is mounted beside the API (git pushes to the hub) has limits of its own.
        path = str(scope["path"])
        return next((most for start, most in self._limits.items() if path.startswith(start)), None)

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        limit = self._limit(scope)
        if limit is None:
            return receive
        most = left = limit

        async def count() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(most))
            return message

        return count


def _too_large(limit: int) -> str:
    return f"The body may have {limit} bytes."


def _hostname(host: str) -> str | None:
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    return None if parts.username is not None or parts.path else parts.hostname


def _is_foreign(headers: Headers, host: str) -> bool:
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != host.lower()
