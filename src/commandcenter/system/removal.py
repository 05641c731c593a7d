"""Removes a tree that somebody hostile wrote, whatever its depth, modes and links."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(path: Path) -> None:
    """Remove a file, or a folder with all below it; removing nothing is fine.

    Nothing may be written there meanwhile.
    """
    with contextlib.suppress(FileNotFoundError):
        parent = os.open(path.parent, _FOLDER)
        try:
            remove_at(parent, path.name)
        finally:
            os.close(parent)


def remove_at(parent: int, name: str) -> None:
    """Remove the entry `name` of the folder behind `parent`.

    Raises:
        FileNotFoundError: there is none.
    """
    if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
        os.unlink(name, dir_fd=parent)
        return
    top = _open(parent, name)
    try:
        _clear(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def empty(path: Path) -> None:
    """Remove all that is in the folder `path`, and make it its owner's again."""
    parent = os.open(path.parent, _FOLDER)
    try:
        folder = _open(parent, path.name)
    finally:
        os.close(parent)
    try:
        _clear(folder)
    finally:
        os.close(folder)


def _clear(top: int) -> None:
    """Empty a folder.

    Every folder further down is first moved up to `top`. So neither the stack nor the number of
    open descriptors grows with the depth, and no path is ever too long.
    """
    while folders := _unlink_files(top):
        for name in folders:
            _move_folders_up(top, name)
            os.rmdir(name, dir_fd=top)


def _move_folders_up(top: int, name: str) -> None:
    folder = _open(top, name)
    try:
        for inner in _unlink_files(folder):
            # Renaming a folder writes its "..", which needs its own write permission.
            os.close(_open(folder, inner))
            os.rename(inner, uuid.uuid4().hex, src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)


def _unlink_files(folder: int) -> list[str]:
    """Unlink everything but folders, and return their names."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in found if is_folder]


def _open(parent: int, name: str) -> int:
    """Open a folder for reading, after giving its owner every right to it."""
    handle = os.open(name, _NAME, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(".", _FOLDER, dir_fd=handle)
    finally:
        os.close(handle)
