"""How much room a disk must have before another try begins. Pure decisions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FLOOR_BYTES = 2**30
FLOOR_SHARE = 50
"""The floor is one in so many bytes of a file system that is small."""
WAITS_FOR_DISK = "disk space"
"""What a task waits for that may not begin; how much there is, is told when it is asked."""
_GIB = 2**30
_MIB = 2**20


@dataclass(frozen=True)
class Space:
    """The room on the file system of a folder."""

    path: Path
    free_bytes: int
    """What we may use of it."""
    total_bytes: int


def floor_bytes(space: Space, configured: int | None) -> int:
    """Return how much must be free: what is configured, else 1 GiB or 2 %, whichever is smaller."""
    if configured is not None:
        return configured
    return min(FLOOR_BYTES, space.total_bytes // FLOOR_SHARE)


def shortage(space: Space, configured: int | None) -> str:
    """Return what is missing, in words; empty when there is room."""
    if space.free_bytes >= floor_bytes(space, configured):
        return ""
    return waiting_words(space, configured)


def waiting_words(space: Space, configured: int | None) -> str:
    """Return what a task waits for that may not begin: `disk space: 0.4 GiB free of 1 GiB …`."""
    floor = floor_bytes(space, configured)
    free = amount(space.free_bytes)
    return f"{WAITS_FOR_DISK}: {free} free of {amount(floor)} needed on {space.path}"


def amount(size_bytes: int) -> str:
    """Return a size: `1 GiB`, `0.4 GiB`, `12.5 MiB`, `96 B`."""
    unit, name = (_GIB, "GiB") if size_bytes >= _GIB // 10 else (_MIB, "MiB")
    if size_bytes < _MIB // 10:
        return f"{size_bytes} B"
    return f"{size_bytes / unit:.1f}".removesuffix(".0") + f" {name}"
