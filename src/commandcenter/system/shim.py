"""Owns one run of a sandboxed command, and outlives the service that asked for it.

It is started as `python -I -S`, with descriptor 3 = RUN/lock, locked by the starter.

RUN is a folder with `spec.json` (made by `system/sandbox.py`) and `stdin`. As long as the lock is
held the command is being looked after, and the lock file names our process id. What it prints goes
to `stdout` and `stderr`; how it ended goes to `exit.json`, written last and at once. TERM ends the
command gracefully, INT at once. Nothing of its process tree is left when we have ended. When we are
killed it is killed, too: `tree` is locked until the sandbox has no first process, and `first` names
that, with whose end the kernel ends all others.

A program of its own: standard library only, and as few imports as it can, since it starts with
every command.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import math
import os
import resource
import select
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from commandcenter.system import cgroup
from commandcenter.system.watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    # To import it takes longer than most of what we do.
    from typing import Any

LOCK = 3
"""The descriptor of the lock that the starter hands us."""
CHUNK_BYTES = 1 << 18
TICK_S = 0.05
"""How often a command that must end is looked at."""

EXITED, TIMED_OUT, IDLE, OUTPUT_LIMIT, STOPPED, LOST, FAILED = (
    "exited",
    "timed_out",
    "idle",
    "output_limit",
    "stopped",
    "lost",
    "failed",
)
"""How it ended: values of `core.workspace.Ended` (two more are in `watch.py`), and `failed`: it
never started."""

_SET_CHILD_SUBREAPER = 36
_SET_PARENT_DEATH_SIGNAL = 1
_NEW_MOUNT_NAMESPACE = 0x00020000
_NOSUID, _NODEV, _BIND, _RECURSIVE, _PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000

_libc = ctypes.CDLL(None, use_errno=True)


def main(run: str) -> None:
    """Run the command of the folder `run` to its end and record how it ended."""
    os.closerange(LOCK + 1, 65536)
    os.set_inheritable(LOCK, False)
    wake = _wake_on_stop()
    os.ftruncate(LOCK, 0)
    os.write(LOCK, b"%d\n" % os.getpid())
    os.chdir(run)
    with open("spec.json", "rb") as file:
        spec = json.load(file)
    supervisor = _supervisor(spec, wake)
    try:
        adopt_orphans()
        supervisor.start()
        supervisor.follow()
        if supervisor.is_to_last():
            sync_file_system()
            supervisor.synced = True
    except OSError as error:
        supervisor.give_up(f"{error}")
    _record(supervisor.outcome())
    supervisor.clean_up()


def _supervisor(spec: Any, wake: int) -> Supervisor:
    if "container" in spec:
        # Not needed, and so not paid for, by every other command.
        from commandcenter.system.contained import Contained

        return Contained(spec, wake)
    if "owned" in spec:
        from commandcenter.system.kept import Kept

        return Kept(spec, wake)
    return Sandboxed(spec, wake)


class Supervisor(ABC):
    """Follows one command and ends it at a limit; a subclass knows what isolates it, and how."""

    def __init__(self, spec: Any, wake: int) -> None:
        """`spec` is the content of spec.json; `wake` becomes readable when we are to stop."""
        self.spec = spec
        self.poll = select.poll()
        self.readers = {wake: self._asked_to_stop}
        self.poll.register(wake, select.POLLIN)
        self.runner = 0
        """The process that we start, and that isolates the command: bubblewrap, for example."""
        self.runner_status: int | None = None
        self.init: int | None = None
        """A pidfd of the first process inside: gone when its whole tree is."""
        self.init_pid = 0
        self.init_gone = False
        self.exit_code: int | None = None
        self.why = ""
        self.problem = ""
        self.kill_at: float | None = None
        self.terminated = False
        self.discarded = False
        self.synced = False
        self.output_bytes = 0
        self.watch: Watch | None = None
        self.look_at = math.inf
        self.started = self.last_output = time.monotonic()

    @abstractmethod
    def start(self) -> None:
        """Start the runner."""

    @abstractmethod
    def terminate(self) -> bool:
        """Send TERM to the command; say whether that is done."""

    @abstractmethod
    def kill(self) -> None:
        """End everything inside at once; called again and again until it has ended."""

    @abstractmethod
    def ended(self) -> str:
        """Return how it ended when it was not us who ended it."""

    @abstractmethod
    def clean_up(self) -> None:
        """Remove what is left of the isolation."""

    def look(self) -> None:  # noqa: B027 - mostly there is nothing to look at
        """Look at what the runner does not tell by itself, at `look_at` or soon after."""

    def launch(self, become: Callable[[int, tuple[int, ...]], None]) -> None:
        """Fork; the child calls `become` with our process id and its standard streams to be."""
        pipes = [os.pipe(), os.pipe()]
        shim = os.getpid()
        self.runner = os.fork()
        if not self.runner:
            become(shim, (os.open("stdin", os.O_RDONLY), pipes[0][1], pipes[1][1]))
        for (pipe, pipe_in), name in zip(pipes, ("stdout", "stderr"), strict=True):
            os.close(pipe_in)
            self.watch_for(pipe, self._reader(name))
        self.watch_for(os.pidfd_open(self.runner), self._reap)

    def found(self, pid: int, pidfd: int, started: str) -> None:
        """Take note of the first process inside, also for those who come after us.

        `started` is what `started_at` says of it.
        """
        self.init_pid, self.init = pid, pidfd
        self.watch_for(self.init, self._init_ended)
        with open("first", "w") as file:
            file.write(f"{pid} {started}")

    def follow(self) -> None:
        """Return when nothing of the process tree is left and all its output is read."""
        while len(self.readers) > 1:  # all but the wish to stop
            for descriptor, _ in self.poll.poll(self._wait_ms()):
                reader = self.readers.get(descriptor)
                if reader:
                    reader(descriptor)
            self._enforce(time.monotonic())
        if self.watch:
            self._break(self.watch.last_look())
        _reap_adopted()

    def give_up(self, problem: str) -> None:
        """End everything at once, because we cannot go on."""
        self.why, self.problem = self.why or FAILED, problem
        if self.runner and self.runner_status is None:
            self.kill()
            os.waitpid(self.runner, 0)
        if self.init is not None and not self.init_gone:
            select.select([self.init], [], [])

    def is_to_last(self) -> bool:
        """Say whether what the command left is to survive a power cut."""
        return self.spec["lasting"] and not self.discarded

    def outcome(self) -> dict[str, object]:
        """Return what exit.json says."""
        told: dict[str, Any] = {}
        if not self.why:
            self.why = self.ended()
            told = _told() if self.why == EXITED and self.spec.get("told") else {}
        outcome: dict[str, Any] = {
            "ended": self.why,
            "exit_code": self.exit_code if self.why == EXITED else None,
            "duration_s": time.monotonic() - self.started,
            "problem": self.problem,
            "synced": self.synced,
            **told,
        }
        return {**outcome, "exit_code": _signed(outcome["exit_code"])}

    def watch_for(self, descriptor: int, reader: Any) -> None:
        """Call `reader` with the descriptor whenever there is something to read."""
        os.set_blocking(descriptor, False)
        self.readers[descriptor] = reader
        self.poll.register(descriptor, select.POLLIN)

    def _forget(self, descriptor: int) -> None:
        self.poll.unregister(descriptor)
        del self.readers[descriptor]

    def _init_ended(self, descriptor: int) -> None:
        self.init_gone = True
        self._forget(descriptor)

    def _reap(self, descriptor: int) -> None:
        _, self.runner_status = os.waitpid(self.runner, 0)
        self._forget(descriptor)

    def _reader(self, name: str) -> Any:
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

        def read(descriptor: int) -> None:
            data = os.read(descriptor, CHUNK_BYTES)
            if data:
                self._keep(file, data)
            else:
                self._forget(descriptor)

        return read

    def _keep(self, file: int, data: bytes) -> None:
        left = self.spec["output_bytes_max"] - self.output_bytes
        if len(data) > left:
            self.end(OUTPUT_LIMIT, grace_s=0.0)
        self.last_output = time.monotonic()
        self.output_bytes += min(left, len(data))
        _write(file, data[:left])

    def _asked_to_stop(self, descriptor: int) -> None:
        self.discarded = signal.SIGINT in os.read(descriptor, 64)
        self.end(STOPPED, grace_s=0.0 if self.discarded else self.spec["grace_s"])

    def end(self, why: str, *, grace_s: float) -> None:
        """Begin to end it; the first reason stays, the earliest deadline counts."""
        self.why = self.why or why
        deadline = time.monotonic() + grace_s
        self.kill_at = deadline if self.kill_at is None else min(self.kill_at, deadline)

    def _break(self, broken: tuple[str, str] | None) -> None:
        """End it because of a limit of its resources, which would be passed further meanwhile."""
        if broken:
            why, problem = broken
            if not self.why:
                self.problem = problem
            self.end(why, grace_s=0.0)

    def _enforce(self, now: float) -> None:
        idle_s, grace_s = self.spec["idle_s"], self.spec["grace_s"]
        self.look()
        if self.watch and now >= self.watch.due and not self.init_gone:
            self._break(self.watch.look())
        if not self.why and now - self.started >= self.spec["timeout_s"]:
            self.end(TIMED_OUT, grace_s=grace_s)
        if not self.why and idle_s is not None and now - self.last_output >= idle_s:
            self.end(IDLE, grace_s=grace_s)
        if self.kill_at is None:
            return
        if now >= self.kill_at:
            self.kill()
        elif not self.terminated:
            self.terminated = self.terminate()

    def _wait_ms(self) -> float:
        """Return how long nothing can be due."""
        now = time.monotonic()
        if self.kill_at is not None:
            return TICK_S * 1000
        due: float = min(self.look_at, self.started + self.spec["timeout_s"])
        if self.watch and not self.init_gone:
            due = min(due, self.watch.due)
        if self.spec["idle_s"] is not None:
            due = min(due, self.last_output + self.spec["idle_s"])
        return max(0.0, due - now) * 1000 + 1


class Sandboxed(Supervisor):
    """A command in bubblewrap."""

    def __init__(self, spec: Any, wake: int) -> None:
        super().__init__(spec, wake)
        self.release = -1
        self.status_text = b""

    def start(self) -> None:
        """Start bubblewrap, held before it runs the command until its limits are set."""
        if self.spec["stage"]:
            stage(**self.spec["stage"])
        for group in self.spec["groups"]:
            cgroup.remove(group["folder"])  # one that a killed shim left has old counts
            cgroup.make(group["folder"], group["values"])
        status, status_in = os.pipe()
        held_in, self.release = os.pipe()
        # Opened for writing, too, so that it has no end: our death is not the word to go on.
        held = os.open(f"/proc/self/fd/{held_in}", os.O_RDWR)
        os.close(held_in)

        def become(shim: int, streams: tuple[int, ...]) -> None:
            seccomp = os.open(self.spec["seccomp"], os.O_RDONLY)
            _become(self.spec, shim, (*streams, status_in, held, seccomp, tree_lock()))

        self.launch(become)
        for descriptor in (status_in, held):
            os.close(descriptor)
        self.watch_for(status, self._read_status)

    def terminate(self) -> bool:
        """Send TERM to the command itself; bubblewrap would answer one by killing all at once."""
        try:
            with open(f"/proc/{self.init_pid}/task/{self.init_pid}/children") as file:
                children = file.read().split()
        except OSError:
            return False
        for child in children[:1]:
            _signal(int(child), signal.SIGTERM)
        return bool(children)

    def kill(self) -> None:
        """Kill bubblewrap and the first process inside, with which the kernel ends all others."""
        if self.runner_status is None:
            _signal(self.runner, signal.SIGKILL)
        if self.init is not None and not self.init_gone:
            try:
                signal.pidfd_send_signal(self.init, signal.SIGKILL)
            except ProcessLookupError:
                self.init_gone = True

    def ended(self) -> str:
        """Return how it ended when it was not us who ended it."""
        if self.exit_code is not None:
            return EXITED
        killed = self.runner_status is not None and os.WIFSIGNALED(self.runner_status)
        return LOST if killed and self.init is not None else FAILED

    def clean_up(self) -> None:
        """Remove the cgroups."""
        for group in self.spec["groups"]:
            cgroup.remove(group["folder"])

    def _read_status(self, descriptor: int) -> None:
        """Take bubblewrap's word for the first process, and for the exit code, a line each."""
        data = os.read(descriptor, CHUNK_BYTES)
        self.status_text += data
        *lines, self.status_text = self.status_text.split(b"\n")
        for said in map(json.loads, lines):
            if "child-pid" in said:
                self._release(said["child-pid"])
            self.exit_code = said.get("exit-code", self.exit_code)
        if not data:
            self._forget(descriptor)

    def _release(self, pid: int) -> None:
        """Set the limits that only count inside the sandbox, then let it run."""
        self.found(pid, os.pidfd_open(pid), started_at(pid))
        # Set before bubblewrap's last user namespace is made, and only then is it counted for this
        # sandbox alone instead of for everything that its host uid runs.
        _limit_processes(pid, self.spec["processes_max"], self.spec["uid"])
        with open(f"/proc/{pid}/oom_score_adj", "w") as file:
            file.write("500")
        if self.spec["disk"]:
            self.watch = Watch(self.spec, pid)
        os.write(self.release, b"1")


def _told() -> dict[str, Any]:
    """Return what a runner of ours says of the end of its command, which it has followed itself.

    How the runner ended says nothing of the command: without its word, that is lost.
    """
    try:
        with open("told.json") as file:
            told: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return {"ended": LOST, "exit_code": None}
    return told


def sync_file_system() -> None:
    """Put all that the command wrote on the disk, before its end is told.

    The files of an overlay are not synced while it is mounted, whatever a command asks for.
    """
    here = os.open(".", os.O_RDONLY)
    try:
        _checked(_libc.syncfs(here), "sync")
    finally:
        os.close(here)


def started_at(pid: int) -> str:
    """Return when a process started; with its number, this names it for good."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[19]


def adopt_orphans() -> None:
    """Become the parent of what bubblewrap leaves, so that no zombie is left to the machine.

    Its first process outlives it for a moment, and not every container has an init that reaps.
    """
    _checked(_libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def _reap_adopted() -> None:
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass


def stage(at: str, binds: list[tuple[str, str, bool]], overlay: dict[str, Any] | None) -> None:
    """Mount every source below the folder `at`, in a mount namespace of our own.

    An unprivileged bubblewrap reaches them there even when they lie in a folder of root's, and no
    mount can be left behind on the host: the kernel drops the namespace with its last process.
    """

    def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
        raw = (os.fsencode(source), os.fsencode(target), kind.encode(), flags, os.fsencode(options))
        _checked(_libc.mount(*raw), f"mount {kind or 'bind'} {source}")

    _checked(_libc.unshare(_NEW_MOUNT_NAMESPACE), "unshare")
    mount("none", "/", "", _RECURSIVE | _PRIVATE)
    mount("tmpfs", at, "tmpfs", _NOSUID | _NODEV, "mode=0711,size=1m")
    for source, name, is_folder in binds:
        target = f"{at}/{name}"
        if is_folder:
            os.mkdir(target, 0o755)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        mount(source, target, "", _BIND | _RECURSIVE)
    if overlay:
        os.mkdir(f"{at}/{overlay['name']}", 0o755)
        mount(
            "overlay", f"{at}/{overlay['name']}", "overlay", _NOSUID | _NODEV, _options(at, overlay)
        )


def _checked(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)


def _options(at: str, overlay: dict[str, Any]) -> str:
    lower = ":".join(f"{at}/{name}" for name in overlay["lower"])
    return (
        f"lowerdir={lower},upperdir={at}/{overlay['upper']},workdir={at}/{overlay['work']},"
        # redirect_dir: without it, renaming a folder of the base fails.
        "redirect_dir=on,metacopy=off,index=off,volatile"
    )


def _become(spec: Any, parent: int, descriptors: tuple[int, ...]) -> None:
    """Turn this fresh child of `parent` into bubblewrap; `descriptors` become 0, 1, 2, ..."""
    try:
        moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 64) for each in descriptors]
        for number, descriptor in enumerate(moved):
            os.dup2(descriptor, number)
        for name, value in spec["limits"].items():
            limit(getattr(resource, name), value)
        for group in spec["groups"]:
            cgroup.enter(group["folder"])
        os.nice(spec["nice"])
        if spec["uid"] is not None:
            os.setgroups([])
            os.setresgid(spec["uid"], spec["uid"], spec["uid"])
            os.setresuid(spec["uid"], spec["uid"], spec["uid"])
        die_with(parent)
        # Python ignores these two, and an ignored signal stays ignored in a new program.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.execve(spec["argv"][0], spec["argv"], {})  # noqa: S606 - this is what we are for
    except OSError as error:
        os.write(2, f"{spec['argv'][0]}: {error}\n".encode())
    finally:
        os._exit(126)


def die_with(parent: int) -> None:
    """End when `parent` does, also before bubblewrap sees to that itself.

    To be called after the change of user, which would undo it.
    """
    _checked(_libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        os._exit(126)


def tree_lock() -> int:
    """Lock the file `tree`; only the sandbox's first process holds it, to its own end."""
    # Only for reading, and empty: the sandbox's processes could open it again through /proc.
    descriptor = os.open("tree", os.O_RDONLY | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def limit(kind: int, value: int) -> None:
    """Limit this process, as far as it is not limited more already."""
    _, hard = resource.getrlimit(kind)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (most, most))


def _limit_processes(pid: int, most: int, uid: int | None) -> None:
    """Limit how many processes `pid` may have beside it.

    A root without CAP_SYS_RESOURCE, as containers have it, may do so only to a process of its own
    real ids; the effective ones keep the capabilities.
    """
    if uid is not None:
        os.setresgid(uid, -1, -1)
        os.setresuid(uid, -1, -1)
    resource.prlimit(pid, resource.RLIMIT_NPROC, (most, most))
    if uid is not None:
        os.setresuid(0, -1, -1)
        os.setresgid(0, -1, -1)


def _wake_on_stop() -> int:
    """Return a descriptor from which the number of every TERM and INT can be read."""
    wake, wake_in = os.pipe()
    os.set_blocking(wake_in, False)
    signal.set_wakeup_fd(wake_in)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    return wake


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise


def _signed(code: int | None) -> int | None:
    """Return a shell's 128 + n as minus the signal n: bubblewrap tells the two no other way."""
    return 128 - code if code is not None and 128 < code <= 128 + 64 else code


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _record(outcome: dict[str, object]) -> None:
    """Write exit.json so that it is there whole, or not at all, even after a power cut."""
    with open("exit.json.new", "w") as file:
        json.dump(outcome, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace("exit.json.new", "exit.json")
    here = os.open(".", os.O_RDONLY)
    try:
        os.fsync(here)
    finally:
        os.close(here)
