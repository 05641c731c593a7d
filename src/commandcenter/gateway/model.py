"""The model gateway: the one way from a workspace to its model, one unix socket an attempt.

An agent inside reaches it through a loopback port of its own and holds no credential. The gateway
lets only the model calls of Anthropic's API pass, puts the real credential in, streams the answer
through as it comes, and counts what each attempt uses.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from commandcenter.core.agent import Usage
from commandcenter.core.budget import Allowance
from commandcenter.core.prices import Price
from commandcenter.gateway import pinning
from commandcenter.gateway.credentials import Provider, authenticated
from commandcenter.gateway.meter import AnswerMeter, Facts, Tally, seconds
from commandcenter.gateway.pauses import Pauses
from commandcenter.gateway.purse import Purse, asked
from commandcenter.gateway.sockets import bound

SOCKET_NAME = "model.sock"
BODY_BYTES_MAX = 64 * 2**20
RETRY_AFTER_MAX_S = 60

_MESSAGES = "/v1/messages"
_POSTS = frozenset({_MESSAGES, f"{_MESSAGES}/count_tokens"})
_MODELS = re.compile(r"/v1/models(/[A-Za-z0-9][A-Za-z0-9._:@-]*)?")
_QUERY = re.compile(r"[A-Za-z0-9._~=&%+-]*")
_PASSED_IN = frozenset({"accept", "content-type", "content-encoding", "user-agent", "x-app"})
_PASSED_IN_FAMILIES = ("anthropic-", "x-stainless-", "x-claude-", "x-client-")
_HELD_BACK = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "te", "trailer", "transfer-encoding"),
        *("upgrade", "set-cookie", "location", "alt-svc", "retry-after", "retry-after-ms"),
    }
)
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Refused:
    """Why a request goes no further."""

    status: int
    message: str


@dataclass(frozen=True)
class _Line:
    """What a socket was opened for."""

    provider: Provider
    key: str
    models: Sequence[str]
    allowance: Allowance | None


class ModelGateway:
    """Serves one unix socket an attempt, in front of its provider. End it with `aclose`."""

    def __init__(
        self,
        *providers: Provider,
        prices: Sequence[Price] = (),
        now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6,
        record: Path | None = None,
    ) -> None:
        """Serve agents of these providers; the first is used where none is named.

        `record`: the file in which it is kept, over a restart, until when which of them is left
        alone.
        """
        self._providers = {provider.name: provider for provider in providers}
        self._first = providers[0].name
        self._prices = prices
        self.pauses = Pauses(now_ms, record)
        self._client: aiohttp.ClientSession | None = None
        self._runners: dict[Path, web.ServerRunner] = {}
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._purses: dict[str, Purse] = {}

    def named(self, provider: str) -> str:
        """Return the name of the provider that answers where this one is asked for."""
        return provider or self._first

    @asynccontextmanager
    async def socket(
        self,
        folder: Path,
        *,
        key: str,
        models: Sequence[str] = (),
        provider: str = "",
        allowance: Allowance | None = None,
    ) -> AsyncIterator[Path]:
        """Serve `folder/model.sock` for the attempt `key`; give its path."""
        path = await self.open(
            folder, key=key, models=models, provider=provider, allowance=allowance
        )
        try:
            yield path
        finally:
            await self.close(folder)

    async def open(
        self,
        folder: Path,
        *,
        key: str,
        models: Sequence[str] = (),
        provider: str = "",
        allowance: Allowance | None = None,
    ) -> Path:
        """Serve `folder/model.sock` for the attempt `key` until `close`; return its path.

        A socket that an earlier process left there is replaced. What is counted for a key adds
        up over all sockets that were opened with it. `models` are globs over what may be asked
        for; none is any. `provider`: the name of the one that answers. `allowance`: what may be
        spent, together with all other sockets that were opened with it.
        """
        await self.close(folder)
        line = _Line(self._providers[self.named(provider)], key, models, allowance)
        self.left_usd(allowance)
        if self._client is None:
            self._client = _client()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return await self._answer(line, request)

        # Without cancellation an answer nobody waits for would run on, and be paid for.
        server = web.Server(
            answer, handler_cancellation=True, auto_decompress=False, access_log=None
        )
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, bound(folder, SOCKET_NAME)).start()
        self._runners[folder] = runner
        return folder / SOCKET_NAME

    async def close(self, folder: Path) -> None:
        """Stop serving this folder's socket and remove it; what still streams is cut off."""
        if (runner := self._runners.pop(folder, None)) is not None:
            await runner.cleanup()
            (folder / SOCKET_NAME).unlink(missing_ok=True)

    def usage(self, key: str) -> Usage:
        """Return what the answers to this attempt have reported so far."""
        return self._tallies[key].usage if key in self._tallies else Usage()

    def facts(self, key: str) -> Facts:
        """Return what the provider answered to this attempt so far."""
        return self._tallies[key].facts if key in self._tallies else Facts()

    def left_usd(self, allowance: Allowance | None) -> float:
        """Return what may be spent yet: by what is stored, and by what passed here since."""
        if allowance is None:
            return math.inf
        purse = self._purses.setdefault(allowance.name, Purse(allowance.left_usd))
        purse.lower(allowance.left_usd)
        return purse.left_usd

    async def aclose(self) -> None:
        """Stop serving all sockets and leave the provider's connections."""
        for folder in tuple(self._runners):
            await self.close(folder)
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _answer(self, line: _Line, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "HEAD" and request.raw_path == "/":
            return web.Response()
        if refused := _refused(request.method, request.raw_path):
            return _error(refused)
        if line.provider.credential is None:
            self._note(line.key, 401)
            return _error(_no_credential(line.provider))
        if unbounded := _unbounded(request):
            return _error(unbounded)
        # Passed on as it comes: held here, a few of the largest would be all our memory.
        content: aiohttp.StreamReader | bytes | None = (
            request.content if request.content_length else None
        )
        paid = line.allowance is not None and request.path == _MESSAGES
        encoding = request.headers.get("content-encoding", "")
        if request.method == "POST" and (line.models or paid):
            content = await request.content.read()
            if line.models and (problem := pinning.problem(content, encoding, line.models)):
                return _error(_pinned(line.models, problem))
            if paid:
                return await self._pay(line, request, content, encoding)
        return await self._forward(line, request, content)

    async def _pay(
        self, line: _Line, request: web.BaseRequest, content: bytes, encoding: str
    ) -> web.StreamResponse:
        """Forward a request if it can be paid for, with what its answer costs at most set aside."""
        assert line.allowance is not None
        wanted = asked(content, encoding)
        if wanted is None:
            return _error(_unreadable())
        purse, most = self._purses[line.allowance.name], wanted.cost_usd(self._prices)
        left = purse.left_usd
        if not await purse.set_aside(most):
            self._tallies[line.key] = self._tallies[line.key].over_budget()
            return _error(_spent(line.allowance, left, most))
        try:
            return await self._forward(line, request, content)
        finally:
            purse.give_back(most)

    async def _forward(
        self,
        line: _Line,
        request: web.BaseRequest,
        content: aiohttp.StreamReader | bytes | None,
    ) -> web.StreamResponse:
        provider, key = line.provider, line.key
        assert self._client is not None
        assert provider.credential is not None
        url = URL(provider.base_url.rstrip("/") + request.raw_path, encoded=True)
        headers = authenticated(_passed_in(request.headers), provider.credential)
        asked_ms = self.pauses.now_ms()
        try:
            upstream = await self._client.request(
                request.method, url, data=content, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            self._note(key, 502)
            _log.warning("The model provider cannot be reached: %s %s", type(error).__name__, key)
            return _error(_unreachable(provider, error))
        async with upstream:
            wait = upstream.headers.get("retry-after")
            self._note(key, upstream.status, wait)
            self.pauses.draw(provider.name, upstream.status, seconds(wait), asked_ms=asked_ms)
            return await self._relay(line, request, upstream)

    async def _relay(
        self, line: _Line, request: web.BaseRequest, upstream: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        """Pass the answer on chunk by chunk; where the provider breaks off, break off too."""
        answer = web.StreamResponse(
            status=upstream.status,
            reason=upstream.reason,
            headers=_passed_back(upstream.status, upstream.headers),
        )
        meter = AnswerMeter(upstream.headers.get("content-type", ""))
        try:
            await answer.prepare(request)
            async for chunk in upstream.content.iter_any():
                meter.feed(chunk)
                await answer.write(chunk)
            await answer.write_eof()
        except (aiohttp.ClientError, TimeoutError):
            # A clean end would pass half an answer off as a whole one.
            if request.transport is not None:
                request.transport.abort()
        finally:
            if request.path == _MESSAGES and upstream.ok:
                self._count(line, meter.usage(self._prices))
        return answer

    def _count(self, line: _Line, usage: Usage) -> None:
        self._tallies[line.key] = self._tallies[line.key].with_usage(usage)
        if line.allowance is not None:
            self._purses[line.allowance.name].pay(usage.cost_usd)

    def _note(self, key: str, status: int, retry_after: str | None = None) -> None:
        self._tallies[key] = self._tallies[key].with_answer(status, retry_after)


def _client() -> aiohttp.ClientSession:
    """Return a client that keeps no cookies, so that attempts cannot tell each other anything."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=600),
    )


def _refused(method: str, target: str) -> _Refused | None:
    """Return why this is not a model call, or None when it is one."""
    path, _, query = target.partition("?")
    if method == "POST" and path in _POSTS:
        known = True
    else:
        known = method == "GET" and _MODELS.fullmatch(path) is not None
    if known and _QUERY.fullmatch(query):
        return None
    return _Refused(
        403, f"The model gateway of this workspace does not pass {method} {target[:200]} on."
    )


def _no_credential(provider: Provider) -> _Refused:
    return _Refused(
        401,
        f"CommandCenter holds no credential for the model provider `{provider.name}`. Set "
        f"{provider.variables} in the environment of the service.",
    )


def _pinned(models: Sequence[str], problem: str) -> _Refused:
    allowed = ", ".join(models)
    # Not 403: agents would take that for a matter of the credential.
    return _Refused(
        400, f"This profile may use these models only: {allowed}. CommandCenter: {problem}."
    )


def _unreadable() -> _Refused:
    return _Refused(
        400, "CommandCenter: this task has a budget, and what this request costs cannot be read."
    )


def _spent(allowance: Allowance, left: float, most: float) -> _Refused:
    # Not 402 or 429: agents would take that for the account's matter, or wait.
    why = f"; ${left:.4f} is left, and this answer could cost ${most:.4f}" if left > 0 else ""
    return _Refused(400, f"CommandCenter: {allowance.words}{why}. Nothing more is passed on.")


def _unreachable(provider: Provider, error: Exception) -> _Refused:
    why = str(error) or type(error).__name__
    return _Refused(502, f"The model provider `{provider.name}` cannot be reached: {why}")


def _unbounded(request: web.BaseRequest) -> _Refused | None:
    """Return why this body is not taken: it has no declared length, or is too long."""
    if request.method == "POST" and request.content_length is None:
        return _Refused(411, "A request to the model gateway must state its Content-Length.")
    if (request.content_length or 0) > BODY_BYTES_MAX:
        return _Refused(413, f"The request is larger than {BODY_BYTES_MAX // 2**20} MiB.")
    return None


def _passed_in(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that the provider may see: none that authenticates, none unknown."""
    passed = {
        name.lower(): value
        for name, value in headers.items()
        if name.lower() in _PASSED_IN or name.lower().startswith(_PASSED_IN_FAMILIES)
    }
    if length := headers.get("content-length"):
        passed["content-length"] = length
    # A compressed answer could not be metered as it passes.
    return {**passed, "accept-encoding": "identity"}


def _passed_back(status: int, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that the agent may see, with a bounded time to wait."""
    passed = {name: value for name, value in headers.items() if name.lower() not in _HELD_BACK}
    hopeless = status in (401, 403)
    if (wait := headers.get("retry-after")) is not None:
        short = wait.isdecimal() and int(wait) <= RETRY_AFTER_MAX_S
        # Some agents sleep for as long as they are told, silently: an hour was seen.
        passed["retry-after"] = wait if short else str(RETRY_AFTER_MAX_S)
        hopeless = hopeless or not short
    # Anthropic's client then fails at once: 0.8 s in place of 10 s for a wrong key.
    return {**passed, "x-should-retry": "false"} if hopeless else passed


def _error(refused: _Refused) -> web.Response:
    """Return the refusal in the shape of Anthropic's errors, so that agents show its words."""
    kind = _ERROR_TYPES.get(refused.status, "api_error")
    answer = web.json_response(
        {"type": "error", "error": {"type": kind, "message": refused.message}},
        status=refused.status,
    )
    if refused.status < 500:
        answer.headers["x-should-retry"] = "false"
        # The body may not have been read to its end.
        answer.force_close()
    return answer
