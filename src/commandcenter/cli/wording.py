"""How values read: durations, sizes, states, and text that others wrote."""

from __future__ import annotations

from datetime import datetime

from commandcenter.api.schema import Checks, TaskAnswer, Tokens
from commandcenter.core.words import clean as clean
from commandcenter.core.words import count as count
from commandcenter.core.words import duration as duration
from commandcenter.core.words import one_line as one_line
from commandcenter.core.words import playing
from commandcenter.core.words import price as price


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


def pattern(task: TaskAnswer) -> str:
    """Return how far a task's pattern has come, or how it ended; empty without one."""
    return one_line(playing(task.pattern or "", task.rounds, task.outcome or ""))


def usage(tokens: Tokens, cost_usd: float) -> str:
    """Return tokens in and out, and what they cost; empty when none were used."""
    if not tokens.input and not tokens.output:
        return ""
    cost = f" ${cost_usd:.2f}" if cost_usd else ""
    return f"{_thousands(tokens.input)}/{_thousands(tokens.output)}{cost}"


def _thousands(count: int) -> str:
    return str(count) if count < 1000 else f"{count / 1000:.0f}k"
