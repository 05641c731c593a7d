"""Webhooks: whether a forge sent what came, and what it is about. No more of it is believed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

FORGES = ("github", "gitea", "gitlab")
"""What webhooks are received from; Forgejo's are `gitea`."""
AGE_MAX_S = 300.0
"""How old a signed time may be; also how far it may be ahead."""
_SIGNING = "whsec_"
"""How GitLab's signing tokens begin."""
_OF_INTEREST = {
    "github": ("pull_request", "push", "status", "check_", "workflow_", "merge_group"),
    "gitea": ("pull_request", "push", "status", "workflow_"),
    "gitlab": ("merge request", "push", "pipeline", "job"),
}
_IDS = {
    "github": ("x-github-delivery",),
    "gitea": ("x-gitea-delivery", "x-forgejo-delivery", "x-github-delivery"),
    "gitlab": ("webhook-id", "idempotency-key", "x-gitlab-event-uuid"),
}
_EVENTS = {
    "github": ("x-github-event",),
    "gitea": ("x-gitea-event", "x-forgejo-event", "x-github-event"),
    "gitlab": ("x-gitlab-event",),
}
Headers = Mapping[str, str]
"""By names in small letters."""


class Heard(Enum):
    """What became of a webhook."""

    OFF = "none is received for this forge"
    FORGED = "it does not have the proof that it should have"
    IGNORED = "it came already, or is about nothing that is waited for"
    LOOKING = "what it is about is looked at"


@dataclass(frozen=True)
class Delivery:
    """A webhook that a forge sent."""

    place: str
    """Where the pull requests are that it is about; see `place`."""
    of_interest: bool
    """Whether a pull request may be another one by now."""
    marks: tuple[str, ...]
    """By which it is known again: its id, which is mostly not signed, and its content."""


def delivered(
    forge: str, headers: Headers, body: bytes, secret: str, now_s: float
) -> Delivery | None:
    """Return what a forge sent; None when it was somebody else, or long ago."""
    assert secret
    if not any(_proofs(forge, headers, body, secret, now_s)):
        return None
    event = _first(headers, _EVENTS[forge]).lower()
    return Delivery(
        place(forge, _repository(forge, body)),
        event.startswith(_OF_INTEREST[forge]),
        tuple(_marks(forge, _first(headers, _IDS[forge]), body)),
    )


def place(forge: str, repository: str) -> str:
    """Return one name for a repository on a forge, of which forges ignore the case."""
    return f"{forge} {repository.casefold()}"


def _proofs(forge: str, headers: Headers, body: bytes, secret: str, now_s: float) -> Iterator[bool]:
    """Give, for each way to prove it, whether it is proven; each is compared in constant time."""
    if forge == "gitlab":
        if not secret.startswith(_SIGNING):
            yield _same(headers.get("x-gitlab-token", ""), secret)
        yield _signed_at_a_time(headers, body, secret, now_s)
        return
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    yield _same(headers.get("x-hub-signature-256", ""), f"sha256={digest}")
    if forge == "gitea":
        yield _same(headers.get("x-gitea-signature", ""), digest)
        yield _same(headers.get("x-forgejo-signature", ""), digest)


def _signed_at_a_time(headers: Headers, body: bytes, secret: str, now_s: float) -> bool:
    """Say whether it is signed as in Standard Webhooks, and was so just now."""
    at = headers.get("webhook-timestamp", "")
    signed = f"{headers.get('webhook-id', '')}.{at}.".encode() + body
    digest = hmac.new(_signing_key(secret), signed, hashlib.sha256).digest()
    expected = f"v1,{base64.b64encode(digest).decode()}"
    given = headers.get("webhook-signature", "").split(" ")
    # Several, for while a forge changes from one key to the next.
    proven = any(_same(each, expected) for each in given)
    return proven and at.isdecimal() and abs(now_s - int(at)) <= AGE_MAX_S


def _signing_key(secret: str) -> bytes:
    encoded = secret.removeprefix(_SIGNING)
    if encoded != secret:
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error:
            pass
    return secret.encode()


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), expected.encode())


def _first(headers: Headers, names: tuple[str, ...]) -> str:
    return next((headers[name] for name in names if headers.get(name)), "")


def _marks(forge: str, id_: str, body: bytes) -> Iterator[str]:
    if id_:
        yield hashlib.sha256(f"{forge} {id_}".encode(errors="surrogateescape")).hexdigest()
    yield hashlib.sha256(f"{forge} ".encode() + body).hexdigest()


def _repository(forge: str, body: bytes) -> str:
    place, name = ("project", "path_with_namespace")
    if forge != "gitlab":
        place, name = ("repository", "full_name")
    try:
        content: Any = json.loads(body)  # Any: JSON, looked at right here
    except (ValueError, RecursionError):
        return ""
    found = content.get(place) if isinstance(content, dict) else None
    named = found.get(name) if isinstance(found, dict) else None
    return named if isinstance(named, str) else ""
