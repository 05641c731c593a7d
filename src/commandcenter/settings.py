"""Settings: one TOML file and the environment, parsed once into frozen values."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import platformdirs

from commandcenter.core.agent import Limits, Profile, Role
from commandcenter.core.egress import Policy, policy
from commandcenter.core.errors import InputError
from commandcenter.core.external_checks import Demand
from commandcenter.core.merge_queue import Strategy
from commandcenter.core.plan import ReviewPolicy, TaskLimits
from commandcenter.core.plan.notation import (
    ATTEMPTS_MAX,
    NONE,
    PARSERS,
    REVIEWS_MAX,
    Fault,
    limits_text,
    review_text,
    roles_text,
)
from commandcenter.core.prices import Price
from commandcenter.core.workspace import HOME, Resources

PORT_MAX = 65_535
FORGE_KINDS = ("github", "gitea", "gitlab")
"""The forges that need a token."""
FORGES = ("auto", "hub", *FORGE_KINDS)
ENGINES = ("auto", "docker", "podman")
ISOLATIONS = ("required", "best-effort")
MEMORY_MIN_BYTES = 64 * 2**20
"""With less, not even git would run."""
DISK_MIN_BYTES = 16 * 2**20
NO_REVIEW = NONE
"""Name of the review role's profile when there is to be no review."""

_OTHER_ROLES = (Role.JUDGE, Role.ROUTE, Role.PLAN, Role.MANAGE)


@dataclass(frozen=True)
class ProjectCheck:
    """A check of every task, besides those that its plan names."""

    name: str
    command: str
    """`{files}` stands for the changed files that match, quoted for the shell."""
    files: str = ""
    """Glob over changed paths; without a match the check is left out. Empty matches always."""
    timeout_s: float = 1800.0


@dataclass(frozen=True)
class Budget:
    """Finite bounds of one task."""

    tries_max: int = 3
    """Agent runs whose result the checks, the capture or the merge refused, or that failed."""
    review_rounds_max: int = 3
    stops_max: int = 8
    """Runs that the world ended (rate limit, overload, crash); they use up no try."""
    usd: float | None = None
    """What a task may cost."""


@dataclass(frozen=True)
class Provider:
    """Where a model lives. Its credential stays in the service's environment."""

    name: str
    base_url: str
    api_key_variable: str
    """Empty: it takes no such credential."""
    token_variable: str
    """Holds what `claude setup-token` prints; empty: it takes no such credential."""

    @property
    def variables(self) -> str:
        """Return the names of the variables that can hold its credential, for people."""
        token = f"{self.token_variable} to what `claude setup-token` prints"
        named = (self.api_key_variable, token if self.token_variable else "")
        return ", or ".join(filter(None, named)) or "`api_key_variable` in its table"

    def credential_variable(self, environ: Mapping[str, str]) -> str:
        """Return the variable that holds its credential; empty when none does."""
        named = (self.api_key_variable, self.token_variable)
        return next((each for each in named if each and environ.get(each)), "")


@dataclass(frozen=True)
class ForgeAccount:
    """Where a forge's API is, and which variable holds the token for it."""

    api: str
    token_variable: str


@dataclass(frozen=True)
class AppAccount:
    """The GitHub App that the service acts as."""

    id: str
    """Its client id or number."""
    private_key_file: Path | None = None
    """None: the key is in the variable."""
    private_key_variable: str = "GITHUB_APP_PRIVATE_KEY"
    installation: int = 0
    """0: the one that has the repository is asked for."""


def _accounts() -> Mapping[str, ForgeAccount]:
    return MappingProxyType(
        {
            "github": ForgeAccount("https://api.github.com", "GITHUB_TOKEN"),
            "gitea": ForgeAccount("https://codeberg.org/api/v1", "GITEA_TOKEN"),
            "gitlab": ForgeAccount("https://gitlab.com/api/v4", "GITLAB_TOKEN"),
        }
    )


@dataclass(frozen=True)
class ForgeSettings:
    """Which forge holds the pull requests."""

    kind: str = "auto"
    """`auto` (the forge whose host the origin names, else the hub), `hub`, or one of the forges."""
    accounts: Mapping[str, ForgeAccount] = field(default_factory=_accounts)
    """By kind; of each kind there is one, since there is one token."""
    app: AppAccount | None = None
    """Goes before every token for GitHub."""
    keyring: str = ""
    """The service under which the system's keyring has tokens; empty: it is not asked."""
    poll_s: float = 2.0
    """How often a forge is asked about what waits for it."""
    webhook_secret_file: Path | None = None
    """None: the secret is in the variable; without any, webhooks are not received."""
    webhook_secret_variable: str = "COMMANDCENTER_WEBHOOK_SECRET"  # noqa: S105 - its name
    labels: tuple[str, ...] = ()
    """What every pull request is labelled with."""
    draft: bool = False
    """Whether a pull request is a draft until it is reviewed."""


@dataclass(frozen=True)
class ContainerSettings:
    """What mode `container` runs its commands in."""

    engine: str = "auto"
    """`docker`, `podman`, or `auto`: the first of them that works."""
    image: str = ""
    dockerfile: str = ""
    """Path in the repository."""
    devcontainer: str = ""
    """Path in the repository. Without any of the three: the host's programs, and no registry."""
    build_network: bool = False
    """Whether the building of an image may use the network."""


@dataclass(frozen=True)
class MergeQueue:
    """How changes that wait together are landed."""

    lanes: int = 1
    """How many prefixes of a chain are checked at the same time."""
    changes_max: int = 100
    """How many changes are chained at most; 1 lands them one by one."""
    strategy: Strategy = Strategy.MERGE
    """How a change lands whose plan does not say it."""
    external_checks: Demand = Demand.REQUIRED
    """Which checks of others a change waits for before it lands."""
    external_checks_wait_s: float = 6 * 3600.0
    """For how long."""


@dataclass(frozen=True)
class DaggerSettings:
    """What mode `dagger` runs its commands in."""

    image: str = ""
    open_network: bool = False
    """Whether commands have the network that the engine gives them."""
    caches: tuple[str, ...] = ()
    """Folders inside that all commands share, in volumes of the engine."""


@dataclass(frozen=True)
class Keep:
    """For how long `gc` leaves alone what it could free."""

    logs_days: int = 30
    """Logs of a run, after its end."""
    salvage_days: int = 30
    """Salvaged work that the target holds by now."""
    images_days: int = 30
    """An image that was built for commands, after it was last used."""


@dataclass(frozen=True)
class Settings:
    """Everything that can be configured, with sensible defaults."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8001
    workers: int = 4
    """Agent runs at one time."""
    mode: str = "local"
    poll_s: float = 1.0
    """How often a queue looks for work that it was not told of."""
    budget: Budget = field(default_factory=Budget)
    profiles: tuple[Profile, ...] = (Profile("claude", "claude"),)
    work: str = "claude"
    review: str = "claude"
    roles: Mapping[Role, str] = field(default_factory=lambda: MappingProxyType({}))
    """Profiles of the other roles; without one, the work role's or (to judge) the review role's."""
    pattern: str = ""
    """How agents work together on a task whose plan does not say it, as a plan would."""
    handoff: str = ""
    """Whom an agent may pass its work on to, as a plan would say it."""
    checks: tuple[ProjectCheck, ...] = ()
    providers: tuple[Provider, ...] = (
        Provider(
            "anthropic",
            "https://api.anthropic.com",
            "ANTHROPIC_API_KEY",
            "CLAUDE_CODE_OAUTH_TOKEN",
        ),
    )
    prices: tuple[Price, ...] = ()
    """What models cost; the first that fits counts. Of others, what the agent says."""
    forge: ForgeSettings = field(default_factory=ForgeSettings)
    container: ContainerSettings = field(default_factory=ContainerSettings)
    dagger: DaggerSettings = field(default_factory=DaggerSettings)
    isolation: str = "required"
    """`required`, or `best-effort`: mode `local` may use its weaker fallback, and says so."""
    merge_queue: MergeQueue = field(default_factory=MergeQueue)
    read_only: tuple[Path, ...] = ()
    """Host folders that every workspace sees read-only, at the same place."""
    path: tuple[str, ...] = ()
    """Added to PATH inside every workspace."""
    configured: frozenset[str] = frozenset()
    """Names of the profiles that the file speaks of: somebody wants them."""
    disk_free_min_bytes: int | None = None
    """Room that the data folder's disk must have for a new try; None: see `core.disk`."""
    keep: Keep = field(default_factory=Keep)
    egress: Policy = field(default_factory=Policy)
    """What commands may reach of the network, unless their profile has an egress of its own."""
    resources: Resources = field(default_factory=Resources)
    """What every command in a workspace, with all that it starts, may use of the machine."""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The service's environment; secrets are read from it by name, and never printed."""

    @property
    def words(self) -> Mapping[str, str]:
        """Return what is set for every task that nothing else is said of, as a plan would say it.

        By the name of a label of the plan format: `pattern`, `roles`, `review` …; what is
        `built_in` goes without saying.
        """
        roles = {Role.WORK: self.work, Role.REVIEW: self.review, **self.roles}
        named = {r: n for r, n in roles.items() if n not in (NO_REVIEW, _USUAL_ROLES.get(r))}
        rounds = 0 if self.review == NO_REVIEW else self.budget.review_rounds_max
        tries = self.budget.tries_max
        limits = TaskLimits(None if tries == Budget.tries_max else tries, None, self.budget.usd)
        words = {
            "pattern": self.pattern,
            "handoff": self.handoff,
            "review": ""
            if rounds == Budget.review_rounds_max
            else review_text(ReviewPolicy(rounds)),
            "roles": roles_text(named),
            "limits": limits_text(limits),
        }
        return MappingProxyType({label: text for label, text in words.items() if text})

    def profile(self, name: str) -> Profile:
        """Return the profile of this name.

        Raises:
            InputError: there is none.
        """
        for profile in self.profiles:
            if profile.name == name:
                return profile
        names = [profile.name for profile in self.profiles]
        raise InputError(
            f"There is no agent profile `{name}`.",
            hint=_did_you_mean(name, names) or f"profiles are: {', '.join(names)}",
        )

    def provider(self, name: str) -> Provider:
        """Return the provider of this name; of none, the first.

        Raises:
            InputError: there is none.
        """
        names = [provider.name for provider in self.providers]
        for provider in self.providers:
            if provider.name == (name or names[0]):
                return provider
        raise InputError(
            f"There is no model provider `{name}`.",
            hint=_did_you_mean(name, names) or f"providers are: {', '.join(names)}",
        )


_USUAL_ROLES: Mapping[Role, str] = MappingProxyType(
    {Role.WORK: Settings.work, Role.REVIEW: Settings.review}
)


def built_in() -> Mapping[str, str]:
    """Return the words of settings in which nothing is set."""
    return MappingProxyType(
        {
            "review": review_text(ReviewPolicy(Budget.review_rounds_max)),
            "roles": roles_text(_USUAL_ROLES),
            "limits": limits_text(TaskLimits(attempts=Budget.tries_max)),
        }
    )


def load(environ: Mapping[str, str], *, config: Path | None = None) -> Settings:
    """Return the settings of this environment and configuration file.

    Without `config`, `$COMMANDCENTER_CONFIG` or the user's configuration folder is read if it
    is there.

    Raises:
        InputError: the file cannot be read, or says something unknown.
    """
    path = config or configured_path(environ)
    named = config is not None or environ.get("COMMANDCENTER_CONFIG")
    table = _read(path) if named or path.is_file() else {}
    settings = _from_table(table, path, environ)
    return _with_environment(settings, environ)


def configured_path(environ: Mapping[str, str]) -> Path:
    """Return the path of the configuration file of this environment, whether it is there or not."""
    if named := environ.get("COMMANDCENTER_CONFIG"):
        return Path(named)
    return Path(platformdirs.user_config_dir("commandcenter")) / "config.toml"


def _read(path: Path) -> dict[str, Any]:  # Any: TOML, validated below
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The configuration {path} cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: {error}.", hint="mend the TOML syntax there") from error


def _forge(table: _Table, defaults: ForgeSettings) -> ForgeSettings:
    accounts = {
        kind: ForgeAccount(
            _api(table, f"{kind}_api", account.api),
            table.text(f"{kind}_token_variable", account.token_variable),
        )
        for kind, account in defaults.accounts.items()
    }
    labels = tuple(table.texts("labels"))
    for label in labels:
        if not label.strip() or "," in label:
            raise InputError(f"{table.where}: `labels` has `{label}`, which is no label.")
    return ForgeSettings(
        table.choice("kind", FORGES),
        accounts,
        _app(table),
        table.text("keyring"),
        table.number("poll_s", defaults.poll_s),
        table.path("webhook_secret_file"),
        table.text("webhook_secret_variable", defaults.webhook_secret_variable),
        labels,
        table.flag("draft"),
    )


def _app(table: _Table) -> AppAccount | None:
    account = AppAccount(
        table.text("github_app_id"),
        table.path("github_app_private_key_file"),
        table.text("github_app_private_key_variable", AppAccount.private_key_variable),
        table.count("github_app_installation_id", 0, least=0),
    )
    if not account.id and (account.private_key_file or account.installation):
        raise InputError(
            f"{table.where}: a GitHub App needs `github_app_id`.",
            hint='its settings page has it, as "Client ID"',
        )
    return account if account.id else None


def _api(table: _Table, name: str, default: str) -> str:
    """Return the address of a forge's API, which gets a token: nobody may listen on the way."""
    address = table.text(name, default)
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    safe = parts.scheme == "https" or host in ("127.0.0.1", "::1", "localhost") if host else False
    if not safe or parts.username or parts.query or parts.fragment:
        raise InputError(
            f"{table.where}: `{name}` must be an https:// address without a user or query."
        )
    return address


def _from_table(table: dict[str, Any], path: Path, environ: Mapping[str, str]) -> Settings:
    top = _Table(table, str(path))
    server, roles, limits = top.table("server"), top.table("roles"), top.table("limits")
    plan = top.table("defaults")
    container, dagger = top.table("container"), top.table("dagger")
    queue = top.table("merge_queue")
    sandbox, forge, keep = top.table("sandbox"), top.table("forge"), top.table("keep")
    egress = top.table("egress")
    defaults = Settings(data_dir=_default_data_dir(environ))
    settings = replace(
        defaults,
        environ=environ,
        data_dir=Path(top.text("data_dir", str(defaults.data_dir))).expanduser(),
        workers=top.count("workers", defaults.workers),
        mode=top.text("mode", defaults.mode),
        host=server.text("host", defaults.host),
        port=server.count("port", defaults.port, least=0, most=PORT_MAX),
        poll_s=top.number("poll_s", defaults.poll_s),
        work=roles.text("work", defaults.work),
        review=roles.text("review", roles.text("work", defaults.review)),
        budget=Budget(
            limits.count("tries", defaults.budget.tries_max, most=ATTEMPTS_MAX),
            limits.count("review_rounds", defaults.budget.review_rounds_max, most=REVIEWS_MAX),
            limits.count("stops", defaults.budget.stops_max),
            limits.number("budget_usd", 1.0) if limits.has("budget_usd") else None,
        ),
        roles=MappingProxyType(
            {role: name for role in _OTHER_ROLES if (name := roles.text(role.value))}
        ),
        pattern=_worded(plan, "pattern"),
        handoff=_worded(plan, "handoff"),
        profiles=_profiles(top.table("profiles"), defaults.profiles),
        checks=_checks(top.table("checks")),
        providers=_providers(top.table("providers"), defaults.providers),
        configured=_configured(top.table("profiles"), roles),
        disk_free_min_bytes=top.optional_count("disk_free_min_bytes"),
        keep=Keep(
            keep.count("logs_days", defaults.keep.logs_days, least=0),
            keep.count("salvage_days", defaults.keep.salvage_days, least=0),
            keep.count("images_days", defaults.keep.images_days, least=0),
        ),
        isolation=sandbox.choice("isolation", ISOLATIONS),
        read_only=tuple(Path(item).expanduser() for item in sandbox.texts("read_only")),
        path=tuple(sandbox.texts("path")),
        prices=_prices(top.table("prices")),
        egress=_egress(egress),
        container=_container(container),
        dagger=_dagger(dagger),
        merge_queue=MergeQueue(
            queue.count("lanes", defaults.merge_queue.lanes),
            queue.count("changes_max", defaults.merge_queue.changes_max),
            Strategy(queue.choice("strategy", tuple(Strategy))),
            external_checks=Demand(queue.choice("external_checks", list(Demand))),
            external_checks_wait_s=queue.number(
                "external_checks_wait_s", defaults.merge_queue.external_checks_wait_s
            ),
        ),
        resources=_resources(sandbox, defaults.resources),
        forge=_forge(forge, defaults.forge),
    )
    tables = (
        server,
        roles,
        limits,
        plan,
        sandbox,
        container,
        dagger,
        queue,
        forge,
        keep,
        egress,
        top,
    )
    for each in tables:
        each.refuse_unknown()
    for profile in settings.profiles:
        settings.provider(profile.provider)
    return settings


def _worded(table: _Table, label: str) -> str:
    """Return what is said of all plans, in the words of a plan's label."""
    text = table.text(label)
    fault = PARSERS[label](text) if text else None
    if isinstance(fault, Fault):
        raise InputError(f"{table.where}: `{label}`: {fault.message}.", hint=fault.hint)
    return text


def _prices(table: _Table) -> tuple[Price, ...]:
    found = []
    for model in table.names():
        entry = table.table(model)
        for needed in ("input", "output"):
            if not entry.has(needed):
                raise InputError(f"{entry.where}: a price needs `{needed}`.")
        input_usd = entry.number("input", 1.0)
        price = Price(
            model,
            input_usd,
            entry.number("output", 1.0),
            entry.number("cache_read", input_usd),
            entry.number("cache_write", input_usd),
        )
        entry.refuse_unknown()
        found.append(price)
    return tuple(found)


def _egress(egress: _Table) -> Policy:
    try:
        return policy(egress.texts("allow"), egress.mapping("addresses"))
    except InputError as error:
        raise InputError(f"{egress.where}: {error.message}", hint=error.hint) from error


def _profile_egress(entry: _Table) -> tuple[str, ...] | None:
    if not entry.has("egress"):
        return None
    words = tuple(entry.texts("egress"))
    try:
        policy(words, {})
    except InputError as error:
        raise InputError(f"{entry.where}: {error.message}", hint=error.hint) from error
    return words


def _container(table: _Table) -> ContainerSettings:
    settings = ContainerSettings(
        table.choice("engine", ENGINES),
        table.text("image"),
        table.text("dockerfile"),
        table.text("devcontainer"),
        table.flag("build_network"),
    )
    if sum(map(bool, (settings.image, settings.dockerfile, settings.devcontainer))) > 1:
        raise InputError(
            f"{table.where}: only one of `image`, `dockerfile` and `devcontainer` can be used."
        )
    return settings


def _dagger(table: _Table) -> DaggerSettings:
    caches = tuple(table.texts("caches"))
    for path in caches:
        if not path.startswith(f"{HOME}/") or ".." in path.split("/"):
            raise InputError(
                f"{table.where}: `caches` has `{path}`, which is not below {HOME}.",
                hint=f"name a package manager's cache, such as {HOME}/.cache/pip",
            )
    return DaggerSettings(table.text("image"), table.flag("open_network"), caches)


def _resources(sandbox: _Table, defaults: Resources) -> Resources:
    return Resources(
        sandbox.count("memory_bytes", defaults.memory_bytes, least=MEMORY_MIN_BYTES),
        sandbox.count("disk_bytes", defaults.disk_bytes, least=DISK_MIN_BYTES),
        sandbox.number("cpus", 0.0) if sandbox.has("cpus") else None,
    )


def _default_data_dir(environ: Mapping[str, str]) -> Path:
    if named := environ.get("COMMANDCENTER_DATA_DIR"):
        return Path(named)
    return Path(platformdirs.user_data_dir("commandcenter"))


def _with_environment(settings: Settings, environ: Mapping[str, str]) -> Settings:
    _refuse_database(environ.get("DATABASE_URL", ""))
    if named := environ.get("COMMANDCENTER_DATA_DIR"):
        settings = replace(settings, data_dir=Path(named))
    if host := environ.get("HOST"):
        settings = replace(settings, host=host if _is_address(host) else settings.host)
    if port := environ.get("PORT"):
        if not port.isdecimal() or int(port) > PORT_MAX:
            raise InputError(f"PORT={port} is not a port.", hint=f"use a number up to {PORT_MAX}")
        settings = replace(settings, port=int(port))
    for profile_name in (settings.work, settings.review):
        if profile_name != NO_REVIEW:
            settings.profile(profile_name)
    for profile_name in settings.roles.values():
        settings.profile(profile_name)
    return replace(settings, data_dir=settings.data_dir.absolute())


def _refuse_database(url: str) -> None:
    """Refuse a database that would not be used: whoever names one expects to find runs in it."""
    if url and not url.startswith("sqlite"):
        # Never shown whole: it may hold a password.
        kind = url.partition("://")[0] if "://" in url else "another"
        raise InputError(
            f"DATABASE_URL names a database of the kind `{kind}`; only SQLite can be used yet.",
            hint="unset DATABASE_URL; the database is in the data folder, see --data-dir",
        )


def _is_address(host: str) -> bool:
    # Shells and containers set HOST to a machine name; only an address is meant for us.
    return host == "localhost" or host.replace(".", "").isdecimal() or ":" in host


def _profiles(table: _Table, defaults: tuple[Profile, ...]) -> tuple[Profile, ...]:
    found = {profile.name: profile for profile in defaults}
    for name in table.names():
        entry = table.table(name)
        before = found.get(name)
        limits = entry.table("limits")
        plain = before.limits if before else Limits()
        found[name] = Profile(
            name=name,
            agent=entry.text("agent", before.agent if before else "claude"),
            model=entry.text("model", before.model if before else ""),
            command=entry.text("command", before.command if before else ""),
            environment=dict(entry.mapping("environment")),
            programs=tuple(entry.texts("programs")),
            egress=_profile_egress(entry),
            models=tuple(entry.texts("models")),
            provider=entry.text("provider", before.provider if before else ""),
            limits=Limits(
                limits.number("timeout_s", plain.timeout_s),
                limits.number("idle_s", plain.idle_s),
                limits.count("output_bytes", plain.output_bytes_max),
                limits.count("turns", plain.turns_max),
            ),
        )
        limits.refuse_unknown()
        entry.refuse_unknown()
    return tuple(found.values())


def _configured(profiles: _Table, roles: _Table) -> frozenset[str]:
    named = (*(roles.text(role.value) for role in Role), *profiles.names())
    return frozenset(name for name in named if name not in ("", NO_REVIEW))


def _checks(table: _Table) -> tuple[ProjectCheck, ...]:
    found = []
    for name in table.names():
        entry = table.table(name)
        check = ProjectCheck(
            name, entry.text("command"), entry.text("files", ""), entry.number("timeout_s", 1800.0)
        )
        if not check.command:
            raise InputError(f"{entry.where}: a check needs a `command`.")
        entry.refuse_unknown()
        found.append(check)
    return tuple(found)


def _providers(table: _Table, defaults: tuple[Provider, ...]) -> tuple[Provider, ...]:
    found = {provider.name: provider for provider in defaults}
    for name in table.names():
        entry = table.table(name)
        before = found.get(name, Provider(name, "", "", ""))
        found[name] = Provider(
            name,
            entry.text("base_url", before.base_url),
            entry.text("api_key_variable", before.api_key_variable),
            entry.text("token_variable", before.token_variable),
        )
        entry.refuse_unknown()
    return tuple(found.values())


class _Table:
    """A TOML table that knows where it is, checks types, and refuses what it does not know."""

    def __init__(self, content: Any, where: str) -> None:  # Any: TOML, checked right here
        if not isinstance(content, dict):
            raise InputError(f"{where} must be a table.")
        self._content: dict[str, Any] = content
        self._asked: set[str] = set()
        self.where = where

    def has(self, name: str) -> bool:
        self._asked.add(name)
        return name in self._content

    def names(self) -> tuple[str, ...]:
        self._asked.update(self._content)
        return tuple(self._content)

    def table(self, name: str) -> _Table:
        self._asked.add(name)
        return _Table(self._content.get(name, {}), f"{self.where}: [{name}]")

    def text(self, name: str, default: str = "") -> str:
        value: str = self._value(name, default, str)
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """Return one of these; the first one by default."""
        value = self.text(name, choices[0])
        if value not in choices:
            raise InputError(
                f"{self.where}: `{name}` cannot be `{value}`.",
                hint=_did_you_mean(value, list(choices)) or f"it is one of {', '.join(choices)}",
            )
        return value

    def count(self, name: str, default: int, *, least: int = 1, most: int | None = None) -> int:
        value: int = self._value(name, default, int)
        if value < least:
            raise InputError(f"{self.where}: `{name}` must be at least {least}.")
        if most is not None and value > most:
            raise InputError(f"{self.where}: `{name}` must be at most {most}.")
        return value

    def flag(self, name: str) -> bool:
        """Return whether it is set to true."""
        self._asked.add(name)
        value = self._content.get(name, False)
        if not isinstance(value, bool):
            raise InputError(f"{self.where}: `{name}` must be true or false.")
        return value

    def optional_count(self, name: str) -> int | None:
        """Return a number that may be 0, or None when it is not set."""
        self._asked.add(name)
        return self.count(name, 0, least=0) if name in self._content else None

    def number(self, name: str, default: float) -> float:
        value = self._value(name, default, (int, float))
        if not 0 < value < math.inf:
            raise InputError(f"{self.where}: `{name}` must be more than 0, and finite.")
        return float(value)

    def texts(self, name: str) -> list[str]:
        value: list[Any] = self._value(name, [], list)
        if not all(isinstance(item, str) for item in value):
            raise InputError(f"{self.where}: `{name}` must be a list of strings.")
        return value

    def path(self, name: str) -> Path | None:
        """Return a path, or None when it is not set."""
        value = self.text(name)
        return Path(value).expanduser() if value else None

    def mapping(self, name: str) -> dict[str, str]:
        value: dict[str, Any] = self._value(name, {}, dict)
        if not all(isinstance(item, str) for item in value.values()):
            raise InputError(f"{self.where}: `{name}` must be a table of strings.")
        return value

    def _value(self, name: str, default: Any, kind: type | tuple[type, ...]) -> Any:
        self._asked.add(name)
        value = self._content.get(name, default)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"{self.where}: `{name}` has the wrong type.")
        return value

    def refuse_unknown(self) -> None:
        for name in sorted(self._content.keys() - self._asked):
            raise InputError(
                f"{self.where}: there is no setting `{name}`.",
                hint=_did_you_mean(name, sorted(self._asked)),
            )


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean `{close[0]}`?" if close else ""
