"""Changes that wait for what others do with them at the forge: CI, a merge, a merge queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from commandcenter.core.attempt import after_removal
from commandcenter.core.external_checks import (
    after_failure,
    overdue_words,
    poll_s,
    waiting_words,
)
from commandcenter.core.forge import CheckState, ExternalCheck
from commandcenter.core.run import Phase, Reason, TaskStatus
from commandcenter.flow.transitions import Transitions, TryKey

AT_ONCE = 10
"""So many are looked at before everything else is; the forge is not asked too often either."""
FORGOTTEN_S = 600.0
Record = dict[str, Any]  # Any: JSON, a step's recorded result


def conclude(session: Session, key: TryKey, transitions: Transitions, record: Record) -> None:
    """Carry out what follows for a change that something kept from landing."""
    match record["step"]:
        case "wait":
            transitions.enter(session, key, Phase.WAITING, waiting_words(record["names"]))
        case "failed":
            failed = [_check(each) for each in record["checks"]]
            attempt = transitions.update(session, key)
            decision = after_failure(failed, attempt, transitions.bounds(session, key))
            transitions.follow(session, key, decision)
        case "handed":
            transitions.enter(session, key, Phase.WAITING, record["waiting_for"])
        case "removed":
            attempt = transitions.update(session, key)
            decision = after_removal(record["reason"], attempt, transitions.bounds(session, key))
            transitions.follow(session, key, decision)
        case _:
            explanation = overdue_words(record["names"], record["wait_s"])
            transitions.fail(session, key, Reason.EXTERNAL, explanation)


def _check(record: Record) -> ExternalCheck:
    return ExternalCheck(**{**record, "state": CheckState(record["state"])})


class Turns:
    """When to look again at what waits: the longer it has waited, the seldomer."""

    def __init__(self, poll_min_s: float) -> None:
        self._poll_min_s = poll_min_s
        self._since: dict[TryKey, float] = {}
        self._looked: dict[TryKey, float] = {}
        self._hurried: set[TryKey] = set()

    def hurry(self, waiting: Sequence[TaskStatus]) -> None:
        """Have it be the turn of all of these: something may have changed."""
        self._hurried |= set(map(_key, waiting))

    def due(self, waiting: Sequence[TaskStatus], now: float) -> list[TryKey]:
        """Return some whose turn it is now, the longest unseen first; it begins their next one."""
        keys = [key for key in map(_key, waiting) if key in self._hurried or self._next(key) <= now]
        due = sorted(keys, key=lambda key: self._looked.get(key, 0.0))[:AT_ONCE]
        for key in due:
            self._since.setdefault(key, now)
            self._looked[key] = now
        self._hurried -= set(due)
        self._forget(now - FORGOTTEN_S)
        return due

    def _next(self, key: TryKey) -> float:
        if key not in self._looked:
            return 0.0
        waited_s = self._looked[key] - self._since[key]
        return self._looked[key] + max(poll_s(waited_s), self._poll_min_s)

    def _forget(self, before: float) -> None:
        # Not at once: who is looked at may be back in a moment, and has waited as long.
        for key in [key for key, at in self._looked.items() if at < before]:
            del self._looked[key], self._since[key]
            self._hurried.discard(key)


def _key(status: TaskStatus) -> TryKey:
    return TryKey(status.run, status.id, status.attempt)
