"""An isolated checkout that runs commands: its values and its interface."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

WORK = "/work"
"""Where the checkout is inside every workspace."""
HOME = "/home/agent"
"""Private home inside the workspace; kept for as long as the attempt lives."""
CHANNEL = "/cc"
"""Files between orchestrator and agent: prompt.md and input.json in, result.json out."""
RESULT = "result.json"
"""The file in `CHANNEL` by which a command answers."""
TOOLS = "/opt/commandcenter"
"""Read-only tools of ours inside the workspace."""
GATEWAY_PORT = 8899
"""Loopback port inside the workspace behind which the model gateway answers."""
EGRESS_PORT = 3128
"""Loopback port inside the workspace behind which the egress proxy answers."""


@dataclass(frozen=True)
class Resources:
    """What a command and all that it starts may use of the machine, together."""

    memory_bytes: int = 4 * 2**30
    """Never more than the machine has."""
    disk_bytes: int = 8 * 2**30
    """Of all that its workspace holds beyond the checkout: changes, home, results."""
    cpus: float | None = None
    """How many processors' time; None is no limit but that others go first."""


@dataclass(frozen=True)
class Command:
    """A program to run inside a workspace, with finite limits."""

    argv: tuple[str, ...]
    stdin: bytes = b""
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Added to the minimal environment that every workspace has."""
    private: frozenset[str] = frozenset()
    """Those of `environment` whose values are nobody else's to see: an engine's traces, say."""
    timeout_s: float = 3600.0
    idle_s: float | None = None
    """Longest silence on stdout and stderr together; None is no limit."""
    output_bytes_max: int = 64 * 2**20
    """Most bytes of stdout and stderr together that are kept; more ends the command."""
    model_access: bool = False
    """Whether the model gateway's socket is there."""
    egress: bool = False
    """Whether the egress proxy's socket is there: the only way to any host."""
    files: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    """Files put into `CHANNEL` before the start: plain names to content."""
    programs: tuple[Path, ...] = ()
    """Host executables that are put read-only on the PATH, with their folder."""
    resources: Resources = field(default_factory=Resources)


class Ended(StrEnum):
    """Why a command's process tree is gone."""

    EXITED = "exited"
    TIMED_OUT = "timed_out"
    IDLE = "idle"
    OUTPUT_LIMIT = "output_limit"
    MEMORY_LIMIT = "memory_limit"
    DISK_LIMIT = "disk_limit"
    STOPPED = "stopped"
    """We were asked to stop it."""
    LOST = "lost"
    """It, or its supervisor, died with the machine or was killed from outside."""


@dataclass(frozen=True)
class Completed:
    """How a command ended. A failing command is a result, not an error."""

    ended: Ended
    exit_code: int | None
    """Exit status; minus the signal number when a signal ended it; None when not `EXITED`."""
    stdout: bytes
    """The last 4 MiB at most."""
    stderr: bytes
    """The last 64 KiB at most."""
    duration_s: float
    output_bytes: int
    log: Path
    """The folder with the whole `stdout` and `stderr`."""
    problem: str = ""
    """Which limit of its resources it broke: a sentence for people and agents."""

    @property
    def ok(self) -> bool:
        """Say whether the command ran to its end and exited with 0."""
        return self.ended is Ended.EXITED and self.exit_code == 0


@dataclass(frozen=True)
class WorkspaceKey:
    """Names one workspace: a second `open` with the same key finds the first one's work."""

    run: str
    task: str
    attempt: int
    purpose: str = "work"
    """`work`, `check-base`, `check-1`, `review-1`, `merge`: lower-case words and dashes."""

    def __str__(self) -> str:
        return f"{self.run}/{self.task}/{self.attempt}/{self.purpose}"

    @staticmethod
    def parse(text: str) -> WorkspaceKey | None:
        """Return the key that reads like this; None for any other text."""
        run, _, rest = text.partition("/")
        task, *numbered = rest.rsplit("/", 2)
        if len(numbered) != 2 or not run or not task or not numbered[0].isdecimal():
            return None
        return WorkspaceKey(run, task, int(numbered[0]), numbered[1])


def folder_name(key: str) -> str:
    """Return the name of the folder that a workspace of this key lies in."""
    # Short, because of the socket in it: the kernel takes 107 bytes at most for its path.
    return hashlib.sha256(key.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Contents:
    """Where a workspace's files lie on the host, for the capture. Hostile: never run git there."""

    upper: Path | None
    """Overlay upper directory (only what changed), or None when `tree` is a plain checkout."""
    tree: Path | None
    """A plain checkout, or None when `upper` is given."""
    base: Path | None = None
    """With `upper`: the read-only lower tree, as checked out from the base commit."""


class Hold(StrEnum):
    """How a limit is kept."""

    HARD = "hard"
    """By the kernel: it cannot be passed."""
    WATCHED = "watched"
    """By looking, several times a second: what passes it is ended."""
    NONE = "none"


@dataclass(frozen=True)
class Found:
    """A workspace that is there."""

    path: Path
    key: str
    """Empty when nothing there tells it: its ledger does, by the folder's name."""


@dataclass(frozen=True)
class Laid:
    """A base that is there: a commit's files, which workspaces share read-only."""

    path: Path
    used_by: frozenset[str]
    """Names of the folders of workspaces that lie on it, also of those that were put aside."""


@dataclass(frozen=True)
class MadeImage:
    """An image of a container engine that was made for commands, and is there."""

    engine: str
    """`docker` or `podman`; empty when only the record of a build is there."""
    tag: str
    size_bytes: int
    """What the engine says of it, which other images may share, and the record of its build."""
    used_ms: int
    """When a workspace was last opened with it, in ms since 1970; 0 when nobody knows."""
    current: bool
    """Commands without an image of their own run in it from now on."""

    @property
    def name(self) -> str:
        """Return what people call it."""
        return f"{self.engine} {self.tag}" if self.engine else f"log of a build, {self.tag}"


@dataclass(frozen=True)
class Strength:
    """How well this machine can isolate a workspace: probed, and shown."""

    ok: bool
    rung: str
    """Workspace rung: `overlay` or `checkout`."""
    sandbox: str
    """For example `bubblewrap 0.11.0, uid 64000, seccomp`."""
    problems: tuple[str, ...] = ()
    hint: str = ""
    limits: Mapping[str, Hold] = field(default_factory=lambda: MappingProxyType({}))
    """How the limits on `memory`, `processes`, `cpus` and `disk` are kept."""
    tried: bool = True
    """Whether a command was really run to find out."""
    open: tuple[str, ...] = ()
    """What commands can do that a sandbox should not let them, in words; empty is as it should."""

    @property
    def degraded(self) -> str:
        """Return what a run here must be told of its isolation; empty when all is well."""
        if not self.open:
            return ""
        return f"The isolation is degraded ({self.sandbox}): {'; '.join(self.open)}."


class Workspace(Protocol):
    """One isolated checkout. At most one command runs in it at a time."""

    @property
    def gateway(self) -> Path:
        """Host folder in which commands with model access find the gateway as `model.sock`.

        Those with egress find the proxy there as `egress.sock`. The sockets must let everybody
        connect: the command runs as another user.
        """

    @property
    def pristine(self) -> bool:
        """Whether no command has run in it yet."""

    @property
    def degraded(self) -> str:
        """What a run must be told of its isolation: see `Strength.degraded`."""

    async def run(
        self,
        name: str,
        command: Command,
        *,
        on_line: Callable[[bytes], None] | None = None,
    ) -> Completed:
        """Run to the end, or kill the process tree at a limit.

        `name` makes it idempotent: the same name attaches to the run that is still alive, or
        returns the recorded end of the one that finished. A run that was `STOPPED` or `LOST`
        starts again.

        Raises:
            WorkspaceError: it could not be started. A failing command is not an error.
        """

    def result(self, name: str) -> bytes | None:
        """Return `CHANNEL/RESULT` as the run of this name left it (256 KiB at most), if it did.

        It stays that run's, whatever runs afterwards.
        """

    def contents(self) -> Contents:
        """Return where the files lie. Only valid while no command runs."""


class Workspaces(Protocol):
    """A kind of workspace: `local`, `container` or `dagger`."""

    kind: str

    async def probe(self) -> Strength:
        """Say what this machine can do, by really trying it once."""

    async def look(self) -> Strength:
        """Say the same for whoever only looks: what costs much to start is not tried."""

    def lacks(self, program: str) -> bool:
        """Say whether commands will surely not find this program, a name or path, inside."""

    async def require(self, vault: Path, commit: str) -> None:
        """Make sure that what the files of a commit say about its workspaces can be done.

        Raises:
            InputError: it is refused, or missing.
        """

    def open(
        self, key: WorkspaceKey, *, vault: Path, commit: str, keep: bool = False
    ) -> AbstractAsyncContextManager[Workspace]:
        """Give a checkout of `commit` (an object of the bare repository `vault`).

        On leaving, the workspace is removed, unless `keep` (then `remove` does it later) or the
        service is stopping. Idempotent by key. What a finished command left in a kept workspace
        survives a power cut.

        Raises:
            WorkspaceError: a power cut ended what ran in a kept workspace, see `cut_off`; one that
                is not kept is made anew.
        """

    async def cut_off(self, key: WorkspaceKey) -> bool:
        """Say whether a power cut ended what ran there: its files may be half on the disk."""

    async def remove(self, key: WorkspaceKey) -> None:
        """Stop what runs there and remove it; removing nothing is fine."""

    async def sweep(self, alive: frozenset[str]) -> tuple[str, ...]:
        """Remove workspaces whose key (as a string) is not in `alive`; return their keys.

        What a crash left of the making and removing of others is removed, too.
        """

    async def existing(self) -> tuple[Found, ...]:
        """Return the workspaces that are there."""

    async def still(self, key: WorkspaceKey) -> Contents | None:
        """Stop what runs there and return where its files lie; None when there are none."""

    async def put_aside(self, key: WorkspaceKey) -> None:
        """Stop what runs there and move it, as it is, to where it is neither opened nor swept."""

    async def aside(self, key: WorkspaceKey) -> Contents | None:
        """Return where the files lie of a workspace that was put aside, if there is one."""

    async def remove_aside(self, key: WorkspaceKey) -> None:
        """Remove a workspace that was put aside; removing nothing is fine."""

    async def bases(self) -> tuple[Laid, ...]:
        """Return the bases that are there."""

    async def remove_base(self, path: Path) -> bool:
        """Remove a base unless a workspace lies on it, also one that is just being opened."""

    async def images(self) -> tuple[MadeImage, ...]:
        """Return the images that were made for commands here.

        Raises:
            WorkspaceError: the engine that holds them does not answer.
        """

    async def remove_image(self, image: MadeImage) -> str:
        """Remove one, unless it was used again meanwhile; return why it stays, or nothing."""
