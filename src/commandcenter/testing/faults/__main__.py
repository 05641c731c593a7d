"""`python -m commandcenter.testing.faults JOURNAL ONLY FOLDER... -- ARGS`: a service that dies.

Runs `commandcenter ARGS` again and again. Each life is killed at the first point that no
life before it was killed at, until one meets no such point; that one goes on until it is stopped.
Points in whose name nothing matches the pattern ONLY are passed over. JOURNAL gets a line for each
life: the point that it ended at.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

from commandcenter.testing.faults.points import watch


def main() -> int:
    """Live, die and live again; return the last life's exit code."""
    divide = sys.argv.index("--")
    journal, only = Path(sys.argv[1]), re.compile(sys.argv[2])
    folders = [Path(word) for word in sys.argv[3:divide]]
    _import_all()
    while True:
        met = frozenset(journal.read_text().splitlines()) if journal.exists() else frozenset()
        child = os.fork()
        if child == 0:
            _live(journal, only, folders, met, sys.argv[divide + 1 :])
        status = _end_of(child)
        if not os.WIFSIGNALED(status):
            return os.WEXITSTATUS(status)


def _import_all() -> None:
    """Load once what every life needs."""
    import commandcenter.api.app
    import commandcenter.app
    import commandcenter.cli.serve
    import commandcenter.flow  # noqa: F401


def _live(
    journal: Path,
    only: re.Pattern[str],
    folders: list[Path],
    met: frozenset[str],
    arguments: list[str],
) -> None:
    from commandcenter.cli import main as commandcenter

    told = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def die(point: str) -> None:
        if point not in met and only.search(point):
            os.write(told, f"{point}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    watch(folders, die)
    sys.argv = ["commandcenter", *arguments]
    commandcenter()


def _end_of(child: int) -> int:
    """Wait for the child, passing TERM on to it; return its wait status."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    return os.waitpid(child, 0)[1]


if __name__ == "__main__":
    sys.exit(main())
