"""Workspaces on this machine: a plain checkout, and a Dagger session around every command."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from commandcenter.core.workspace import (
    CHANNEL,
    HOME,
    TOOLS,
    WORK,
    Command,
    Contents,
    Hold,
    Strength,
    WorkspaceKey,
)
from commandcenter.system import process, removal, sandbox, seccomp
from commandcenter.system.git import Git
from commandcenter.system.inside.remote import NO_NETWORK
from commandcenter.system.sandbox import Bubblewrap
from commandcenter.workspaces.dagger_orders import ALLOWANCE_S, Orders, Place, phrased
from commandcenter.workspaces.dagger_run import CONTROL, FIXED, SOCKET
from commandcenter.workspaces.folders import (
    Folders,
    FolderWorkspace,
    end_runs_gracefully,
    made,
    make_folders,
    owned,
)

IMAGE = "python:3.13-bookworm"
"""Has what we need inside: a shell, git and Python."""
CLIENT = "_EXPERIMENTAL_DAGGER_CLI_BIN"
SECRET_LEAST = 8
"""Characters that a value has at least for the engine to hide it."""
SOCKETS = "/dev/shm"  # noqa: S108 - a private one, for the runner and its client
_INSIDE = Path(sandbox.__file__).parent / "inside"
_USER = f"{sandbox.AGENT_ID}:{sandbox.AGENT_ID}"
PASSED_ON = ("DOCKER_", "CONTAINER_", "XDG_", "_EXPERIMENTAL_DAGGER_")
"""By which a client finds its engine. Not DAGGER_SESSION_*: who ends a session of somebody else?"""
_PROBE = Command(
    ("sh", "-c", f'echo it works > {WORK}/probe && [ "$(id -u)" = {sandbox.AGENT_ID} ]'),
    timeout_s=60,
)
_HINT = (
    "Install the Dagger CLI and a container engine that it can start its own with, put `dagger` on "
    f"the PATH or its path into {CLIENT}, and install the SDK with `pip install "
    "'commandcenter[dagger]'`."
)
_CLOSED = (
    "Let the engine allow user namespaces in its execs; or say `open_network = true` in [dagger], "
    "and commands reach whatever the engine's own network lets them."
)
_OPEN = "commands reach whatever the engine's own network lets them"
_CLOSE = "let the engine allow user namespaces in its execs, and no `open_network` in [dagger]"
_LIMITS = dict.fromkeys(("memory", "processes", "cpus", "disk"), Hold.NONE)


@dataclass(frozen=True)
class _Means:
    """What the probe found to work on this machine."""

    bubblewrap: Bubblewrap
    client: Path
    version: str


class Dagger(Folders[_Means]):
    """Workspaces below one folder of this machine, whose commands run in Dagger."""

    kind = "dagger"

    def __init__(
        self,
        root: Path,
        git: Git,
        environ: Mapping[str, str],
        *,
        image: str = "",
        open_network: bool = False,
        caches: tuple[str, ...] = (),
        extra_read_only: tuple[Path, ...] = (),
        extra_path: tuple[str, ...] = (),
        grace_s: float = sandbox.GRACE_S,
    ) -> None:
        """Keep everything below `root`; see `Folders`.

        Args:
            root: made when needed; nothing else may live there.
            git: makes the checkouts.
            environ: by which the client and its engine are found.
            image: of the commands; has a shell, git and Python 3.9 or newer.
            open_network: leave commands the network that the engine gives them.
            caches: folders inside that all commands share, in volumes of the engine.
            extra_read_only: host folders that every command finds at their own place, copied.
            extra_path: folders inside that come first on the PATH.
            grace_s: how long a command may take to end after TERM.
        """
        super().__init__(
            root, git, extra_read_only=extra_read_only, extra_path=extra_path, grace_s=grace_s
        )
        self._environ = environ
        self._image = image or IMAGE
        self._open_network = open_network
        self._caches = caches

    async def probe(self) -> Strength:
        """Say what this machine can do, by really running a command in a session."""
        means = await self._found()
        if isinstance(means, Strength):
            return means
        sandbox.write_fixed(self._root / "fixed")
        problem = await self._try(means)
        if problem is not None:
            return _unfit(f"{means.client}: {problem}")
        self._means = means
        return self._strength(means)

    async def look(self) -> Strength:
        """Say whether the programs are there; an engine is not started to look."""
        means = await self._found()
        return means if isinstance(means, Strength) else self._strength(means, tried=False)

    async def _found(self) -> _Means | Strength:
        """Return the means that may work here, or what is missing."""
        if not seccomp.supported(platform.machine()):
            return _unfit(f"There is no system call filter for {platform.machine()}.")
        client = self._client()
        if client is None:
            return _unfit("There is no `dagger`.")
        if importlib.util.find_spec("dagger") is None:
            return _unfit("The Dagger SDK is not installed.")
        found = await sandbox.find()
        if not found:
            return _unfit("There is no bubblewrap, with which the client is supervised.")
        return _Means(found[0], client, await _version(client))

    def _strength(self, means: _Means, *, tried: bool = True) -> Strength:
        described = f"{means.version}, image {self._image}, seccomp"
        strength = Strength(True, "dagger", described, limits=_LIMITS, tried=tried)
        if self._open_network:
            return replace(strength, open=(_OPEN,), hint=_CLOSE)
        return strength

    def _client(self) -> Path | None:
        """Return the CLI. Without one the SDK would download it."""
        named = self._environ.get(CLIENT)
        found = named or shutil.which("dagger", path=self._environ.get("PATH", os.defpath))
        return Path(found) if found and os.access(found, os.X_OK) else None

    def lacks(self, program: str) -> bool:
        """Say whether commands will surely not find this program: only the image knows."""
        return False

    async def still(self, key: WorkspaceKey) -> Contents | None:
        """Stop what runs there and return where its files lie; None when there are none."""
        # What a command has written comes back only if it is let to its end.
        await end_runs_gracefully(self._folder(key))
        return await super().still(key)

    async def put_aside(self, key: WorkspaceKey) -> None:
        """Stop what runs there and move it, as it is, to where it is neither opened nor swept."""
        await end_runs_gracefully(self._folder(key))
        await super().put_aside(key)

    async def _tidy(self) -> None:
        """Nothing outlives its shim: the client ends with it, and the session with the client."""

    async def _run_probe(self, means: _Means, folder: Path) -> str | None:
        make_folders(folder, WorkspaceKey("probe", "probe", 0))
        owned(folder / "tree")
        made(folder / "objects")
        phrase = self._phrase(means, folder, folder)
        workspace = FolderWorkspace(folder, Contents(None, None), phrase, self._keeps)
        done = await workspace.run("probe", _PROBE)
        said = done.stderr.decode(errors="replace").strip()
        return None if done.ok else done.problem or said or f"a trial command {done.ended.value}"

    async def _provide(
        self, key: WorkspaceKey, vault: Path, commit: str, *, lasting: bool
    ) -> FolderWorkspace:
        means = await self._probed()
        folder = await self._made_folder(key, lasting=lasting)
        tree = folder / "tree"
        if not tree.exists():
            await self._lay_out(folder, vault, commit)
        phrase = self._phrase(means, folder, vault, lasting=lasting)
        return FolderWorkspace(folder, Contents(None, tree), phrase, self._keeps, lasting=lasting)

    def _phrase(
        self, means: _Means, folder: Path, vault: Path, *, lasting: bool = False
    ) -> Callable[[str, Command], bytes]:
        def phrase(name: str, command: Command) -> bytes:
            run = folder / "runs" / name
            orders = self._orders(folder, vault, command)
            content = {
                "argv": self._argv(means, folder, run),
                "dagger": phrased(orders),
                "timeout_s": command.timeout_s + 2 * ALLOWANCE_S,
                "grace_s": self._grace_s + ALLOWANCE_S,
                "lasting": lasting,
                **unlimited(self._root),
            }
            return json.dumps(content).encode()

        return phrase

    def _argv(self, means: _Means, folder: Path, run: Path) -> list[str]:
        """Return the runner in a process namespace: with its first process ends all of it."""
        own = {name: self._environ[name] for name in ("PATH", "HOME") if name in self._environ}
        passed = {
            name: value for name, value in self._environ.items() if name.startswith(PASSED_ON)
        }
        told = {"DO_NOT_TRACK": "1", "DAGGER_NO_NAG": "1", CLIENT: str(means.client)}
        variables = {**own, **passed, **told}
        return [
            str(means.bubblewrap.executable),
            *("--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--die-with-parent"),
            *sandbox.SUPERVISION,
            # A socket's path may have 107 bytes: the session finds them at a short one.
            *("--tmpfs", SOCKETS, "--bind", str(folder / "control"), f"{SOCKETS}/control"),
            *("--bind", str(folder / "gateway"), f"{SOCKETS}/gateway"),
            "--clearenv",
            *(word for each in variables.items() for word in ("--setenv", *each)),
            # -O spares 0.3 s of every start, in which the SDK would wrap its own functions.
            *("--", sys.executable, "-I", "-O", "-W", "ignore"),
            *("-m", "commandcenter.workspaces.dagger_run", str(run)),
        ]

    def _orders(self, folder: Path, vault: Path, command: Command) -> Orders:
        made(folder / "control")
        control = Path(SOCKETS, "control", SOCKET)
        gateway = Path(SOCKETS, "gateway")
        sockets = [(control, f"{CONTROL}/{SOCKET}")]
        if command.model_access:
            sockets.append(_shared(gateway, sandbox.GATEWAY_SOCKET))
        if command.egress:
            sockets.append(_shared(gateway, sandbox.EGRESS_SOCKET))
        variables = self._variables(command)
        hidden = _secrets(command)
        copied = ((folder / "tree", WORK), (folder / "home", HOME), (folder / "channel", CHANNEL))
        return Orders(
            image=self._image,
            argv=(*_relay(command), *command.argv),
            environment={name: variables[name] for name in variables if name not in hidden},
            secrets=hidden,
            user=_USER,
            owner=sandbox.HOST_UID if os.geteuid() == 0 else None,
            copied=copied,
            mounted=(
                *((bind.source, bind.target) for bind in self._extra),
                (vault / "objects", sandbox.VAULT_OBJECTS),
                (_INSIDE, TOOLS),
                (self._root / "fixed", FIXED),
                *_programs(folder, command.programs),
            ),
            sockets=tuple(sockets),
            caches={path: self._volume(path) for path in self._caches},
            open_network=self._open_network,
            limits=sandbox.each_limits(command),
            control=control,
            timeout_s=command.timeout_s,
            idle_s=command.idle_s,
            output_bytes_max=command.output_bytes_max,
            grace_s=self._grace_s,
        )

    def _volume(self, path: str) -> str:
        """Return the name of the volume for a folder inside; other data folders have theirs."""
        return f"commandcenter-{self._owner}-{hashlib.sha256(path.encode()).hexdigest()[:12]}"

    def _variables(self, command: Command) -> dict[str, str]:
        first = (f"{sandbox.PROGRAMS}/bin",) if command.programs else ()
        return sandbox.variables(":".join((*first, *self._path, *sandbox.SYSTEM_PATH)), command)


def _secrets(command: Command) -> dict[str, str]:
    """Return the variables that the engine gets as secrets.

    Whatever equals one of them is made unreadable in what an exec prints, so that a short value
    would make the proof unreadable, too.
    """
    private = {name: command.environment[name] for name in command.private}
    return {name: value for name, value in private.items() if len(value) >= SECRET_LEAST}


def unlimited(root: Path) -> dict[str, object]:
    """Return the orders for a shim that only looks after our own runner."""
    return {
        "seccomp": str(root / "fixed" / "seccomp"),
        "uid": None,
        "stage": None,
        "limits": {"RLIMIT_CORE": 0},
        "processes_max": resource.getrlimit(resource.RLIMIT_NPROC)[1],
        "nice": sandbox.NICE,
        "groups": [],
        "disk": None,
        "told": True,
        "idle_s": None,
        "output_bytes_max": 2**62,
    }


def _relay(command: Command) -> tuple[str, ...]:
    pairs = sandbox.relayed(command)
    return ("python3", "-I", "-S", f"{TOOLS}/relay.py", *pairs, "--") if pairs else ()


def _shared(folder: Path, socket: str) -> Place:
    return (folder / socket, f"{sandbox.GATEWAY}/{socket}")


def _programs(folder: Path, named: Sequence[Path]) -> list[Place]:
    """Put every program on the PATH under the name that it has on the host."""
    links = made(folder / "programs")
    removal.empty(links)
    real = [program.resolve() for program in named]
    for number, (name, program) in enumerate(zip(named, real, strict=True)):
        (links / name.name).symlink_to(f"{sandbox.PROGRAMS}/{number}/{program.name}")
    folders = [(each.parent, f"{sandbox.PROGRAMS}/{number}") for number, each in enumerate(real)]
    return [*folders, (links, f"{sandbox.PROGRAMS}/bin")]


async def _version(client: Path) -> str:
    said = await process.run((str(client), "version"), timeout_s=30)
    return said.stdout.decode(errors="replace").split(" (")[0].strip() or "dagger"


def _unfit(problem: str) -> Strength:
    hint = _CLOSED if NO_NETWORK in problem else _HINT
    return Strength(False, "none", "none", (problem,), hint)
