"""Acts as a GitHub App: short-lived tokens for one repository each, held in memory only."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field

from commandcenter.core.errors import ForgeError, InputError, Refusal
from commandcenter.forges import RemoteRepository, Site, repository_of
from commandcenter.forges.rest import Json, Pause, RestApi, is_loopback, parsed
from commandcenter.settings import AppAccount
from commandcenter.system.secret_file import read_secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

HEADERS: Mapping[str, str] = MappingProxyType(
    {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
)
NEEDED: Mapping[str, str] = MappingProxyType(
    {"contents": "write", "pull_requests": "write", "statuses": "write"}
)
"""What an App must be allowed to do."""
USEFUL: Mapping[str, str] = MappingProxyType(
    {"checks": "write", "actions": "write", "workflows": "write"}
)
"""What a token is also given where the App may: required checks, and changes to workflows."""
SKEW_S = 60
"""How far our clock may be ahead without anybody noticing."""
ASSERTION_S = 540
"""GitHub takes ten minutes at most."""
MARGIN_S = 300.0
"""A token that ends sooner is not begun with: a push may take a while."""
_DATE_IS_EXACT_TO_S = 5
_LEVELS = ("", "read", "write", "admin")

Clock = Callable[[], float]


class App:
    """A GitHub App, as which it asks for installations and their tokens."""

    def __init__(
        self,
        account: AppAccount,
        api_url: str,
        environ: Mapping[str, str],
        *,
        client: httpx.AsyncClient | None = None,
        pause: Pause = asyncio.sleep,
        now_s: Clock = time.time,
        ticks_s: Clock = time.monotonic,
    ) -> None:
        """`now_s` is the time of day, which may be wrong; `ticks_s` only goes on."""
        self.account = account
        self.site = Site("github", api_url)
        self.ticks_s = ticks_s
        self._signer = _Assertion(account, environ, now_s)
        agent = {**HEADERS, "User-Agent": "commandcenter"}
        self._api = RestApi(api_url, agent, client=client, pause=pause, auth=self._signer)
        self._sign_ins: dict[tuple[str, str], AppSignIn] = {}

    def sign_in(self, repository: RemoteRepository) -> AppSignIn:
        """Return the one holder of this repository's token."""
        key = (repository.owner, repository.name)
        return self._sign_ins.setdefault(key, AppSignIn(self, *key))

    async def about(self) -> AppAnswer:
        """Return what GitHub says of the App.

        Raises:
            ForgeError: it does not take the key, or did not answer.
            InputError: there is no usable key.
        """
        return parsed(AppAnswer, await self._asked("/app"))

    async def installation(self, owner: str, name: str) -> Installation:
        """Return the App's installation that has a repository.

        Raises:
            ForgeError: the App is not installed there, or is suspended.
        """
        place = f"/repos/{quote(owner, safe='')}/{quote(name, safe='')}/installation"
        if self.account.installation:
            place = f"/app/installations/{self.account.installation}"
        try:
            found = parsed(Installation, await self._asked(place))
        except ForgeError as error:
            if error.status != 404:
                raise
            raise await self._not_installed(owner, name) from error
        if found.suspended_at is not None:
            raise ForgeError(
                f"The GitHub App's installation for {owner}/{name} is suspended.",
                status=403,
                hint=f"let it work again: {found.html_url}",
                refusal=Refusal.TOKEN,
            )
        return found

    async def minted(self, owner: str, name: str) -> Minted:
        """Return a new token that is good for one repository, and for what is needed there.

        Raises:
            ForgeError: there is none to be had; says what to do.
        """
        installation = await self.installation(owner, name)
        lacking = missing(installation.permissions)
        if lacking:
            raise ForgeError(
                f"The GitHub App may not do what {owner}/{name} needs: {', '.join(lacking)}.",
                status=403,
                hint="add these to the permissions of the App, and accept them for the "
                f"installation: {installation.html_url}",
                refusal=Refusal.TOKEN,
            )
        wanted = {"repositories": [name], "permissions": narrowed(installation.permissions)}
        path = f"/app/installations/{installation.id}/access_tokens"
        began_s = self.ticks_s()
        try:
            answer = parsed(_Token, await self._api.send("POST", path, wanted))
        except ForgeError as error:
            if error.status not in (404, 422):
                raise self._understood(error) from error
            raise await self._not_installed(owner, name) from error
        lasts_s = answer.expires_at.timestamp() - self._signer.now_s()
        return Minted(answer.token, began_s + lasts_s - MARGIN_S)

    async def aclose(self) -> None:
        """Release connections."""
        await self._api.aclose()

    async def environment(self, address: str) -> Mapping[str, str]:
        """Return the variables by which git signs in at an address; none if it is not ours.

        The token is in no argument and no file. Helpers of the user are not asked, and so never
        told, our token; if it is refused, git does not go on as somebody else.
        """
        sign_in = self._at(address)
        if sign_in is None:
            return {}
        pair = base64.b64encode(f"x-access-token:{await sign_in.token()}".encode()).decode()
        parts = urlsplit(address.strip())
        return {
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": f"http.{parts.scheme}://{_without_user(parts.netloc)}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {pair}",
            "GIT_CONFIG_KEY_1": "credential.helper",
            "GIT_CONFIG_VALUE_1": "",
            "GIT_ASKPASS": "",
        }

    async def refused(self, address: str) -> None:
        """Forget the token that was not taken at an address."""
        if sign_in := self._at(address):
            sign_in.forget()

    def _at(self, address: str) -> AppSignIn | None:
        try:
            parts = urlsplit(address.strip())
            safe = parts.scheme == "https" or (
                parts.scheme == "http" and is_loopback(parts.hostname or "")
            )
        except ValueError:
            return None
        repository = repository_of(address, [self.site]) if safe else None
        return self.sign_in(repository) if repository else None

    async def _asked(self, path: str) -> Json:
        try:
            return await self._api.get(path)
        except ForgeError as error:
            raise self._understood(error) from error

    def _understood(self, error: ForgeError) -> ForgeError:
        if error.status != 401:
            return error
        return ForgeError(
            f"GitHub does not take the key of the App {self.account.id}: {error.message}",
            status=401,
            hint="github_app_id and the private key must be of the same App; its settings page "
            "has the one and makes the other",
            refusal=Refusal.TOKEN,
        )

    async def _not_installed(self, owner: str, name: str) -> ForgeError:
        about = await self.about()
        return ForgeError(
            f"The GitHub App `{about.slug}` is not installed on {owner}/{name}.",
            status=404,
            hint=f"install it there: {about.html_url}/installations/new",
            refusal=Refusal.ABSENT,
        )


class AppSignIn(httpx.Auth):
    """The token of one repository, shared by all who call; signs requests with it."""

    def __init__(self, app: App, owner: str, name: str) -> None:
        self._app = app
        self._repository = (owner, name)
        self._minted: Minted | None = None
        self._minting = asyncio.Lock()
        self._login = ""

    async def token(self) -> str:
        """Return a token that lasts for some minutes; who comes while it is made waits for it.

        Raises:
            ForgeError: there is none to be had.
        """
        async with self._minting:
            if self._minted is None or self._app.ticks_s() >= self._minted.until_s:
                self._minted = await self._app.minted(*self._repository)
            return self._minted.token

    def forget(self, token: str = "") -> None:
        """Have a new token made for the next call; of `token`, only if it is that one still."""
        if self._minted is not None and token in ("", self._minted.token):
            self._minted = None

    async def login(self) -> str:
        """Return the name under which the App writes."""
        if not self._login:
            self._login = f"{(await self._app.about()).slug}[bot]"
        return self._login

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign a request; if its token is not taken, sign it once more with a new one."""
        token = await self.token()
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401:
            self.forget(token)
            request.headers["Authorization"] = f"Bearer {await self.token()}"
            yield request


@dataclass(frozen=True)
class Minted:
    """A token, and until when it can be begun with."""

    token: str = field(repr=False)
    until_s: float
    """By the clock that only goes on."""


class AppAnswer(BaseModel):
    """What GitHub says of an App."""

    slug: str
    html_url: str
    permissions: dict[str, str]


class Installation(BaseModel):
    """What GitHub says of an App's installation at an account."""

    id: int
    html_url: str
    permissions: dict[str, str]
    suspended_at: str | None = None


class _Token(BaseModel):
    # What is wrong with an answer is said without the token that is in it.
    model_config = ConfigDict(hide_input_in_errors=True)

    token: str = Field(repr=False)
    expires_at: datetime


def missing(permissions: Mapping[str, str]) -> tuple[str, ...]:
    """Return what is needed and not granted, as `contents: write`."""
    return tuple(
        f"{name}: {level}"
        for name, level in NEEDED.items()
        if _level(permissions.get(name, "")) < _level(level)
    )


def narrowed(permissions: Mapping[str, str]) -> Mapping[str, str]:
    """Return what a token is asked to allow: no more than is used, and than is granted."""
    return {
        name: min(level, permissions[name], key=_level)
        for name, level in {**NEEDED, **USEFUL}.items()
        if _level(permissions.get(name, ""))
    }


def read_key(account: AppAccount, environ: Mapping[str, str]) -> RSAPrivateKey:
    """Return an App's private key.

    Raises:
        InputError: there is none, others can read it, or it is none.
    """
    # Imported here, since who has no App need not pay for it at every start.
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    where, text = _key_text(account, environ)
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError) as error:
        # What was read is not shown: it may be a key that was cut.
        raise _no_key(where) from error
    if not isinstance(key, RSAPrivateKey):
        raise _no_key(where)
    return key


class _Assertion(httpx.Auth):
    """Signs requests as the App itself, by GitHub's clock as far as that is known."""

    def __init__(self, account: AppAccount, environ: Mapping[str, str], now_s: Clock) -> None:
        self._account = account
        self._environ = environ
        self._ours_s = now_s
        self._behind_s = 0.0
        """What has to be added to our clock."""

    def now_s(self) -> float:
        """Return the time of day at GitHub."""
        return self._ours_s() + self._behind_s

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sign a request; if it is refused and our clock was wrong, once more by GitHub's."""
        request.headers["Authorization"] = f"Bearer {self._signed()}"
        response = yield request
        if self._corrected(response) and response.status_code == 401:
            request.headers["Authorization"] = f"Bearer {self._signed()}"
            yield request

    def _signed(self) -> str:
        import jwt

        begin = int(self.now_s()) - SKEW_S
        claims = {"iss": self._account.id, "iat": begin, "exp": begin + ASSERTION_S}
        return jwt.encode(claims, read_key(self._account, self._environ), algorithm="RS256")

    def _corrected(self, response: httpx.Response) -> bool:
        """Follow the forge's clock; say whether ours was wrong by more than a request takes."""
        off_s = _date_s(response, self.now_s()) - self.now_s()
        if abs(off_s) <= _DATE_IS_EXACT_TO_S:
            return False
        self._behind_s += off_s
        return True


def _key_text(account: AppAccount, environ: Mapping[str, str]) -> tuple[str, bytes]:
    if account.private_key_file is not None:
        file = account.private_key_file
        return str(file), read_secret(file, "the private key", "github_app_private_key_file")
    text = environ.get(account.private_key_variable, "").strip()
    if not text:
        raise InputError(
            f"The GitHub App {account.id} has no private key.",
            hint=f"set github_app_private_key_file in [forge], or {account.private_key_variable}",
        )
    # Where a variable can have one line only, its ends are written out.
    return f"${account.private_key_variable}", text.replace("\\n", "\n").encode()


def _no_key(where: str) -> InputError:
    return InputError(
        f"{where} is no private key of a GitHub App.",
        hint="it is the .pem file that the App's settings page makes: RSA, without a password",
    )


def _date_s(response: httpx.Response, otherwise_s: float) -> float:
    with contextlib.suppress(ValueError, TypeError):
        return parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    return otherwise_s


def _level(level: str) -> int:
    return _LEVELS.index(level) if level in _LEVELS else 0


def _without_user(netloc: str) -> str:
    return netloc.rpartition("@")[2]
