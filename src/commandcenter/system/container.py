"""Builds the container that a command runs in, for Docker and Podman, which take the same words.

The default image needs no registry: a skeleton of ours, in which the host's /usr is seen read-only.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import resource
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from commandcenter.core.devcontainer import Recipe
from commandcenter.core.errors import WorkspaceError
from commandcenter.core.workspace import TOOLS, WORK, Command, Hold, Resources
from commandcenter.system import beneath, process, sandbox, seccomp
from commandcenter.system.sandbox import Bind, Sandbox

KINDS = ("docker", "podman")
"""Best first: Docker limits also where Podman, without root, silently does not."""
LABEL = "commandcenter"
SECCOMP = "seccomp.json"
ANSWER_S = 60.0
PULL_S = 1800.0
BUILD_S = 3600.0

_NAME = "commandcenter"
_KEPT = (
    *("PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TMPDIR"),
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"),
    *("CONTAINER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF"),
)
"""Variables by which an engine's client finds its engine and its configuration."""
_SCRATCH: Mapping[str, int] = MappingProxyType({"/tmp": 512, "/var/tmp": 64})  # noqa: S108 - inside
_VOLUME_MIB = 64
_SHARED_MEMORY_MIB = 64
_PROCESSES = 10_000
"""Of one user in all containers; how many one container may have is limited for itself."""
_SHARES = 256
"""A quarter of what others get of a busy processor."""
_FOLDERS = (
    *("cc", "dev", "etc", "home", "home/agent", "opt", "opt/agents", "opt/commandcenter", "proc"),
    # Real, because an engine puts its init there.
    *("run", "run/cc", "sbin", "sys", "tmp", "usr", "var", "var/tmp", "vault", "vault/objects"),
    "work",
)
_UPPER = ("bin", "lib", "lib32", "lib64")


@dataclass(frozen=True)
class Engine:
    """An installed container engine."""

    kind: str
    """`docker` or `podman`."""
    program: Path
    environment: Mapping[str, str]
    version: str = ""

    @property
    def title(self) -> str:
        """Return its name and version for people."""
        return f"{self.kind.capitalize()} {self.version}"

    @property
    def remove(self) -> tuple[str, ...]:
        """Return the words that remove a container at once, whatever runs in it."""
        # Podman would wait for what ignores TERM.
        at_once = ("--time", "0") if self.kind == "podman" else ()
        return ("rm", "--force", "--volumes", *at_once)

    async def ask(
        self,
        *words: str,
        stdin: bytes = b"",
        timeout_s: float = ANSWER_S,
        on_output: Callable[[bytes], object] = lambda _: None,
    ) -> process.Finished:
        """Run its client; `on_output` is given what it prints, as it comes.

        Raises:
            WorkspaceError: it does not answer in time, or says far too much.
        """
        argv = (str(self.program), *words)
        try:
            return await process.run(
                argv,
                stdin=stdin,
                environment=self.environment,
                timeout_s=timeout_s,
                on_output=on_output,
            )
        except (process.OutOfTime, process.TooMuchOutput, FileNotFoundError) as error:
            raise WorkspaceError(f"{self.title} does not answer: {error}") from error

    async def demand(self, *words: str, stdin: bytes = b"", timeout_s: float = ANSWER_S) -> str:
        """Run its client and return what it printed.

        Raises:
            WorkspaceError: it failed, or does not answer in time.
        """
        done = await self.ask(*words, stdin=stdin, timeout_s=timeout_s)
        if done.exit_code:
            raise WorkspaceError(f"`{self.kind} {words[0]}` failed: {last_line(done.stderr)}")
        return done.stdout.decode().strip()


@dataclass(frozen=True)
class Image:
    """An image that the engine has."""

    id: str
    path: str = ""
    """Its own PATH."""
    volumes: tuple[str, ...] = ()
    """Folders in it that an engine would make writable, without a limit."""
    bare: bool = False
    """It is our skeleton, and needs the host's /usr."""
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """For every command in it."""


@dataclass(frozen=True)
class Name:
    """Names one container for good: of one command in one workspace of one data folder."""

    owner: str
    folder: str
    run: str
    labels: Mapping[str, str]

    def __str__(self) -> str:
        return f"{_NAME}-{self.owner}-{self.folder}-{self.run}"

    @staticmethod
    def place(text: str) -> tuple[str, str]:
        """Return the folder and the run that a container of this name is of."""
        _, _, folder, run = text.split("-", 3)
        return folder, run


async def find(environ: Mapping[str, str], wanted: str) -> tuple[list[Engine], list[str]]:
    """Return the engines that answer, best first, and what is wrong with the others."""
    found, problems = [], []
    for kind in KINDS if wanted == "auto" else (wanted,):
        program = shutil.which(kind, path=environ.get("PATH", os.defpath))
        if program is None:
            problems.append(f"There is no `{kind}`.")
            continue
        environment = {name: environ[name] for name in _KEPT if name in environ}
        engine = Engine(kind, Path(program), environment)
        try:
            found.append(await _answering(engine))
        except WorkspaceError as error:
            problems.append(error.message)
    return found, problems


async def _answering(engine: Engine) -> Engine:
    # Podman has no server, and Docker without one is of no use.
    side = "Client" if engine.kind == "podman" else "Server"
    version = await engine.demand("version", "--format", f"{{{{.{side}.Version}}}}")
    return Engine(engine.kind, engine.program, engine.environment, version)


async def names(engine: Engine, owner: str) -> tuple[str, ...]:
    """Return the names of all containers of a data folder.

    Raises:
        WorkspaceError: the engine does not answer.
    """
    label = f"label={LABEL}.instance={owner}"
    said = await engine.demand("ps", "--all", "--filter", label, "--format", "{{.Names}}")
    return tuple(said.split())


def user_id() -> int:
    """Return who a command is, inside and outside: never root itself."""
    return sandbox.HOST_UID if os.geteuid() == 0 else os.geteuid()


def write_fixed(folder: Path) -> None:
    """Put the system call filter where `create` finds it."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    sandbox.replace_file(folder / SECCOMP, seccomp.profile(platform.machine()))


def default_tag(owner: str) -> str:
    """Return the name of the image that needs no registry, of one data folder."""
    return _tag(owner, "host", hashlib.sha256(skeleton(user_id())).hexdigest()[:16])


def build_tag(owner: str, inputs: str) -> str:
    """Return the name of an image that is built for one data folder from these inputs."""
    return _tag(owner, "build", inputs)


def _tag(owner: str, made: str, inputs: str) -> str:
    # With its owner in the name, removing it takes it from no other data folder.
    return f"{_NAME}-{made}-{owner}:{inputs}"


async def images(engine: Engine, owner: str) -> dict[str, int]:
    """Return the names of all images that were made for a data folder, with their sizes in bytes.

    Raises:
        WorkspaceError: the engine does not answer.
    """
    said = await engine.demand("images", "--format", "{{.Repository}}:{{.Tag}}")
    # Podman says where an image without a registry is: at "localhost".
    tags = [each.removeprefix("localhost/") for each in said.split()]
    ours = tuple(_tag(owner, made, "") for made in ("host", "build"))
    return {tag: (await _about(engine, tag)).get("Size", 0) for tag in tags if tag.startswith(ours)}


async def remove_image(engine: Engine, tag: str) -> str:
    """Remove the name of an image, and the image if that was its last; return what is against it.

    Raises:
        WorkspaceError: the engine does not answer.
    """
    done = await engine.ask("rmi", tag)
    return last_line(done.stderr) if done.exit_code else ""


async def default_image(engine: Engine, owner: str) -> Image:
    """Return the image that needs no registry, made now if it is not there yet.

    Raises:
        WorkspaceError: the engine cannot make it.
    """
    archive, tag = skeleton(user_id()), default_tag(owner)
    if (await engine.ask("image", "inspect", tag)).exit_code:
        await engine.demand("import", "-", tag, stdin=archive)
    return Image((await _about(engine, tag))["Id"], bare=True)


async def named_image(engine: Engine, name: str) -> Image:
    """Return an image by its name, pulled if it is not there.

    Raises:
        WorkspaceError: there is none.
    """
    if (await engine.ask("image", "inspect", name)).exit_code:
        pulled = await engine.ask("pull", name, timeout_s=PULL_S)
        if pulled.exit_code:
            raise WorkspaceError(f"There is no image {name}: {last_line(pulled.stderr)}")
    about = await _about(engine, name)
    config = about.get("Config") or {}
    variables = dict(each.partition("=")[::2] for each in config.get("Env") or ())
    volumes = tuple(sorted(config.get("Volumes") or ()))
    return Image(about["Id"], variables.get("PATH", ""), volumes)


async def built_image(
    engine: Engine, tag: str, context: Path, recipe: Recipe, *, network: bool, log: Path
) -> Image:
    """Return the image that a recipe's Dockerfile makes, built unless there is one of this tag.

    Args:
        engine: builds it.
        tag: names what it is made of.
        context: a folder that is ours alone: the repository's files, of which the build sees some.
        recipe: says what to build.
        network: whether the build may use it.
        log: file for what the build prints, as it prints it.

    Raises:
        WorkspaceError: it cannot be built.
    """
    if (await engine.ask("image", "inspect", tag)).exit_code:
        _require_plain(context, recipe)
        words = _build(tag, context, recipe, network=network)
        with log.open("wb", buffering=0) as written:
            done = await engine.ask(*words, timeout_s=BUILD_S, on_output=written.write)
        if done.exit_code:
            said = last_line(done.stderr)
            raise WorkspaceError(f"The image of {recipe.dockerfile} was not built: {said} ({log})")
    return await named_image(engine, tag)


def _build(tag: str, context: Path, recipe: Recipe, *, network: bool) -> Iterator[str]:
    yield from ("build", "--force-rm", "--tag", tag, "--file", f"{context / recipe.dockerfile}")
    if not network:
        yield from ("--network", "none")
    for name, value in recipe.arguments.items():
        yield from ("--build-arg", f"{name}={value}")
    yield str(context / recipe.context)


def _require_plain(context: Path, recipe: Recipe) -> None:
    """Make sure that a client reads nothing of the host by way of a link in the repository."""
    top = os.open(context, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.close(beneath.open_beneath(top, os.fsencode(recipe.context), directory=True))
        os.close(beneath.open_beneath(top, os.fsencode(recipe.dockerfile)))
    except OSError as error:
        raise WorkspaceError(
            f"The image of {recipe.dockerfile} cannot be built: {os.fsdecode(error.filename)} is "
            f"not a plain file or folder of the repository ({error.strerror})."
        ) from error
    finally:
        os.close(top)
    for ignored in (*(context / recipe.context).glob(".*ignore"), *context.rglob("*.dockerignore")):
        if ignored.is_symlink():
            raise WorkspaceError(f"{ignored.relative_to(context)} is a link, which is refused.")


async def _about(engine: Engine, name: str) -> dict[str, Any]:
    try:
        (about,) = json.loads(await engine.demand("image", "inspect", name))
    except ValueError as error:
        raise WorkspaceError(f"{engine.title} does not say what image {name} is.") from error
    found: dict[str, Any] = about
    return found


def skeleton(user: int) -> bytes:
    """Return the default image as a tar archive, the same for the same user and machine."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in _FOLDERS:
            _add(tar, name, tarfile.DIRTYPE, mode=0o1777 if name.endswith("tmp") else 0o755)
        for name in _UPPER:
            if (Path("/") / name).is_symlink():
                _add(tar, name, tarfile.SYMTYPE, link=os.readlink(f"/{name}"))
        for name, text in sandbox.etc(user).items():
            _add(tar, f"etc/{name}", tarfile.REGTYPE, content=text.encode(), mode=0o644)
    return archive.getvalue()


def _add(
    tar: tarfile.TarFile,
    name: str,
    kind: bytes,
    *,
    content: bytes = b"",
    link: str = "",
    mode: int = 0o777,
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname, entry.size = kind, mode, link, len(content)
    tar.addfile(entry, io.BytesIO(content))


def spec(
    engine: Engine,
    image: Image,
    place: Sandbox,
    command: Command,
    name: Name,
    *,
    holds: Mapping[str, Hold],
    programs: Path,
    grace_s: float,
    lasting: bool = False,
) -> bytes:
    """Return the `spec.json` by which the shim runs `command` in a container.

    Args:
        engine: runs it.
        image: that it runs in.
        place: what it finds inside.
        command: to be run.
        name: of the container.
        holds: how the limits are kept, so far as that is known.
        programs: host folder with a link for each of the command's programs.
        grace_s: how long it may take to end after TERM.
        lasting: what it leaves is on the disk when its end is told.
    """
    content = {
        "container": {
            "program": [str(engine.program)],
            "environment": dict(engine.environment),
            "name": str(name),
            "create": list(_create(engine, image, place, command, name, holds, programs)),
            "remove": engine.remove,
        },
        "uid": sandbox.HOST_UID if os.geteuid() == 0 else None,
        "groups": [],
        "memory_is_hard": holds["memory"] is Hold.HARD,
        **sandbox.limits(place, command),
        "grace_s": grace_s,
        "lasting": lasting,
    }
    return json.dumps(content).encode()


async def remove(container: Mapping[str, Any]) -> None:
    """End and remove the container that the part `container` of a `spec.json` describes.

    Raises:
        WorkspaceError: the engine does not answer, so it may still be running.
    """
    argv = (*container["program"], *container["remove"], container["name"])
    try:
        done = await process.run(argv, environment=container["environment"], timeout_s=ANSWER_S)
    except (process.OutOfTime, FileNotFoundError) as error:
        raise WorkspaceError(f"Container {container['name']} cannot be ended: {error}") from error
    if done.exit_code and b"no such" not in done.stderr.lower():
        said = last_line(done.stderr)
        raise WorkspaceError(f"Container {container['name']} cannot be ended: {said}")


def _create(
    engine: Engine,
    image: Image,
    place: Sandbox,
    command: Command,
    name: Name,
    holds: Mapping[str, Hold],
    programs: Path,
) -> Iterator[str]:
    labels = {**name.labels, "instance": name.owner}
    first, *rest = (*_relay(image, command), *command.argv)
    yield from ("create", "--interactive", "--init", "--name", str(name))
    for label, value in labels.items():
        yield from ("--label", f"{LABEL}.{label}={value}")
    yield from _confinement(engine, place)
    yield from _scratch(image)
    yield from _limits(sandbox.possible(command.resources), holds)
    for bind in _binds(image, place, command, programs):
        yield from ("--mount", _mount(bind))
    variables = sandbox.variables(_path(image, place, command), command)
    for variable, value in {**image.environment, **variables}.items():
        yield from ("--env", f"{variable}={value}")
    yield from ("--workdir", WORK, "--entrypoint", first, image.id, *rest)


def _confinement(engine: Engine, place: Sandbox) -> Iterable[str]:
    user = user_id()
    own = tuple(_for_podman()) if engine.kind == "podman" else ()
    return (
        *("--user", f"{user}:{user}", "--hostname", "sandbox", "--network", "none"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--security-opt", f"seccomp={place.fixed / SECCOMP}"),
        *("--read-only", "--ipc", "private", "--log-driver", "none"),
        *own,
    )


def _for_podman() -> Iterator[str]:
    """Give the words without which Podman would do more than Docker."""
    yield from ("--read-only-tmpfs=false", "--http-proxy=false")
    # It would raise the limit, which not every root may do.
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    most = min(hard, _PROCESSES) if hard != resource.RLIM_INFINITY else _PROCESSES
    yield from ("--ulimit", f"nproc={most}:{most}")
    if os.geteuid():
        yield from ("--userns", "keep-id")


def _scratch(image: Image) -> Iterator[str]:
    yield from ("--shm-size", f"{_SHARED_MEMORY_MIB}m")
    for target, mebibytes in {**dict.fromkeys(image.volumes, _VOLUME_MIB), **_SCRATCH}.items():
        yield from ("--tmpfs", f"{target}:rw,nosuid,nodev,exec,size={mebibytes}m,mode=1777")


def _limits(resources: Resources, holds: Mapping[str, Hold]) -> Iterator[str]:
    size = min(sandbox.FILE_BYTES_MAX, resources.disk_bytes)
    yield from ("--oom-score-adj", "500", "--ulimit", "core=0", "--ulimit", "nofile=4096:4096")
    yield from ("--ulimit", f"fsize={size}:{size}")
    if holds["memory"] is Hold.HARD:
        yield from ("--memory", f"{resources.memory_bytes}")
        yield from ("--memory-swap", f"{resources.memory_bytes}")
    if holds["processes"] is Hold.HARD:
        yield from ("--pids-limit", f"{sandbox.PROCESSES_MAX}")
    if holds["cpus"] is Hold.HARD:
        yield from ("--cpu-shares", f"{_SHARES}")
        if resources.cpus is not None:
            yield from ("--cpus", f"{resources.cpus}")


def _binds(image: Image, place: Sandbox, command: Command, programs: Path) -> Iterator[Bind]:
    assert isinstance(place.checkout, Path)
    yield Bind(place.checkout, WORK, writable=True)
    yield from place.binds
    yield Bind(sandbox.INSIDE, TOOLS)
    if image.bare:
        yield from _host()
    if sandbox.relayed(command):
        yield Bind(place.gateway, sandbox.GATEWAY)
    if command.programs:
        yield Bind(programs, f"{sandbox.PROGRAMS}/bin")
    for number, program in enumerate(command.programs):
        yield Bind(program.resolve().parent, f"{sandbox.PROGRAMS}/{number}")


def _host() -> Iterator[Bind]:
    """Give what the skeleton needs of the host."""
    yield Bind(Path("/usr"), "/usr")
    for path in (Path("/") / name for name in _UPPER):
        if path.is_dir() and not path.is_symlink():
            yield Bind(path, str(path))
    for path in (Path("/etc") / name for name in sandbox.HOST_ETC):
        if path.exists():
            yield Bind(path, str(path))
    yield from sandbox.interpreter_binds()


def _mount(bind: Bind) -> str:
    """Phrase a mount as the line of a CSV file, as which it is read."""
    parts = ["type=bind", f"src={bind.source}", f"dst={bind.target}"]
    parts += [] if bind.writable else ["readonly"]
    return ",".join(map(_quoted, parts))


def _quoted(text: str) -> str:
    if "," not in text and '"' not in text:
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def _path(image: Image, place: Sandbox, command: Command) -> str:
    given = (f"{sandbox.PROGRAMS}/bin",) if command.programs else ()
    return ":".join((*given, *place.path, image.path or ":".join(sandbox.SYSTEM_PATH)))


def _relay(image: Image, command: Command) -> Sequence[str]:
    python, *rest = sandbox.relay(command) or ("",)
    if not rest:
        return ()
    # Another image has its own.
    return (python if image.bare else "python3", *rest)


def last_line(said: bytes) -> str:
    """Return the last line of what a client complained, which names the cause."""
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    return re.sub(r"^Error: ", "", lines[-1].strip()) if lines else "it says nothing"
