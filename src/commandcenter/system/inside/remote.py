#!/usr/bin/env python3
"""Runs a command inside a Dagger exec and lets the runner outside follow and end it.

    remote.py SOCKET PROOF ENCLOSURE -- COMMAND...

An exec tells its output only at its end, and what it has written is lost if it is not let to its
end. So the runner's word comes through the unix socket SOCKET: first the command's stdin, then `T`
to end it gracefully and `K` to end it at once; back go frames of what it prints, and its exit code.
When nothing of it is left, `CC_RUN_ID:code` is written to the file PROOF and to stdout: the proof
that this run, and not an earlier one, was executed.

An exec has the network and nearly all system calls of its engine. The command gets neither; where
that cannot be had, it is not run at all. ENCLOSURE says in JSON: `closed`, whether it is in a
network namespace of its own; `filter`, a file with the system call filter; `limits`, its resource
limits by name. Runs inside with any Python 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import tempfile
from typing import Any, BinaryIO

CHUNK_BYTES = 1 << 16
NO_NETWORK = "a command cannot have a network of its own"
NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000
SET_FLAGS, IS_UP = 0x8914, 1
NO_NEW_PRIVILEGES, SECCOMP, BY_FILTER, DROP_FROM_BOUND = 38, 22, 2, 24
_libc = ctypes.CDLL(None, use_errno=True)


def main(argv: list[str]) -> None:
    """Run the command to its end, and prove it."""
    path, left, enclosed, _, *command = argv
    enclosure = Enclosure(json.loads(enclosed))
    enclosure.require()
    run_id = os.environ.pop("CC_RUN_ID", "")
    control = socket.socket(socket.AF_UNIX)
    control.connect(path)
    inputs = received(control)
    code = Command(control, command, inputs, enclosure).follow()
    proof = f"{run_id}:{code}"
    with open(left, "w") as file:
        file.write(proof)
    print(proof, flush=True)  # noqa: T201 - the exec's stdout is the engine's word for it
    tell(control, b"x", str(code).encode())


def received(control: socket.socket) -> int:
    """Take the command's stdin into a nameless file, and return its descriptor."""
    (size,) = struct.unpack(">Q", exactly(control, 8))
    file: BinaryIO
    with tempfile.TemporaryFile() as file:
        while size:
            piece = exactly(control, min(size, CHUNK_BYTES))
            file.write(piece)
            size -= len(piece)
        file.seek(0)
        return os.dup(file.fileno())


def exactly(control: socket.socket, size: int) -> bytes:
    """Read so many bytes."""
    found = b""
    while len(found) < size:
        piece = control.recv(size - len(found))
        if not piece:
            sys.exit("the runner is gone")
        found += piece
    return found


def tell(control: socket.socket, kind: bytes, content: bytes) -> None:
    """Send one frame."""
    control.sendall(kind + struct.pack(">L", len(content)) + content)


class Enclosure:
    """What keeps a command from the network and from the kernel."""

    def __init__(self, asked: dict[str, Any]) -> None:
        """Read the rules."""
        with open(asked["filter"], "rb") as file:
            self.rules = file.read()
        self.closed = asked["closed"]
        self.limits = asked["limits"]

    def require(self) -> None:
        """End here, with a word, where a command cannot be enclosed."""
        child = os.fork()
        if not child:
            try:
                self.enter()
            except (OSError, ValueError) as error:
                os.write(2, f"{error}\n".encode())
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(1)

    def enter(self) -> None:
        """Enclose this process; what it executes then has no power over its namespaces."""
        if self.closed:
            try:
                leave_network()
            except OSError as error:
                raise OSError(error.errno, f"{NO_NETWORK}: {error.strerror}") from error
        for name, value in self.limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))
        program = ctypes.create_string_buffer(self.rules)
        described = Program(len(self.rules) // 8, ctypes.addressof(program))
        require(_libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        require(_libc.prctl(SECCOMP, BY_FILTER, ctypes.byref(described), 0, 0))


def leave_network() -> None:
    """Have a loopback of one's own, and no other network."""
    user, group = os.getuid(), os.getgid()
    require(_libc.unshare(NEW_USER | NEW_NETWORK))
    for name, content in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(content)
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh22x", b"lo", IS_UP))
    # The namespace has given this process all of them; executing takes them, and their bound stays.
    for capability in range(64):
        if _libc.prctl(DROP_FROM_BOUND, capability, 0, 0, 0):
            break


class Program(ctypes.Structure):
    """A filter, as the kernel takes it."""

    _fields_ = (("length", ctypes.c_ushort), ("rules", ctypes.c_void_p))


def require(failed: int) -> None:
    """Raise what a system call has failed with."""
    if failed:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class Command:
    """One running command."""

    def __init__(
        self, control: socket.socket, command: list[str], inputs: int, enclosure: Enclosure
    ) -> None:
        """Start it."""
        self.control = control
        pipes = [os.pipe(), os.pipe()]
        self.child = os.fork()
        if not self.child:
            become(enclosure, command, inputs, pipes[0][1], pipes[1][1])
        for _, end in pipes:
            os.close(end)
        self.ended = os.pidfd_open(self.child)
        self.streams = {pipes[0][0]: b"o", pipes[1][0]: b"e"}
        self.code: int | None = None

    def follow(self) -> int:
        """Return the exit code when nothing of it is left and all its output is told."""
        poll = select.poll()
        for descriptor in (self.control.fileno(), self.ended, *self.streams):
            poll.register(descriptor, select.POLLIN)
        while self.streams or self.code is None:
            for descriptor, _ in poll.poll():
                if not self.attend(descriptor):
                    poll.unregister(descriptor)
        return self.code

    def attend(self, descriptor: int) -> bool:
        """Take what has come; say whether more may."""
        if descriptor == self.ended:
            _, status = os.waitpid(self.child, 0)
            self.code = os.waitstatus_to_exitcode(status)
            end_all()
            return False
        if descriptor == self.control.fileno():
            return self.obey(self.control.recv(64))
        data = os.read(descriptor, CHUNK_BYTES)
        if data:
            tell(self.control, self.streams[descriptor], data)
        else:
            del self.streams[descriptor]
        return bool(data)

    def obey(self, words: bytes) -> bool:
        """End it as the runner, or the runner's end, asks for."""
        if b"T" in words and self.code is None:
            os.kill(self.child, signal.SIGTERM)
        if b"K" in words or not words:
            end_all()
        return bool(words)


def end_all() -> None:
    """Kill all that this user may, but us: the exec has a process namespace of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)


def become(enclosure: Enclosure, command: list[str], *streams: int) -> None:
    """Turn this child into the command."""
    os.setsid()  # a signal to its group is none to us
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        enclosure.enter()
        os.execvp(command[0], command)  # noqa: S606 - the border where the command takes over
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
