"""One cgroup of one run: made, entered, asked and removed by the shim.

Imported by `system/shim.py`, so it imports next to nothing.
"""

from __future__ import annotations

import errno
import os
import time

_EVENTS = ("memory.oom_control", "memory.events")
"""Where the two versions count the processes that were killed for want of memory."""
_EMPTY_S = 5.0
_LOOK_S = 0.01


def make(folder: str, values: dict[str, str]) -> None:
    """Make the group with these values; a name that begins with `?` may be unknown here.

    Raises:
        OSError: it cannot be made, or limited.
    """
    os.mkdir(folder)
    for name, value in values.items():
        try:
            _write(f"{folder}/{name.lstrip('?')}", value)
        except FileNotFoundError:
            if not name.startswith("?"):
                raise


def enter(folder: str) -> None:
    """Move this process into the group; its children will be there, too."""
    _write(f"{folder}/cgroup.procs", "0")


def killed(folder: str) -> int:
    """Return how many processes in it were killed for want of memory."""
    for name in _EVENTS:
        try:
            with open(f"{folder}/{name}") as file:
                counts = dict(line.split() for line in file)
        except OSError:
            continue
        return int(counts.get("oom_kill", 0))
    return 0


def remove(folder: str) -> None:
    """Remove the group, as soon as nobody is in it; removing nothing is fine.

    What cannot be removed is left to the next sweep.
    """
    deadline = time.monotonic() + _EMPTY_S
    while True:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            # The kernel counts a process that has just ended for a moment longer.
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                return
            time.sleep(_LOOK_S)


def _write(path: str, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
