"""Counts what each attempt uses, from the answers that pass by."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from commandcenter.core import prices
from commandcenter.core.agent import Usage
from commandcenter.core.prices import Price, Tokens

_LINE_BYTES_MAX = 2**20
_BODY_BYTES_MAX = 16 * 2**20


@dataclass(frozen=True)
class Facts:
    """What the provider answered to one attempt, apart from content."""

    rate_limited: int = 0
    """Answers with status 429."""
    overloaded: int = 0
    """Answers with status 529 or another 5xx, and no answer at all."""
    unauthorized: int = 0
    """Answers with status 401 or 403, our own included."""
    retry_after_s: float | None = None
    """Of the newest 429 or 529 that named it, in full: agents are told 60 s at most."""
    last_status: int = 0
    over_budget: int = 0
    """Requests that we refused, since the budget is reached."""


def noted(facts: Facts, status: int, retry_after: str | None) -> Facts:
    """Return the facts with one more answer in them."""
    retry_after_s = seconds(retry_after)
    return replace(
        facts,
        rate_limited=facts.rate_limited + (status == 429),
        overloaded=facts.overloaded + (status >= 500),
        unauthorized=facts.unauthorized + (status in (401, 403)),
        retry_after_s=facts.retry_after_s if retry_after_s is None else retry_after_s,
        last_status=status,
    )


def seconds(retry_after: str | None) -> float | None:
    """Return how long a Retry-After header says to wait; None when it does not say."""
    try:
        told = float(retry_after) if retry_after else math.nan
    except ValueError:  # the HTTP-date form, which no model provider is known to send
        return None
    return told if math.isfinite(told) and told >= 0 else None


def added(total: Usage, answer: Usage) -> Usage:
    """Return the sum of two usages; its cost is unknown when one of them is."""
    cost = prices.added(total.cost_usd, answer.cost_usd) if total.requests else answer.cost_usd
    return Usage(
        cost_usd=cost,
        input_tokens=total.input_tokens + answer.input_tokens,
        output_tokens=total.output_tokens + answer.output_tokens,
        cached_tokens=total.cached_tokens + answer.cached_tokens,
        requests=total.requests + answer.requests,
    )


class AnswerMeter:
    """Reads the usage out of one answer's bytes, which it sees as they pass and never holds up."""

    def __init__(self, content_type: str) -> None:
        self._events = content_type.startswith("text/event-stream")
        self._rest = bytearray()
        self._skipping = False
        self._counts: dict[str, int] = {}
        self._model = ""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        if not self._events:
            if len(self._rest) + len(chunk) <= _BODY_BYTES_MAX:
                self._rest += chunk
            return
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._keep(line)
            self._line(bytes(self._rest))
            self._rest.clear()
            self._skipping = False
        self._keep(rest)

    def usage(self, table: Sequence[Price] = ()) -> Usage:
        """Return what has been reported so far, as one request, with its cost by this table."""
        if not self._events and self._rest:
            self._take(_json(bytes(self._rest)))
        counts = self._counts
        tokens = Tokens(
            counts.get("input_tokens", 0),
            counts.get("output_tokens", 0),
            counts.get("cache_read_input_tokens", 0),
            counts.get("cache_creation_input_tokens", 0),
        )
        return Usage(
            input_tokens=tokens.input + tokens.cache_read + tokens.cache_write,
            output_tokens=tokens.output,
            cached_tokens=tokens.cache_read,
            requests=1,
            cost_usd=prices.cost_usd(table, self._model, tokens),
        )

    def _keep(self, part: bytes) -> None:
        if self._skipping or len(self._rest) + len(part) > _LINE_BYTES_MAX:
            # No event that carries usage is this long.
            self._rest.clear()
            self._skipping = True
        else:
            self._rest += part

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:") and b'"usage"' in line:
            event = _json(line.removeprefix(b"data:"))
            message = event.get("message")
            self._take(message if isinstance(message, dict) else event)

    def _take(self, holder: Mapping[str, Any]) -> None:
        """Take the counts over the earlier ones: each event's are totals of the answer."""
        if isinstance(model := holder.get("model"), str):
            self._model = model
        usage = holder.get("usage")
        if isinstance(usage, dict):
            self._counts.update({key: n for key, n in usage.items() if type(n) is int and n >= 0})


def _json(content: bytes) -> dict[str, Any]:  # Any: JSON as the provider wrote it
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Tally:
    """Everything counted for one key."""

    usage: Usage = field(default_factory=Usage)
    facts: Facts = field(default_factory=Facts)

    def with_answer(self, status: int, retry_after: str | None) -> Tally:
        """Return it with one more answer's status."""
        return replace(self, facts=noted(self.facts, status, retry_after))

    def over_budget(self) -> Tally:
        """Return it with one more request that we refused for its cost."""
        return replace(self, facts=replace(self.facts, over_budget=self.facts.over_budget + 1))

    def with_usage(self, usage: Usage) -> Tally:
        """Return it with one more request's usage."""
        return replace(self, usage=added(self.usage, usage))
