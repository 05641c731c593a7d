"""What state the database file is in: its size, and whether it is whole."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

CHECK_S = 20.0
"""How long looking for damage may take; a file of gigabytes is not looked at to its end."""
_STEPS = 10_000
_SHOWN_MAX = 3


@dataclass(frozen=True)
class Condition:
    """What was found of a database file."""

    size_bytes: int
    log_bytes: int
    """Of the write-ahead log."""
    damage: str
    """In SQLite's words; empty when none was found."""
    checked: bool
    """Whether it was looked at to its end."""


def condition(path: Path, *, timeout_s: float = CHECK_S) -> Condition:
    """Return what state a SQLite file is in, without changing it."""
    damage, checked = _damage(path, timeout_s)
    return Condition(_size(path), _size(Path(f"{path}-wal")), damage, checked)


def is_damage(error: BaseException | None) -> bool:
    """Say whether a driver's error tells that the file is not as SQLite left it."""
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def rescue(path: Path) -> str:
    """Return what a person can do about a file that is damaged."""
    return (
        "what is damaged is lost: stop the service, keep a copy of the data folder, check the "
        f"disk, and take out what can be read: sqlite3 {path} .recover"
    )


def _damage(path: Path, timeout_s: float) -> tuple[str, bool]:
    deadline = time.monotonic() + timeout_s
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=timeout_s)) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
            rows = connection.execute(f"PRAGMA quick_check({_SHOWN_MAX})").fetchall()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
            return "", False
        return str(error), True
    found = "; ".join(str(row[0]).replace("\n", " ") for row in rows)
    return ("" if found == "ok" else found), True


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
