"""What the attacks from within aim at: harmless stand-ins, and whether they were hit."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import secrets
import signal
import socket
import stat
import struct
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the host's
_TEMPORARY = Path("/tmp")  # noqa: S108 - the host's
_IPC_CREATE, _IPC_REMOVE = 0o1000, 0
_LOOP_FREE, _LOOP_CONFIGURE, _READ_ONLY_AND_AUTOCLEAR = 0x4C82, 0x4C0A, 0x5
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Victims:
    """Whoever an attack could hit."""

    folder: Path
    """Open to everybody, so that it is not permissions that protect it."""
    secret: str
    mark: str
    orchestrator: subprocess.Popen[bytes]
    listening: Mapping[str, socket.socket]
    other: Path
    """The files of another task."""
    objects: Path
    """The objects that all workspaces borrow."""
    ipc_key: int
    disk: Path | None
    """A block device that holds the secret; only root can make one."""
    _objects_before: str = field(repr=False, default="")

    @property
    def targets(self) -> dict[str, Any]:
        """Return what an attack has to know; each kind adds what differs with it."""
        return {
            "secret": self.secret,
            "mark": self.mark,
            "home": str(self.folder / "home"),
            "precious": str(self.folder / "precious"),
            "other": str(self.other),
            "tmp": str(_TEMPORARY / self.mark),
            "pid": self.orchestrator.pid,
            "port": self.listening["tcp"].getsockname()[1],
            "datagram_port": self.listening["udp"].getsockname()[1],
            "address": _own_address() or "127.0.0.2",
            "abstract": self.mark,
            "engine": str(self.folder / "engine.sock"),
            "ipc_key": self.ipc_key,
            "disk": str(self.disk),
            "disk_numbers": _numbers(self.disk),
            "shm": str(_SHARED_MEMORY),
            "processes": 700,
            "descriptors": 5_000,
            "tmp_bytes": 600 * 2**20,
            "shm_bytes": 128 * 2**20,
        }

    @property
    def environment(self) -> Mapping[str, str]:
        """Return what a careless orchestrator hands on to its commands."""
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "SECRET": self.secret,
            "SSH_AUTH_SOCK": str(self.folder / "agent.sock"),
        }

    def harmed_by(self, *folders: Path) -> frozenset[str]:
        """Return the names of the attacks that left a trace, here or in further `folders`."""
        places = (self.folder / "home", self.other, Path("/usr/local/bin"), Path("/etc"), *folders)
        found = [path.name for place in places for path in place.glob("fs.*")]
        found += (self.folder / "precious").read_text().split()
        found += [name for each in self.listening.values() for name in _told(each)]
        if self.orchestrator.poll() is not None:
            found.append("proc.kill")
        if _digest(self.objects) != self._objects_before:
            found.append("fs.shared_objects")
        return frozenset(found)


def lacking(root: Collection[str]) -> Mapping[str, str]:
    """Return why some attacks cannot work on this machine, whatever protects it."""
    missing = {}
    if os.geteuid() != 0:
        missing.update(dict.fromkeys(root, "only root can do it: run the tests as root"))
    elif not Path("/dev/loop-control").exists():
        disk = "there are no loop devices here: modprobe loop"
        missing.update(dict.fromkeys(("fs.raw_disk", "fs.device_node"), disk))
    if not _own_address():
        missing["net.internet"] = "there is no way into the internet from here"
    if not any(Path("/sys/fs/cgroup").glob("*/release_agent")):
        missing["kernel.release_agent"] = "there are no cgroups of the first version here"
    return missing


@contextlib.contextmanager
def victims(folder: Path, other: Path, objects: Path) -> Iterator[Victims]:
    """Make the victims below `folder`; `other` and `objects` are there already."""
    secret, mark = secrets.token_hex(16), f"mark-{secrets.token_hex(8)}"
    _lay_out(folder, other, secret, mark)
    with contextlib.ExitStack() as held:
        made = Victims(
            folder,
            secret,
            mark,
            held.enter_context(_orchestrator(folder, secret, mark)),
            {name: held.enter_context(each) for name, each in _listening(folder, mark).items()},
            other,
            objects,
            held.enter_context(_shared_by_key(secret)),
            held.enter_context(_loop_device(folder / "disk.img", secret)),
            _digest(objects),
        )
        try:
            yield made
        finally:
            for path in (_SHARED_MEMORY / mark, _TEMPORARY / mark):
                path.unlink()
            for place in ("/usr/local/bin", "/etc"):
                for trace in Path(place).glob("fs.write_*"):
                    trace.unlink()


def _lay_out(folder: Path, other: Path, secret: str, mark: str) -> None:
    (folder / "home" / ".ssh").mkdir(parents=True)
    (folder / "home" / ".ssh" / "id_ed25519").write_text(secret)
    (folder / "current" / "folder-of-the-orchestrator").mkdir(parents=True)
    (folder / "precious").touch()
    (other / "private.txt").write_text(secret)
    for path in (_SHARED_MEMORY / mark, _TEMPORARY / mark):
        path.touch()
    for path in (folder, *folder.rglob("*"), other):
        path.chmod(0o777)


@contextlib.contextmanager
def _orchestrator(folder: Path, secret: str, mark: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process with a secret in its environment and one more that it has open."""
    script = 'exec 8<"$0"; sleep 600; :'
    started = subprocess.Popen(
        ("sh", "-c", script, str(folder / "home" / ".ssh" / "id_ed25519"), mark),
        env={"PATH": "/usr/bin:/bin", "SECRET": secret},
        cwd=folder / "current",
        start_new_session=True,
    )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def _listening(folder: Path, mark: str) -> dict[str, socket.socket]:
    sockets = {
        "tcp": socket.create_server(("", 0), backlog=50),
        "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "abstract": socket.socket(socket.AF_UNIX),
        "engine": socket.socket(socket.AF_UNIX),
        "agent": socket.socket(socket.AF_UNIX),
    }
    sockets["udp"].bind(("127.0.0.1", 0))
    sockets["abstract"].bind(f"\0{mark}")
    for name in ("engine", "agent"):
        sockets[name].bind(str(folder / f"{name}.sock"))
        (folder / f"{name}.sock").chmod(0o777)
    for name in ("abstract", "engine", "agent"):
        sockets[name].listen(50)
    for each in sockets.values():
        each.setblocking(False)
    return sockets


def _told(listening: socket.socket) -> Iterator[str]:
    """Give what callers said, who have hung up meanwhile."""
    with contextlib.suppress(BlockingIOError):
        while True:
            if listening.type == socket.SOCK_DGRAM:
                yield listening.recv(100).decode()
                continue
            calling, _ = listening.accept()
            with calling:
                yield calling.recv(100).decode()


@contextlib.contextmanager
def _shared_by_key(secret: str) -> Iterator[int]:
    """Make shared memory, a queue and a semaphore for everybody; give their key."""
    key = int(secret[:7], 16)
    memory = _libc.shmget(key, 4096, _IPC_CREATE | 0o666)
    queue = _libc.msgget(key, _IPC_CREATE | 0o666)
    semaphores = _libc.semget(key, 1, _IPC_CREATE | 0o666)
    try:
        yield key
    finally:
        _libc.shmctl(memory, _IPC_REMOVE, None)
        _libc.msgctl(queue, _IPC_REMOVE, None)
        _libc.semctl(semaphores, 0, _IPC_REMOVE)


def _own_address() -> str:
    """Return the address by which this machine would go into the internet, if it can."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        address: str = asking.getsockname()[0]
        return address


@contextlib.contextmanager
def _loop_device(image: Path, secret: str) -> Iterator[Path | None]:
    """Make a disk of a file. The kernel takes it away when nobody has it open any more."""
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        yield None
        return
    image.write_bytes(secret.encode().ljust(1 << 16, b"\0"))
    with Path("/dev/loop-control").open("rb") as control, image.open("rb") as content:
        node = Path(f"/dev/loop{fcntl.ioctl(control, _LOOP_FREE)}")
        if not node.exists():
            os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(7, int(node.name[4:])))
        with node.open("rb") as device:
            configuration = bytearray(304)
            struct.pack_into("=I", configuration, 0, content.fileno())
            struct.pack_into("=I", configuration, 8 + 52, _READ_ONLY_AND_AUTOCLEAR)
            fcntl.ioctl(device, _LOOP_CONFIGURE, configuration)
            yield node


def _numbers(node: Path | None) -> tuple[int, int]:
    device = node.stat().st_rdev if node else 0
    return os.major(device), os.minor(device)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path} {path.lstat().st_mode}".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
