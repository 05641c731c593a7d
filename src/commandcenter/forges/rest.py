"""Calls a REST API: authentication, paging, retries, rate limits. Writes go one after another."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from commandcenter.core.errors import ForgeError, Refusal

TRIES_MAX = 4
WAIT_MAX_S = 60.0
"""A rate limit that lasts longer is told to the caller instead of waited for."""
_PAGES_MAX = 1000
_TIMEOUT_S = 30.0
_REPEATABLE = {"GET", "PATCH", "DELETE"}
_LIMITED_WITHOUT_TIME_S = 30.0
_KNOWN_MAX = 200
_KNOWN_BYTES_MAX = 2**16

Json = Any  # Any: JSON as the forge sent it; the caller parses it at once
Pause = Callable[[float], Awaitable[None]]
T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class PageSize:
    """How a forge is asked for long pages."""

    parameter: str = "per_page"
    entries: int = 100


_BY_HUNDRED = PageSize()


class RestApi:
    """One forge's REST API under one token."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        client: httpx.AsyncClient | None = None,
        pause: Pause = asyncio.sleep,
        page_size: PageSize = _BY_HUNDRED,
        auth: httpx.Auth | None = None,
    ) -> None:
        """A `client` that is given is only borrowed; `pause` is how to wait.

        `auth` signs every request, for tokens that do not last; else the headers hold the token.
        """
        self._auth = auth
        self._page_size = page_size
        self._known: dict[str, httpx.Response] = {}
        self._url = url.rstrip("/")
        self._headers = dict(headers)
        self._owned = client is None
        self._client = client or _client(self._url)
        self._pause = pause
        self._writing = asyncio.Lock()

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Json:
        """Return what the forge has under a path, asked only for what is new since the last time.

        Raises:
            ForgeError: it refused, or did not answer.
        """
        return _json(await self._call("GET", f"{self._url}{path}", params=params))

    async def text(self, path: str) -> str:
        """Return what the forge has under a path that is no JSON.

        Raises:
            ForgeError: it refused, or did not answer.
        """
        return (await self._call("GET", f"{self._url}{path}")).text

    async def pages(
        self, path: str, params: Mapping[str, str] | None = None
    ) -> AsyncIterator[Json]:
        """Yield the entries of a list, page by page.

        Raises:
            ForgeError: it refused, did not answer, or the list does not end.
        """
        size = self._page_size
        here = f"{self._url}{path}"
        first = {**(params or {}), size.parameter: str(size.entries)}
        url, asked, seen = here, first, 0
        for number in range(1, _PAGES_MAX + 1):
            response = await self._call("GET", url, params=asked)
            entries = _json(response) or []
            for entry in entries:
                yield entry
            seen += len(entries)
            if _is_counted(response):
                following = _next_number(response, number, seen, len(entries))
                url, asked = here, {**first, "page": following}
            else:
                following = response.links.get("next", {}).get("url", "")
                url, asked = self._same_place(following) if following else "", {}
            if not following:
                return
        raise ForgeError(f"The list {path} has more than {_PAGES_MAX} pages.")

    async def send(self, method: str, path: str, body: Json = None) -> Json:
        """Change something, and return what the forge says about it.

        Raises:
            ForgeError: it refused, or did not answer; then the change may have been made or not.
        """
        async with self._writing:
            return _json(await self._call(method, f"{self._url}{path}", body=body))

    async def query(self, url: str, text: str, variables: Json) -> Json:
        """Ask or order by GraphQL, and return the data of the answer.

        Raises:
            ForgeError: it refused (`status` is 422), or did not answer.
        """
        async with self._writing:
            body = {"query": text, "variables": variables}
            answer = _json(await self._call("POST", url, body=body)) or {}
        if errors := answer.get("errors"):
            said = "; ".join(str(each.get("message")) for each in errors)[:1000]
            raise ForgeError(f"{_shown('POST', url)} refused: {said}", status=422)
        return answer.get("data")

    async def aclose(self) -> None:
        """Release connections."""
        if self._owned:
            await self._client.aclose()

    async def _call(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Json = None,
    ) -> httpx.Response:
        key = str(httpx.URL(url, params=params)) if params else url
        known = self._known.get(key) if method == "GET" else None
        headers = {**self._headers, "If-None-Match": known.headers["etag"]} if known else {}
        for attempt in range(1, TRIES_MAX + 1):
            last = attempt == TRIES_MAX
            back_off_s = 0.5 * 2 ** (attempt - 1)
            try:
                response = await self._client.request(
                    method,
                    url,
                    params=params or None,
                    json=body,
                    headers=headers or self._headers,
                    auth=self._auth,
                    follow_redirects=True,
                )
            except httpx.HTTPError as error:
                if last or not _repeatable(method, error):
                    raise _silence(method, url, error) from error
                await self._pause(back_off_s)
                continue
            if known is not None and response.status_code == 304:
                return known
            if response.is_success:
                self._remember(method, key, response)
                return response
            wait_s = _limited_s(response)
            if wait_s is None and response.status_code >= 500 and method in _REPEATABLE:
                wait_s = back_off_s
            if last or wait_s is None or wait_s > WAIT_MAX_S:
                raise _refusal(method, url, response)
            await self._pause(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def _remember(self, method: str, key: str, response: httpx.Response) -> None:
        """Keep an answer that the forge can be asked about; asking costs it and us less."""
        small = len(response.content) <= _KNOWN_BYTES_MAX
        if method == "GET" and small and "etag" in response.headers:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[key] = response

    def _same_place(self, url: str) -> str:
        """Return the address of the next page; the token goes to no other host than ours."""
        theirs, ours = urlsplit(url), urlsplit(self._url)
        if (theirs.scheme, theirs.netloc) != (ours.scheme, ours.netloc):
            raise ForgeError(f"The forge sent us on to another host, {theirs.netloc}.")
        return url


def _client(url: str) -> httpx.AsyncClient:
    """Return a client; a proxy from the environment is not for a forge on this machine."""
    host = urlsplit(url).hostname or ""
    return httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=not is_loopback(host))


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _repeatable(method: str, error: httpx.HTTPError) -> bool:
    """Say whether the request can be sent again: it changes nothing twice, or was never sent."""
    return method in _REPEATABLE or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def _limited_s(response: httpx.Response) -> float | None:
    """Return how long a rate limit asks us to wait; None when it is none."""
    if response.status_code not in (403, 429):
        return None
    asked = response.headers.get("retry-after", "")
    if asked.isdigit():
        return float(asked)
    if response.headers.get("x-ratelimit-remaining") == "0":
        reset = response.headers.get("x-ratelimit-reset", "")
        return (
            max(1.0, int(reset) - _now_s(response)) if reset.isdigit() else _LIMITED_WITHOUT_TIME_S
        )
    if response.status_code == 429 or "secondary rate limit" in response.text.lower():
        return _LIMITED_WITHOUT_TIME_S
    return None


def _now_s(response: httpx.Response) -> float:
    """Return the time by the forge's own clock, by which it names times; else by ours."""
    with contextlib.suppress(ValueError, TypeError):
        return parsedate_to_datetime(response.headers["date"]).timestamp()
    return time.time()


def _is_counted(response: httpx.Response) -> bool:
    """Say whether the forge numbers its pages or counts the entries: sturdier than its links.

    A link names the address by which the forge knows itself, which need not be the one we use.
    """
    return "x-next-page" in response.headers or "x-total-count" in response.headers


def _next_number(response: httpx.Response, number: int, seen: int, here: int) -> str:
    """Return the number of the next page, or nothing when this was the last."""
    named = response.headers.get("x-next-page")
    if named is not None:
        return str(named)
    total = response.headers["x-total-count"]
    return str(number + 1) if here and total.isdigit() and seen < int(total) else ""


def parsed(model: type[T], answer: Json) -> T:
    """Return what the forge sent as what it must be.

    Raises:
        ForgeError: it is something else.
    """
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        raise ForgeError(
            f"The forge answered with something else than expected: {error}"
        ) from error


def _json(response: httpx.Response) -> Json:
    if response.status_code == 204 or not response.content:
        return None
    try:
        return response.json()
    except ValueError as error:
        raise ForgeError(
            f"{_shown(response.request.method, str(response.url))} did not answer with JSON.",
            status=response.status_code,
            hint="Is this the address of the forge's API, and is no proxy in between?",
        ) from error


def _silence(method: str, url: str, error: httpx.HTTPError) -> ForgeError:
    words = str(error) or type(error).__name__
    return ForgeError(
        f"{_shown(method, url)} got no answer: {words}",
        hint="Is the forge up, and can this machine reach it?",
    )


def _refusal(method: str, url: str, response: httpx.Response) -> ForgeError:
    status = response.status_code
    limited = _limited_s(response)
    if limited is not None:
        hint = f"The rate limit of this token ends in {limited:.0f} seconds."
    else:
        hint = _HINTS.get(status, "")
    words = f"{_shown(method, url)} answered {status}: {_words(response)}"
    return ForgeError(words, status=status, hint=hint, refusal=_MEANINGS.get(status))


_MEANINGS = {401: Refusal.TOKEN, 404: Refusal.ABSENT}
_HINTS = {
    401: "The token is wrong or has expired.",
    403: "The token may not do this: it needs contents, pull requests and commit statuses.",
    404: "It does not exist, or the token may not see it.",
}


def _words(response: httpx.Response) -> str:
    """Return what the forge says was wrong, in one line."""
    try:
        answer = response.json()
    except ValueError:
        return response.text[:200].strip() or response.reason_phrase
    if not isinstance(answer, dict):
        return str(answer)[:200]
    errors = answer.get("errors")
    details = [_detail(error) for error in errors] if isinstance(errors, list) else []
    said = answer.get("message") or answer.get("error") or ""
    said = "; ".join(map(str, said)) if isinstance(said, list) else str(said)
    return "; ".join([said, *details])[:1000]


def _detail(error: Json) -> str:
    if not isinstance(error, dict):
        return str(error)
    field = " ".join(str(error[name]) for name in ("resource", "field", "code") if name in error)
    return str(error.get("message") or field)


def _shown(method: str, url: str) -> str:
    return f"{method} {urlsplit(url).path}"
