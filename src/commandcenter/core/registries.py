"""Where package managers get packages: read from what they are configured for. Pure.

No registry is named here: what the preset `registries` stands for is what the tools of this
machine say. Of an address scheme, host, port and path go further; never a credential.
"""

from __future__ import annotations

import ast
import contextlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from commandcenter.core.egress import Rule, rule
from commandcenter.core.errors import InputError

URL_MAX = 2_000

_Each = TypeVar("_Each", Rule, str)
_PIP_SECTIONS = ("global", "install")
"""What `pip install` reads; the last one counts."""
_PIP_INDEXES = ("index-url", "extra-index-url")
_UV_DEFAULT = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")
_UV_INDEXES = (*_UV_DEFAULT, "UV_INDEX", "UV_EXTRA_INDEX_URL")
_UV_CREDENTIAL = re.compile(r"UV_INDEX_.+_(USERNAME|PASSWORD)")
_NPM_INDEX = re.compile(r'^registry = "([^"\n]*)"$', re.MULTILINE)
_NPM_CREDENTIAL = re.compile(r"^//([^/\s]+)/\S*:_(authToken|auth|password) =", re.MULTILINE)
_CARGO_INDEX = re.compile(r"CARGO_REGISTRIES_[A-Z0-9_]+_INDEX")
_GO_DATABASE = re.compile(r"(?P<name>[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)(\+[A-Za-z0-9+/=]+)?")
_FALSE = ("", "0", "false", "no", "off", "n", "f")
_BEFORE_URL = MappingProxyType({"uv": r"[A-Za-z0-9._-]+=", "cargo": r"sparse\+"})
"""What can stand before an address: an index of uv can have a name, one of cargo a kind."""


@dataclass(frozen=True)
class Told:
    """What one package manager is configured for."""

    tool: str
    rules: tuple[Rule, ...] = ()
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """By which the tool asks there inside, too."""
    problems: tuple[str, ...] = ()
    """What of it cannot be used inside, in words for people."""


@dataclass(frozen=True)
class Registries:
    """What the package managers of this machine are configured for."""

    told: tuple[Told, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Return what may be reached."""
        return tuple(dict.fromkeys(each for told in self.told for each in told.rules))

    @property
    def variables(self) -> Mapping[str, str]:
        """Return the variables of all tools."""
        return {name: value for told in self.told for name, value in told.variables.items()}

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what cannot be used inside, each after its tool."""
        return tuple(f"{told.tool}: {each}" for told in self.told for each in told.problems)


@dataclass(frozen=True)
class _Address:
    """A web address."""

    rule: Rule
    url: str
    """Without user, password, query and fragment: each can be a credential."""
    secret: bool
    """Whether there was one of them."""


def _address(tool: str, text: str) -> _Address | None:
    """Return a web address of a host with a name; None for all else."""
    if len(text) > URL_MAX or not text.isprintable() or " " in text:
        return None
    found = re.match(_BEFORE_URL.get(tool, ""), text)
    before = found[0] if found else ""
    try:
        parts = urlsplit(text.removeprefix(before))
        port = "" if parts.port is None else f":{parts.port}"
        named = rule(f"{parts.hostname or ''}{port}")
    except (ValueError, InputError):
        return None
    if parts.scheme not in ("http", "https") or named.below:
        return None
    secret = "@" in parts.netloc or bool(parts.query or parts.fragment)
    return _Address(named, f"{before}{parts.scheme}://{named}{parts.path}", secret)


def _told(tool: str, named: Mapping[str, Sequence[str]]) -> Told:
    """Return what a tool says by variables that each hold addresses."""
    found = {name: [_address(tool, text) for text in texts] for name, texts in named.items()}
    usable = {name: [each for each in some if each] for name, some in found.items()}
    return Told(
        tool,
        _unique(each.rule for some in usable.values() for each in some),
        {name: " ".join(each.url for each in some) for name, some in usable.items() if some},
        _unique(_faults(found)),
    )


def _faults(found: Mapping[str, Sequence[_Address | None]]) -> Iterator[str]:
    for name, addresses in found.items():
        for each in addresses:
            if each is None:
                yield f"{name} names what is no web address of a host with a name"
            elif each.secret:
                yield _stays_outside(str(each.rule))


def _stays_outside(place: str) -> str:
    return f"the credential for {place} stays outside, so it is of no use inside if it needs one"


def _unique(some: Iterable[_Each]) -> tuple[_Each, ...]:
    return tuple(dict.fromkeys(some))


def pip(environ: Mapping[str, str], listed: str, standard: str) -> Told:
    """Return what pip is configured for.

    Args:
        environ: the environment that it runs in.
        listed: what `pip config list` prints.
        standard: host of its own index, and host of that index's files: two words. Empty where
            pip is not there.
    """
    options = _pip_options(environ, listed)
    offline = options.get("no-index", "").lower() not in _FALSE
    names = ("find-links",) if offline else (*_PIP_INDEXES, "find-links")
    told = _told(
        "pip", {_variable(each): options[each].split() for each in names if each in options}
    )
    trusted = [str(each) for each in _rules(options.get("trusted-host", "").split())]
    if trusted:
        told = replace(told, variables={**told.variables, "PIP_TRUSTED_HOST": " ".join(trusted)})
    if offline or "index-url" in options:
        return _with_files(told, standard)
    own = _own(standard)
    untold = ("it does not say which index is its own",) if standard and not own else ()
    rules, problems = _unique((*own, *told.rules)), (*told.problems, *untold)
    return replace(told, rules=rules, problems=problems)


def _variable(option: str) -> str:
    return f"PIP_{option.upper().replace('-', '_')}"


def _pip_options(environ: Mapping[str, str], listed: str) -> dict[str, str]:
    sections: dict[str, dict[str, str]] = {name: {} for name in _PIP_SECTIONS}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.partition(".")
        # Printed as Python writes a string.
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            if section in sections and isinstance(text := ast.literal_eval(value), str):
                sections[section][name] = text
    options = {name: text for each in sections.values() for name, text in each.items()}
    known = (*_PIP_INDEXES, "find-links", "no-index", "trusted-host")
    said = {name: environ[_variable(name)] for name in known if environ.get(_variable(name))}
    return {**options, **said}


def _with_files(told: Told, standard: str) -> Told:
    """Add where the files are of pip's own index, if that is among what is told."""
    own = _own(standard)
    hosts = {each.host for each in told.rules}
    more = own if own and own[0].host in hosts else ()
    return replace(told, rules=_unique((*told.rules, *more)))


def _own(standard: str) -> tuple[Rule, ...]:
    words = standard.split()
    found = _rules(word for word in words if "." in word)
    return found if len(words) == len(found) == 2 else ()


def _rules(words: Iterable[str]) -> tuple[Rule, ...]:
    found = []
    for word in words:
        with contextlib.suppress(InputError):
            found.append(rule(word))
    return _unique(each for each in found if not each.below)


def uv(environ: Mapping[str, str], pip: Told, standard: str) -> Told:
    """Return what uv is configured for; it asks pip's index where it is told of no other."""
    told = _told("uv", {name: environ[name].split() for name in _UV_INDEXES if environ.get(name)})
    variables = dict(told.variables)
    index = pip.variables.get("PIP_INDEX_URL", "")
    if index and not any(environ.get(name) for name in _UV_DEFAULT):
        variables["UV_DEFAULT_INDEX"] = index
    insecure = [str(each) for each in _rules(environ.get("UV_INSECURE_HOST", "").split())]
    if insecure:
        variables["UV_INSECURE_HOST"] = " ".join(insecure)
    kept = sorted(filter(_UV_CREDENTIAL.fullmatch, environ))
    problems = [f"{name} stays outside, so its index is of no use inside" for name in kept]
    told = replace(told, variables=variables, problems=(*told.problems, *problems))
    return _with_files(told, standard)


def npm_index(listed: str) -> str:
    """Return the registry that `npm config list` names; empty where it is npm's own."""
    named = _NPM_INDEX.findall(listed)
    return named[-1] if named else ""


def npm(registry: str, listed: str) -> Told:
    """Return what npm is configured for.

    Args:
        registry: that of `npm_index`, or what `npm config get registry` prints.
        listed: what `npm config list` prints: it tells for which registries npm has credentials.
    """
    told = _told("npm", {"npm_config_registry": (registry.strip(),)})
    held = {place.lower() for place, _ in _NPM_CREDENTIAL.findall(listed)}
    kept = [_stays_outside(str(each)) for each in told.rules if str(each) in held]
    return replace(told, problems=_unique((*told.problems, *kept)))


def go(printed: str) -> Told:
    """Return what Go is configured for, of what `go env GOPROXY GOSUMDB` prints."""
    lines = printed.splitlines()
    if len(lines) != 2:
        return Told("go", problems=("it does not say what GOPROXY and GOSUMDB are",))
    proxy, database = _go_proxy(lines[0]), _go_database(lines[1])
    return Told(
        "go",
        _unique((*proxy.rules, *database.rules)),
        {**proxy.variables, **database.variables},
        _unique((*proxy.problems, *database.problems)),
    )


def _go_proxy(text: str) -> Told:
    # What follows an entry says when the next one is asked.
    entries = re.findall(r"([^,|]+)([,|]?)", text.replace(" ", ""))
    found = [(entry, _address("go", entry), then) for entry, then in entries]
    told = _told("go", {"GOPROXY": [each for each, _, _ in found if each not in ("direct", "off")]})
    kept = "".join(
        f"{address.url if address else entry}{then}"
        for entry, address, then in found
        if address or entry in ("direct", "off")
    )
    return replace(told, variables={"GOPROXY": kept.rstrip(",|")} if kept else {})


def _go_database(text: str) -> Told:
    if text.strip() == "off":
        return Told("go", variables={"GOSUMDB": "off"})
    words = text.split()
    # A name, or name+hash+key; and where it is, if that is not what its name says.
    found = _GO_DATABASE.fullmatch(words[0]) if words else None
    named = words[1:2] or ([f"https://{found['name']}"] if found else [])
    told = _told("go", {"GOSUMDB": named if found else ("",)})
    said = " ".join((*words[:1], *(told.variables.values() if words[1:] else ())))
    return replace(told, variables={"GOSUMDB": said} if told.rules else {})


def apt(printed: str) -> Told:
    """Return what apt is configured for, of what its `indextargets` print of their sites."""
    return replace(_told("apt", {"a source": _unique(printed.split())}), variables={})


def cargo(environ: Mapping[str, str], configured: str) -> Told:
    """Return what cargo is configured for, of its configuration file; its own it does not tell."""
    try:
        table = tomllib.loads(configured)
    except (tomllib.TOMLDecodeError, RecursionError):
        return Told("cargo", problems=("its configuration cannot be read",))
    sources = _texts(table.get("source"), "registry")
    known = _told("cargo", {f"source.{name}": (each,) for name, each in sources.items()})
    indexes = {
        f"CARGO_REGISTRIES_{name.upper().replace('-', '_')}_INDEX": each
        for name, each in _texts(table.get("registries"), "index").items()
    }
    said = {name: environ[name] for name in environ if _CARGO_INDEX.fullmatch(name)}
    further = _told("cargo", {name: (each,) for name, each in {**indexes, **said}.items()})
    return Told(
        "cargo",
        _unique((*known.rules, *further.rules)),
        {name: each for name, each in further.variables.items() if _CARGO_INDEX.fullmatch(name)},
        _unique((*known.problems, *further.problems)),
    )


def _texts(table: Any, name: str) -> dict[str, str]:  # Any: TOML
    entries = table.items() if isinstance(table, dict) else ()
    found = {key: each.get(name) for key, each in entries if isinstance(each, dict)}
    return {key: text for key, text in found.items() if isinstance(text, str)}
