"""Until when which model provider is left alone, by all agents and over a restart."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from commandcenter.core.parking import Parked, after_answer, from_record, to_record

LOOK_S = 1.0
"""How often a pause is looked at whose end may have come by a clock that was set."""
_log = logging.getLogger(__name__)


class Pauses:
    """The pauses of all providers."""

    def __init__(self, now_ms: Callable[[], int], record: Path | None = None) -> None:
        """`record`: the file in which they are kept, over a restart."""
        self.now_ms = now_ms
        self._record = record
        self._parked = _recorded(record)
        self._answered = asyncio.Event()

    def of(self, provider: str) -> Parked | None:
        """Return until when a provider wants to be left alone, if it does."""
        parked = self._parked.get(provider)
        return parked if parked is not None and parked.holds(self.now_ms()) else None

    def words(self) -> Mapping[str, str]:
        """Return what is waited for, by the names of the providers that are left alone."""
        held = {name: self.of(name) for name in self._parked}
        return {name: parked.words(name) for name, parked in held.items() if parked}

    def draw(self, provider: str, status: int, told_s: float | None, *, asked_ms: int) -> None:
        """Draw the conclusion for all agents from one answer of a provider.

        `told_s`: how long it says to wait; `asked_ms`: when it was asked.
        """
        before = self._parked.get(provider)
        after = after_answer(before, status, told_s, asked_ms=asked_ms, now_ms=self.now_ms())
        if after == before:
            return
        self._parked.pop(provider, None)
        if after is not None:
            self._parked[provider] = after
        self._answered.set()
        self._keep()

    async def over(self, provider: str) -> None:
        """Wait for as long as a provider is left alone."""
        while (parked := self.of(provider)) is not None:
            left_s = (parked.until_ms - self.now_ms()) / 1000
            self._answered.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(max(left_s, 0.0), LOOK_S)):
                    await self._answered.wait()

    def _keep(self) -> None:
        if self._record is None:
            return
        fresh = self._record.with_suffix(".new")
        try:
            # Not synced: what a power cut loses of it is said again by the next answer.
            fresh.write_text(json.dumps(to_record(self._parked)))
            os.replace(fresh, self._record)
        except OSError as error:
            _log.warning("Until when a provider is left alone cannot be kept: %s", error)


def _recorded(record: Path | None) -> dict[str, Parked]:
    try:
        return from_record(json.loads(record.read_bytes())) if record else {}
    except (OSError, ValueError, TypeError, AttributeError, LookupError):
        # Missing, or not ours to read: the provider says it again.
        return {}
