"""Tells programs on this machine what happens to pull requests, in GitHub's dialect."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from commandcenter.core.pull_request import Hook, NewHook, RepositoryName
from commandcenter.hub.records import HubRecords
from commandcenter.hub.refusal import refuse_validation
from commandcenter.hub.wire import Json

HOOKS_MAX = 20
PORT = 80
"""Where nothing else is said."""
UNDER_WAY_MAX = 100
_TIMEOUT_S = 10.0
_log = logging.getLogger(__name__)


@dataclass
class Hooks:
    """The hooks of all repositories. What is told is told once; who was away has to ask."""

    records: HubRecords
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def add(self, repository: RepositoryName, hook: NewHook) -> Hook:
        """Record a hook."""
        if len(await self.all(repository)) >= HOOKS_MAX:
            words = f"The repository cannot have more than {HOOKS_MAX} hooks"
            refuse_validation("Hook", "hooks", words)
        return await asyncio.to_thread(self.records.add_hook, repository, hook)

    async def all(self, repository: RepositoryName) -> tuple[Hook, ...]:
        """Return the hooks of a repository, oldest first."""
        return await asyncio.to_thread(self.records.hooks, repository)

    async def remove(self, repository: RepositoryName, id_: int) -> None:
        """Forget a hook."""
        await asyncio.to_thread(self.records.remove_hook, repository, id_)

    def tell(self, hooks: Sequence[Hook], event: str, payload: Json) -> None:
        """Tell these what happened, without waiting for them."""
        body = json.dumps(payload, separators=(",", ":")).encode()
        for hook in hooks[: UNDER_WAY_MAX - len(self._under_way)]:
            task = asyncio.create_task(_deliver(hook, event, body))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)


def is_allowed(url: str) -> bool:
    """Say whether something may be told to this address: this machine's own, by number.

    The hub reaches what its callers may not, so it goes nowhere else on their behalf.
    """
    try:
        # Read as it will be when something is sent there.
        parts = httpx.URL(url)
        address = ipaddress.ip_address(parts.host)
    except (httpx.InvalidURL, ValueError):
        return False
    plain = not parts.userinfo and (parts.port or PORT) in range(1, 2**16)
    return parts.scheme == "http" and plain and address.is_loopback


async def _deliver(hook: Hook, event: str, body: bytes) -> None:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "commandcenter-hub",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-GitHub-Hook-ID": str(hook.id),
    }
    if hook.secret:
        digest = hmac.new(hook.secret.encode(), body, hashlib.sha256).hexdigest()
        headers["X-Hub-Signature-256"] = f"sha256={digest}"
    try:
        # What is answered is nobody's business, and is not read.
        async with (
            httpx.AsyncClient(trust_env=False, verify=False, timeout=_TIMEOUT_S) as client,  # noqa: S501 - no TLS
            client.stream("POST", hook.url, content=body, headers=headers) as answer,
        ):
            status = answer.status_code
    except httpx.HTTPError as error:
        _log.warning("Hook %d was not told of %s: %s", hook.id, event, type(error).__name__)
        return
    if not httpx.codes.is_success(status):
        _log.warning("Hook %d was told of %s, and answered %d.", hook.id, event, status)
