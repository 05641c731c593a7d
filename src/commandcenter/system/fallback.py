"""Builds what confines a command where bubblewrap is refused: there, it shares much with the host.

A command finds nothing at the places that it has elsewhere: what is `/work` in a sandbox is a
folder of the host, and so on. A word of the command line, or a variable, that is such a place, or a
path below one, becomes the host's path. Nothing else is changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import pwd
import socket
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from commandcenter.core.workspace import EGRESS_PORT, GATEWAY_PORT, WORK, Command
from commandcenter.system import controllers, kept, landlock, sandbox, seccomp
from commandcenter.system.sandbox import Group, Sandbox

GROUP = sandbox.HOST_UID
"""Whoever is in it may enter our folders, but not read them: the commands are, and nobody else."""
FIRST_UID, LAST_UID = GROUP + 1, 65_533
"""Of these, every workspace has one of its own when the service runs as root."""
TMP = "/tmp"  # noqa: S108 - inside

_SEEN = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/proc")
_ETC = (*sandbox.HOST_ETC, "passwd", "group", "hosts", "nsswitch.conf")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_UNSHARED = "seccomp-unshared"


@dataclass(frozen=True)
class Place:
    """One workspace's folders on the host, and who its commands are there."""

    checkout: Path
    sandbox: Sandbox
    programs: Path
    """A folder for links to the programs that a command brings."""
    uid: int | None
    """None: whoever the service is."""

    def there(self, word: str) -> str:
        """Return a word with the host's path, where it is a place or a path below one."""
        places = {WORK: self.checkout, **{each.target: each.source for each in self.sandbox.binds}}
        for place, path in places.items():
            if word == place or word.startswith(f"{place}/"):
                return f"{path}{word[len(place) :]}"
        return word


def spec(
    at: Place,
    command: Command,
    group: Group,
    *,
    grace_s: float = sandbox.GRACE_S,
    lasting: bool = False,
) -> bytes:
    """Return the `spec.json` by which the shim runs `command`; see `sandbox.spec`."""
    resources = sandbox.possible(command.resources)
    content = {
        "argv": [at.there(word) for word in command.argv],
        "environment": _environment(at, command),
        "cwd": str(at.checkout),
        "seen": _seen(at, command),
        "owned": [str(path) for path in at.sandbox.written],
        "devices": _DEVICES,
        "carried": _carried(at.sandbox, command),
        "seccomp": str(at.sandbox.fixed / "seccomp"),
        "unshared": str(at.sandbox.fixed / _UNSHARED),
        "uid": at.uid,
        "groups_of_user": [GROUP],
        "limits": {
            "RLIMIT_CORE": 0,
            "RLIMIT_NOFILE": 4096,
            "RLIMIT_NPROC": sandbox.PROCESSES_MAX + (_processes() if at.uid is None else 0),
            "RLIMIT_FSIZE": min(sandbox.FILE_BYTES_MAX, resources.disk_bytes),
        },
        "nice": sandbox.NICE,
        "groups": controllers.phrase(
            group.controllers, group.name, resources, sandbox.PROCESSES_MAX
        ),
        "memory_is_hard": any(each.name == "memory" for each in group.controllers),
        **sandbox.limits(at.sandbox, command),
        "grace_s": grace_s,
        "lasting": lasting,
    }
    return json.dumps(content).encode()


def write_fixed(folder: Path) -> None:
    """Put the filters of system calls where `spec` finds them."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    machine = platform.machine()
    sandbox.replace_file(folder / "seccomp", seccomp.program(machine))
    sandbox.replace_file(folder / _UNSHARED, seccomp.unshared_program(machine))


def lacking() -> str:
    """Return what this machine lacks for it; empty when nothing."""
    if open_at := _leads_out():
        return (
            f"{open_at} lets what comes from the loopback address leave this machine: set it to 0."
        )
    return too_old(landlock.version(), as_root=os.geteuid() == 0)


def too_old(known: int, *, as_root: bool) -> str:
    """Return why this version of Landlock will not do; empty when it does."""
    needed = landlock.PORTS_SINCE if as_root else landlock.SIGNALS_SINCE
    if known >= needed:
        return ""
    since = "6.7" if needed == landlock.PORTS_SINCE else "6.12"
    found = f"version {known}" if known else "none"
    return f"Landlock of version {needed} (Linux {since}) is needed, and here is {found}."


def open_ways() -> tuple[str, ...]:
    """Return what commands can do that a sandbox should not let them."""
    others = "names, sizes and times of the host's files and command lines of its processes"
    ways = (f"agents see {others}",)
    if os.geteuid() == 0:
        return ways
    return (*ways, "agents can change modes and times of the files of the service's own user")


def _leads_out() -> str:
    """Return the switch by which the kernel lets the loopback address call other machines."""
    switches = Path("/proc/sys/net/ipv4/conf").glob("*/route_localnet")
    return next((f"{each}" for each in switches if each.read_text().strip() == "1"), "")


@contextlib.contextmanager
def trial(folder: Path) -> Iterator[dict[str, object]]:
    """Give what a confined command must not reach, made below the new `folder`."""
    folder.mkdir(mode=0o755)
    secret, name = folder / "secret", f"commandcenter-{uuid.uuid4().hex}"
    secret.write_text("secret")
    secret.chmod(0o666)  # it is not its mode that protects it
    with socket.create_server((kept.LOOPBACK, 0)) as port, socket.socket(socket.AF_UNIX) as named:
        named.bind(f"\0{name}")
        named.listen()
        yield {
            "secret": str(secret),
            "folder": str(folder),
            "port": port.getsockname()[1],
            "name": name,
        }


def out_of_reach(data_dir: Path) -> str:
    """Return why commands of other users could not get there; empty when they can."""
    if os.geteuid() != 0:
        return ""
    closed = [each for each in data_dir.absolute().parents if not each.stat().st_mode & 0o001]
    if not closed:
        return ""
    return (
        f"Only its owner may enter {closed[-1]}, and commands are other users: "
        "set `data_dir` to a folder elsewhere, such as /var/lib/commandcenter."
    )


def let_in(folder: Path, group: int = GROUP) -> None:
    """Let commands of other users enter a folder of root's, to reach what is theirs below it."""
    status = folder.stat()
    if status.st_uid == 0 and not status.st_mode & 0o001:
        os.chown(folder, -1, group)
        folder.chmod(status.st_mode & 0o7777 | 0o010)


def link(programs: Path, named: Sequence[Path]) -> None:
    """Put every program into the folder, under the name that it has on the host."""
    for old in programs.iterdir():
        old.unlink()
    for program in named:
        (programs / program.name).symlink_to(program.resolve())


def _seen(at: Place, command: Command) -> list[str]:
    ours = (
        *(bind.source for bind in (*at.sandbox.binds, *sandbox.interpreter_binds())),
        *((at.programs,) if command.programs else ()),
        *(program.resolve().parent for program in command.programs),
    )
    own = set(at.sandbox.written)
    return [
        *_SEEN,
        *(f"/etc/{name}" for name in _ETC),
        *(str(path) for path in ours if path not in own),
    ]


def _carried(found: Sandbox, command: Command) -> dict[str, str]:
    """Return the sockets that a command reaches by a port, by the port that it has elsewhere."""
    model = {f"{GATEWAY_PORT}": sandbox.GATEWAY_SOCKET} if command.model_access else {}
    egress = {f"{EGRESS_PORT}": sandbox.EGRESS_SOCKET} if command.egress else {}
    return {port: str(found.gateway / name) for port, name in {**model, **egress}.items()}


def _environment(at: Place, command: Command) -> dict[str, str]:
    programs = (str(at.programs),) if command.programs else ()
    path = (*programs, *map(at.there, at.sandbox.path), *sandbox.SYSTEM_PATH)
    known = sandbox.variables(":".join(path), command)
    # It may be there, and may not be read; git would take that for an error.
    own = {"USER": _user(at.uid), "LOGNAME": _user(at.uid), "GIT_CONFIG_NOSYSTEM": "1"}
    words = {**known, **own, **command.environment}
    return {name: at.there(text) for name, text in words.items()}


def _user(uid: int | None) -> str:
    """Return a user's name; one that this machine does not know is called by its number."""
    number = os.geteuid() if uid is None else uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"{number}"


def _processes() -> int:
    """Return how many processes this user has, since they count together."""
    own = os.geteuid()

    def threads(entry: Path) -> int:
        try:
            return len(list((entry / "task").iterdir())) if entry.stat().st_uid == own else 0
        except OSError:
            return 0

    return sum(map(threads, Path("/proc").glob("[0-9]*")))


def free_uid(taken: Iterable[int], start: int) -> int:
    """Return a user for one more workspace, who is none of those `taken`.

    `start` differs between data folders, so that two on one machine hardly meet.
    """
    used = set(taken)
    count = LAST_UID - FIRST_UID + 1
    numbers = (FIRST_UID + (start + step) % count for step in range(count))
    return next(number for number in numbers if number not in used)
