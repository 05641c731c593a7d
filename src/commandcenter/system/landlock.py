"""Landlock: what a process, and all that it starts, may do with files, ports and signals.

Imported by `system/kept.py`, so it imports next to nothing.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

PORTS_SINCE = 4
"""The version that knows TCP ports: Linux 6.7."""
SIGNALS_SINCE = 6
"""The version that keeps signals inside: Linux 6.12."""

_DEVICE_CONTROL_SINCE = 5

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_ASK_VERSION = 1
_BENEATH, _PORT = 1, 2
_NO_NEW_PRIVILEGES = 38

_EXECUTE, _WRITE, _READ, _LIST = 1, 2, 4, 8
_TRUNCATE, _DEVICE_CONTROL = 1 << 14, 1 << 15
_NODES = 1 << 6 | 1 << 11
"""Making devices."""
_EVERYTHING = (1 << 16) - 1
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _DEVICE_CONTROL
_SEEN = _EXECUTE | _READ | _LIST
_OWNED = _EVERYTHING & ~_NODES & ~_DEVICE_CONTROL
_USED = _WRITE | _READ

_BIND, _CONNECT = 1, 2
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Return which version of Landlock this kernel has; 0 for none, or none that we may use."""
    return max(0, int(_libc.syscall(_CREATE, None, 0, _ASK_VERSION)))


def confine(
    seen: Iterable[str], owned: Iterable[str], devices: Iterable[str], ports: Iterable[int]
) -> None:
    """Leave this process nothing but these paths, and the TCP ports that it may call. For good.

    `seen` are read and executed, `owned` are written as well, `devices` are read and written. What
    is not there, or out of this user's reach, is passed over. No port may be listened at, nobody
    outside be traced or (since `SIGNALS_SINCE`) be sent a signal, and no program gains rights.

    Raises:
        OSError: the kernel does not; it must know ports (`PORTS_SINCE`).
    """
    known = version()
    ruleset = _ruleset(known)
    for rights, paths in ((_SEEN, seen), (_OWNED, owned), (_USED, devices)):
        for path in paths:
            _allow(ruleset, path, rights & _handled(known))
    for port in ports:
        _call(_ADD, ruleset, _PORT, struct.pack("=QQ", _CONNECT, port), 0)
    if _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise _error("prctl")
    _call(_RESTRICT, ruleset, 0)
    os.close(ruleset)


def _ruleset(known: int) -> int:
    attributes = struct.pack("QQ", _handled(known), _BIND | _CONNECT)
    if known >= SIGNALS_SINCE:
        attributes += struct.pack("Q", _ABSTRACT_SOCKETS | _SIGNALS)
    return _call(_CREATE, attributes, len(attributes), 0)


def _handled(known: int) -> int:
    return _EVERYTHING if known >= _DEVICE_CONTROL_SINCE else _EVERYTHING & ~_DEVICE_CONTROL


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    if not stat.S_ISDIR(os.fstat(place).st_mode):
        rights &= _OF_FILES
    _call(_ADD, ruleset, _BENEATH, struct.pack("=Qi", rights, place), 0)
    os.close(place)


def _call(number: int, *arguments: int | bytes) -> int:
    result = _libc.syscall(number, *arguments)
    if result < 0:
        raise _error("Landlock")
    return int(result)


def _error(what: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), what)
