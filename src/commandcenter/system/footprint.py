"""How much memory and disk a sandbox uses.

Imported by `system/shim.py`, so it imports next to nothing. What is looked at is alive and hostile:
no link is followed, and whatever is gone when we come is passed over.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct

ENTRY_BYTES = 4_096
"""What a file costs at least, so that the number of files is limited, too."""
ANCHORS_MAX = 100
"""Most folders that are open on the way down; from each, paths of `_PATH_BYTES` lead further."""
TOO_DEEP_BYTES = 1 << 60
"""What folders that are nested deeper than anybody's honest ones are said to hold."""

_PATH_BYTES = 3_800
_OPENAT2 = 437
_RESOLVE_BENEATH_WITHOUT_LINKS = 0x08 | 0x04
_HOW = struct.pack(
    "QQQ", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, 0, _RESOLVE_BENEATH_WITHOUT_LINKS
)

_libc = ctypes.CDLL(None, use_errno=True)


def processes(first: int) -> list[int]:
    """Return a process and all below it, to which what they leave behind belongs as well."""
    found = [first]
    for pid in found:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as file:
                    found += map(int, file.read().split())
        except OSError:
            continue
    return found


def memory(pids: list[int], limit: int) -> int:
    """Return the memory of these processes; pages that they share count once if it matters."""
    rough = sum(_kilobytes(f"/proc/{pid}/status", "RssAnon:", "RssShmem:") for pid in pids)
    if rough * 1024 <= limit:
        return rough * 1024
    exact = (_kilobytes(f"/proc/{pid}/smaps_rollup", "Pss_Anon:", "Pss_Shmem:") for pid in pids)
    return sum(exact) * 1024


def _kilobytes(path: str, *names: str) -> int:
    try:
        with open(path) as file:
            lines = [line.split() for line in file]
    except OSError:
        return 0
    return sum(int(line[1]) for line in lines if line[0] in names)


def disk(folders: list[str], pids: list[int]) -> int:
    """Return what lies in these folders, and in removed files that these processes hold open."""
    tops = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW) for folder in folders]
    return sum(map(_below, tops)) + _removed(pids)


def _below(top: int) -> int:
    """Return the size of what is in a folder, and close it.

    Folders are named by paths from an open one, so that depth costs few descriptors.
    """
    total, anchors = 0, [(top, ["."])]
    while anchors:
        anchor, waiting = anchors[-1]
        if not waiting:
            os.close(anchor)
            anchors.pop()
            continue
        path = waiting.pop()
        folder = _libc.syscall(_OPENAT2, anchor, os.fsencode(path), _HOW, len(_HOW))
        if folder < 0:
            continue
        size, inner = _in(folder)
        total += size
        if len(os.fsencode(path)) < _PATH_BYTES:
            waiting += [f"{path}/{name}" for name in inner]
            os.close(folder)
        elif len(anchors) < ANCHORS_MAX:
            anchors.append((folder, inner))
        else:
            total += TOO_DEEP_BYTES
            os.close(folder)
    return total


def _in(folder: int) -> tuple[int, list[str]]:
    """Return the size of the entries of a folder, and which of them are folders."""
    size, inner = 0, []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            size += max(ENTRY_BYTES, status.st_blocks * 512)
            if stat.S_ISDIR(status.st_mode):
                inner.append(entry.name)
    return size, inner


def _removed(pids: list[int]) -> int:
    """Return the size of the files without a name that processes hold open."""
    sizes = {}
    for pid in pids:
        try:
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for name in names:
            try:
                status = os.stat(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                sizes[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(sizes.values())
