"""Looks after a command in a container, for `system/shim.py`: Docker's or Podman's.

The client that is attached to the container is what we start and follow. It is not the container:
when it dies, or we do, the container goes on. So the container has a name that is known before it
is made, and it is over only when the engine says so, or when its first process is gone.

Like the shim: standard library only.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import time
from typing import Any

from commandcenter.system import shim
from commandcenter.system.watch import Watch, starved

LOOK_S = 0.1
"""How often the engine is asked for the first process of a container that was just started."""
ANSWER_S = 20.0
"""How long an engine may take to answer."""
CREATE_S = START_S = 120.0
"""How long it may take to make a container, and to start it."""
INSIST_S = 1.0
"""How often the engine is told to kill what is not ours to kill."""
OVERDUE_S = 5.0
"""A client that does not end this long after its container must have is killed."""
KILLED = 128 + signal.SIGKILL

_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_INFO = struct.Struct("=QQ11Ii")
_SET_PARENT_DEATH_SIGNAL = 1

_libc = ctypes.CDLL(None, use_errno=True)


class Contained(shim.Supervisor):
    """A command in a container."""

    def __init__(self, spec: Any, wake: int) -> None:
        super().__init__(spec, wake)
        container = spec["container"]
        self.program: list[str] = container["program"]
        self.environment: dict[str, str] = container["environment"]
        self.name: str = container["name"]
        self.state: dict[str, Any] = {}
        """What the engine says of the container now that it is over; empty when it has gone."""
        self.gone = True
        """Whether it is sure that nothing of it runs."""
        self.insist_at = 0.0
        self.launched = self.started

    def start(self) -> None:
        """Make the container and start it, attached."""
        self._create()
        self.watch = Watch(self.spec, 0)
        argv = [*self.program, "start", "--attach", "--interactive", self.name]

        def become(parent: int, streams: tuple[int, ...]) -> None:
            _become(argv, self.environment, parent, streams)

        self.launch(become)
        self.launched = time.monotonic()
        self.look_at = self.launched + LOOK_S
        # How long a command takes and is silent counts from its start, which is not now.
        self.started = self.last_output = self.launched + START_S

    def look(self) -> None:
        """Find the first process, and see to it that nothing goes on without its client."""
        now = time.monotonic()
        if self.runner_status is not None:
            self.look_at = float("inf")
            if self.init is not None and not self.init_gone:
                self.end(shim.LOST, grace_s=0.0)
        elif now >= self.look_at:
            self.look_at = now + LOOK_S
            state = self._inspect()
            if state and state["Pid"]:
                self._follow_first(state["Pid"])

    def follow(self) -> None:
        """Return when the container is over and all its output is read."""
        super().follow()
        self._settle()
        if self.init is None:
            self.started = self.launched

    def give_up(self, problem: str) -> None:
        """End everything at once, because we cannot go on."""
        self.why, self.problem = self.why or shim.FAILED, problem
        self._settle()
        if self.runner and self.runner_status is None:
            os.kill(self.runner, signal.SIGKILL)
            os.waitpid(self.runner, 0)

    def terminate(self) -> bool:
        """Send TERM to the init inside, which passes it on to the command."""
        return self._told("kill", "--signal", "TERM", self.name)

    def kill(self) -> None:
        """Kill the first process inside, with which the kernel ends all others."""
        now = time.monotonic()
        if not self._kill_first() and now >= self.insist_at:
            self._told("kill", self.name)
            self.insist_at = time.monotonic() + INSIST_S
        overdue = self.kill_at is not None and now >= self.kill_at + OVERDUE_S
        if overdue and self.runner_status is None:
            os.kill(self.runner, signal.SIGKILL)

    def ended(self) -> str:
        """Return how it ended when it was not us who ended it."""
        if not self.state:
            return shim.LOST
        if self.state["StartedAt"].startswith("0001-"):
            return shim.FAILED
        if self.state["OOMKilled"]:
            why, self.problem = starved(self.spec["memory_bytes"])
            return why
        self.exit_code = self.state["ExitCode"]
        if self.exit_code == KILLED and self.init is not None and _was_killed(self.init):
            return shim.LOST
        return shim.EXITED

    def outcome(self) -> dict[str, object]:
        """Return what exit.json says."""
        self.started = min(self.started, time.monotonic())
        return {**super().outcome(), "gone": self.gone}

    def clean_up(self) -> None:
        """Remove the container."""
        self._told(*self.spec["container"]["remove"], self.name)

    def _create(self) -> None:
        """Make the container, instead of one that a killed shim left."""
        create = self.spec["container"]["create"]
        if self._ask(*create, timeout_s=CREATE_S).returncode:
            self.clean_up()
            made = self._ask(*create, timeout_s=CREATE_S)
            if made.returncode:
                raise OSError(_last_line(made.stderr))

    def _follow_first(self, pid: int) -> None:
        """Follow this process, unless it has gone meanwhile: then the engine tells how it ended."""
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return
        started = _started_first(pid)
        if not started:
            os.close(pidfd)
            return
        self.found(pid, pidfd, started)
        self.look_at = float("inf")
        self.started = self.last_output = time.monotonic()
        if self.watch:
            self.watch.follow(pid)

    def _settle(self) -> None:
        """Make sure that it is over, and learn how it ended."""
        state = self._inspect()
        if state is None or state.get("Running") or state.get("Pid"):
            removed = self._told(*self.spec["container"]["remove"], self.name)
            # One that nobody was told to start does not run, whether it was made or not.
            self.gone = self._kill_first() or removed or not self.runner
            state = {}
        if self.init is not None and not self.init_gone:
            select.select([self.init], [], [], ANSWER_S)
        self.state = state

    def _kill_first(self) -> bool:
        """Kill the first process; say whether that is possible, or not needed any more."""
        if self.init is None:
            return False
        try:
            if not self.init_gone:
                signal.pidfd_send_signal(self.init, signal.SIGKILL)
        except ProcessLookupError:
            pass
        except PermissionError:
            return False
        return True

    def _inspect(self) -> dict[str, Any] | None:
        """Return the container's state; empty when there is none, None without an answer."""
        said = self._ask("container", "inspect", "--format", "{{json .State}}", self.name)
        if said.returncode == 0:
            state: dict[str, Any] = json.loads(said.stdout)
            return state
        return {} if b"no such" in said.stderr.lower() else None

    def _told(self, *words: str) -> bool:
        return self._ask(*words).returncode == 0

    def _ask(self, *words: str, timeout_s: float = ANSWER_S) -> subprocess.CompletedProcess[bytes]:
        argv, parent = [*self.program, *words], os.getpid()
        try:
            return subprocess.run(
                argv,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                preexec_fn=lambda: _die_with(parent),
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, -1, b"", b"The engine does not answer.")


def _become(
    argv: list[str], environment: dict[str, str], parent: int, streams: tuple[int, ...]
) -> None:
    """Turn this fresh child of `parent` into the engine's client."""
    try:
        moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 64) for each in streams]
        for number, descriptor in enumerate(moved):
            os.dup2(descriptor, number)
        _die_with(parent)
        os.execve(argv[0], argv, environment)  # noqa: S606 - this is what we are for
    except OSError as error:
        os.write(2, f"{argv[0]}: {error}\n".encode())
    finally:
        os._exit(126)


def _die_with(parent: int) -> None:
    """End when `parent` does: else a killed shim's client could still start a container."""
    _libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(126)


def _started_first(pid: int) -> str:
    """Return when a process started that is the first of a process namespace below ours.

    Empty when it is gone, or is another one, which was given its number.
    """
    try:
        started = shim.started_at(pid)
        with open(f"/proc/{pid}/status") as file:
            (numbers,) = (line.split()[1:] for line in file if line.startswith("NSpid:"))
    except (OSError, ValueError):
        return ""
    return started if len(numbers) > 1 and numbers[-1] == "1" else ""


def _was_killed(pidfd: int) -> bool:
    """Say whether a process that is gone was ended by a signal; kernels before 6.15 cannot tell.

    The init inside ends with the same number when the command was killed; but it ends by itself.
    """
    asked = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, asked)
    except OSError:
        return False
    mask, *_, status = _PIDFD_INFO.unpack(asked)
    return bool(mask & _PIDFD_INFO_EXIT) and os.WIFSIGNALED(status)


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "The engine says nothing."
