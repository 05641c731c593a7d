"""What follows when a forge is to land a change itself. Pure decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from commandcenter.core.errors import newer_record
from commandcenter.core.external_checks import duration, plain
from commandcenter.core.forge import Queued
from commandcenter.core.run import WAITS_FOR_MERGE

REASON_CHARACTERS_MAX = 1_000
_WORDS_CHARACTERS_MAX = 300


@dataclass(frozen=True)
class Handed:
    """A commit that a forge is to land. Stored as JSON (`schema` 1)."""

    head: str
    since_ms: int
    removal: str | None = None
    """The last removal from the forge's queue before; None: it was not put into one."""

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the stored form."""
        return {"schema": 1, **asdict(self)}

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Handed:  # Any: JSON written by `to_json`
        """Return what `to_json` stored; other keys are ignored.

        Raises:
            InputError: a newer version stored it.
        """
        if record["schema"] != 1:
            raise newer_record("what a forge is to land")
        return Handed(record["head"], record["since_ms"], record["removal"])


@dataclass(frozen=True)
class Enqueue:
    """It is not in the forge's queue, and was not put there before."""


@dataclass(frozen=True)
class Stay:
    """The forge has it."""


@dataclass(frozen=True)
class Removed:
    """The forge took it out."""

    reason: str


@dataclass(frozen=True)
class Late:
    """It was waited for as long as is allowed."""


def queue_step(
    handed: Handed | None, queued: Queued, head: str, *, now_ms: int, wait_ms: int
) -> Enqueue | Stay | Removed | Late:
    """Return what to do about a commit that is to land by the forge's queue."""
    if handed is None or handed.head != head or handed.removal is None:
        return Enqueue()
    if not queued.inside and queued.removal != handed.removal:
        return Removed(plain(queued.reason)[:REASON_CHARACTERS_MAX] or "no reason was given")
    return Late() if is_late(handed, now_ms, wait_ms) else Stay()


def is_late(handed: Handed, now_ms: int, wait_ms: int) -> bool:
    """Say whether the forge has had its time."""
    return now_ms - handed.since_ms >= wait_ms


def merge_words(words: str) -> str:
    """Return what a task waits for that the forge does not merge yet, with the forge's words."""
    line = " ".join(plain(words).split())
    return f"{WAITS_FOR_MERGE}: {line[:_WORDS_CHARACTERS_MAX]}"


def late_words(waiting_for: str, wait_s: float) -> str:
    """Return why a task failed that the forge did not land in time."""
    return f"the forge had not landed it after {duration(wait_s)}: {waiting_for}"
