"""Where the service's log goes when it lives in a command: a file in the data folder."""

from __future__ import annotations

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from commandcenter.core.errors import InputError

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_SIZE_BYTES_MAX = 10 * 2**20
_KEPT = 3


class _Journal(RotatingFileHandler):
    """The log file. What a full disk does not take of it is left out, and nobody is told twice."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def keep(data_dir: Path, *, level: int = logging.INFO) -> None:
    """Send every log record to `commandcenter.log`, and none to the terminal.

    Raises:
        InputError: the data folder cannot be written.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = _Journal(
            data_dir / "commandcenter.log",
            maxBytes=_SIZE_BYTES_MAX,
            backupCount=_KEPT,
            encoding="utf-8",
            errors="backslashreplace",
        )
    except OSError as error:
        raise InputError(
            f"The data folder {data_dir} cannot be written: {error.strerror}.",
            hint="choose another with --data-dir",
        ) from error
    handler.setFormatter(logging.Formatter(_FORMAT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # A line for each request that we make ourselves says nothing.
    logging.getLogger("httpx").setLevel(logging.WARNING)
