"""Webhooks of forges: proven, remembered, and taken for no more than a reason to look."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from commandcenter.core.errors import InputError
from commandcenter.core.run import Finding, Health
from commandcenter.core.webhook import FORGES, Headers, Heard, delivered
from commandcenter.settings import ForgeSettings
from commandcenter.store import deliveries, views
from commandcenter.store.database import Database
from commandcenter.system.secret_file import read_secret

CHARACTERS_MIN = 16
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Webhooks:
    """Receives webhooks; whatever they say, it only has the forge asked."""

    secret: str = field(repr=False)
    """Empty: none are received."""
    database: Database
    place: Callable[[str], str]
    """Returns where the pull requests of an upstream are; see `core.webhook.place`."""
    now_ms: Callable[[], int]
    look: Callable[[], None]
    """Has everything looked at that waits for a forge."""

    async def hear(self, forge: str, headers: Headers, body: bytes) -> Heard:
        """Take a webhook for what it is."""
        if not self.secret or forge not in FORGES:
            return Heard.OFF
        now_ms = self.now_ms()
        delivery = delivered(forge, headers, body, self.secret, now_ms / 1000)
        if delivery is None:
            log.warning("A webhook of %s (%d bytes) has no valid signature.", forge, len(body))
            return Heard.FORGED
        fresh = await self.database.transact(deliveries.note, delivery.marks, now_ms)
        if not fresh or not delivery.of_interest:
            return Heard.IGNORED
        upstreams = await self.database.transact(views.open_upstreams)
        if delivery.place not in map(self.place, upstreams):
            return Heard.IGNORED
        self.look()
        return Heard.LOOKING


def webhook_secret(chosen: ForgeSettings, environ: Mapping[str, str]) -> str:
    """Return the secret that webhooks are signed with; empty when none are to be received.

    Raises:
        InputError: it cannot be read, others can reach it, or it is too short.
    """
    secret = environ.get(chosen.webhook_secret_variable, "").strip()
    if chosen.webhook_secret_file is not None:
        file = chosen.webhook_secret_file
        content = read_secret(file, "the secret of webhooks", "webhook_secret_file")
        secret = content.decode(errors="replace").strip()
        if not secret:
            raise InputError(f"The secret of webhooks {file} is empty.", hint=_MAKE)
    if secret and len(secret) < CHARACTERS_MIN:
        raise InputError(
            f"The secret of webhooks has less than {CHARACTERS_MIN} characters.", hint=_MAKE
        )
    return secret


def finding(chosen: ForgeSettings, environ: Mapping[str, str]) -> Finding:
    """Return what `doctor` says of webhooks."""
    try:
        secret = webhook_secret(chosen, environ)
    except InputError as error:
        return Finding("webhooks", Health.MISSING, error.message, error.hint)
    if not secret:
        return Finding("webhooks", Health.OK, "none are received: there is no secret for them")
    where = chosen.webhook_secret_file or f"${chosen.webhook_secret_variable}"
    kinds = ", ".join(f"/webhooks/{forge}" for forge in FORGES)
    return Finding("webhooks", Health.OK, f"received at {kinds}; secret from {where}")


_MAKE = "make one: openssl rand -hex 32"
