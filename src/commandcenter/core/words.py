"""How values read to people: durations, counts, and text that others wrote."""

from __future__ import annotations

import re

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")


def clean(text: str) -> str:
    """Return text without anything that a terminal would obey rather than show."""
    return "".join(map(_shown, _ESCAPES.sub("", text)))


def _shown(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    return " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"


def one_line(text: str) -> str:
    """Return text as a single clean line."""
    return " ".join(clean(text).split())


def duration(seconds: float) -> str:
    """Return a time span: `4.2s`, `1m05s`, `2h03m`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest}s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours}h{minutes_left:02}m" if hours else f"{minutes}m{rest:02}s"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 task`, `2 tasks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def playing(pattern: str, rounds: int, outcome: str) -> str:
    """Return how far a pattern has come: `vote(3), round 2`, `vote(3), accepted`."""
    where = outcome or (f"round {rounds}" if rounds else "")
    return ", ".join(filter(None, (pattern, where)))


def price(cost_usd: float, unpriced: int) -> str:
    """Return what something cost, as far as that is known; what has no price is not free."""
    if not unpriced:
        return f"${cost_usd:.2f}"
    return f"at least ${cost_usd:.2f}" if cost_usd else "cost unknown"
