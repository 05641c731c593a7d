"""What an answer of a model costs, by a table of prices. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

PER = 1_000_000
"""Prices are for so many tokens."""


@dataclass(frozen=True)
class Price:
    """What a model's tokens cost, in dollars for a million."""

    model: str
    """Its name as the provider says it, or a glob: `claude-sonnet-*`."""
    input: float
    output: float
    cache_read: float
    cache_write: float


@dataclass(frozen=True)
class Tokens:
    """The tokens of one answer, each counted once."""

    input: int = 0
    """Neither read from a cache nor written to one."""
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0


def cost_usd(prices: Sequence[Price], model: str, tokens: Tokens) -> float | None:
    """Return what an answer cost; None when nobody said what this model costs.

    The first price that fits counts.
    """
    for price in prices:
        if model and fnmatch.fnmatchcase(model, price.model):
            dollars = (
                tokens.input * price.input
                + tokens.output * price.output
                + tokens.cache_read * price.cache_read
                + tokens.cache_write * price.cache_write
            )
            return dollars / PER
    return None


def added(total: float | None, cost: float | None) -> float | None:
    """Return the sum of two costs: what is unknown makes it unknown, never cheaper."""
    return None if total is None or cost is None else total + cost
