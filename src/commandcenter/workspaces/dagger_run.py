"""Runs one command through a Dagger session of its own, and proves that it was run.

`python -m commandcenter.workspaces.dagger_run RUN`, started by the shim (`system/shim.py`), which
outlives the service. RUN/spec.json holds our orders under `dagger`; how the command ended goes to
RUN/told.json, which the shim takes over. What it prints is our own stdout and stderr, as it comes.

An engine is lazy, caches, and keeps an exit code to itself when it is asked to, so a session that
"completes" may have run nothing. Here, a run counts only with its proof: see `require_proof`.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import struct
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from commandcenter.core.workspace import TOOLS, WORK, Ended
from commandcenter.system import removal, sandbox
from commandcenter.system.inside.remote import CHUNK_BYTES
from commandcenter.workspaces.dagger_orders import ALLOWANCE_S, Orders, read

CONTROL = "/run/cc-control"
SOCKET = "control.sock"
PROOF = "/run/cc-proof"
FIXED = "/run/cc-fixed"
"""Inside: the folder of the system call filter."""
TEMPORARY = "/tmp"  # noqa: S108 - inside
FAILED = "failed"
_TICK_S = 0.05
_LAST_WORD_S = 30.0
_EXCHANGE = 2
_AT_CWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


class UnprovenError(Exception):
    """The engine says that it is done, but nothing proves that it ran this command now."""


def require_proof(run_id: str, told: int | None, said: str, proof: str) -> None:
    """Accept the end of a run only if every witness of it names this very run.

    Args:
        run_id: new with every run, and part of what the engine caches by.
        told: exit code as the command's own supervisor told it, live.
        said: stdout of the exec.
        proof: content of the file that the exec left.

    Raises:
        UnprovenError: one of them does not.
    """
    if told is None:
        raise UnprovenError("The command's own supervisor never told its end.")
    expected = f"{run_id}:{told}"
    if proof != expected or said.strip() != expected:
        raise UnprovenError(f"The proof is not this run's: {proof[:80]!r}, not {expected!r}.")


class Control:
    """Follows the command through its socket, and ends it at a limit."""

    def __init__(self, orders: Orders, stdin: bytes) -> None:
        self._orders = orders
        self._stdin = stdin
        self._writer: asyncio.StreamWriter | None = None
        self._kill_at: float | None = None
        self._output_bytes = 0
        self.begun: float | None = None
        self._last_output = 0.0
        self.code: int | None = None
        self.ended: Ended | None = None
        self._over = asyncio.Event()

    async def require_begun(self) -> None:
        """Wait for the command's last word, which may come after the engine's.

        Raises:
            UnprovenError: it has never begun.
        """
        if self.begun is None:
            raise UnprovenError("The engine says that the command is over, but it never began.")
        async with asyncio.timeout(_LAST_WORD_S):
            await self._over.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Give the command its stdin, and take what it tells; once, whoever else connects."""
        if self.begun is not None:
            writer.close()
            return
        self._writer = writer
        self.begun = self._last_output = time.monotonic()
        writer.write(struct.pack(">Q", len(self._stdin)) + self._stdin)
        try:
            await writer.drain()
            while self.code is None:
                kind = await reader.readexactly(1)
                (size,) = struct.unpack(">L", await reader.readexactly(4))
                if size > CHUNK_BYTES:
                    return  # not from our program
                self._take(kind, await reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            self._over.set()

    async def enforce(self) -> None:
        """Keep the limits, for ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            if self.begun is None or self.code is not None:
                continue
            if now - self.begun >= self._orders.timeout_s:
                self.end(Ended.TIMED_OUT)
            idle_s = self._orders.idle_s
            if idle_s is not None and now - self._last_output >= idle_s:
                self.end(Ended.IDLE)
            if self._kill_at is not None and now >= self._kill_at:
                self._say(b"K")

    def stop(self) -> None:
        """End the command gracefully; where none has begun, there is nothing to take back."""
        if self.begun is None:
            os._exit(1)  # with us, all that could begin it ends
        self.end(Ended.STOPPED)

    def end(self, why: Ended, *, at_once: bool = False) -> None:
        """Begin to end the command; the first reason stays."""
        if self.ended is None:
            self.ended = why
            self._kill_at = time.monotonic() + (0 if at_once else self._orders.grace_s)
            self._say(b"K" if at_once else b"T")

    def _take(self, kind: bytes, content: bytes) -> None:
        if kind == b"x":
            self.code = int(content)
            return
        self._last_output = time.monotonic()
        left = self._orders.output_bytes_max - self._output_bytes
        self._output_bytes += min(left, len(content))
        _write(1 if kind == b"o" else 2, content[:left])
        if len(content) > left:
            self.end(Ended.OUTPUT_LIMIT, at_once=True)

    def _say(self, word: bytes) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(word)


async def perform(orders: Orders, control: Control, engine_log: Any) -> None:
    """Run the command and take its files back.

    Raises:
        UnprovenError: see `require_proof`.
        dagger.DaggerError: the engine failed.
    """
    import dagger

    run_id = uuid.uuid4().hex
    # A query that is sent again could run the command again.
    config = dagger.Config(log_output=engine_log, retry=None)
    async with (
        dagger.Connection(config) as client,
        asyncio.timeout(orders.timeout_s + ALLOWANCE_S),
    ):
        # A plain variable is part of what is cached by; a volatile one would not be.
        container = _prepared(client, orders).with_env_variable("CC_RUN_ID", run_id)
        helper = ("python3", "-I", "-S", f"{TOOLS}/remote.py", f"{CONTROL}/{SOCKET}")
        words = [*helper, f"{PROOF}/proof", _enclosure(orders), "--", *orders.argv]
        lazy = container.with_exec(words, expect=dagger.ReturnType.ANY)
        done = await lazy.sync()
        if code := await done.exit_code():
            raise UnprovenError(
                f"The exec ended with {code}: {(await done.stderr())[-1000:].strip()}"
            )
        await control.require_begun()
        said, proof = await asyncio.gather(done.stdout(), done.file(f"{PROOF}/proof").contents())
        require_proof(run_id, control.code, said, proof)
        for host, inside in orders.copied:
            await _take_back(done, inside, host, orders)


def _enclosure(orders: Orders) -> str:
    return json.dumps(
        {
            "closed": not orders.open_network,
            "filter": f"{FIXED}/seccomp",
            "limits": orders.limits,
        }
    )


def _prepared(client: Any, orders: Orders) -> Any:
    """Return the container in which the command is to run."""
    host = client.host()
    container = client.container().from_(orders.image)
    for path, inside in orders.copied:
        source = host.directory(str(path), no_cache=True)
        container = container.with_directory(inside, source, owner=orders.user)
    container = container.with_directory(PROOF, client.directory(), owner=orders.user)
    container = container.with_mounted_temp(TEMPORARY, size=sandbox.TEMPORARY_BYTES)
    for path, inside in orders.mounted:
        source = host.directory(str(path), no_cache=True)
        container = container.with_mounted_directory(inside, source, read_only=True)
    for path, inside in orders.sockets:
        container = container.with_unix_socket(
            inside, host.unix_socket(str(path)), owner=orders.user
        )
    for inside, volume in orders.caches.items():
        cache = client.cache_volume(volume)
        container = container.with_mounted_cache(inside, cache, owner=orders.user)
    for name, value in orders.environment.items():
        container = container.with_env_variable(name, value)
    for name, value in orders.secrets.items():
        container = container.with_secret_variable(name, client.set_secret(name, value))
    return container.with_user(orders.user).with_workdir(WORK)


async def _take_back(done: Any, inside: str, host: Path, orders: Orders) -> None:
    """Replace a folder of the workspace by what the command left of it, whole or not at all."""
    fresh = host.parent / "unfinished" / host.name
    await asyncio.to_thread(removal.remove, fresh)
    fresh.parent.mkdir(exist_ok=True)
    await done.directory(inside).export(str(fresh), wipe=True)
    await asyncio.to_thread(_own, fresh, orders.owner)
    _exchange(fresh, host)
    await asyncio.to_thread(removal.remove, fresh)


def _own(folder: Path, owner: int | None) -> None:
    if owner is None:
        return
    for _, folders, files, at in os.fwalk(folder, topdown=False):
        for name in (*folders, *files):
            os.chown(name, owner, owner, dir_fd=at, follow_symlinks=False)
        os.chown(".", owner, owner, dir_fd=at)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders at once."""
    paths = (_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other))
    if _libc.renameat2(*paths, _EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), f"{other}")


async def run(folder: Path) -> dict[str, object]:
    """Follow the orders in a run's folder; return how the command ended."""
    import dagger

    orders = read(json.loads((folder / "spec.json").read_bytes())["dagger"])
    control = Control(orders, (folder / "stdin").read_bytes())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, control.stop)
    orders.control.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(control.serve, orders.control)
    orders.control.chmod(0o666)
    enforcing = asyncio.ensure_future(control.enforce())
    problem = ""
    try:
        with (folder / "engine.log").open("w") as log:
            await perform(orders, control, log)
    except (dagger.DaggerError, UnprovenError, OSError, TimeoutError) as error:
        problem = f"{type(error).__name__}: {error}"[:2000]
    finally:
        enforcing.cancel()
        server.close()
    return _outcome(control, problem)


def _outcome(control: Control, problem: str) -> dict[str, object]:
    ended: str = control.ended or Ended.EXITED
    if problem:
        ended = FAILED if control.begun is None else Ended.LOST
    begun = control.begun or time.monotonic()
    return {
        "ended": ended,
        "exit_code": control.code if ended == Ended.EXITED else None,
        "duration_s": time.monotonic() - begun,
        "problem": problem,
    }


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def main(folder: Path) -> None:
    """Follow the orders and tell the end."""
    told = folder / "told.json.new"
    told.write_text(json.dumps(asyncio.run(run(folder))))
    told.replace(folder / "told.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
