"""One run of a command in a folder of its own, looked after by the shim, not by us."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

from commandcenter.core.errors import WorkspaceError
from commandcenter.core.workspace import Completed, Ended
from commandcenter.system import container, durable, process, removal, sandbox, shim
from commandcenter.system.boot import BOOT, boot_id, noted_boot

OnLine = Callable[[bytes], None]

STDOUT_TAIL_BYTES = 4 * 2**20
STDERR_TAIL_BYTES = 64 * 2**10
LINE_BYTES_MAX = 16 * 2**20
"""A longer line is told without its end."""
_LOOK_S = 0.1
"""How often stdout is looked at for whole lines."""
_RETRY_S = 0.01
_STUCK_S = 0.5
"""Whoever holds a tree's lock so long after its shim's end is killed."""
_OVERDUE_S = 15.0
"""A shim that does not end this long after its command must have is killed."""
_CHUNK_BYTES = 2**20
_COMPLAINT_BYTES = 2000
# Imported, not run as a file, so that Python keeps it compiled: 6 ms less for every command.
_START = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from commandcenter.system import shim; shim.main(sys.argv[2])"
)
_OURS = str(Path(shim.__file__).parents[2])
_LOST: Mapping[str, Any] = MappingProxyType(
    {"ended": Ended.LOST, "exit_code": None, "duration_s": 0.0}
)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: see `system/shim.py` for what lies in it."""

    path: Path

    @property
    def looked_after(self) -> bool:
        """Say whether a shim looks after this run now."""
        return _is_locked(self.path / "lock")

    @property
    def grace_s(self) -> float:
        """How long the shim was told to wait for the end after a TERM."""
        grace_s: float = json.loads((self.path / "spec.json").read_bytes())["grace_s"]
        return grace_s

    def recorded(self) -> Completed | None:
        """Return the recorded end; None when there is none, or it never started."""
        said = self._said()
        return None if said is None or said["ended"] == shim.FAILED else self._completed(said)

    def cut_off(self) -> bool:
        """Say whether the machine went down while it ran: half of what it left may be there."""
        # Without a note it had not begun: see `start`.
        return noted_boot(self.path) not in ("", boot_id()) and not self.synced()

    def synced(self) -> bool:
        """Say whether all that it left was on the disk when its end was told."""
        said = self._said()
        return said is not None and bool(said.get("synced"))

    def replay(self, on_line: OnLine | None) -> None:
        """Tell every line of stdout of a run that is over."""
        with _lines(self.path / "stdout", on_line) as look:
            while look():
                pass

    def keep(self, left: Callable[[], bytes | None], *, lasting: bool) -> None:
        """Keep the answer of a run that is over, before the next one may leave another.

        `left` reads it where the command wrote it; that is done once. `lasting`: it is to survive
        a power cut.
        """
        answer = self.path / "answer"
        if answer.exists():
            return
        content = left()
        # Told apart from an empty answer by its first byte.
        draft = self.path / "answer.new"
        draft.write_bytes(b"-" if content is None else b"+" + content)
        if lasting:
            durable.sync_files(self.path, [draft.name])
        draft.rename(answer)
        if lasting:
            durable.sync_folder(self.path)

    def kept(self) -> bytes | None:
        """Return the answer that was kept, if there was one."""
        try:
            content = (self.path / "answer").read_bytes()
        except FileNotFoundError:
            return None
        return content[1:] if content.startswith(b"+") else None

    def start(self, spec: bytes, stdin: bytes, *, lasting: bool = False) -> int:
        """Start the run anew and return a pidfd of its shim.

        `lasting`: that it was started is on the disk before it is.
        """
        removal.remove(self.path)
        self.path.mkdir(mode=0o700, parents=True)
        (self.path / "spec.json").write_bytes(spec)
        (self.path / "stdin").write_bytes(stdin)
        (self.path / BOOT).write_text(boot_id())
        if lasting:
            # Else what a power cut left could not be told from what an ended command left.
            durable.sync_files(self.path, [BOOT])
            durable.sync_folder(self.path.parent)
        # Locked by us and inherited by the shim, so that there is no moment at which a run that
        # was started looks as if nobody cared for it.
        with (self.path / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            pid = process.spawn_detached(
                (str(sandbox.interpreter()), "-I", "-S", "-c", _START, _OURS, str(self.path)),
                handed=lock.fileno(),
            )
        return os.pidfd_open(pid)

    async def attach(self) -> int | None:
        """Return a pidfd of the shim that looks after this run.

        None: there is none, and nothing of the run's process tree is left.
        """
        while (pid := self._owner()) is not None:
            if pid:
                with suppress(ProcessLookupError):
                    pidfd = os.pidfd_open(pid)
                    # Still locked after it was opened: then this number is still that shim's.
                    if self._owner() == pid:
                        return pidfd
                    os.close(pidfd)
            await asyncio.sleep(_RETRY_S)
        await self._tree_gone()
        return None

    async def follow(self, pidfd: int, on_line: OnLine | None) -> Completed:
        """Wait for the end, telling every line of stdout from the start.

        Raises:
            WorkspaceError: the command could not be started.
        """
        gone = asyncio.ensure_future(process.wait(pidfd))
        try:
            with _lines(self.path / "stdout", on_line) as look:
                while not gone.done():
                    await asyncio.wait({gone}, timeout=_LOOK_S if on_line else None)
                    while look():  # noqa: ASYNC110 - lets others in between the pieces
                        await asyncio.sleep(0)
        finally:
            gone.cancel()
        await self._tree_gone()
        return self._end()

    async def stop(self, pidfd: int, *, at_once: bool = False) -> None:
        """Ask the shim to end its command, and wait until it did."""
        number = signal.SIGINT if at_once else signal.SIGTERM
        grace_s = sandbox.GRACE_S if at_once else self.grace_s
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
        try:
            async with asyncio.timeout(grace_s + _OVERDUE_S):
                await process.wait(pidfd)
        except TimeoutError:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            await process.wait(pidfd)
        await self._tree_gone()

    def _owner(self) -> int | None:
        """Return the shim's process id, 0 when it has not said it yet, None when there is none."""
        if _is_locked(self.path / "lock"):
            return int((self.path / "lock").read_bytes() or 0)
        return None

    async def _tree_gone(self) -> None:
        """Wait until what a killed shim left is gone. The kernel was told to end it at once.

        A bubblewrap that was killed while it started can leave half of itself, which waits for
        the other half for ever.
        """
        await self._container_gone()
        patience = round(_STUCK_S / _RETRY_S)
        while _is_locked(self.path / "tree"):
            await asyncio.sleep(_RETRY_S)
            patience -= 1
            if patience <= 0:
                process.kill_holders(self.path / "tree", sandbox.PROGRAM)
        pidfd = self._first_process()
        if pidfd is not None:
            # It let go of the lock, but has not buried the others yet.
            await process.wait(pidfd)
            os.close(pidfd)
        self._kill_left()

    def _kill_left(self) -> None:
        """Kill what is left of a command without namespaces whose keeper was killed, too.

        Without a user of its own it cannot be told from others.
        """
        spec = self._spec()
        if "owned" in spec and spec["uid"] is not None and self._said() is None:
            process.kill_all_of(spec["uid"])

    async def _container_gone(self) -> None:
        """End the container of a run whose shim could not: it does not end with its shim.

        Raises:
            WorkspaceError: it may still be running, and nobody here can end it.
        """
        described, said = self._described(), self._said()
        if described is None or (said is not None and said["gone"]):
            return
        try:
            await container.remove(described)
        except WorkspaceError:
            # Without its engine it cannot be started again, so that its end is enough.
            if not (self.path / "first").exists():
                raise
            self._kill_first()

    def _described(self) -> Mapping[str, Any] | None:
        """Return what the orders say of a container; None when there is none."""
        found: Mapping[str, Any] | None = self._spec().get("container")
        return found

    def _spec(self) -> Mapping[str, Any]:
        """Return the shim's orders; empty when it has none."""
        try:
            spec: Mapping[str, Any] = json.loads((self.path / "spec.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return spec

    def _kill_first(self) -> None:
        pidfd = self._first_process()
        if pidfd is None:
            return
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except PermissionError as error:
            raise WorkspaceError(f"The container of {self.path} cannot be ended.") from error
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)

    def _first_process(self) -> int | None:
        """Return a pidfd of the sandbox's first process while there is something left of it."""
        try:
            pid, _, started_at = (self.path / "first").read_text().partition(" ")
            pidfd = os.pidfd_open(int(pid))
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        with suppress(OSError):
            if shim.started_at(int(pid)) == started_at:
                return pidfd
        os.close(pidfd)
        return None

    def _end(self) -> Completed:
        said = self._said()
        if said is None:
            return self._completed(_LOST)
        if said["ended"] == shim.FAILED:
            stderr = _tail(self.path / "stderr", _COMPLAINT_BYTES).decode(errors="replace").strip()
            complaint = "; ".join(part for part in (said["problem"], stderr) if part)
            raise WorkspaceError(f"The sandbox could not be started: {complaint}")
        return self._completed(said)

    def _said(self) -> Mapping[str, Any] | None:
        """Return the shim's own record."""
        try:
            said: Mapping[str, Any] = json.loads((self.path / "exit.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return said

    def _completed(self, said: Mapping[str, Any]) -> Completed:
        return Completed(
            ended=Ended(said["ended"]),
            exit_code=said["exit_code"],
            stdout=_tail(self.path / "stdout", STDOUT_TAIL_BYTES),
            stderr=_tail(self.path / "stderr", STDERR_TAIL_BYTES),
            duration_s=said["duration_s"],
            output_bytes=sum(_size(self.path / name) for name in ("stdout", "stderr")),
            log=self.path,
            problem=said.get("problem", ""),
        )


@contextmanager
def _lines(path: Path, on_line: OnLine | None) -> Iterator[Callable[[], bool]]:
    """Give a function that tells what has come, and says whether there may be more at once.

    Leaving tells the last line, even without its end.
    """
    if on_line is None:
        yield lambda: False
        return
    teller = _Teller(on_line)
    try:
        yield lambda: teller.look(path)
        teller.finish()
    finally:
        teller.close()


class _Teller:
    """Reads a growing file in pieces and tells its whole lines."""

    def __init__(self, on_line: OnLine) -> None:
        self._on_line = on_line
        self._file: FileIO | None = None
        self._begun = bytearray()

    def look(self, path: Path) -> bool:
        """Tell the lines of the next piece; say whether there was one."""
        if self._file is None:
            try:
                self._file = FileIO(path)
            except FileNotFoundError:
                return False
        piece = self._file.read(_CHUNK_BYTES)
        first, *rest = piece.split(b"\n")
        self._add(first)
        for part in rest:
            self._tell()
            self._add(part)
        return bool(piece)

    def finish(self) -> None:
        """Tell the last line, if it has no end."""
        if self._begun:
            self._tell()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _add(self, part: bytes) -> None:
        self._begun += part[: LINE_BYTES_MAX - len(self._begun)]

    def _tell(self) -> None:
        line = bytes(self._begun)
        self._begun.clear()
        self._on_line(line)


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _tail(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read(size)
    except FileNotFoundError:
        return b""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
