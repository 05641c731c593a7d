"""Workspaces on this machine: a plain checkout, and a container around every command."""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from commandcenter.core import devcontainer
from commandcenter.core.devcontainer import Recipe
from commandcenter.core.errors import GitError, InputError, WorkspaceError
from commandcenter.core.workspace import (
    WORK,
    Command,
    Contents,
    Hold,
    MadeImage,
    Resources,
    Strength,
    WorkspaceKey,
)
from commandcenter.system import container, removal, sandbox, seccomp
from commandcenter.system.container import Engine, Image, Name
from commandcenter.system.git import Git
from commandcenter.system.sandbox import Sandbox
from commandcenter.workspaces.folders import Folders, FolderWorkspace, made, make_folders, owned
from commandcenter.workspaces.layout import lay_out
from commandcenter.workspaces.run_folder import RunFolder

DEFAULT = Recipe()
"""The image that needs no registry."""
_TRIAL = Resources(memory_bytes=256 * 2**20, cpus=0.5)
_FILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "memory": ("memory.max", "memory/memory.limit_in_bytes"),
        "processes": ("pids.max", "pids/pids.max"),
        "cpus": ("cpu.max", "cpu/cpu.cfs_quota_us", "cpu,cpuacct/cpu.cfs_quota_us"),
    }
)
"""Where a command finds its own limits, in the two versions of cgroups."""
_EXPECTED: Mapping[str, str] = MappingProxyType(
    {
        "memory": f"{_TRIAL.memory_bytes}",
        "processes": f"{sandbox.PROCESSES_MAX}",
        "cpus": "50000",
    }
)
_LOOK = "; ".join(
    f"for f in {' '.join(files)}; do [ -r $f ] && read -r v _ <$f && echo {limit} $v; done"
    for limit, files in _FILES.items()
)
"""In the shell's own words, since an image may have no other program."""
_WHO = "while read -r k v _; do [ $k = Uid: ] && echo uid $v; done </proc/self/status"
_ASKED = MappingProxyType(dict.fromkeys(_FILES, Hold.HARD))
"""Limits that an engine is asked for."""
_NOTHING = MappingProxyType(
    {"memory": Hold.WATCHED, "processes": Hold.NONE, "cpus": Hold.NONE},
)
"""What is left where it refuses them."""
_HINT = (
    "Install an engine, for example `apt install docker.io` or `apt install podman`, start it, and "
    "let this user use it: `docker version` or `podman info` has to work."
)


@dataclass(frozen=True)
class _Means:
    """What the probe found to work on this machine."""

    engine: Engine
    image: Image
    holds: Mapping[str, Hold]


class Container(Folders[_Means]):
    """Workspaces below one folder of this machine, whose commands run in containers."""

    kind = "container"

    def __init__(
        self,
        root: Path,
        git: Git,
        environ: Mapping[str, str],
        *,
        engine: str = "auto",
        recipe: Recipe = DEFAULT,
        devcontainer: str = "",
        build_network: bool = False,
        extra_read_only: tuple[Path, ...] = (),
        extra_path: tuple[str, ...] = (),
        grace_s: float = sandbox.GRACE_S,
    ) -> None:
        """Keep everything below `root`; see `Folders`.

        Args:
            root: made when needed; nothing else may live there.
            git: makes the checkouts.
            environ: by which the engine's client and its engine are found.
            engine: `docker`, `podman`, or `auto`: the first of them that works.
            recipe: what the image is made of; by default one that needs no registry.
            devcontainer: path of a devcontainer.json in the repository that says so instead.
            build_network: whether the building of an image may use the network.
            extra_read_only: host folders that every command finds at their own place.
            extra_path: folders inside that come first on the PATH.
            grace_s: how long a command may take to end after TERM.
        """
        super().__init__(
            root, git, extra_read_only=extra_read_only, extra_path=extra_path, grace_s=grace_s
        )
        self.agent_id = container.user_id()
        self._environ = environ
        self._engine = engine
        self._recipe = recipe
        self._devcontainer = devcontainer
        self._build_network = build_network
        self._building: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def probe(self) -> Strength:
        """Say what this machine can do, by really running a command in a container."""
        if not seccomp.supported(platform.machine()):
            return _unfit([f"There is no system call filter for {platform.machine()}."])
        container.write_fixed(self._root / "fixed")
        engines, problems = await container.find(self._environ, self._engine)
        for engine in engines:
            problem = await self._use(engine)
            if problem is None and self._means is not None:
                return _strength(self._means, problems)
            problems.append(f"{engine.title}: {problem}")
        return _unfit(problems, self._hint(engines))

    def _hint(self, engines: Sequence[Engine]) -> str:
        if engines and self._recipe.image:
            return (
                f"Check the name in [container], or get it: {engines[0].kind} pull "
                f"{self._recipe.image}"
            )
        return _HINT

    async def _use(self, engine: Engine) -> str | None:
        """Decide for an engine if it works; return why it does not."""
        try:
            image = await self._have_image(engine)
        except WorkspaceError as error:
            return error.message
        problem: str | None = None
        for holds in (_ASKED, _NOTHING):
            problem = await self._try(_Means(engine, image, holds))
            if problem is None:
                break
        return problem

    async def _have_image(self, engine: Engine) -> Image:
        if self._recipe.image:
            return await container.named_image(engine, self._recipe.image)
        return await container.default_image(engine, self._owner)

    async def _run_probe(self, means: _Means, folder: Path) -> str | None:
        make_folders(folder, WorkspaceKey("probe", "probe", 0))
        tree = owned(folder / "tree")
        made(folder / "objects")
        place = self._sandbox(folder, tree, vault=folder)
        phrase = self._phrase(means, place, folder, {})
        workspace = FolderWorkspace(folder, Contents(None, None), phrase, self._keeps)
        script = (
            f"echo it works >{WORK}/probe || exit 1; {_WHO}; cd /sys/fs/cgroup; {_LOOK}; exit 0"
        )
        done = await workspace.run(
            "probe", Command(("sh", "-c", script), timeout_s=60, resources=_TRIAL)
        )
        if not done.ok:
            said = done.stderr.decode(errors="replace").strip()
            return said or f"a trial command {done.ended.value}"
        found = dict(line.split() for line in done.stdout.decode().splitlines())
        if found.get("uid") != f"{self.agent_id}":
            return f"a trial command was another user than {self.agent_id}"
        self._means = replace(means, holds=_kept(found, means.holds))
        return None

    def lacks(self, program: str) -> bool:
        """Say whether commands will surely not find this program, a name or path, inside."""
        if self._recipe != DEFAULT or self._devcontainer:
            return False
        return sandbox.lacks(program, [bind.source for bind in self._extra], self._path)

    async def require(self, vault: Path, commit: str) -> None:
        """Make sure that the image of a commit's commands can be asked for."""
        try:
            recipe = await self._recipe_of(vault, commit)
            if recipe.dockerfile:
                await self._inputs(recipe, vault, commit)
        except WorkspaceError as error:
            hint = "mend it in the repository, or say in [container] what to use instead"
            raise InputError(error.message, hint=hint) from error

    async def _provide(
        self, key: WorkspaceKey, vault: Path, commit: str, *, lasting: bool
    ) -> FolderWorkspace:
        means = await self._probed()
        folder = await self._made_folder(key, lasting=lasting)
        image = await self._image_of(means, vault, commit)
        tree = folder / "tree"
        if not tree.exists():
            await self._lay_out(folder, vault, commit)
        place = self._sandbox(folder, tree, vault)
        labels = {
            "run": key.run,
            "task": key.task,
            "attempt": f"{key.attempt}",
            "name": key.purpose,
        }
        means = replace(means, image=image)
        phrase = self._phrase(means, place, folder, labels, lasting=lasting)
        return FolderWorkspace(folder, Contents(None, tree), phrase, self._keeps, lasting=lasting)

    async def _image_of(self, means: _Means, vault: Path, commit: str) -> Image:
        """Return the image for the commands in a checkout of `commit`."""
        recipe = await self._recipe_of(vault, commit)
        if recipe.dockerfile:
            image = await self._built(means.engine, recipe, vault, commit)
        elif recipe.image and self._devcontainer:
            image = await container.named_image(means.engine, recipe.image)
        else:
            image = means.image
        return replace(image, environment=recipe.environment)

    async def _recipe_of(self, vault: Path, commit: str) -> Recipe:
        if not self._devcontainer:
            return self._recipe
        await self._object(vault, commit, self._devcontainer)
        return devcontainer.read(
            await self._ask(vault, "cat-file", "blob", f"{commit}:{self._devcontainer}"),
            self._devcontainer,
        )

    async def _built(self, engine: Engine, recipe: Recipe, vault: Path, commit: str) -> Image:
        inputs = await self._inputs(recipe, vault, commit)
        name = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]
        tag = container.build_tag(self._owner, name)
        log = self._log(tag)
        async with self._building[tag]:
            log.touch()
            scratch = self._scratch()
            try:
                await lay_out(self._git, vault, commit, scratch / "tree", scratch / "git" / ".git")
                return await container.built_image(
                    engine,
                    tag,
                    scratch / "tree",
                    recipe,
                    network=self._build_network,
                    log=log,
                )
            finally:
                await asyncio.to_thread(removal.remove, scratch)

    def _log(self, tag: str) -> Path:
        """Return what the building of an image printed; its time is when it was last used."""
        return made(self._root / "builds") / f"{tag.rpartition(':')[2]}.log"

    async def images(self) -> tuple[MadeImage, ...]:
        """Return the images that were made here; see `core.workspace.Workspaces`."""
        if not self._has_used_an_engine():
            return ()
        engines, problems = await container.find(self._environ, self._engine)
        if not engines:
            raise WorkspaceError(" ".join(problems))
        held = {each.kind: await container.images(each, self._owner) for each in engines}
        found = [
            self._made_image(kind, tag, size)
            for kind, of in held.items()
            for tag, size in of.items()
        ]
        built = {self._log(each.tag) for each in found}
        logs = [each for each in made(self._root / "builds").glob("*.log") if each not in built]
        unbuilt = [container.build_tag(self._owner, each.stem) for each in logs]
        return (*found, *(self._made_image("", tag, 0) for tag in unbuilt))

    def _made_image(self, engine: str, tag: str, size_bytes: int) -> MadeImage:
        current = tag == container.default_tag(self._owner)
        try:
            log = self._log(tag).stat()
        except FileNotFoundError:
            return MadeImage(engine, tag, size_bytes, 0, current)
        used_ms = log.st_mtime_ns // 1_000_000
        return MadeImage(engine, tag, size_bytes + log.st_size, used_ms, current)

    async def remove_image(self, image: MadeImage) -> str:
        """Remove one; see `core.workspace.Workspaces`."""
        async with self._building[image.tag]:
            if self._made_image("", image.tag, 0).used_ms != image.used_ms:
                return "it was used meanwhile"
            engines, _ = await container.find(self._environ, image.engine or "auto")
            for engine in engines if image.engine else ():
                if problem := await container.remove_image(engine, image.tag):
                    return problem
            self._log(image.tag).unlink(missing_ok=True)
            return ""

    def _has_used_an_engine(self) -> bool:
        return (self._root / "fixed").is_dir()

    async def _inputs(self, recipe: Recipe, vault: Path, commit: str) -> list[object]:
        """Return what an image is made of, as JSON."""
        context = "" if recipe.context == "." else recipe.context
        return [
            await self._object(vault, commit, context),
            await self._object(vault, commit, recipe.dockerfile),
            sorted(recipe.arguments.items()),
        ]

    async def _object(self, vault: Path, commit: str, path: str) -> str:
        try:
            return (
                await self._git.run("rev-parse", "--verify", f"{commit}:{path}", git_dir=vault)
            ).text
        except GitError as error:
            raise WorkspaceError(
                f"There is no {path} in commit {commit[:12]}, which the image is to be made by."
            ) from error

    async def _ask(self, vault: Path, *words: str) -> str:
        try:
            return (await self._git.run(*words, git_dir=vault)).text
        except GitError as error:
            raise WorkspaceError(f"The image cannot be made: {error.message}") from error

    def _phrase(
        self,
        means: _Means,
        place: Sandbox,
        folder: Path,
        labels: Mapping[str, str],
        *,
        lasting: bool = False,
    ) -> Callable[[str, Command], bytes]:
        def phrase(name: str, command: Command) -> bytes:
            programs = made(folder / "programs")
            _link(programs, command.programs)
            return container.spec(
                means.engine,
                means.image,
                place,
                command,
                Name(self._owner, folder.name, name, labels),
                holds=means.holds,
                programs=programs,
                grace_s=self._grace_s,
                lasting=lasting,
            )

        return phrase

    async def _tidy(self) -> None:
        """Remove the containers of this data folder that no shim looks after."""
        # Whoever has never used an engine need not wait for one.
        if not self._has_used_an_engine():
            return
        engines, _ = await container.find(self._environ, self._engine)
        for engine in engines:
            with suppress(WorkspaceError):
                for name in await container.names(engine, self._owner):
                    await self._remove_unless_looked_after(engine, name)

    async def _remove_unless_looked_after(self, engine: Engine, name: str) -> None:
        folder, run = Name.place(name)
        places = [self._root / where / folder / "runs" / run for where in ("ws", "scratch")]
        if not any(RunFolder(place).looked_after for place in places):
            await engine.ask(*engine.remove, name)


def _link(programs: Path, named: Sequence[Path]) -> None:
    """Put every program into the folder, under the name that it has on the host."""
    for link in programs.iterdir():
        link.unlink()
    for number, program in enumerate(named):
        target = f"{sandbox.PROGRAMS}/{number}/{program.resolve().name}"
        (programs / program.name).symlink_to(target)


def _kept(found: Mapping[str, str], asked: Mapping[str, Hold]) -> Mapping[str, Hold]:
    """Return how the limits are kept that a command has found for itself."""
    return MappingProxyType(
        {
            limit: hold if found.get(limit) == _EXPECTED[limit] else _NOTHING[limit]
            for limit, hold in asked.items()
        }
    )


def _unfit(problems: Sequence[str], hint: str = _HINT) -> Strength:
    return Strength(False, "none", "none", tuple(problems), hint)


def _strength(means: _Means, problems: Sequence[str]) -> Strength:
    image = "the host's programs" if means.image.bare else f"image {means.image.id}"
    described = f"{means.engine.title}, uid {container.user_id()}, seccomp, {image}"
    limits = {**means.holds, "disk": Hold.WATCHED}
    return Strength(True, "container", described, tuple(problems), limits=limits)
