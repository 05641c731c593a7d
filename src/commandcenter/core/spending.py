"""What a run has used, by the profiles of its agents: a fold of its events. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from commandcenter.core.run import Event, EventKind

KINDS = (
    EventKind.TASK_CAPTURED,
    EventKind.TASK_USED,
    EventKind.TASK_ANSWERED,
    EventKind.TASK_REVIEWED,
)
"""The events that say what an agent used."""


@dataclass(frozen=True)
class Spending:
    """What the agents of one profile used."""

    profile: str
    asked: int = 0
    """Times that an agent was asked and used something."""
    input_tokens: int = 0
    """Cached ones included."""
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0
    """Of what has a price."""
    unpriced: int = 0
    """Times of which nobody knows what it cost."""

    def plus(self, other: Spending) -> Spending:
        """Return the sum, under this name."""
        return Spending(
            self.profile,
            self.asked + other.asked,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cost_usd + other.cost_usd,
            self.unpriced + other.unpriced,
        )


def by_profile(events: Iterable[Event]) -> tuple[Spending, ...]:
    """Return what was used for each profile, by its name; none for one that used nothing."""
    found: dict[str, Spending] = {}
    for event in events:
        one = _of(event)
        if one.asked:
            found[one.profile] = found.get(one.profile, Spending(one.profile)).plus(one)
    return tuple(found[name] for name in sorted(found))


def _of(event: Event) -> Spending:
    data = event.data
    profile = str(data.get("profile", ""))
    if event.kind not in KINDS:
        return Spending(profile)
    spending = Spending(
        profile,
        1,
        data["input_tokens"],
        data["output_tokens"],
        data.get("cached_tokens", 0),
        data["cost_usd"] or 0.0,
    )
    tokens = spending.input_tokens + spending.output_tokens
    if not tokens and not spending.cost_usd:
        return Spending(profile)
    return replace(spending, unpriced=int(data["cost_usd"] is None))
