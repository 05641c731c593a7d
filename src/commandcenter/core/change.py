"""A change: what an attempt made of its base, as a commit in the vault."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """One commit on top of a recorded base. All ids are full hexadecimal object ids."""

    base: str
    head: str
    tree: str
    files: tuple[str, ...]
    """Changed paths relative to the root, sorted; bytes outside UTF-8 are surrogate-escaped."""
    insertions: int = 0
    deletions: int = 0
    notes: tuple[str, ...] = ()
    """What the capture left out and why, in sentences: nested repositories, pipes, devices."""

    @property
    def empty(self) -> bool:
        """Say whether the tree is the base's tree."""
        return not self.files
