"""The merge queue's decisions: what to check of a chain, what to land, whom to take out. Pure.

A chain is the tip of the target with the changes of the queue merged onto it, one after the other.
A prefix of it is a tree that can be checked, and a commit that the target can be moved to.

Source: prefix probing, which is Zuul's chain and the bisection of bors in one; the decision record
0008 has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

_RED_AT_FIRST = 1 / 3
_SEEN_AT_FIRST = 50
"""What is believed of a queue without a history: one change in 150 breaks it."""
_EVEN_CHANCE = 0.7
"""About ln 2: so many times 1/p changes, of which each is red with p, are green in half of all
cases, which is where a run of the checks tells most."""


class Strategy(StrEnum):
    """How a change becomes a part of the target's history."""

    MERGE = "merge"
    """A merge commit with both parents; a fast-forward stays one."""
    SQUASH = "squash"
    """One commit on the target's line, in the words of the pull request."""
    REBASE = "rebase"
    """The change's own commit on the target's line, in its own words."""


@dataclass(frozen=True)
class Look:
    """One run of the checks on the tree of one prefix."""

    failed: frozenset[str] = frozenset()
    """The checks that did not pass; none is green."""


@dataclass(frozen=True)
class Probe:
    """Run the checks on these prefixes, at the same time; each is a number of changes."""

    prefixes: tuple[int, ...]


@dataclass(frozen=True)
class Again:
    """Run the checks once more on a prefix that was red: a check may be flaky."""

    prefix: int


@dataclass(frozen=True)
class Land:
    """Move the target to this prefix, which is green."""

    prefix: int


@dataclass(frozen=True)
class Eject:
    """Take out the change at this position, counted from 1; those before it are green and land."""

    position: int


Move = Probe | Again | Land | Eject


def next_move(changes: int, looks: Mapping[int, Sequence[Look]], lanes: int = 1) -> Move:
    """Return what to do with a chain of so many changes after these looks at its prefixes.

    The last look at a prefix counts. A change is taken out only when the chain without it is green
    and a check failed twice with it. With one lane, and k bad ones among N changes, at most
    k * ceil(log2 N) + k + 1 looks are needed until all have landed or are out.
    """
    assert changes > 0
    assert lanes > 0
    green = max((n for n, seen in looks.items() if not seen[-1].failed), default=0)
    red = min((n for n, seen in looks.items() if seen[-1].failed and n > green), default=None)
    if red is None:
        if green == changes:
            return Land(changes)
        return Probe(_spread(green, changes, parts=lanes))
    if red > green + 1:
        # The last part ends in the red one, of which it is known.
        return Probe(_spread(green, red, parts=lanes + 1)[:-1])
    return Eject(red) if _confirmed(red, looks) else Again(red)


def _spread(low: int, high: int, parts: int) -> tuple[int, ...]:
    """Return the ends of so many even parts, each one once; the last is `high`."""
    ends = (low + math.ceil((high - low) * part / parts) for part in range(1, parts + 1))
    return tuple(dict.fromkeys(ends))


def _confirmed(red: int, looks: Mapping[int, Sequence[Look]]) -> bool:
    """Say whether a check failed twice with the change: here again, or in a longer prefix."""
    failed = looks[red][-1].failed
    longer = (look.failed for n, seen in looks.items() if n > red for look in seen)
    return len(looks[red]) > 1 or any(failed & each for each in longer)


def flaky(looks: Sequence[Look]) -> frozenset[str]:
    """Return the checks that failed and then passed, on one and the same tree."""
    return frozenset().union(*(look.failed for look in looks)) - looks[-1].failed


def batch_size(ended: Sequence[bool], most: int) -> int:
    """Return how many changes to take into a chain, after what became of the last ones.

    `ended` says of each whether it landed. The more were taken out, the shorter the chain.
    """
    red = _RED_AT_FIRST + sum(not landed for landed in ended)
    share = red / (_SEEN_AT_FIRST + len(ended))
    return max(1, min(most, math.floor(_EVEN_CHANCE / share)))
