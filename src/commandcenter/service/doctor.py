"""Looks whether this machine has what runs need, before they start."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import sqlalchemy as sa

from commandcenter import plugins
from commandcenter.agents import shell
from commandcenter.core.agent import Profile
from commandcenter.core.disk import Space, amount, floor_bytes
from commandcenter.core.egress import REGISTRIES
from commandcenter.core.errors import CommandCenterError, InputError
from commandcenter.core.registries import Registries
from commandcenter.core.run import Finding, Health
from commandcenter.core.workspace import Hold, Strength, Workspaces
from commandcenter.service import webhooks
from commandcenter.service.clock import CLOCK, Clock, read_clock
from commandcenter.service.durability import DURABILITY, durability
from commandcenter.service.git_settings import GIT_SETTINGS, git_settings
from commandcenter.service.port import port_finding
from commandcenter.service.programs import NoVersion, version
from commandcenter.settings import NO_REVIEW, Settings
from commandcenter.stages.job import Options
from commandcenter.store import views
from commandcenter.store.condition import condition, rescue
from commandcenter.store.database import Database
from commandcenter.system.git import VERSION_MIN, Git

_HOLDS: Mapping[Hold, str] = MappingProxyType(
    {
        Hold.HARD: "kept by the kernel",
        Hold.WATCHED: "watched several times a second",
        Hold.NONE: "not limited",
    }
)
HOSTS_SHOWN = 6
"""How many of the hosts that may be reached are named."""
_NAME = "no package manager of this machine says where it gets packages: name hosts instead"
_PRIVATE = "one in a private network is refused unless [egress.addresses] says where it is"
_BETTER = "install or allow bubblewrap, which isolates whole, or use mode container"
_UNTRIED = "; not tried, which would start its engine: a run that asks for it tries it"
_LIMIT_ENGINE = "limit the engine itself, where it runs"
LOG_BYTES_MAX = 256 * 2**20
"""A write-ahead log of this size is one that somebody keeps from being taken in."""
_MEND_FIRST = "mend what else is missing first"
_LONG_LOG = "it grows while another program reads {path}: end that program"
_SIGNED_IN = "; your own sign-in of Claude Code stays out of sandboxes"
_MAKE_HARD = "run the service as root, or where it may make cgroups, so that the kernel keeps them"


class Doctor:
    """Prerequisites of modes, agents and the machine."""

    def __init__(
        self,
        settings: Settings,
        git: Git,
        workspaces: Mapping[str, Workspaces],
        program: Callable[[str], Path | None],
        database: Database,
        registries: Callable[[], Awaitable[Registries]],
        forges: Callable[[], Awaitable[Sequence[Finding]]],
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or Clock(read_clock())
        self._settings = settings
        self._database = database
        self._git = git
        self._workspaces = workspaces
        self._program = program
        self._registries = registries
        self._forges = forges
        self._strengths: dict[str, Strength] = {}
        self._looking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def require(self, mode: str, options: Options) -> Strength:
        """Make sure that a run of this mode with these agents can work; say how it is isolated.

        Raises:
            InputError: something is missing; says what, and how to get it.
        """
        await self._git.check_version()
        strength = await self._strength(mode)
        if not strength.ok:
            problems = " ".join(strength.problems)
            raise InputError(
                f"Commands cannot be isolated in mode {mode}. {problems}", hint=strength.hint
            )
        for profile in options.used:
            self._require_agent(profile, mode)
        return strength

    async def _strength(self, mode: str, *, trying: bool = True) -> Strength:
        # One look serves all who ask meanwhile: it can cost seconds.
        async with self._looking[mode]:
            known = self._strengths.get(mode)
            if known is None or not known.ok or (trying and not known.tried):
                kind = self._workspaces[mode]
                self._strengths[mode] = await (kind.probe() if trying else kind.look())
            return self._strengths[mode]

    async def _seen(self, mode: str) -> Strength:
        """Return what a mode can do; one that nobody asked for is not started to find out."""
        return await self._strength(mode, trying=mode == self._settings.mode)

    def _require_agent(self, profile: Profile, mode: str) -> None:
        finding = self._agent(profile, mode)
        if finding.health is Health.MISSING:
            raise InputError(f"Agent profile {finding.name}: {finding.detail}", hint=finding.hint)

    async def findings(self) -> Sequence[Finding]:
        """Return what is and is not in order, one finding a prerequisite."""
        return (
            await _guarded("git", self._git_finding),
            await _guarded(GIT_SETTINGS, self._git_settings),
            *[await _guarded(f"mode {mode}", self._mode(mode)) for mode in self._workspaces],
            *[await _guarded(f"limits {mode}", self._limits(mode)) for mode in self._workspaces],
            *[await self._wanted(profile) for profile in self._profiles()],
            *await self._forges(),
            webhooks.finding(self._settings.forge, self._settings.environ),
            await _guarded("network", self._network),
            self._disk(),
            await _guarded(DURABILITY, self._durability),
            await _guarded("database", self._database_finding),
            await _guarded(CLOCK, self._clock_finding),
            await asyncio.to_thread(port_finding, self._settings),
        )

    async def _git_finding(self) -> Finding:
        version = ".".join(map(str, await self._git.version()))
        await self._git.check_version()
        least = ".".join(map(str, VERSION_MIN))
        return Finding("git", Health.OK, f"{version} (at least {least} is needed)")

    async def _git_settings(self) -> Finding:
        return await git_settings(self._git, self._program)

    def _mode(self, mode: str) -> Callable[[], Awaitable[Finding]]:
        async def look() -> Finding:
            strength = await self._seen(mode)
            if not strength.ok:
                detail = " ".join(strength.problems)
                return Finding(f"mode {mode}", self._missing(mode), detail, strength.hint)
            detail = f"{strength.rung}, {strength.sandbox}{'' if strength.tried else _UNTRIED}"
            if strength.open:
                ways = "; ".join((detail, *strength.open))
                return Finding(f"mode {mode}", Health.DEGRADED, ways, strength.hint or _BETTER)
            health = Health.OK if strength.rung != "checkout" else Health.DEGRADED
            hint = "" if health is Health.OK else "workspaces are full copies, which is slower"
            return Finding(f"mode {mode}", health, detail, hint)

        return look

    def _missing(self, mode: str) -> Health:
        """Return how bad it is when a mode does not work: no failure if nobody asked for it."""
        return Health.MISSING if mode == self._settings.mode else Health.DEGRADED

    def _limits(self, mode: str) -> Callable[[], Awaitable[Finding]]:
        async def look() -> Finding:
            strength = await self._seen(mode)
            if not strength.ok:
                missing = self._missing(mode)
                detail = "there are none without the mode"
                return Finding(f"limits {mode}", missing, detail, _MEND_FIRST)
            detail = ", ".join(f"{name} {_HOLDS[hold]}" for name, hold in strength.limits.items())
            if strength.limits.get("memory") is Hold.HARD:
                return Finding(f"limits {mode}", Health.OK, detail)
            if strength.limits.get("memory") is Hold.NONE:
                return Finding(f"limits {mode}", Health.DEGRADED, detail, _LIMIT_ENGINE)
            detail += "; a burst can pass a limit for a moment"
            return Finding(f"limits {mode}", Health.DEGRADED, detail, _MAKE_HARD)

        return look

    def _profiles(self) -> list[Profile]:
        settings = self._settings
        names = dict.fromkeys((settings.work, settings.review, *settings.roles.values()))
        used = [self._settings.profile(name) for name in names if name != NO_REVIEW]
        return [*used, *(each for each in self._settings.profiles if each not in used)]

    async def _wanted(self, profile: Profile) -> Finding:
        """Return a finding that is no failure for an agent that nobody asked for."""
        finding = await self._versioned(profile, self._agent(profile, self._settings.mode))
        provider = self._settings.provider(profile.provider)
        credential = provider.credential_variable(self._settings.environ)
        asked = profile.name in self._settings.configured or credential
        if finding.health is not Health.MISSING or asked:
            return finding
        detail = f"{finding.detail}; nobody configured this agent"
        return replace(finding, health=Health.DEGRADED, detail=detail)

    async def _versioned(self, profile: Profile, finding: Finding) -> Finding:
        """Return a finding with the version of the agent's program, if it has one that works."""
        try:
            program = self._program(plugins.agent(profile.agent).program)
        except InputError:
            return finding
        if program is None:
            return finding
        try:
            number = await version(program, self._settings.environ)
        except NoVersion as error:
            if finding.health is Health.MISSING:
                return finding
            hint = f"install `{program.name}` again"
            return Finding(finding.name, Health.DEGRADED, error.message, hint)
        return replace(finding, detail=f"{program.name} {number}; {finding.detail}")

    def _agent(self, profile: Profile, mode: str) -> Finding:
        name = f"`{profile.name}`"
        try:
            plugin = plugins.agent(profile.agent)
        except InputError as error:
            return Finding(name, Health.MISSING, error.message, error.hint)
        for program in filter(None, (plugin.program, *profile.programs)):
            if self._program(program) is None:
                hint = (
                    f"install `{program}` so that it is on the PATH, or use another agent: any "
                    "command with --agent-command, or another profile with --agent"
                )
                return Finding(name, Health.MISSING, f"there is no program `{program}`", hint)
        if profile.agent == "shell":
            return self._command(name, profile, mode)
        if plugin.program == "claude":
            return self._credential(name, profile)
        return Finding(name, Health.OK, f"agent {profile.agent}")

    def _command(self, name: str, profile: Profile, mode: str) -> Finding:
        if not profile.command:
            hint = f"set `command` in [profiles.{profile.name}]"
            return Finding(name, Health.MISSING, "the profile has no command", hint)
        program = shell.program(profile.command)
        given = {Path(each).name for each in profile.programs}
        workspaces = self._workspaces.get(mode)
        if "PATH" in profile.environment or program in given or workspaces is None:
            return Finding(name, Health.OK, f"agent {profile.agent}")
        if program and workspaces.lacks(program):
            detail = f"its command starts `{program}`, which is not there in mode {mode}"
            return Finding(name, Health.MISSING, detail, self._put_inside(program))
        return Finding(name, Health.OK, f"agent {profile.agent}")

    def _put_inside(self, program: str) -> str:
        found = self._program(program)
        if found is None:
            return "check its spelling, or install it below /usr"
        return (
            "the sandbox has the system's programs only; to put yours inside, configure a profile: "
            f'agent = "shell", command = "{found.name} …", programs = ["{found}"]'
        )

    def _credential(self, name: str, profile: Profile) -> Finding:
        provider = self._settings.provider(profile.provider)
        if variable := provider.credential_variable(self._settings.environ):
            where = f" for {provider.name}" if profile.provider else ""
            return Finding(name, Health.OK, f"agent claude, credential{where} from ${variable}")
        hint = f"set {provider.variables}; to try without a model, use --agent-command"
        if not profile.provider and _is_signed_in(self._settings.environ):
            hint += _SIGNED_IN
        return Finding(name, Health.MISSING, "no model credential is set", hint)

    async def _durability(self) -> Finding:
        settings = self._settings
        return await durability(settings.data_dir, self._git, self._database, settings.environ)

    async def _database_finding(self) -> Finding:
        path = self._settings.data_dir / "commandcenter.sqlite"
        found = await asyncio.to_thread(condition, path)
        log = f"its write-ahead log {amount(found.log_bytes)}"
        detail = f"SQLite {sqlite3.sqlite_version}; {amount(found.size_bytes)}, {log}"
        if found.damage:
            hint = rescue(path)
            return Finding("database", Health.MISSING, f"{detail}; damaged: {found.damage}", hint)
        if found.log_bytes > LOG_BYTES_MAX:
            return Finding("database", Health.DEGRADED, detail, _LONG_LOG.format(path=path))
        whole = "no damage" if found.checked else "too large to look through for damage"
        return Finding("database", Health.OK, f"{detail}; {whole}")

    async def _clock_finding(self) -> Finding:
        newest_ms = await self._database.transact(views.newest_event_ms)
        return self._clock.finding(self._settings.data_dir, newest_ms)

    async def _network(self) -> Finding:
        policy, profiles = self._settings.egress, self._settings.profiles
        named = [*map(str, policy.rules), *([REGISTRIES] if policy.registries else [])]
        own = [profile.name for profile in profiles if profile.egress is not None]
        besides = f"; profiles of their own egress: {', '.join(own)}" if own else ""
        reached = f"agents and checks reach {_shown(named) or 'nothing'}{besides}"
        if not policy.registries and not any(REGISTRIES in (p.egress or ()) for p in profiles):
            return Finding("network", Health.OK, reached)
        found = await self._registries()
        detail = f"{reached}; {REGISTRIES} stands for {_told(found)}"
        if not found.rules:
            hint = "; ".join((*found.problems, _NAME))
            return Finding("network", Health.DEGRADED, detail, hint)
        health = Health.DEGRADED if found.problems else Health.OK
        return Finding("network", health, f"{detail}; {_PRIVATE}", "; ".join(found.problems))

    def _disk(self) -> Finding:
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        space = disk_of(self._settings.data_dir)()
        floor = floor_bytes(space, self._settings.disk_free_min_bytes)
        free = f"{amount(space.free_bytes)} free at {space.path}"
        detail = f"{free}; no task begins with less than {amount(floor)}"
        if space.free_bytes < floor:
            hint = "free some: commandcenter gc; or move data_dir"
            return Finding("disk", Health.DEGRADED, detail, hint)
        return Finding("disk", Health.OK, detail)


def _shown(hosts: Sequence[str]) -> str:
    more = f" and {len(hosts) - HOSTS_SHOWN} more hosts" if len(hosts) > HOSTS_SHOWN else ""
    return f"{', '.join(hosts[:HOSTS_SHOWN])}{more}"


def _told(registries: Registries) -> str:
    told = [(each.tool, [*map(str, each.rules)]) for each in registries.told if each.rules]
    return ", ".join(f"{_shown(hosts)} (from {tool})" for tool, hosts in told) or "nothing"


async def _guarded(name: str, look: Callable[[], Awaitable[Finding]]) -> Finding:
    try:
        return await look()
    except CommandCenterError as error:
        return Finding(name, Health.MISSING, error.message, error.hint)
    except (OSError, sa.exc.DatabaseError) as error:
        # What it is looked at with is not in order: that has a finding of its own.
        cause = error.orig if isinstance(error, sa.exc.DatabaseError) else error
        return Finding(name, Health.MISSING, f"it cannot be looked at: {cause}", _MEND_FIRST)


def _is_signed_in(environ: Mapping[str, str]) -> bool:
    """Say whether the user has signed in to Claude Code, for which no conversation is begun."""
    folder = environ.get("CLAUDE_CONFIG_DIR") or f"{environ.get('HOME', '')}/.claude"
    return (Path(folder) / ".credentials.json").is_file()


def disk_of(folder: Path) -> Callable[[], Space]:
    """Return a function that reads how much room the file system of a folder has."""

    def read() -> Space:
        usage = shutil.disk_usage(folder)
        return Space(folder, usage.free, usage.total)

    return read


def find_program(settings: Settings) -> Callable[[str], Path | None]:
    """Return a function that finds a host program by its name or path."""
    search = settings.environ.get("PATH", os.defpath)

    def find(name: str) -> Path | None:
        found = shutil.which(name, path=search)
        if found is None and Path(name).is_absolute() and Path(name).is_file():
            # A script that is run by its interpreter need not be executable.
            return Path(name)
        return Path(found) if found else None

    return find
