"""How values read: durations, sizes, states, and text that others wrote."""

from __future__ import annotations

import re
from datetime import datetime

from commandcenter.api.schema import Checks, Tokens

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


def elapsed(started_at: str | None, completed_at: str | None, now: datetime) -> str:
    """Return how long something took, or takes so far; empty when it has not begun."""
    if started_at is None:
        return ""
    end = datetime.fromisoformat(completed_at) if completed_at else now
    return duration(max(0.0, (end - datetime.fromisoformat(started_at)).total_seconds()))


def clock(at: str) -> str:
    """Return the local time of day."""
    return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S")


def date(at: str | None) -> str:
    """Return the local date and time, to the minute."""
    return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M") if at else ""


def size(size_bytes: int) -> str:
    """Return a size: `12 B`, `3.4 kB`, `1.0 GB`."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def checks(found: Checks | None) -> str:
    """Return what the checks found, in a word or two."""
    if found is None:
        return ""
    if found.judgement in ("passed", "failed"):
        return f"{found.passed}/{found.total}"
    if found.judgement == "unverified":
        return "none"
    return found.judgement.replace("_", " ")


def usage(tokens: Tokens, cost_usd: float) -> str:
    """Return tokens in and out, and what they cost; empty when none were used."""
    if not tokens.input and not tokens.output:
        return ""
    cost = f" ${cost_usd:.2f}" if cost_usd else ""
    return f"{_thousands(tokens.input)}/{_thousands(tokens.output)}{cost}"


def _thousands(count: int) -> str:
    return str(count) if count < 1000 else f"{count / 1000:.0f}k"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 task`, `2 tasks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
