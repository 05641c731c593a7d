#!/usr/bin/env python3
"""Lets a command reach model gateway and egress proxy from a sandbox that has no network.

    relay.py PORT=SOCKET... -- COMMAND...

Listens on each 127.0.0.1:PORT, forwards its connections to the unix socket SOCKET, and runs
COMMAND.
It passes TERM, INT and HUP on to COMMAND and ends with its exit code: 128 + n after signal n,
127 when it cannot be started. Runs inside the sandbox with any Python 3.9 or newer; only the
standard library, and no asyncio, which Debian's python3-minimal lacks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(argv: list[str]) -> None:
    """Relay until the command ends; never returns."""
    end = argv.index("--")
    pairs = [pair.partition("=") for pair in argv[:end]]
    listeners = [(listen(int(port)), path) for port, _, path in pairs]
    # Blocked until the command's process id is known, so that no signal is lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    child = start(argv[end + 1 :])
    for number in PASSED_ON:
        signal.signal(number, lambda received, _frame: pass_on(child, received))
    # The threads keep them blocked: only the main thread's wait is interrupted by a signal.
    for served in listeners:
        threading.Thread(target=serve, args=served, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    # Skips the interpreter's own end, which would wait for the threads.
    os._exit(code if code >= 0 else 128 - code)


def listen(port: int) -> socket.socket:
    """Return a socket that listens on the sandbox's own loopback."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    return listener


def start(command: list[str]) -> int:
    """Start the command and return its process id."""
    child = os.fork()
    if child:
        return child
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the border where the command takes over
    except OSError as error:
        complain(f"{command[0]}: {error}")
    finally:
        os._exit(127)


def pass_on(child: int, number: int) -> None:
    """Give the command a signal that was meant for it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


def serve(listener: socket.socket, path: str) -> None:
    """Forward every connection, each in threads of its own."""
    while True:
        client, _ = listener.accept()
        threading.Thread(target=forward, args=(client, path), daemon=True).start()


def forward(client: socket.socket, path: str) -> None:
    """Carry one connection's bytes both ways until both sides are done."""
    with client, socket.socket(socket.AF_UNIX) as service:
        try:
            service.connect(path)
        except OSError as error:
            complain(f"{path}: {error}")
            return
        back = threading.Thread(target=pump, args=(service, client), daemon=True)
        back.start()
        pump(client, service)
        back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy until the source ends, then end the target's input."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def complain(what: str) -> None:
    """Say what went wrong where the command's own complaints go."""
    os.write(2, f"relay: {what}\n".encode(errors="replace"))


if __name__ == "__main__":
    main(sys.argv[1:])
