"""One agent with its tools, that may pass its work on."""

from __future__ import annotations

from collections.abc import Generator

from commandcenter.core.pattern import Answer, Conclusion, Flow, Goal, Result, Single, Step
from commandcenter.patterns.handoff import Handoffs
from commandcenter.patterns.work import not_green, passed

ATTEMPTS = 2
"""Runs at most, those aside that work is passed on to: the second one is told what failed."""


def single(goal: Goal, pattern: Single) -> Flow:
    """Ask one agent, once more with what failed, and accept what passes the checks."""
    return (yield from done_by(goal, ""))


def done_by(goal: Goal, profile: str) -> Generator[Step, Answer, Conclusion]:
    """Have a profile do the whole task; empty: the work role's."""
    handoffs = Handoffs(goal)
    worked = yield from handoffs.accomplish("", profile=profile, attempts=ATTEMPTS, judge=not_green)
    if isinstance(worked, Conclusion):
        return worked
    reply = worked.reply
    facts = {**handoffs.facts, "flags": list(reply.flags)}
    return Conclusion(Result.ACCEPTED, passed(reply), change=reply.change, facts=facts)
