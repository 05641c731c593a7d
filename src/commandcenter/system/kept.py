"""Looks after a command where there are no namespaces, for `system/shim.py`: a keeper does.

The keeper is a process beside the shim: it adopts all that the command leaves behind, and ends when
none of it is left; so it is for the shim what the first process of a sandbox is. The command is
confined by Landlock, by a filter of its system calls, and by its user. The keeper hands it its TCP
sockets, which can call nobody but this machine, and carries what comes by them to the sockets of
the model gateway and the egress proxy.

Like the shim: standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from commandcenter.system import cgroup, footprint, landlock, shim
from commandcenter.system.watch import Watch

LOOK_S = 0.2
"""How often the keeper buries what it adopted."""
STREAMS = ("stdin", "stdout", "stderr")
INSIST_S = 5.0
"""How long the keeper may take to kill everything before it is killed."""
TERMINATE, KILL = b"t", b"k"
"""What the shim says to the keeper; its own end says `KILL`."""
LOOPBACK = "127.0.0.1"

_ASKING, _CONFINED = b".", b"confined"
"""What the command says to the keeper, before it is one: with the first, where it asks."""

_CHUNK_BYTES = 65536
_DROP_FROM_BOUNDING_SET, _SET_FILTER = 24, 22
_CAPABILITIES = 64
_FILTER_MODE, _WITH_LISTENER = 2, 8
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_RECEIVE, _ANSWER, _HAND_OVER = 0xC0502100, 0xC0182101, 0x40182103
_AND_ANSWER = 2
_ASKED = struct.Struct("=QII iIQ6Q")
_NONBLOCKING, _CLOSED_ON_EXEC = 0x800, 0x80000

_libc = ctypes.CDLL(None, use_errno=True)


class Kept(shim.Supervisor):
    """A command that a keeper looks after."""

    def __init__(self, spec: Any, wake: int) -> None:
        super().__init__(spec, wake)
        self.control: socket.socket | None = None
        self.said = b""
        self.insist_at: float | None = None

    def start(self) -> None:
        """Start the keeper, which starts the command."""
        for group in self.spec["groups"]:
            cgroup.remove(group["folder"])  # one that a killed shim left has old counts
            cgroup.make(group["folder"], group["values"])
        self.control, theirs = socket.socketpair()

        def become(_: int, streams: tuple[int, ...]) -> None:
            _keep(self.spec, streams, theirs.fileno(), shim.tree_lock())

        self.launch(become)
        theirs.close()
        self.watch_for(self.control.fileno(), self._listen)
        pidfd = os.pidfd_open(self.runner)
        self.found(self.runner, pidfd, shim.started_at(self.runner))
        self.watch = Watch(self.spec, self.runner)

    def terminate(self) -> bool:
        """Have the keeper send TERM to the command."""
        return self._tell(TERMINATE)

    def kill(self) -> None:
        """Have the keeper kill everything; if it does not, kill it, and then the rest ourselves."""
        now = time.monotonic()
        self.insist_at = self.insist_at or now + INSIST_S
        self._tell(KILL)
        if now >= self.insist_at and self.runner_status is None:
            os.kill(self.runner, signal.SIGKILL)

    def give_up(self, problem: str) -> None:
        """End everything at once, because we cannot go on."""
        super().give_up(problem)
        kill_all()

    def ended(self) -> str:
        """Return how it ended when it was not us who ended it."""
        if self.exit_code is not None:
            return shim.EXITED
        return shim.FAILED if self.problem else shim.LOST

    def clean_up(self) -> None:
        """Remove the cgroups."""
        for group in self.spec["groups"]:
            cgroup.remove(group["folder"])

    def _reap(self, descriptor: int) -> None:
        super()._reap(descriptor)
        if self.runner_status and self.watch:
            # It was killed. What it left is ours now, and may hold the streams.
            self._break(self.watch.last_look())
            self.watch = None
            kill_all()

    def _listen(self, descriptor: int) -> None:
        data = self._received()
        self.said += data
        *lines, self.said = self.said.split(b"\n")
        for said in map(json.loads, lines):
            self.exit_code = said.get("exit-code", self.exit_code)
            self.problem = said.get("problem", self.problem)
        if not data:
            self._forget(descriptor)

    def _received(self) -> bytes:
        assert self.control
        try:
            return self.control.recv(_CHUNK_BYTES)
        except ConnectionResetError:
            return b""

    def _tell(self, word: bytes) -> bool:
        """Say a word to the keeper; say whether it was there to hear it."""
        assert self.control
        try:
            self.control.sendall(word)
        except OSError:
            return False
        return True


def kill_all() -> None:
    """Kill all that is below this process, which must adopt orphans, and bury it.

    Stopped first: what is stopped makes no more processes, but still counts as one, so that a bomb
    of them comes to its limit.
    """
    while True:
        stopped: set[int] = set()
        while found := {*footprint.processes(os.getpid())[1:]} - stopped:
            for pid in found:
                _signal(pid, signal.SIGSTOP)
            stopped |= found
        for pid in stopped:
            _signal(pid, signal.SIGKILL)
        if not _buried(wait=bool(stopped)):
            return


def _buried(*, wait: bool) -> bool:
    """Bury who has ended; say whether there is somebody left."""
    try:
        while True:
            pid, _ = os.waitpid(-1, 0 if wait else os.WNOHANG)
            if not pid:
                return True
            wait = False
    except ChildProcessError:
        return False


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


# The keeper


def _keep(spec: Any, streams: tuple[int, ...], control: int, tree: int) -> None:
    """Be the keeper, until nothing is left of the command. Never returns."""
    try:
        _hold_only(*streams, control, tree)
        shim.adopt_orphans()
        keeper = _Keeper(spec, socket.socket(fileno=len(streams)))
        try:
            keeper.start()
        except OSError as error:
            keeper.complain(f"{error}")
        keeper.follow()
    finally:
        os._exit(1)


def _hold_only(*descriptors: int) -> None:
    """Make these 0, 1, 2, ... and close all others, among them the shim's lock."""
    signal.set_wakeup_fd(-1)
    # It ends when nothing is left, and not before.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 64) for each in descriptors]
    for place, descriptor in enumerate(moved):
        os.dup2(descriptor, place, inheritable=place < len(STREAMS))
    os.closerange(len(moved), 65536)


class _Keeper:
    """Starts the command, hands it its sockets, and ends it."""

    def __init__(self, spec: Any, control: socket.socket) -> None:
        self._spec = spec
        self._control = control
        self._command = 0
        self._ended = -1
        """A pidfd of the command."""
        self._asked = -1
        """From here come the wishes for sockets."""
        self._heard = b""
        self._is_confined = False
        self._poll = select.poll()

    def start(self) -> None:
        """Start the command, and what carries its connections."""
        carried = [(_listening(), path) for path in self._spec["carried"].values()]
        ports = [listener.getsockname()[1] for listener, _ in carried]
        known = dict(zip(self._spec["carried"], ports, strict=True))
        ours, theirs = socket.socketpair()
        keeper = os.getpid()
        if "trial" in self._spec:
            _prove(self._spec["trial"], keeper)
        self._command = os.fork()
        if not self._command:
            for listener, _ in carried:
                listener.close()
            _become(self._spec, known, theirs, keeper)
        theirs.close()
        _leave_streams()
        self._ended = os.pidfd_open(self._command)
        self._child = ours
        for listener, path in carried:
            threading.Thread(target=_carry, args=(listener, path), daemon=True).start()

    def follow(self) -> None:
        """Serve the command to its end, then end all others."""
        for descriptor in (self._control.fileno(), self._child.fileno(), self._ended):
            self._poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in self._poll.poll(LOOK_S * 1000):
                if descriptor == self._control.fileno():
                    self._obey(self._control.recv(64))
                elif descriptor == self._asked:
                    _hand_over(self._asked)
                elif descriptor == self._child.fileno():
                    self._hear(self._child)
                elif self._is_confined:
                    self._tell_end()
                    self._end()
            _bury_others(self._command)

    def _hear(self, child: socket.socket) -> None:
        """Learn from the command, before it is one, where it will ask, and that it is confined."""
        said, handed, _, _ = socket.recv_fds(child, _CHUNK_BYTES, 1)
        self._heard += said
        for self._asked in handed:
            self._poll.register(self._asked, select.POLLIN)
        if said:
            return
        self._poll.unregister(child.fileno())
        self._is_confined = self._heard == _ASKING + _CONFINED
        if not self._is_confined:
            words = self._heard.removeprefix(_ASKING).removeprefix(_CONFINED).decode()
            self.complain(words or "It was killed at its start.")

    def complain(self, problem: str) -> None:
        """Tell why the command cannot be started, and end."""
        self._tell({"problem": problem})
        self._end()

    def _obey(self, words: bytes) -> None:
        if not words or KILL in words:
            self._end()
        if TERMINATE in words:
            _signal(self._command, signal.SIGTERM)

    def _tell_end(self) -> None:
        _, status = os.waitpid(self._command, 0)
        self._tell({"exit-code": os.waitstatus_to_exitcode(status)})

    def _tell(self, said: dict[str, object]) -> None:
        # A shim that was killed does not want to know.
        with contextlib.suppress(OSError):
            self._control.sendall(json.dumps(said).encode() + b"\n")

    def _end(self) -> None:
        kill_all()
        os._exit(0)


def _leave_streams() -> None:
    """Let go of the command's streams, whose end says that nobody writes to them any more."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    os.close(nothing)


def _bury_others(command: int) -> None:
    """Bury adopted processes that have ended; the command itself is left to `_tell_end`."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid == command:
            return
        os.waitpid(ended.si_pid, 0)


# The sockets


def _hand_over(asked: int) -> None:
    """Answer one wish for a TCP socket.

    It is bound to this machine's own address, and so cannot call any other machine. The command
    cannot change that: Landlock lets it bind nothing.
    """
    wish = bytearray(_ASKED.size)
    try:
        fcntl.ioctl(asked, _RECEIVE, wish)
    except OSError:
        return  # whoever asked is gone
    number, _, _, _, _, _, _, kind, *_ = _ASKED.unpack(wish)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
            made.bind((LOOPBACK, 0))
            made.setblocking(not kind & _NONBLOCKING)
            closed = os.O_CLOEXEC if kind & _CLOSED_ON_EXEC else 0
            given = struct.pack("=QIIII", number, _AND_ANSWER, made.fileno(), 0, closed)
            fcntl.ioctl(asked, _HAND_OVER, given)
    except OSError as error:
        _refuse(asked, number, error.errno or errno.EPERM)


def _refuse(asked: int, number: int, code: int) -> None:
    # Whoever asked may be gone.
    with contextlib.suppress(OSError):
        fcntl.ioctl(asked, _ANSWER, struct.pack("=QqiI", number, 0, -code, 0))


def _listening() -> socket.socket:
    listener = socket.socket()
    listener.bind((LOOPBACK, 0))
    listener.listen(64)
    return listener


def _carry(listener: socket.socket, path: str) -> None:
    """Carry every connection to the socket at `path`, each in threads of its own."""
    while True:
        client, address = listener.accept()
        if _is_of_a_keeper(address, listener.getsockname()):
            threading.Thread(target=_forward, args=(client, path), daemon=True).start()
        else:
            client.close()


def _is_of_a_keeper(caller: tuple[str, int], called: tuple[str, int]) -> bool:
    """Say whether a keeper made the caller's socket, as ours is: other users call our port, too."""
    wanted = [_spelled(caller), _spelled(called)]
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file]
    return any(row[1:3] == wanted and row[7] == f"{os.geteuid()}" for row in rows)


def _spelled(address: tuple[str, int]) -> str:
    """Return an address as /proc spells it."""
    host, port = address
    (number,) = struct.unpack("=I", socket.inet_aton(host))
    return f"{number:08X}:{port:04X}"


def _forward(client: socket.socket, path: str) -> None:
    folder, name = os.path.split(path)
    # The kernel takes 107 bytes at most for a socket's path. Opened anew, since a restarted
    # service makes new sockets.
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    with client, socket.socket(socket.AF_UNIX) as service:
        try:
            service.connect(f"/proc/self/fd/{place}/{name}")
        except OSError:
            return
        finally:
            os.close(place)
        back = threading.Thread(target=_pump, args=(service, client), daemon=True)
        back.start()
        _pump(client, service)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(_CHUNK_BYTES):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        _shut(source, target)


def _shut(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


# The trial


def _prove(trial: Any, keeper: int) -> None:
    """Make sure that all that must be refused to a command works without confinement."""
    missing = {name for name, _ in _attempts(trial, keeper)} - set(_possible(trial, keeper))
    if missing:
        raise OSError(f"The trial proves nothing, since nobody can {', '.join(sorted(missing))}.")


def _possible(trial: Any, keeper: int) -> list[str]:
    """Return what this process can do of what a command must not."""
    return [name for name, attempt in _attempts(trial, keeper) if _works(attempt)]


def _attempts(trial: Any, keeper: int) -> list[tuple[str, Callable[[], object]]]:
    # Nothing of Python's may have to be loaded here: there may be no way to it.
    datagrams = (socket.AF_INET, socket.SOCK_DGRAM)
    return [
        ("read the host's files", lambda: os.close(os.open(trial["secret"], os.O_RDONLY))),
        ("write the host's files", lambda: os.close(os.open(trial["secret"], os.O_WRONLY))),
        ("list the host's folders", lambda: os.listdir(trial["folder"])),
        ("call a port", lambda: _call(socket.AF_INET, (LOOPBACK, trial["port"]))),
        ("call a socket", lambda: _call(socket.AF_UNIX, "\0" + trial["name"])),
        ("send a datagram", lambda: socket.socket(*datagrams).close()),
        ("listen", lambda: _listening().close()),
        ("read the service's environment", lambda: _read(f"/proc/{keeper}/environ")),
        ("send a signal to others", lambda: os.kill(keeper, 0)),
    ]


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _call(family: int, address: Any) -> None:
    with socket.socket(family) as calling:
        calling.connect(address)


def _read(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.read(descriptor, 1)
    finally:
        os.close(descriptor)


# The command


def _become(spec: Any, ports: dict[str, int], told: socket.socket, keeper: int) -> None:
    """Turn this fresh child of the keeper into the command, confined."""
    try:
        os.setsid()
        for name, value in spec["limits"].items():
            shim.limit(getattr(resource, name), value)
        for group in spec["groups"]:
            cgroup.enter(group["folder"])
        os.nice(spec["nice"])
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
        with open(spec["seccomp"], "rb") as file, open(spec["unshared"], "rb") as more:
            filters = file.read(), more.read()
        if spec["uid"] is not None:
            _change_user(spec["uid"], spec["groups_of_user"])
        shim.die_with(keeper)
        os.chdir(spec["cwd"])
        landlock.confine(spec["seen"], spec["owned"], spec["devices"], [*ports.values()])
        handed = _filter(filters)
        socket.send_fds(told, [_ASKING], [handed])
        os.close(handed)
        if "trial" in spec and (worked := _possible(spec["trial"], keeper)):
            raise OSError(f"Confined, a command still could {', '.join(worked)}.")
        told.send(_CONFINED)
        environment = {name: _on(ports, text) for name, text in spec["environment"].items()}
        _start(spec["argv"], environment)
    except OSError as error:
        told.send(f"{error}".encode())
    finally:
        os._exit(126)


def _change_user(uid: int, groups: list[int]) -> None:
    for capability in range(_CAPABILITIES):
        _libc.prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)
    os.setgroups(groups)
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _filter(programs: tuple[bytes, bytes]) -> int:
    """Have the kernel look at all system calls; return where it asks about the second program."""
    first, second = map(_loaded, programs)
    if _libc.prctl(_SET_FILTER, _FILTER_MODE, first, 0, 0):
        raise OSError(ctypes.get_errno(), "The filter of system calls cannot be set")
    number = _SECCOMP[os.uname().machine]
    listener = _libc.syscall(number, 1, _WITH_LISTENER, second)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "The filter of system calls cannot ask")
    return int(listener)


def _loaded(program: bytes) -> ctypes.Array[ctypes.c_char]:
    code = ctypes.create_string_buffer(program)
    loaded = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    )
    loaded.code = code  # type: ignore[attr-defined] # kept for as long as it is pointed at
    return loaded


def _on(ports: dict[str, int], text: str) -> str:
    """Return a variable in which our ports are those that this command has."""
    for port, own in ports.items():
        text = text.replace(f"{LOOPBACK}:{port}", f"{LOOPBACK}:{own}")
    return text


def _start(argv: list[str], environment: dict[str, str]) -> None:
    # Python ignores these two, and an ignored signal stays ignored in a new program.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, environment)  # noqa: S606 - this is what we are for
    except OSError as error:
        raise OSError(f"{argv[0]}: {error}") from error
