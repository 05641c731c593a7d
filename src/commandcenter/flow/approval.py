"""A person's decision on a change that is ready and waits for it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from commandcenter.core.attempt import after_person
from commandcenter.core.errors import InputError
from commandcenter.core.forge import Decision
from commandcenter.core.run import WAITS_FOR_A_PERSON, EventKind, Phase
from commandcenter.flow.merge_queue import enqueue_merge
from commandcenter.flow.transitions import Transitions, TryKey
from commandcenter.store import facts, views


@dataclass(frozen=True)
class Word:
    """What a person says of a change."""

    decision: Decision
    words: str
    by: str


def decide(session: Session, key: TryKey, transitions: Transitions, word: Word, head: str) -> None:
    """Carry out what a person said of the commit `head`.

    Raises:
        InputError: the task does not wait for that, or not with this commit.
    """
    status = views.read_task(session, key.run, key.task)
    awaits = status.waiting_for.startswith(WAITS_FOR_A_PERSON)
    if not awaits or transitions.outdated(session, key):
        raise InputError(
            f"Task {key.task} does not wait for approval: it is {status.phase or status.state}.",
            hint=f"look at it: commandcenter status {key.run}",
        )
    attempt = transitions.update(session, key)
    if attempt.head != head:
        raise InputError(f"Task {key.task} has another change by now.", hint="read it first")
    data = {
        "decision": word.decision.value,
        "words": word.words,
        "by": word.by,
        "head": head,
    }
    facts.append(session, transitions.event(key, EventKind.TASK_DECIDED, data))
    following = after_person(word.decision, word.words, word.by, attempt)
    if transitions.follow(session, key, following):
        wake(session, key, transitions)


def wake(session: Session, key: TryKey, transitions: Transitions) -> None:
    """Put a change that waited for a person into the merge queue again."""
    transitions.enter(session, key, Phase.MERGING)
    # It may wait and be woken again: the time tells one wake from the next.
    enqueue_merge(session, transitions.engine, key, round_=transitions.now_ms())
