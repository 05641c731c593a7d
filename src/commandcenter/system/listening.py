"""Whether an address can be listened on, and which process does already."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LISTENS = "0A"
_PROC = Path("/proc")


@dataclass(frozen=True)
class Holder:
    """A process that listens."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def why_not(host: str, port: int) -> OSError | None:
    """Return what keeps us from listening there now; None if nothing does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the service does: a connection that ended a moment ago holds nothing.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        return error
    return None


def is_taken(error: OSError) -> bool:
    """Say whether it is another program that keeps us from it."""
    return error.errno == errno.EADDRINUSE


def holder(port: int) -> Holder | None:
    """Return who listens on a port, as far as we may see that."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port)}
    for pid in (int(path.name) for path in _PROC.glob("[0-9]*")):
        # Of other users' processes, and of those that end meanwhile, nothing can be seen.
        with contextlib.suppress(OSError):
            for descriptor in (_PROC / str(pid) / "fd").iterdir():
                if os.readlink(descriptor) in wanted:
                    return Holder(pid, (_PROC / str(pid) / "comm").read_text().strip())
    return None


def _inodes(port: int) -> Iterator[str]:
    for table in ("net/tcp", "net/tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]
