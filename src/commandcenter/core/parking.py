"""When a model provider is left alone, decided from what it answers. Pure.

One answer that says "too many" or "overloaded" is for all agents: who begins now only makes it
worse, and gives up over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

STATUSES: Mapping[int, str] = {429: "rate limit", 529: "overloaded"}
"""What a provider answers that wants to be left alone."""
FIRST_S = 5.0
"""The first pause when it does not say how long; each further one is twice as long."""
PAUSE_MAX_S = 300.0
TOLD_MAX_S = 6 * 3600.0
"""The longest pause that a provider may ask for."""
WAITS_FOR_MODEL = "the model provider"
"""What a task waits for whose agent may not begin, followed by the provider's name.

Until when is told when it is asked.
"""
SCHEMA = 1


@dataclass(frozen=True)
class Parked:
    """A provider that is, or was just now, left alone."""

    status: int
    since_ms: int
    """When it last said so."""
    until_ms: int
    strikes: int = 1
    """Pauses since it last answered well."""

    def holds(self, now_ms: int) -> bool:
        """Say whether it is still left alone."""
        # Further off than any pause can be: then the clock has been put back meanwhile.
        return 0 < self.until_ms - now_ms <= TOLD_MAX_S * 1000

    def words(self, provider: str) -> str:
        """Return what is waited for: `the model provider x (429, rate limit) until 23:41 UTC`."""
        until = datetime.fromtimestamp(self.until_ms / 1000, UTC)
        said = f"{self.status}, {STATUSES.get(self.status, 'busy')}"
        return f"{WAITS_FOR_MODEL} {provider} ({said}) until {until:%H:%M:%S} UTC"


def after_answer(
    parked: Parked | None, status: int, retry_after_s: float | None, *, asked_ms: int, now_ms: int
) -> Parked | None:
    """Return whether a provider is left alone after one more answer of its own.

    `asked_ms`: when that was asked. What was asked before a pause says nothing about it.
    """
    if status in STATUSES:
        return _struck(parked, status, retry_after_s, asked_ms=asked_ms, now_ms=now_ms)
    if parked is not None and 200 <= status < 300 and asked_ms > parked.since_ms:
        return None
    return parked


def _struck(
    parked: Parked | None, status: int, retry_after_s: float | None, *, asked_ms: int, now_ms: int
) -> Parked:
    if parked is None:
        struck = Parked(status, now_ms, now_ms)
    elif asked_ms >= parked.until_ms:
        struck = replace(parked, status=status, since_ms=now_ms, strikes=parked.strikes + 1)
    else:  # one of many that were refused together
        struck = replace(parked, status=status, since_ms=now_ms)
    if retry_after_s is not None:
        return replace(struck, until_ms=now_ms + _ms(min(retry_after_s, TOLD_MAX_S)))
    pause_s = min(FIRST_S * 2.0 ** min(struck.strikes - 1, 16), PAUSE_MAX_S)
    return replace(struck, until_ms=max(struck.until_ms, now_ms + _ms(pause_s)))


def _ms(seconds: float) -> int:
    return round(max(seconds, 0.0) * 1000)


def to_record(parked: Mapping[str, Parked]) -> dict[str, Any]:  # Any: JSON
    """Return the stored form of the providers that are left alone, by name."""
    return {"schema": SCHEMA, "providers": {name: asdict(each) for name, each in parked.items()}}


def from_record(record: Any) -> dict[str, Parked]:  # Any: JSON, perhaps of another version
    """Return what `to_record` stored; of what cannot be read, nothing: it is soon said again."""
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        return {}
    return {name: Parked(**each) for name, each in record["providers"].items()}
