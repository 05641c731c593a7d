"""What `doctor` says of tokens, by what the forge tells of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from commandcenter.core.run import Finding, Health
from commandcenter.forges.inspection import findings
from commandcenter.forges.tokens import Token, Tokens
from commandcenter.settings import ForgeAccount, ForgeSettings
from commandcenter.testing.forges import served

SCOPES = {
    "ghp_whole": "repo, workflow",
    "gho_public": "public_repo",
    "ghp_little": "gist",
    "ghp_nothing": "",
}


def user(request: Request) -> JSONResponse:
    """Answer as GitHub does: it tells the scopes of classic tokens only."""
    token = request.headers["authorization"].removeprefix("Bearer ")
    if token in SCOPES:
        return JSONResponse({"login": "me"}, headers={"X-OAuth-Scopes": SCOPES[token]})
    known = token.startswith("github_pat_")
    return JSONResponse({"login": "me"}, 200 if known else 401)


async def inspected(token: str, api: str = "") -> Finding:
    """Return what is said of a token for GitHub."""
    async with served(Starlette(routes=[Route("/user", user)])) as url:
        accounts = {"github": ForgeAccount(api or url, "GITHUB_TOKEN")}
        tokens = Tokens({"github": Token(token, "$GITHUB_TOKEN")})
        (found,) = await findings(ForgeSettings("github", accounts), tokens, None)
    assert token not in f"{found.detail}{found.hint}"
    return found


@pytest.mark.parametrize(
    ("token", "health", "words"),
    [
        ("ghp_whole", Health.OK, "classic token from $GITHUB_TOKEN; its scopes: repo, workflow"),
        ("gho_public", Health.OK, "token of a sign-in from $GITHUB_TOKEN; its scopes: public_repo"),
        ("ghp_little", Health.MISSING, "its scopes: gist"),
        ("ghp_nothing", Health.MISSING, "its scopes: none"),
        ("github_pat_x", Health.OK, "does not tell whether it has contents: write"),
        ("ghp_expired", Health.MISSING, "GitHub does not take it"),
        ("ghp_\u00e4", Health.MISSING, "which is none"),
    ],
)
async def test_a_token_for_github_is_told_by_kind_source_and_scopes(
    token: str, health: Health, words: str
) -> None:
    found = await inspected(token)

    assert (found.name, found.health) == ("forge", health)
    assert words in found.detail


GITLAB = {
    "glpat-whole": (200, {"scopes": ["api", "read_user"]}),
    "glpat-little": (200, {"scopes": ["read_api"]}),
    "glpat-project": (404, {"message": "404 Not Found"}),
    "glpat-odd": (200, ["api"]),
    "glpat-down": (502, {}),
}
GITEA = {"tea-whole": (200, {"login": "me"}), "tea-narrow": (403, {"message": "required scope(s)"})}


def answering(known: Mapping[str, tuple[int, object]]) -> Callable[[Request], JSONResponse]:
    """Return an endpoint that knows these tokens, and what it answers each."""

    def endpoint(request: Request) -> JSONResponse:
        token = request.headers["authorization"].partition(" ")[2]
        status, body = known.get(token, (401, {"message": "401 Unauthorized"}))
        return JSONResponse(body, status)

    return endpoint


@pytest.mark.parametrize(
    ("kind", "token", "health", "words"),
    [
        ("gitlab", "glpat-whole", Health.OK, "its scopes: api, read_user"),
        ("gitlab", "glpat-little", Health.MISSING, "its scopes: read_api"),
        ("gitlab", "glpat-project", Health.OK, "GitLab does not tell its scopes"),
        ("gitlab", "glpat-odd", Health.OK, "GitLab does not tell its scopes"),
        ("gitlab", "glpat-down", Health.DEGRADED, "GitLab answered 502"),
        ("gitlab", "glpat-old", Health.MISSING, "GitLab does not take it"),
        ("gitea", "tea-whole", Health.OK, "does not tell whether it has write:repository"),
        ("gitea", "tea-narrow", Health.OK, "does not tell whether it has write:repository"),
        ("gitea", "old-one", Health.MISSING, "Gitea does not take it"),
        ("gitea", "\u00e4", Health.MISSING, "which is none"),
    ],
)
async def test_a_token_for_another_forge_is_tried_there(
    kind: str, token: str, health: Health, words: str
) -> None:
    routes = [
        Route("/personal_access_tokens/self", answering(GITLAB)),
        Route("/user", answering(GITEA)),
    ]
    async with served(Starlette(routes=routes)) as url:
        accounts = {kind: ForgeAccount(url, "TOKEN")}
        tokens = Tokens({kind: Token(token, "$TOKEN")})
        (found,) = await findings(ForgeSettings(kind, accounts), tokens, None)

    assert (found.name, found.health) == ("forge", health)
    assert words in found.detail
    assert token not in f"{found.detail}{found.hint}"


async def test_a_forge_that_cannot_be_reached_is_no_verdict_on_the_token() -> None:
    found = await inspected("ghp_whole", "http://127.0.0.1:1")

    assert found.health is Health.DEGRADED
    assert "GitHub was not reached: ConnectError" in found.detail


async def test_a_forge_that_was_chosen_needs_a_token_and_the_hub_none() -> None:
    (chosen,) = await findings(ForgeSettings("gitlab"), Tokens(), None)
    (auto,) = await findings(ForgeSettings(), Tokens(), None)

    assert (chosen.health, chosen.hint) == (Health.MISSING, "set GITLAB_TOKEN")
    assert auto.health is Health.OK
    assert "the built-in hub" in auto.detail
