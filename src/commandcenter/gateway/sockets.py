"""Unix sockets in the folders that workspaces see."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def bound(folder: Path, name: str) -> socket.socket:
    """Return a socket bound to `folder/name`, which everybody may connect to.

    What an earlier process left there is replaced. The folder guards it: a sandbox sees only what
    is mounted into it, under a user id of its own.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The kernel takes 108 bytes at most for a socket's path, and state folders are deep.
        path = Path(f"/proc/self/fd/{descriptor}/{name}")
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        path.chmod(0o666)
    except OSError:
        listening.close()
        raise
    finally:
        os.close(descriptor)
    return listening
