"""Keeps runs from starting on a vault while what nobody reaches is removed from it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """One for a service: whoever starts work on an upstream goes through it."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._inside: Counter[str] = Counter()
        self._closed: set[str] = set()

    @asynccontextmanager
    async def entered(self, upstream: str) -> AsyncIterator[None]:
        """Start work on an upstream: waits while it is closed, and keeps it open."""
        async with self._changed:
            await self._changed.wait_for(lambda: upstream not in self._closed)
            self._inside[upstream] += 1
        try:
            yield
        finally:
            self._inside[upstream] -= 1

    @asynccontextmanager
    async def closed(self, upstream: str) -> AsyncIterator[bool]:
        """Close an upstream, and say whether nobody is starting work on it."""
        if self._inside[upstream] or upstream in self._closed:
            yield False
            return
        self._closed.add(upstream)
        try:
            yield True
        finally:
            self._closed.discard(upstream)
            async with self._changed:
                self._changed.notify_all()
