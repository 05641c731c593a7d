"""Makes what was written survive a power cut: on the disk before anything counts on it.

A file that was written, and the name that leads to it, are two things to a file system: each is
synced by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_NO_FILE = (
    *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO),
    *(errno.EACCES, errno.EINVAL),  # somebody else's; a pipe
)
_libc = ctypes.CDLL(None, use_errno=True)


def write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file: after a power cut there is the old content or the new one, whole."""
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}-", delete=False
    ) as file:
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
    """Sync the names in a folder, where the file system has a way to."""
    try:
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        # So network file systems say that a folder cannot be synced by itself.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def sync_tree(folder: Path) -> None:
    """Sync every file and every name below a folder of our own, and the folder's own name."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            _sync(Path(place, name), os.O_RDONLY | os.O_NOFOLLOW)
        sync_folder(Path(place))
    sync_folder(folder.parent)


def deepest(path: Path) -> Path:
    """Return the deepest folder on the way to `path` that is there: see `sync_names`."""
    return next(folder for folder in path.parents if folder.is_dir())


def sync_names(path: Path, top: Path) -> None:
    """Sync the names on the way from the folder `top` to `path`, whether it was made or removed.

    `top` is what was `deepest` before; it may be gone with what was in it.
    """
    for folder in path.parents:
        with contextlib.suppress(FileNotFoundError):
            sync_folder(folder)
            if top.is_relative_to(folder):
                return


def sync_files(root: Path, names: Iterable[str]) -> None:
    """Sync these files below `root` with their names; one that is not there is fine."""
    paths = [root / name for name in names]
    for path in paths:
        with _unless_gone():
            _sync(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    for folder in {path.parent for path in paths}:
        with _unless_gone():
            sync_folder(folder)


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """Let what is no file pass: a link has no content, and it is its owner's to take away."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise


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
