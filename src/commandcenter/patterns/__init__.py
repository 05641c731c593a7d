"""Six ways for agents to work together, as pure generators: see `core.pattern`."""

from __future__ import annotations

from typing import assert_never

from commandcenter.core.pattern import (
    Chain,
    Flow,
    Goal,
    Handoff,
    Magentic,
    Orchestrate,
    Pattern,
    Pick,
    Route,
    Single,
    Vote,
)
from commandcenter.patterns.chain import chain
from commandcenter.patterns.magentic import magentic
from commandcenter.patterns.plan import PLANNER_ROUNDS, SPLITS, orchestrate
from commandcenter.patterns.replay import replay
from commandcenter.patterns.route import route
from commandcenter.patterns.single import ATTEMPTS, single
from commandcenter.patterns.vote import survives, vote

__all__ = ["flow_of", "replay", "runs_max", "subtasks_max", "survives"]


def flow_of(pattern: Pattern, goal: Goal) -> Flow:
    """Return a pattern's generator, at its beginning."""
    match pattern:
        case Single():
            return single(goal, pattern)
        case Chain():
            return chain(goal, pattern)
        case Route():
            return route(goal, pattern)
        case Vote():
            return vote(goal, pattern)
        case Orchestrate():
            return orchestrate(goal, pattern)
        case Magentic():
            return magentic(goal, pattern)
    assert_never(pattern)


def runs_max(pattern: Pattern, handoff: Handoff, steps: int) -> int:
    """Return how many agent runs a pattern causes at most, but for those that the world ends.

    What must be answered is asked twice at most, and so is work that may be passed on. `steps` is
    how many checkboxes the task has. Of `plan` it counts the planner's runs only: its tasks, at
    most `subtasks_max`, have runs of their own.
    """
    match pattern:
        case Single():
            return _works(ATTEMPTS, handoff)
        case Chain():
            stages = len(pattern.stages) or (steps if steps > 1 else 1)
            return _works(stages * pattern.attempts, handoff)
        case Route():
            return (_READS if pattern.ask else 0) + _works(ATTEMPTS, handoff)
        case Vote():
            repairs = 1 if pattern.quorum <= 1 else 0
            judges = pattern.judged and pattern.pick is Pick.RANKED and pattern.candidates > 1
            return pattern.candidates + max(repairs, _READS if judges else 0)
        case Orchestrate():
            return SPLITS * PLANNER_ROUNDS * _READS
        case Magentic():
            return pattern.rounds_max * _READS + max(0, pattern.rounds_max - 1)
    assert_never(pattern)


def subtasks_max(pattern: Pattern) -> int:
    """Return how many tasks a pattern delegates to at most."""
    return SPLITS * pattern.tasks_max if isinstance(pattern, Orchestrate) else 0


_READS = 2
"""Runs at most of who only reads: one, and one more with what was wrong with the answer."""


def _works(asks: int, handoff: Handoff) -> int:
    if not handoff.to:
        return asks
    return 2 * (asks + handoff.handoffs_max)
