"""Makes what was written survive a power cut: on the disk before anything counts on it.

A file that was written, and the name that leads to it, are two things to a file system: each is
synced by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file: after a power cut there is the old content or the new one, whole."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".tmp-", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def sync_tree(folder: Path) -> None:
    """Sync every file and every name below a folder of our own, and the folder's own name."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            _sync(Path(place, name), os.O_RDONLY | os.O_NOFOLLOW)
        sync_folder(Path(place))
    sync_folder(folder.parent)


def sync_names(path: Path, top: Path) -> None:
    """Sync the names on the way from `top` to `path`; what is gone meanwhile needs no name."""
    for folder in path.parents:
        with contextlib.suppress(FileNotFoundError):
            sync_folder(folder)
        if folder == top:
            return
    raise AssertionError(f"{path} is not below {top}")


def sync_files(root: Path, names: Iterable[str]) -> None:
    """Sync these files below `root` with their names; one that is not there is fine."""
    folders = set()
    for name in names:
        path = root / name
        folders.add(path.parent)
        # A link has no content of its own, and a file may be gone or be replaced at any time.
        with contextlib.suppress(OSError):
            _sync(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    for folder in folders:
        with contextlib.suppress(OSError):
            sync_folder(folder)


def sync_file_system(at: Path) -> None:
    """Sync everything on the file system that `at` lies on: costly, and misses nothing."""
    descriptor = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(descriptor):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(at))
    finally:
        os.close(descriptor)


def object_folders(objects: Path) -> Mapping[Path, int]:
    """Return the folders that git adds objects to, with their times: see `sync_changed`."""
    times = {}
    for folder in (objects, objects / "pack", *(objects / f"{n:02x}" for n in range(256))):
        with contextlib.suppress(FileNotFoundError):
            times[folder] = folder.stat().st_mtime_ns
    return times


def sync_changed(before: Mapping[Path, int], objects: Path) -> None:
    """Sync the names of the objects that were added since `before` was looked at."""
    for folder, time in object_folders(objects).items():
        if before.get(folder) != time:
            sync_folder(folder)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
