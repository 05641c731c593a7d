"""Where the tokens for forges come from, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from commandcenter.core.errors import WorldError
from commandcenter.forges import Site
from commandcenter.forges.gh import gh_token
from commandcenter.forges.keyring import keyring_token
from commandcenter.settings import FORGE_KINDS, ForgeSettings


@dataclass(frozen=True)
class Token:
    """A token for a forge."""

    value: str = field(repr=False)
    source: str
    """Where it was found, for people."""


@dataclass(frozen=True)
class Tokens:
    """What was found."""

    by_kind: Mapping[str, Token] = field(default_factory=dict)
    problem: str = ""
    """Why the keyring, which was to be asked, gave no answer."""


def kinds(chosen: ForgeSettings) -> tuple[str, ...]:
    """Return the kinds of forges whose repositories are to be found there."""
    if chosen.kind == "auto":
        return FORGE_KINDS
    return () if chosen.kind == "hub" else (chosen.kind,)


def named_tokens(chosen: ForgeSettings, environ: Mapping[str, str]) -> Tokens:
    """Return the tokens that are in variables."""
    variables = {kind: chosen.accounts[kind].token_variable for kind in kinds(chosen)}
    return Tokens(
        {
            kind: Token(value, f"${variable}")
            for kind, variable in variables.items()
            if (value := environ.get(variable, "").strip())
        }
    )


async def find_tokens(chosen: ForgeSettings, environ: Mapping[str, str]) -> Tokens:
    """Return a token for each forge that has one: of a variable, else the keyring, else `gh`.

    Nothing is asked for a forge that needs it no more, which for GitHub includes an App.
    """
    found, problem = dict(named_tokens(chosen, environ).by_kind), ""
    lacking = [kind for kind in kinds(chosen) if kind not in found]
    if chosen.app is not None and "github" in lacking:
        lacking.remove("github")
    if chosen.keyring and lacking:
        hosts = [Site(kind, chosen.accounts[kind].api).host for kind in lacking]
        try:
            asked = (keyring_token(chosen.keyring, host, environ) for host in hosts)
            kept = dict(zip(lacking, await asyncio.gather(*asked), strict=True))
        except WorldError as error:
            kept, problem = {}, f"{error.message} {error.hint}"
        source = f"the keyring ({chosen.keyring})"
        found |= {kind: Token(value, source) for kind, value in kept.items() if value}
    if "github" in lacking and "github" not in found:
        host = Site("github", chosen.accounts["github"].api).host
        if value := await gh_token(host, environ):
            found["github"] = Token(value, "`gh auth token`")
    return Tokens(found, problem)
