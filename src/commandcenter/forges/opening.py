"""Which forge a repository's pull requests are on, and the adapter for it."""

from __future__ import annotations

from collections.abc import Mapping

from commandcenter.core.errors import InputError
from commandcenter.core.forge import Forge
from commandcenter.forges import RemoteRepository, Site, repository_of, shown
from commandcenter.forges.gitea import Gitea
from commandcenter.forges.github import GitHub
from commandcenter.forges.github_app import App
from commandcenter.forges.gitlab import GitLab
from commandcenter.forges.tokens import Tokens, kinds
from commandcenter.settings import FORGE_KINDS, ForgeSettings

_OR_SIGN_IN = {"github": " or sign in with `gh auth login`, and start the service again"}


def open_app(chosen: ForgeSettings, environ: Mapping[str, str]) -> App | None:
    """Return the GitHub App that the service is to act as, if it is to act as one."""
    if chosen.app is None or "github" not in kinds(chosen):
        return None
    return App(chosen.app, chosen.accounts["github"].api, environ)


def open_remote(
    upstream: str, chosen: ForgeSettings, tokens: Tokens, app: App | None = None
) -> Forge | None:
    """Return the forge that holds the pull requests of an upstream; None when that is the hub.

    Raises:
        InputError: it is not on the forge that was chosen, or there is no token for it.
    """
    remote = remote_of(upstream, chosen)
    if remote is not None:
        return _adapter(remote, upstream, chosen, tokens, app)
    if chosen.kind in FORGE_KINDS:
        site = _site(chosen.kind, chosen)
        raise InputError(
            f"{shown(upstream)} is no repository on {site}, where its pull requests are to be.",
            hint=f'set {chosen.kind}_api, or kind = "hub" in [forge]',
        )
    return None


def remote_of(upstream: str, chosen: ForgeSettings) -> RemoteRepository | None:
    """Return the repository on a forge that an upstream is; None when it is the hub's."""
    return repository_of(upstream, [_site(kind, chosen) for kind in kinds(chosen)])


def _site(kind: str, chosen: ForgeSettings) -> Site:
    return Site(kind, chosen.accounts[kind].api)


def _adapter(
    remote: RemoteRepository,
    upstream: str,
    chosen: ForgeSettings,
    tokens: Tokens,
    app: App | None,
) -> Forge:
    site, place = remote.site, (remote.site.api_url, remote.owner, remote.name)
    if site.kind == "github" and app is not None:
        return GitHub(*place, app.sign_in(remote))
    token = tokens.by_kind.get(site.kind)
    if token is None:
        variable = chosen.accounts[site.kind].token_variable
        either = f'set {variable}{_OR_SIGN_IN.get(site.kind, "")}, or kind = "hub" in [forge]'
        raise InputError(
            f"Pull requests for {shown(upstream)} need a token for {site}.",
            hint=f"{tokens.problem} Or {either}" if tokens.problem else either,
        )
    match site.kind:
        case "github":
            return GitHub(*place, token.value)
        case "gitea":
            return Gitea(*place, token.value)
        case _:
            return GitLab(*place, token.value)
