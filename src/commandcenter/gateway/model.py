"""The model gateway: the one way from a workspace to its model, one unix socket an attempt.

An agent inside reaches it through a loopback port of its own and holds no credential. The gateway
lets only the model calls of Anthropic's API pass, puts the real credential in, streams the answer
through as it comes, and counts what each attempt uses.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from commandcenter.core.agent import Usage
from commandcenter.core.parking import Parked, after_answer, from_record, to_record
from commandcenter.core.prices import Price
from commandcenter.gateway import pinning
from commandcenter.gateway.credentials import ApiKey, Provider, SubscriptionToken, authenticated
from commandcenter.gateway.meter import AnswerMeter, Facts, Tally, seconds
from commandcenter.gateway.sockets import bound

SOCKET_NAME = "model.sock"
BODY_BYTES_MAX = 64 * 2**20
RETRY_AFTER_MAX_S = 60
LOOK_S = 1.0
"""How often a pause is looked at whose end may have come by a clock that was set."""

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


class ModelGateway:
    """Serves one unix socket an attempt, all in front of one provider. End it with `aclose`."""

    def __init__(
        self,
        provider: Provider,
        *,
        prices: Sequence[Price] = (),
        now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6,
        record: Path | None = None,
    ) -> None:
        """Serve agents of this provider.

        `record`: the file in which it is kept, over a restart, until when the provider is left
        alone.
        """
        self._provider = provider
        self._prices = prices
        self._now_ms = now_ms
        self._record = record
        self._parked = _recorded(record).get(provider.name)
        self._answered = asyncio.Event()
        self._client: aiohttp.ClientSession | None = None
        self._runners: dict[Path, web.ServerRunner] = {}
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)

    @asynccontextmanager
    async def socket(
        self, folder: Path, *, key: str, models: Sequence[str] = ()
    ) -> AsyncIterator[Path]:
        """Serve `folder/model.sock` for the attempt `key`; give its path."""
        path = await self.open(folder, key=key, models=models)
        try:
            yield path
        finally:
            await self.close(folder)

    async def open(self, folder: Path, *, key: str, models: Sequence[str] = ()) -> Path:
        """Serve `folder/model.sock` for the attempt `key` until `close`; return its path.

        A socket that an earlier process left there is replaced. What is counted for a key adds
        up over all sockets that were opened with it. `models` are globs over what may be asked
        for; none is any.
        """
        await self.close(folder)
        if self._client is None:
            self._client = _client()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return await self._answer(key, request, models)

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

    def parked(self) -> Parked | None:
        """Return until when the provider wants to be left alone, if it does."""
        holds = self._parked is not None and self._parked.holds(self._now_ms())
        return self._parked if holds else None

    def parked_words(self) -> str:
        """Return what is waited for while the provider is left alone; empty when it is not."""
        parked = self.parked()
        return parked.words(self._provider.name) if parked else ""

    async def available(self) -> None:
        """Wait for as long as the provider is left alone."""
        while (parked := self.parked()) is not None:
            left_s = (parked.until_ms - self._now_ms()) / 1000
            self._answered.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(max(left_s, 0.0), LOOK_S)):
                    await self._answered.wait()

    async def aclose(self) -> None:
        """Stop serving all sockets and leave the provider's connections."""
        for folder in tuple(self._runners):
            await self.close(folder)
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _answer(
        self, key: str, request: web.BaseRequest, models: Sequence[str]
    ) -> web.StreamResponse:
        if request.method == "HEAD" and request.raw_path == "/":
            return web.Response()
        if refused := _refused(request.method, request.raw_path):
            return _error(refused)
        credential = self._provider.credential
        if credential is None:
            self._note(key, 401)
            return _error(_no_credential(self._provider.name))
        if unbounded := _unbounded(request):
            return _error(unbounded)
        # Passed on as it comes: held here, a few of the largest would be all our memory.
        content: aiohttp.StreamReader | bytes | None = (
            request.content if request.content_length else None
        )
        if models and request.method == "POST":
            content = await request.content.read()
            encoding = request.headers.get("content-encoding", "")
            if problem := pinning.problem(content, encoding, models):
                return _error(_pinned(models, problem))
        return await self._forward(key, request, credential, content)

    async def _forward(
        self,
        key: str,
        request: web.BaseRequest,
        credential: ApiKey | SubscriptionToken,
        content: aiohttp.StreamReader | bytes | None,
    ) -> web.StreamResponse:
        assert self._client is not None
        url = URL(self._provider.base_url.rstrip("/") + request.raw_path, encoded=True)
        headers = authenticated(_passed_in(request.headers), credential)
        asked_ms = self._now_ms()
        try:
            upstream = await self._client.request(
                request.method, url, data=content, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            self._note(key, 502)
            _log.warning("The model provider cannot be reached: %s %s", type(error).__name__, key)
            return _error(_unreachable(self._provider, error))
        async with upstream:
            wait = upstream.headers.get("retry-after")
            self._note(key, upstream.status, wait)
            self._park(upstream.status, wait, asked_ms)
            return await self._relay(key, request, upstream)

    async def _relay(
        self, key: str, request: web.BaseRequest, upstream: aiohttp.ClientResponse
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
                self._tallies[key] = self._tallies[key].with_usage(meter.usage(self._prices))
        return answer

    def _park(self, status: int, retry_after: str | None, asked_ms: int) -> None:
        """Draw the conclusion for all agents from one answer of the provider."""
        before, now_ms = self._parked, self._now_ms()
        told_s = seconds(retry_after)
        self._parked = after_answer(before, status, told_s, asked_ms=asked_ms, now_ms=now_ms)
        if self._parked != before:
            self._answered.set()
            self._keep()

    def _keep(self) -> None:
        if self._record is None:
            return
        parked = {self._provider.name: self._parked} if self._parked else {}
        fresh = self._record.with_suffix(".new")
        try:
            # Not synced: what a power cut loses of it is said again by the next answer.
            fresh.write_text(json.dumps(to_record(parked)))
            os.replace(fresh, self._record)
        except OSError as error:
            _log.warning("Until when the provider is left alone cannot be kept: %s", error)

    def _note(self, key: str, status: int, retry_after: str | None = None) -> None:
        self._tallies[key] = self._tallies[key].with_answer(status, retry_after)


def _recorded(record: Path | None) -> dict[str, Parked]:
    try:
        return from_record(json.loads(record.read_bytes())) if record else {}
    except (OSError, ValueError, TypeError, AttributeError, LookupError):
        # Missing, or not ours to read: the provider says it again.
        return {}


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


def _no_credential(provider: str) -> _Refused:
    return _Refused(
        401,
        f"CommandCenter holds no credential for the model provider `{provider}`. Set "
        "ANTHROPIC_API_KEY, or CLAUDE_CODE_OAUTH_TOKEN (from `claude setup-token`), in the "
        "environment of the service.",
    )


def _pinned(models: Sequence[str], problem: str) -> _Refused:
    allowed = ", ".join(models)
    # Not 403: agents would take that for a matter of the credential.
    return _Refused(
        400, f"This profile may use these models only: {allowed}. CommandCenter: {problem}."
    )


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
