"""Opens files below a directory that somebody hostile wrote, without ever leaving it."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

_OPENAT2 = 437
"""The number of openat2(2), the same on every architecture that we support."""
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RESOLVE = _RESOLVE_NO_XDEV | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH
# O_NONBLOCK, so that a FIFO planted under an expected name cannot hang us.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


def open_beneath(root_fd: int, path: bytes, *, directory: bool = False) -> int:
    """Return a descriptor for reading the regular file (or directory) `path` below `root_fd`.

    No part of the path may be a link, `..` above the root, or on another file system.

    Raises:
        OSError: `ELOOP` a link, `EXDEV` it leads outside, `EINVAL` not a regular file, `ENOENT`.
    """
    descriptor = _openat2(root_fd, path, _FLAGS | (os.O_DIRECTORY if directory else 0))
    if directory or stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", path)


def read_beneath(root_fd: int, path: bytes, *, bytes_max: int) -> bytes:
    """Return the content of the regular file `path` below `root_fd`.

    Raises:
        OSError: as `open_beneath`; `EFBIG` when it is larger than `bytes_max`.
    """
    with os.fdopen(open_beneath(root_fd, path), "rb") as file:
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise OSError(errno.EFBIG, f"larger than {bytes_max} bytes", path)
    return content


def _openat2(root_fd: int, path: bytes, flags: int) -> int:
    how = struct.pack("QQQ", flags, 0, _RESOLVE)
    while True:
        descriptor: int = _libc.syscall(_OPENAT2, root_fd, path, how, len(how))
        if descriptor >= 0:
            return descriptor
        code = ctypes.get_errno()
        # EAGAIN: after a concurrent rename the kernel cannot be sure about "..", and asks again.
        if code not in (errno.EAGAIN, errno.EINTR):
            raise OSError(code, os.strerror(code), path)
