"""Which forge a repository's pull requests are on, and the adapter for it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from commandcenter.core.errors import InputError
from commandcenter.core.forge import Forge
from commandcenter.forges import Site, repository_of, shown
from commandcenter.forges.gh import gh_token
from commandcenter.forges.gitea import Gitea
from commandcenter.forges.github import GitHub
from commandcenter.forges.gitlab import GitLab
from commandcenter.settings import FORGE_KINDS, ForgeSettings

_ADAPTERS: Mapping[str, type[GitHub | Gitea | GitLab]] = MappingProxyType(
    {"github": GitHub, "gitea": Gitea, "gitlab": GitLab}
)

_OR_SIGN_IN = {"github": " or sign in with `gh auth login`, and start the service again"}


async def borrowed_token(chosen: ForgeSettings, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the token for GitHub under its variable's name, if `gh` has it and we have none."""
    account = chosen.accounts["github"]
    if chosen.kind not in ("auto", "github") or environ.get(account.token_variable, "").strip():
        return {}
    token = await gh_token(Site("github", account.api).host, environ)
    return {account.token_variable: token} if token else {}


def open_remote(upstream: str, chosen: ForgeSettings, environ: Mapping[str, str]) -> Forge | None:
    """Return the forge that holds the pull requests of an upstream; None when that is the hub.

    Raises:
        InputError: it is not on the forge that was chosen, or there is no token for it.
    """
    kinds = {"auto": FORGE_KINDS, "hub": ()}.get(chosen.kind, (chosen.kind,))
    sites = [Site(kind, chosen.accounts[kind].api) for kind in kinds]
    remote = repository_of(upstream, sites)
    if remote is not None:
        variable = chosen.accounts[remote.site.kind].token_variable
        token = _token(upstream, remote.site, variable, environ)
        adapter = _ADAPTERS[remote.site.kind]
        return adapter(remote.site.api_url, remote.owner, remote.name, token)
    if chosen.kind in FORGE_KINDS:
        raise InputError(
            f"{shown(upstream)} is no repository on {sites[0]}, where its pull requests are to be.",
            hint=f'set {chosen.kind}_api, or kind = "hub" in [forge]',
        )
    return None


def _token(upstream: str, site: Site, variable: str, environ: Mapping[str, str]) -> str:
    token = environ.get(variable, "").strip()
    if not token:
        raise InputError(
            f"Pull requests for {shown(upstream)} need a token for {site}.",
            hint=f'set {variable}{_OR_SIGN_IN.get(site.kind, "")}, or kind = "hub" in [forge]',
        )
    return token
