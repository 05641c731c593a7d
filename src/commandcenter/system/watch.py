"""Looks, while a command runs, whether it stays within its memory and its disk.

Imported by `system/shim.py`, so it imports next to nothing.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time

from commandcenter.system import cgroup, footprint

TYPE_CHECKING = False
if TYPE_CHECKING:
    # To import it takes longer than most of what we do.
    from typing import Any

LOOK_S = 0.25
"""How often it is looked at, at most."""
DISK_S = 5.0
"""How often the disk is measured even if its free space says that little was written."""
REST = 10
"""Looking takes a tenth of the time at most."""

MEMORY_LIMIT, DISK_LIMIT = "memory_limit", "disk_limit"

_DIE_WITH_PARENT = 1
_USER_NAMESPACE = 0x10000000

_libc = ctypes.CDLL(None, use_errno=True)

Broken = tuple[str, str]
"""Which limit is broken, and a sentence about it."""


class Watch:
    """Watches the process tree below one process, and the folders that it writes to."""

    def __init__(self, spec: Any, first: int) -> None:
        """`spec` is the content of spec.json; `first` is the sandbox's first process."""
        self.due = time.monotonic() + LOOK_S
        self._groups = [group["folder"] for group in spec["groups"]]
        self._memory: int = spec["memory_bytes"]
        self._memory_is_hard: bool = spec["memory_is_hard"]
        self._disk = _Disk(spec["disk"], first, as_root=spec["uid"] is not None)
        self._first = first

    def follow(self, first: int) -> None:
        """Watch what is below this process, which is known only now."""
        self._first = self._disk.first = first

    def look(self) -> Broken | None:
        """Return what is broken now; None when all is well."""
        begun = time.monotonic()
        broken = self._look_at_memory() or self._disk.look()
        self.due = begun + max(LOOK_S, REST * (time.monotonic() - begun))
        return broken

    def last_look(self) -> Broken | None:
        """Return what was broken in the end, when all processes are gone."""
        return self._killed() or self._disk.last_look()

    def _look_at_memory(self) -> Broken | None:
        if self._memory_is_hard:
            return self._killed()
        if footprint.memory(footprint.processes(self._first), self._memory) <= self._memory:
            return None
        return MEMORY_LIMIT, f"Together, its processes used more than {_size(self._memory)}."

    def _killed(self) -> Broken | None:
        if not any(map(cgroup.killed, self._groups)):
            return None
        return starved(self._memory)


def starved(limit: int) -> Broken:
    """Return that the kernel killed a process for want of memory."""
    return MEMORY_LIMIT, (
        f"A process of it was killed for want of memory. Together, they may use {_size(limit)}."
    )


class _Disk:
    """Measures folders when it matters, in a process of its own, since there may be many files."""

    def __init__(self, spec: Any, first: int, *, as_root: bool) -> None:
        self._folders: list[str] = spec["folders"]
        self._limit: int = spec["bytes"]
        self._laid_out: int = spec["laid_out_bytes"]
        self._floor: int = spec["floor_bytes"]
        self.first = first
        self._as_root = as_root
        self._room = self._limit
        """How much more there may be than when it was last measured."""
        self._start = self._then = self._space()
        self._due = 0.0
        self._measuring: _Measuring | None = None
        self._suspected = False

    def look(self) -> Broken | None:
        space = self._space()
        if space.f_bavail * space.f_frsize < self._floor <= self._start.f_bavail * space.f_frsize:
            return DISK_LIMIT, f"The machine has less than {_size(self._floor)} of its disk left."
        if space.f_bavail > self._then.f_bavail:
            # Somebody else made room, which must not hide what is written from now on.
            self._then = space
        if self._measuring is not None:
            return self._take(self._measuring.result())
        if time.monotonic() >= self._due or self._written(space) > self._room // 4:
            namespace = None if self._as_root else f"/proc/{self.first}/ns/user"
            self._begin(space, namespace)
        return None

    def last_look(self) -> Broken | None:
        if self._measuring is not None:
            self._measuring.end()
        space = self._space()
        if not self._suspected and self._written(space) <= self._room:
            return None
        self._suspected = True
        return self._take(self._begin(space, None).wait())

    def _space(self) -> os.statvfs_result:
        return os.statvfs(self._folders[0])

    def _written(self, now: os.statvfs_result) -> int:
        """Return what at most was written since `_then`."""
        files = self._then.f_ffree - now.f_ffree
        return (self._then.f_bavail - now.f_bavail) * now.f_frsize + files * footprint.ENTRY_BYTES

    def _begin(self, space: os.statvfs_result, namespace: str | None) -> _Measuring:
        self._then = space
        pids = footprint.processes(self.first)
        self._measuring = _Measuring(self._folders, pids, namespace)
        return self._measuring

    def _take(self, answer: tuple[int, float] | None) -> Broken | None:
        if answer is None:
            return None
        used, took_s = answer
        self._measuring = None
        self._due = time.monotonic() + max(DISK_S, REST * took_s)
        self._room = self._limit + self._laid_out - used
        if self._room >= 0:
            self._suspected = False
            return None
        if not self._suspected:
            # What was moved or replaced meanwhile may have been counted twice.
            self._suspected, self._due = True, 0.0
            return None
        if used >= footprint.TOO_DEEP_BYTES:
            return DISK_LIMIT, "Its folders are nested so deep that they cannot be measured."
        return DISK_LIMIT, f"What it wrote takes more than {_size(self._limit)} of disk."


class _Measuring:
    """One measurement under way."""

    def __init__(self, folders: list[str], pids: list[int], namespace: str | None) -> None:
        self._begun = time.monotonic()
        self._pipe, answer = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            _measure(folders, pids, namespace, answer)
        os.close(answer)

    def result(self) -> tuple[int, float] | None:
        """Return how many bytes there are and how long it took; None while it is not known."""
        ended = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return self.wait() if ended else None

    def wait(self) -> tuple[int, float]:
        """Return the same as soon as it is known; 0 if it cannot be known."""
        said = os.read(self._pipe, 64)
        self.end()
        return int(said or 0), time.monotonic() - self._begun

    def end(self) -> None:
        """Let it be."""
        os.close(self._pipe)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _measure(folders: list[str], pids: list[int], namespace: str | None, answer: int) -> None:
    """Be the process that measures. It holds no lock, and ends with us."""
    try:
        os.dup2(answer, 3)
        os.closerange(4, 65536)
        if namespace is not None:
            # Whoever owns the sandbox's user namespace has every right to the files of those in
            # it there, also to folders that they locked.
            _libc.setns(os.open(namespace, os.O_RDONLY), _USER_NAMESPACE)
        _libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
        os.write(3, b"%d" % footprint.disk(folders, pids))
    finally:
        os._exit(0)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
