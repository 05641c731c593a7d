"""What we own outside the database, as a function of what was noted of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Kind(StrEnum):
    """What can be owned. The name is stored: it is a schema, and changes like one."""

    BRANCH = "branch"
    """A branch of an upstream."""
    WORKSPACE = "workspace"
    REF = "ref"
    """A ref of a vault: a capture, or a pin."""
    SALVAGE = "salvage"
    """Work that nothing else holds: a commit under a ref and in a bundle, or a folder."""


class Fact(StrEnum):
    """What can be noted of it."""

    PUT = "put"
    """It is about to be made, or moved to a commit. Noted before it is done."""
    KEPT = "kept"
    """It was to be reclaimed and could not be; `words` say why."""
    GONE = "gone"
    """It is not there any more."""


@dataclass(frozen=True)
class Entry:
    """One thing that was noted. Appended once, never changed."""

    kind: Kind
    place: str
    """The upstream; for a workspace its kind."""
    name: str
    """The branch, the ref, the workspace's key or the salvage's id."""
    fact: Fact
    run: str
    task: str = ""
    commit: str = ""
    words: str = ""
    at_ms: int = 0


@dataclass(frozen=True)
class Holding:
    """What is known of one thing that we put somewhere: the fold of its entries."""

    kind: Kind
    place: str
    name: str
    run: str
    task: str
    commits: tuple[str, ...] = ()
    """Every commit that we ever put there, in the order of the first time."""
    held: bool = False
    """Whether it may be there: from before it is made until it is known to be gone."""
    words: str = ""
    """Why it is kept; empty when nobody tried to reclaim it."""
    since_ms: int = 0

    @property
    def commit(self) -> str:
        """Return what we put there last; empty when that was no commit."""
        return self.commits[-1] if self.commits else ""


class Standing(StrEnum):
    """Whose a branch is, as it is now."""

    FREE = "free"
    """There is none of this name."""
    OURS = "ours"
    FOREIGN = "foreign"
    """We never made it, or somebody has put a commit there that is not ours."""


def holdings(entries: Iterable[Entry]) -> tuple[Holding, ...]:
    """Return all that the entries, in their order, tell of; what is gone, too."""
    found: dict[tuple[str, str, str], Holding] = {}
    for entry in entries:
        key = (entry.kind, entry.place, entry.name)
        before = found.get(key) or Holding(
            entry.kind, entry.place, entry.name, entry.run, entry.task
        )
        found[key] = _after(before, entry)
    return tuple(found.values())


def _after(before: Holding, entry: Entry) -> Holding:
    match entry.fact:
        case Fact.GONE:
            return replace(before, held=False, words="", since_ms=entry.at_ms)
        case Fact.KEPT:
            return replace(before, words=entry.words)
        case Fact.PUT:
            commits = (*before.commits, entry.commit) if entry.commit else before.commits
            return replace(
                before,
                run=entry.run,
                task=entry.task,
                commits=tuple(dict.fromkeys(commits)),
                held=True,
                words=entry.words or (before.words if _repeats(before, entry) else ""),
                since_ms=before.since_ms if before.held else entry.at_ms,
            )


def _repeats(before: Holding, entry: Entry) -> bool:
    """Say whether it is there already, and at that commit."""
    return before.held and (not entry.commit or entry.commit in before.commits)


def adds_nothing(before: Holding | None, entry: Entry) -> bool:
    """Say whether an entry says what is known already: an effect that is repeated after a crash."""
    if before is None:
        return entry.fact is not Fact.PUT
    if entry.fact is Fact.PUT:
        return _repeats(before, entry) and entry.words in ("", before.words)
    if entry.fact is Fact.KEPT:
        return before.words == entry.words
    return not before.held


def standing(holding: Holding | None, tip: str | None) -> Standing:
    """Return whose the branch is that stands at `tip`; only what is ours may be moved or deleted.

    A name proves nothing: a branch of our name at a commit that we never put there is foreign.
    """
    if tip is None:
        return Standing.FREE
    if holding is not None and holding.held and tip in holding.commits:
        return Standing.OURS
    return Standing.FOREIGN
