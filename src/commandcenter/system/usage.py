"""How much of the disk a folder takes, whoever wrote it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

_BLOCK_BYTES = 512


def size_bytes(path: Path) -> int:
    """Return what removing this would free: its blocks, without what has another name elsewhere.

    What cannot be read, or lies deeper than a path may be long, is not counted.
    """
    total, waiting = 0, [os.fspath(path)]
    while waiting:
        with suppress(OSError):
            found = os.lstat(place := waiting.pop())
            if stat.S_ISDIR(found.st_mode):
                total += found.st_blocks * _BLOCK_BYTES
                with os.scandir(place) as entries:
                    waiting += [entry.path for entry in entries]
            elif found.st_nlink == 1:
                total += found.st_blocks * _BLOCK_BYTES
    return total
