"""Log files as text, in pieces, while they are still being written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_CHUNK_BYTES = 65536


def piece(path: Path, *, offset: int, tail: int | None) -> Iterator[bytes]:
    """Return a file's bytes from `offset` to its present end, or its last `tail` bytes.

    Raises:
        OSError: it is gone, or a link; at once, not while reading.
    """
    file = open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")  # noqa: SIM115
    end = os.fstat(file.fileno()).st_size
    left = max(0, end - offset) if tail is None else min(end, tail)
    return _read(file, end - left, left)


def _read(file: BinaryIO, start: int, left: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk
