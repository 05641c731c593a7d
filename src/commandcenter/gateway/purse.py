"""What the agents of one task may spend yet, over all sockets that they have."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

from commandcenter.core.prices import Price, Tokens, cost_usd
from commandcenter.gateway.pinning import once

_MAX_TOKENS_MOST = 10**9
_CENT_PARTS = 1e-9


class Purse:
    """Money that requests take from: what they could cost is set aside before they are made."""

    def __init__(self, left_usd: float) -> None:
        self._left_usd = left_usd
        self._aside_usd = 0.0
        self._waiting: list[asyncio.Future[None]] = []
        self._refused = False

    @property
    def left_usd(self) -> float:
        """Return what is left; nothing, when a request was refused for its cost."""
        return 0.0 if self._refused else self._left_usd

    def lower(self, usd: float) -> None:
        """Take in that no more than this is left."""
        self._left_usd = min(self._left_usd, usd)

    async def set_aside(self, usd: float) -> bool:
        """Set money aside for a request; say whether there is enough.

        Waits while others are under way, of whose money something may come back.
        """
        while not self._covers(usd) and self._aside_usd:
            returned: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(returned)
            await returned
        if not self._covers(usd):
            self._refused = True
            return False
        self._aside_usd += usd
        return True

    def pay(self, cost: float | None) -> None:
        """Pay for an answer; of one whose cost is unknown nothing is taken."""
        self._left_usd -= cost or 0.0

    def give_back(self, usd: float) -> None:
        """End what was set aside."""
        rest = self._aside_usd - usd
        # Sums of fractions leave rests, for which nobody must wait.
        self._aside_usd = rest if rest > _CENT_PARTS else 0.0
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)

    def _covers(self, usd: float) -> bool:
        free = self.left_usd - self._aside_usd
        return free > 0 and usd <= free


@dataclass(frozen=True)
class Asked:
    """What a request could cost, as far as it says so itself."""

    model: str
    tokens_max: int
    """Of the answer."""

    def cost_usd(self, prices: Sequence[Price]) -> float:
        """Return what the longest answer costs; 0 when nobody said what this model costs."""
        return cost_usd(prices, self.model, Tokens(output=self.tokens_max)) or 0.0


def asked(body: bytes, encoding: str) -> Asked | None:
    """Return what a request for a model asks for; None when that cannot be read."""
    if encoding not in ("", "identity"):
        return None
    try:
        record = json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None
    model = record.get("model") if isinstance(record, dict) else None
    tokens = record.get("max_tokens") if isinstance(record, dict) else None
    if not isinstance(model, str) or type(tokens) is not int or not 0 <= tokens < _MAX_TOKENS_MOST:
        return None
    return Asked(model, tokens)
