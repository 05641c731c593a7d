"""Reads a file that holds a secret, if it is one's own alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from commandcenter.core.errors import InputError

BYTES_MAX = 2**16


def read_secret(file: Path, what: str, setting: str) -> bytes:
    """Return what the file holds; `what` and `setting` are for people.

    Raises:
        InputError: it cannot be read, or others can reach it.
    """
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise InputError(f"Others can reach {what} {file}.", hint=f"chmod 600 {file}")
            return opened.read(BYTES_MAX)
    except OSError as error:
        raise InputError(
            f"{what[:1].upper()}{what[1:]} {file} cannot be read: {error.strerror}.",
            hint=f"{setting} in [forge] says where it is",
        ) from error
