"""Asks the package managers of this machine what they are configured for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from commandcenter.core import registries
from commandcenter.core.errors import WorldError
from commandcenter.core.registries import Registries, Told
from commandcenter.system import process

ANSWER_S = 30.0
OUTPUT_BYTES_MAX = 2**20
_QUIET: Mapping[str, str] = {"npm_config_update_notifier": "false", "npm_config_logs_max": "0"}
"""So that npm neither asks the network for its own news nor leaves a log."""
_HAS_PIP = "import importlib.util; print(importlib.util.find_spec('pip') is not None)"
_STANDARD = (
    "from pip._internal.models.index import PyPI; print(PyPI.netloc, PyPI.file_storage_domain)"
)
_CARGO_FILES = ("config.toml", "config")
"""The last that is there counts, as for cargo."""


class PackageManagers:
    """The package managers of this machine, each asked once, when somebody first wants to know."""

    def __init__(
        self,
        environ: Mapping[str, str],
        program: Callable[[str], Path | None],
        *,
        answer_s: float = ANSWER_S,
    ) -> None:
        """Ask in this environment.

        Args:
            environ: the service's environment, which configures them, too.
            program: finds a program of the host by name.
            answer_s: how long each answer may take.
        """
        self._environ = environ
        self._program = program
        self._answer_s = answer_s
        self._asking = asyncio.Lock()
        self._found: Registries | None = None

    async def registries(self) -> Registries:
        """Return what they say; one that fails says nothing but that."""
        async with self._asking:
            if self._found is None:
                self._found = await self._asked()
            return self._found

    async def _asked(self) -> Registries:
        told = await asyncio.gather(
            self._python(),
            self._of("npm", "npm", self._npm),
            self._of("go", "go", self._go),
            self._of("apt", "apt-get", self._apt),
            self._of("cargo", "cargo", self._cargo),
        )
        return Registries(tuple(each for some in told for each in some))

    async def _of(
        self, tool: str, name: str, ask: Callable[[Path], Awaitable[Told]]
    ) -> tuple[Told, ...]:
        """Return what a tool says; nothing, if it is not there."""
        program = self._program(name)
        if program is None:
            return ()
        try:
            return (await ask(program),)
        except WorldError as error:
            return (Told(tool, problems=(error.message,)),)

    async def _python(self) -> tuple[Told, ...]:
        """Return what pip says, and uv, which has variables only and pip's index otherwise."""
        listed, standard, failed = "", "", ""
        try:
            listed, standard = await self._pip()
        except WorldError as error:
            failed = error.message
        pip = registries.pip(self._environ, listed, standard)
        pip = replace(pip, problems=(*filter(None, (failed,)), *pip.problems))
        return (pip, registries.uv(self._environ, pip, standard))

    async def _pip(self) -> tuple[str, str]:
        """Return what pip is configured for, and what is its own; empty if it is not there."""
        python = self._program("python3")
        if python is None or not await self._has_pip(python):
            return "", ""
        listed = await self._said(python, "-m", "pip", "config", "list")
        return listed, f"{await self._said(python, '-c', _STANDARD)}\n"

    async def _has_pip(self, python: Path) -> bool:
        return (await self._said(python, "-c", _HAS_PIP)).strip() != "False"

    async def _npm(self, npm: Path) -> Told:
        listed = await self._said(npm, "config", "list")
        # It does not get a registry with a password, which it lists without.
        named = registries.npm_index(listed)
        registry = named or await self._said(npm, "config", "get", "registry")
        return registries.npm(registry, listed)

    async def _go(self, go: Path) -> Told:
        return registries.go(await self._said(go, "env", "GOPROXY", "GOSUMDB"))

    async def _apt(self, apt: Path) -> Told:
        return registries.apt(await self._said(apt, "indextargets", "--format", "$(SITE)"))

    async def _cargo(self, _: Path) -> Told:
        environ = self._environ
        home = Path(environ.get("CARGO_HOME") or Path(environ.get("HOME", "/"), ".cargo"))
        configured = ""
        for path in filter(Path.is_file, (home / name for name in _CARGO_FILES)):
            try:
                configured = await asyncio.to_thread(path.read_text, "utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise WorldError(f"{path} cannot be read.") from error
        return registries.cargo(environ, configured)

    async def _said(self, program: Path, *arguments: str) -> str:
        """Return what a tool prints.

        Raises:
            WorldError: it fails, takes too long or says too much.
        """
        name = program.name
        try:
            done = await process.run(
                (str(program), *arguments),
                environment={**self._environ, **_QUIET},
                timeout_s=self._answer_s,
                output_bytes_max=OUTPUT_BYTES_MAX,
            )
        except OSError as error:
            raise WorldError(f"`{name}` cannot be started: {error.strerror}.") from error
        if done.exit_code:
            raise WorldError(f"`{name}` failed with exit code {done.exit_code}.")
        return done.stdout.decode(errors="replace")
