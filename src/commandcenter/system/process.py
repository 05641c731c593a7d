"""Starts processes: the only place that does. Call it from the event loop's own thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from commandcenter.core.errors import WorldError

_MINIMAL: Mapping[str, str] = MappingProxyType(
    {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
)
_CHUNK_BYTES = 65536
GRACE_S = 2.0
"""How long a command may take to end after TERM."""
_LOOK_S = 0.01


class OutOfTime(WorldError):  # noqa: N818 - it names an outcome
    """A host command did not end in time; its process group was killed."""


class TooMuchOutput(WorldError):  # noqa: N818 - it names an outcome
    """A host command printed more than allowed; its process group was killed."""


@dataclass(frozen=True)
class Finished:
    """How a host command ended."""

    exit_code: int
    """Exit status; minus the signal number when a signal ended it."""
    stdout: bytes
    stderr: bytes


async def run(
    argv: Sequence[str | bytes],
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str] = _MINIMAL,
    cwd: Path = Path("/"),
    timeout_s: float = 60.0,
    output_bytes_max: int = 16 * 2**20,
    on_output: Callable[[bytes], object] = lambda _: None,
) -> Finished:
    """Run a short host command in a process group of its own and return how it ended.

    `environment` is the whole environment. Cancelling ends the group: by TERM, and after
    `GRACE_S` by KILL. `on_output` is given what
    it prints, as it comes.

    Raises:
        OutOfTime: it ran longer than `timeout_s`.
        TooMuchOutput: stdout or stderr was longer than `output_bytes_max`.
        FileNotFoundError: there is no such program.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environment),
        cwd=cwd,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            return await _communicate(process, stdin, output_bytes_max, on_output, argv)
    except TimeoutError as error:
        await _end_group(process)
        raise OutOfTime(f"`{_name(argv)}` did not end within {timeout_s:g} s.") from error
    except BaseException:
        await _end_group(process)
        raise
    finally:
        # First, since `wait` waits for the pipes, too: one that we stopped reading while it was
        # full would never end, nor one that a process outside the group still holds.
        process._transport.close()  # type: ignore[attr-defined]
        await process.wait()


async def _communicate(
    process: asyncio.subprocess.Process,
    stdin: bytes,
    bytes_max: int,
    on_output: Callable[[bytes], object],
    argv: Sequence[str | bytes],
) -> Finished:
    assert process.stdout is not None
    assert process.stderr is not None
    feeding = asyncio.ensure_future(_feed(process, stdin))
    reading = [
        asyncio.ensure_future(_read(stream, bytes_max, on_output, argv))
        for stream in (process.stdout, process.stderr)
    ]
    try:
        stdout, stderr = await asyncio.gather(*reading)
        await feeding
        return Finished(await process.wait(), stdout, stderr)
    finally:
        await _cancel(feeding, *reading)


async def _feed(process: asyncio.subprocess.Process, stdin: bytes) -> None:
    assert process.stdin is not None
    # A command that does not read its input is no failure.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(stdin)
        await process.stdin.drain()
        process.stdin.close()


async def _read(
    stream: asyncio.StreamReader,
    bytes_max: int,
    on_output: Callable[[bytes], object],
    argv: Sequence[str | bytes],
) -> bytes:
    content = bytearray()
    while chunk := await stream.read(_CHUNK_BYTES):
        content += chunk
        on_output(chunk)
        if len(content) > bytes_max:
            raise TooMuchOutput(f"`{_name(argv)}` printed more than {bytes_max} bytes.")
    return bytes(content)


async def _cancel(*futures: asyncio.Future[None] | asyncio.Future[bytes]) -> None:
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """End all of a group: gracefully first, since a git that is killed leaves its locks behind."""
    left_s = GRACE_S
    try:
        _signal_group(process, signal.SIGTERM)
        while left_s > 0 and _has_living(process.pid):
            await asyncio.sleep(_LOOK_S)
            left_s -= _LOOK_S
    finally:
        _signal_group(process, signal.SIGKILL)


def _signal_group(process: asyncio.subprocess.Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _has_living(group: int) -> bool:
    """Say whether somebody of a group lives: the dead count for as long as nobody buries them."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, member_of = entry.read_text().rpartition(")")[2].split()[:3]
            if int(member_of) == group and state not in "ZX":
                return True
    return False


def spawn_detached(argv: Sequence[str], *, handed: int) -> int:
    """Start a program in a session of its own that outlives us; return its process id.

    It gets the descriptor `handed` as number 3, `/dev/null` as standard streams and an empty
    environment.
    """
    null = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in range(3)]
    return os.posix_spawn(
        argv[0],
        list(argv),
        {},
        file_actions=[*null, (os.POSIX_SPAWN_DUP2, handed, 3)],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM),
    )


def kill_holders(path: Path, program: str) -> None:
    """Kill every process of a program of this name that has the file open."""
    for entry in Path("/proc").glob("[0-9]*"):
        # Opened first, so that it is still the same process that is looked at and killed.
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(int(entry.name))
            try:
                if (entry / "exe").readlink().name == program and _holds(entry, path):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)


def kill_all_of(uid: int) -> None:
    """Kill every process of a user, until there is none."""
    while found := [entry for entry in Path("/proc").glob("[0-9]*") if _is_of(uid, entry)]:
        for entry in found:
            # Opened first, so that it is still the same process that is looked at and killed.
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(int(entry.name))
                try:
                    if _is_of(uid, entry):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                finally:
                    os.close(pidfd)


def _is_of(uid: int, process: Path) -> bool:
    try:
        status = (process / "status").read_text()
    except OSError:
        return False
    ids = {line.split()[1] for line in status.splitlines() if line.startswith("Uid:")}
    return ids == {f"{uid}"} and "\nState:\tZ" not in status


def _holds(process: Path, path: Path) -> bool:
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            if descriptor.samefile(path):
                return True
    return False


async def wait(pidfd: int) -> None:
    """Return when the process behind `pidfd` is gone; reap it, if it is our child."""
    loop = asyncio.get_running_loop()
    gone = loop.create_future()
    # A loop knows one reader for a descriptor; several may wait for the same process.
    own = os.dup(pidfd)
    loop.add_reader(own, _resolve, gone)
    try:
        await gone
    finally:
        loop.remove_reader(own)
        os.close(own)
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _name(argv: Sequence[str | bytes]) -> str:
    return os.path.basename(os.fsdecode(argv[0]))
