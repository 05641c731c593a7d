"""The part of GitHub that knows Apps, in front of the hub: it believes no signature unseen."""

from __future__ import annotations

import base64
import gzip
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from commandcenter.core.pull_request import RepositoryName
from commandcenter.hub.wire import user_json
from commandcenter.system import process

ASSERTION_S_MAX = 600
LIFE_S = 3600.0
_ACCESS = re.compile(r"/app/installations/(\d+)/access_tokens")
_INSTALLATION = re.compile(r"/app/installations/(\d+)")
_OF_REPOSITORY = re.compile(r"/repos/([^/]+)/([^/]+)/installation")
_BELOW_REPOSITORY = re.compile(r"/repos/([^/]+)/([^/]+)(?:/.*)?")
_GIT = re.compile(r"/([^/]+)/([^/]+)\.git(/.*)")
_MADE = "2026-01-02T03:04:05Z"
Json = dict[str, Any]  # Any: JSON


@dataclass
class Installed:
    """An installation of the App at the owner of some repositories."""

    id: int
    repositories: list[RepositoryName]
    permissions: dict[str, str]
    suspended: bool = False


@dataclass
class Issued:
    """A token that was given out."""

    repositories: list[RepositoryName]
    permissions: dict[str, str]
    until_s: float


@dataclass
class GitHubApps:
    """Answers an App as GitHub does; passes what its tokens may do on to the hub."""

    hub: ASGIApp
    key: RSAPublicKey
    hub_token: str
    """The hub's token for the App's own login."""
    app_id: str = "Iv23liExample"
    slug: str = "night-shift"
    installations: list[Installed] = field(default_factory=list)
    git_dirs: dict[RepositoryName, Path] = field(default_factory=dict)
    now_s: Callable[[], float] = time.time
    life_s: float = LIFE_S
    """For how long a token is good."""
    issued: dict[str, Issued] = field(default_factory=dict)
    odd: Json = field(default_factory=dict)
    """Put into the answers that hold a token."""
    asked: list[str] = field(default_factory=list)
    """Every call that was made as the App itself."""

    def revoke_all(self) -> None:
        """End every token that is out, before its time."""
        self.issued.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        request = Request(scope, receive)
        path = request.url.path
        own = path == "/app" or path.startswith("/app/") or _OF_REPOSITORY.fullmatch(path)
        if own:
            answer = await self._as_app(request)
            answer.headers["Date"] = formatdate(self.now_s(), usegmt=True)
            await answer(scope, receive, send)
        elif found := _GIT.fullmatch(path):
            name = RepositoryName(found[1], found[2])
            answer = await self._git(request, name, found[3])
            await answer(scope, receive, send)
        else:
            await self._as_installation(request, scope, receive, send)

    async def _as_app(self, request: Request) -> Response:
        self.asked.append(f"{request.method} {request.url.path}")
        if words := self._doubt(request):
            return _refusal(401, words)
        path, root = request.url.path, str(request.base_url).rstrip("/")
        if path == "/app":
            return JSONResponse(self._app(root))
        if found := _OF_REPOSITORY.fullmatch(path):
            name = RepositoryName(*found.groups())
            has = [each for each in self.installations if name in each.repositories]
            return JSONResponse(self._installation(has[0], root)) if has else _refusal(404)
        match = _ACCESS.fullmatch(path) or _INSTALLATION.fullmatch(path)
        known = [each for each in self.installations if match and str(each.id) == match[1]]
        if not known:
            return _refusal(404)
        if request.method == "GET":
            return JSONResponse(self._installation(known[0], root))
        return self._issue(known[0], await request.json())

    def _doubt(self, request: Request) -> str:
        """Return why this is not the App, in GitHub's words; nothing if it is."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            # Times are looked at below, by our own clock.
            claims = jwt.decode(
                token,
                self.key,
                ["RS256"],
                issuer=self.app_id,
                options={
                    "verify_exp": False,
                    "verify_iat": False,
                    "require": ["iss", "iat", "exp"],
                },
            )
        except jwt.InvalidTokenError:
            return "A JSON web token could not be decoded"
        now = self.now_s()
        if not isinstance(claims["iat"], int) or claims["iat"] > now:
            return (
                "'Issued at' claim ('iat') must be an Integer representing the time that the "
                "assertion was issued"
            )
        if claims["exp"] <= now:
            return (
                "'Expiration time' claim ('exp') must be a numeric value representing the future "
                "time at which the assertion expires"
            )
        too_far = claims["exp"] - now > ASSERTION_S_MAX
        return "'Expiration time' claim ('exp') is too far in the future" if too_far else ""

    def _issue(self, installation: Installed, wanted: Json) -> Response:
        if installation.suspended:
            return _refusal(403, "This installation has been suspended")
        names = [each for each in installation.repositories if each.name in wanted["repositories"]]
        if len(names) != len(wanted["repositories"]):
            return _refusal(422, "There is at least one repository that is not accessible")
        granted = installation.permissions
        if any(level not in (granted.get(name), "read") for name, level in _asked(wanted)):
            return _refusal(422, "The permissions requested are not granted to this installation.")
        token = f"ghs_{secrets.token_hex(18)}"
        until_s = self.now_s() + self.life_s
        self.issued[token] = Issued(names, dict(wanted["permissions"]), until_s)
        ends = datetime.fromtimestamp(until_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = {"token": token, "expires_at": ends, "permissions": wanted["permissions"]}
        return JSONResponse({**said, "repository_selection": "selected", **self.odd}, 201)

    async def _as_installation(
        self, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        known, path = self._good(token), request.url.path
        found = _BELOW_REPOSITORY.fullmatch(path)
        if known is None:
            answer: ASGIApp = _refusal(401, "Bad credentials")
        elif path == "/user":
            answer = _refusal(403, "Resource not accessible by integration")
        elif found and RepositoryName(*found.groups()) not in known.repositories:
            answer = _refusal(404)
        else:
            answer, scope = self.hub, _signed(scope, self.hub_token)
        await answer(scope, receive, send)

    def _good(self, token: str) -> Issued | None:
        known = self.issued.get(token)
        return known if known and known.until_s > self.now_s() else None

    async def _git(self, request: Request, name: RepositoryName, path: str) -> Response:
        """Serve git over HTTP by git's own server, to whoever has a token for the repository."""
        known = self._good(_password(request.headers.get("authorization", "")))
        if known is None or name not in known.repositories:
            sign_in = {"WWW-Authenticate": 'Basic realm="GitHub"'}
            return Response("Repository not found.", 401, headers=sign_in)
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        variables = {
            "GIT_PROJECT_ROOT": str(self.git_dirs[name]),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": request.url.query,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
            "REMOTE_USER": "x-access-token",
        }
        environment = {**variables, "PATH": os.environ["PATH"], "HOME": "/nonexistent"}
        done = await process.run(("git", "http-backend"), stdin=body, environment=environment)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        status = int(headers.pop("Status", "200").split()[0])
        return Response(content, status, headers)

    def _app(self, root: str) -> Json:
        permissions = self.installations[0].permissions if self.installations else {}
        return {
            "id": 4711,
            "slug": self.slug,
            "node_id": "A_4711",
            "client_id": self.app_id,
            "owner": user_json("acme", root),
            "name": self.slug,
            "description": None,
            "external_url": "https://example.invalid",
            "html_url": f"https://github.example/apps/{self.slug}",
            "created_at": _MADE,
            "updated_at": _MADE,
            "permissions": permissions,
            "events": [],
        }

    def _installation(self, installation: Installed, root: str) -> Json:
        owner = installation.repositories[0].owner
        return {
            "id": installation.id,
            "app_id": 4711,
            "app_slug": self.slug,
            "account": user_json(owner, root),
            "target_id": 1,
            "target_type": "Organization",
            "repository_selection": "selected",
            "single_file_name": None,
            "access_tokens_url": f"{root}/app/installations/{installation.id}/access_tokens",
            "repositories_url": f"{root}/installation/repositories",
            "html_url": f"https://github.example/settings/installations/{installation.id}",
            "permissions": installation.permissions,
            "events": [],
            "created_at": _MADE,
            "updated_at": _MADE,
            "suspended_by": user_json(owner, root) if installation.suspended else None,
            "suspended_at": _MADE if installation.suspended else None,
        }


def _asked(wanted: Json) -> list[tuple[str, str]]:
    return list(wanted["permissions"].items())


def _refusal(status: int, words: str = "Not Found") -> Response:
    return JSONResponse({"message": words, "documentation_url": "https://docs"}, status)


def _signed(scope: Scope, token: str) -> Scope:
    others = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
    return {**scope, "headers": [*others, (b"authorization", f"Bearer {token}".encode())]}


def _password(authorization: str) -> str:
    scheme, _, pair = authorization.partition(" ")
    return base64.b64decode(pair).decode().partition(":")[2] if scheme == "Basic" else ""
