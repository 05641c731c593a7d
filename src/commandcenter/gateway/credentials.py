"""Model providers and what authenticates us there. Lives in the orchestrator alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from commandcenter.core.errors import InputError

_SUBSCRIPTION_BETA = "oauth-2025-04-20"


@dataclass(frozen=True)
class ApiKey:
    """An API key of the provider."""

    secret: str = field(repr=False)


@dataclass(frozen=True)
class SubscriptionToken:
    """A long-lived token of a Claude subscription, as `claude setup-token` prints it."""

    secret: str = field(repr=False)


@dataclass(frozen=True)
class Provider:
    """A model provider that speaks Anthropic's Messages API.

    Raises:
        InputError: the base URL is none.
    """

    name: str
    base_url: str
    credential: ApiKey | SubscriptionToken | None
    variables: str = "its credential"
    """How people name it: the variables that hold the credential."""

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        plain = not (url.username or url.password or url.query or url.fragment)
        if url.scheme not in ("http", "https") or not url.hostname or not plain:
            raise InputError(
                f"The model provider `{self.name}` has no usable base URL.",
                hint="Use something like https://api.anthropic.com, without user or key in it.",
            )


def authenticated(
    headers: Mapping[str, str], credential: ApiKey | SubscriptionToken
) -> dict[str, str]:
    """Return the headers with the credential put in. They must hold none yet."""
    match credential:
        case ApiKey(secret):
            return {**headers, "x-api-key": secret}
        case SubscriptionToken(secret):
            betas = [beta.strip() for beta in headers.get("anthropic-beta", "").split(",")]
            wanted = [beta for beta in betas if beta and beta != _SUBSCRIPTION_BETA]
            return {
                **headers,
                "authorization": f"Bearer {secret}",
                "anthropic-beta": ",".join([*wanted, _SUBSCRIPTION_BETA]),
            }
