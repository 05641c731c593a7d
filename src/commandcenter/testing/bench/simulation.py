"""Plays the merge queue's decisions on random changes: no git, no clock, a look is one round."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from commandcenter.core.merge_queue import (
    Again,
    Eject,
    Land,
    Look,
    Probe,
    batch_size,
    next_move,
)

_CHANGES = 3_000
_CHANGES_MAX = 100
_HISTORY_MAX = 50
_CHECK = frozenset({"check"})


@dataclass(frozen=True)
class World:
    """How likely a change is to break the check, and the check to fail without a cause."""

    bad: float
    flaky: float
    lanes: int


@dataclass
class Played:
    """What became of many changes."""

    rounds: int = 0
    runs: int = 0
    landed: int = 0
    wronged: int = 0
    """Good changes that were taken out."""

    @property
    def row(self) -> str:
        """Return: landed a round, runs of the checks for each, good changes taken out."""
        share = self.wronged / (self.landed + self.wronged)
        pace, runs = self.landed / self.rounds, self.runs / self.landed
        return f"{pace:6.2f} landed a round  {runs:5.2f} runs each  {share:6.2%} wronged"


def play(world: World) -> Played:
    """Drain a queue that is always full, with the same numbers drawn each time."""
    draw = random.Random(1)  # noqa: S311 - a simulation
    waiting = [draw.random() < world.bad for _ in range(_CHANGES)]
    played, ended = Played(), deque[bool](maxlen=_HISTORY_MAX)
    while waiting:
        chain = waiting[: batch_size(tuple(ended), _CHANGES_MAX)]
        move = _probed(chain, world, draw, played)
        landed = move.prefix if isinstance(move, Land) else move.position - 1
        out = chain[landed : landed + isinstance(move, Eject)]
        played.landed += landed
        played.wronged += out.count(False)
        ended.extend([True] * landed + [False] * len(out))
        del waiting[: landed + len(out)]
    return played


def _probed(
    chain: Sequence[bool], world: World, draw: random.Random, played: Played
) -> Land | Eject:
    looks: dict[int, list[Look]] = defaultdict(list)
    while True:
        match next_move(len(chain), looks, world.lanes):
            case Probe(prefixes):
                pass
            case Again(prefix):
                prefixes = (prefix,)
            case move:
                return move
        played.rounds += 1
        played.runs += len(prefixes)
        for prefix in prefixes:
            red = any(chain[:prefix]) or draw.random() < world.flaky
            looks[prefix].append(Look(_CHECK if red else frozenset()))
