"""What `doctor` says of the credentials for forges: which there are, and what they lack."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import httpx

from commandcenter.core.errors import ForgeError, InputError
from commandcenter.core.run import Finding, Health
from commandcenter.forges import Site
from commandcenter.forges.github_app import HEADERS, NEEDED, App, missing
from commandcenter.forges.rest import is_loopback
from commandcenter.forges.tokens import Token, Tokens
from commandcenter.settings import FORGE_KINDS, ForgeSettings

_TIMEOUT_S = 5.0
_SCOPES = "x-oauth-scopes"
_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "github_pat_": "fine-grained token",
        "ghp_": "classic token",
        "gho_": "token of a sign-in",
        "ghu_": "token of a sign-in",
        "ghs_": "installation's token, which ends within the hour",
    }
)


async def findings(chosen: ForgeSettings, tokens: Tokens, app: App | None) -> Sequence[Finding]:
    """Return a finding for each forge that there is a credential for, or one for none."""
    found = [] if app is None else [await _app(app)]
    for kind, token in tokens.by_kind.items():
        if kind != "github" or app is None:
            found.append(await _LOOKS[kind](chosen.accounts[kind].api, token))
    if tokens.problem:
        found.append(Finding("forge", Health.DEGRADED, tokens.problem))
    return found or [_nothing(chosen)]


def _nothing(chosen: ForgeSettings) -> Finding:
    if chosen.kind in FORGE_KINDS:
        account = chosen.accounts[chosen.kind]
        detail = f"there is no token for {Site(chosen.kind, account.api)}"
        return Finding("forge", Health.MISSING, detail, f"set {account.token_variable}")
    return Finding("forge", Health.OK, "the built-in hub; there is no credential for another one")


async def _app(app: App) -> Finding:
    account = app.account
    name = f"{app.site}, as the App {account.id}"
    where = account.private_key_file or f"${account.private_key_variable}"
    try:
        about = await app.about()
    except InputError as error:
        return Finding("forge", Health.MISSING, f"{name}: {error.message}", error.hint)
    except ForgeError as error:
        health = Health.DEGRADED if error.status is None else Health.MISSING
        return Finding("forge", health, f"{name}: {error.message}", error.hint)
    allowed = ", ".join(f"{what}: {level}" for what, level in sorted(about.permissions.items()))
    detail = f"{name} (`{about.slug}`), key from {where}; it may {allowed or 'nothing'}"
    if lacking := missing(about.permissions):
        hint = f"add to its permissions, and accept them where it is installed: {_listed(lacking)}"
        return Finding("forge", Health.MISSING, detail, hint)
    return Finding("forge", Health.OK, detail)


async def _github(api: str, token: Token) -> Finding:
    kind = next((words for start, words in _KINDS.items() if token.value.startswith(start)), "")
    detail = f"{Site('github', api)}, {kind or 'token'} from {token.source}"
    answer = await _asked("GitHub", api, "/user", token, detail, "Bearer", HEADERS)
    if isinstance(answer, Finding):
        return answer
    needed = _listed(f"{name}: {level}" for name, level in NEEDED.items())
    if _SCOPES not in answer.headers:
        # Only of classic tokens and sign-ins does GitHub tell what they may do.
        return Finding(
            "forge", Health.OK, f"{detail}; GitHub does not tell whether it has {needed}"
        )
    scopes = [each.strip() for each in answer.headers[_SCOPES].split(",")]
    detail = f"{detail}; its scopes: {_listed(filter(None, scopes)) or 'none'}"
    if "repo" in scopes:
        return Finding("forge", Health.OK, detail)
    if "public_repo" in scopes:
        return Finding("forge", Health.OK, f"{detail}, which is for public repositories only")
    return Finding("forge", Health.MISSING, detail, "give it the scope `repo`")


async def _gitlab(api: str, token: Token) -> Finding:
    detail = f"{Site('gitlab', api)}, token from {token.source}"
    path = "/personal_access_tokens/self"
    answer = await _asked("GitLab", api, path, token, detail, "Bearer")
    if isinstance(answer, Finding):
        return answer
    scopes = _scopes(answer)
    if scopes is None:
        # Tokens of projects, of applications and of older GitLabs are not told of there.
        return Finding("forge", Health.OK, f"{detail}; GitLab does not tell its scopes")
    detail = f"{detail}; its scopes: {_listed(scopes) or 'none'}"
    if "api" in scopes:
        return Finding("forge", Health.OK, detail)
    return Finding("forge", Health.MISSING, detail, "give it the scope `api`")


def _scopes(answer: httpx.Response) -> list[str] | None:
    try:
        told = answer.json() if answer.is_success else None
    except ValueError:
        return None
    scopes = told.get("scopes") if isinstance(told, dict) else None
    return [str(scope) for scope in scopes] if isinstance(scopes, list) else None


async def _gitea(api: str, token: Token) -> Finding:
    detail = f"{Site('gitea', api)}, token from {token.source}"
    answer = await _asked("Gitea", api, "/user", token, detail, "token")
    if isinstance(answer, Finding):
        return answer
    # It is asked for what many tokens need not be allowed to: a refusal says that it is known.
    needed = "write:repository and write:issue"
    return Finding("forge", Health.OK, f"{detail}; Gitea does not tell whether it has {needed}")


async def _asked(
    name: str,
    api: str,
    path: str,
    token: Token,
    detail: str,
    scheme: str,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> httpx.Response | Finding:
    """Return what a forge answers to a token, or the finding when it takes none or is silent."""
    if not (token.value.isascii() and token.value.isprintable()):
        return Finding("forge", Health.MISSING, f"{detail}, which is none", "set it again")
    ours = is_loopback(httpx.URL(api).host)
    sent = {**headers, "Authorization": f"{scheme} {token.value}"}
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=not ours) as client:
            answer = await client.get(f"{api.rstrip('/')}{path}", headers=sent)
    except httpx.HTTPError as error:
        detail = f"{detail}; {name} was not reached: {type(error).__name__}"
        return Finding("forge", Health.DEGRADED, detail)
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        hint = "it is wrong or has expired: make another one"
        return Finding("forge", Health.MISSING, f"{detail}; {name} does not take it", hint)
    if answer.is_server_error:
        detail = f"{detail}; {name} answered {answer.status_code}"
        return Finding("forge", Health.DEGRADED, detail)
    return answer


_LOOKS: Mapping[str, Callable[[str, Token], Awaitable[Finding]]] = MappingProxyType(
    {"github": _github, "gitlab": _gitlab, "gitea": _gitea}
)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
