"""What commands in a workspace may reach of the network: policies and decisions. Pure.

A policy names hosts. Nothing is allowed that is not named, and a name is nothing yet: what it
leads to is looked at as well, since whoever owns a name decides where it points.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from commandcenter.core.errors import InputError

NONE = "none"
MODEL = "model"
"""Adds nothing: agents reach their model by the gateway, whatever the policy is."""
REGISTRIES = "registries"
"""Stands for what the package managers of this machine are configured for: `core.registries`."""
PRESETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "forge": (
            *("github.com", "api.github.com", "codeload.github.com"),
            *("objects.githubusercontent.com", "raw.githubusercontent.com"),
            *("release-assets.githubusercontent.com", "gitlab.com", "codeberg.org"),
        ),
    }
)
"""Lists of hosts by name. They are public services: what can be read there can be written, too."""
PORTS = (80, 443)
"""What may be reached of a host whose port is not named."""
PORT_MAX = 65_535
HOST_MAX = 253
SHOWN_MAX = 20
SCHEMA = 1

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_AUTHORITY = re.compile(r"(?P<host>[^:@/\[\]\\?#]+)(:(?P<port>[0-9]{1,5}))?")
_ABSOLUTE = re.compile(r"(?i:http)://(?P<authority>[^/?#]*)(?P<rest>[^#]*)")
_EMBEDDING = tuple(
    ipaddress.ip_network(each)
    for each in (
        *("::ffff:0:0/96", "::/96", "64:ff9b::/96", "64:ff9b:1::/48"),
        *("2001::/32", "2002::/16", "192.88.99.0/24", "fec0::/10"),
    )
)
"""IPv6 networks in which an IPv4 address is hidden, and their gateways."""
_METADATA = frozenset({"168.63.129.16", "192.0.0.192", "100.100.100.200", "fd00:ec2::254"})
"""Where clouds tell a machine its secrets, besides the link-local address."""


@dataclass(frozen=True)
class Rule:
    """A host, or all below it, that may be reached."""

    host: str
    """Lower case, without the dot at its end."""
    below: bool = False
    """Whether it stands for all names below `host`, and not for `host` itself."""
    port: int | None = None
    """None: `PORTS`."""

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{'*.' if self.below else ''}{self.host}{port}"

    def fits(self, host: str, port: int) -> bool:
        """Say whether it allows this."""
        named = host.endswith(f".{self.host}") if self.below else host == self.host
        return named and (port in PORTS if self.port is None else port == self.port)


@dataclass(frozen=True)
class Policy:
    """What may be reached; nothing, unless it is said."""

    rules: tuple[Rule, ...] = ()
    addresses: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Where a host is, in place of what its name leads to: only so can it be a private place."""
    registries: bool = False
    """Whether it allows what package managers are configured for, which is still to be asked."""

    @property
    def allows(self) -> bool:
        """Say whether it allows anything."""
        return bool(self.rules) or self.registries

    def allowing(self, words: Iterable[str]) -> Policy:
        """Return one that allows these presets and hosts, and nothing else.

        Raises:
            InputError: one of them is neither.
        """
        named = tuple(words)
        return replace(self, rules=_rules(named), registries=REGISTRIES in named)

    def asked(self, registries: Iterable[Rule]) -> Policy:
        """Return one in which `registries` stands for these, if it is named."""
        more = tuple(registries) if self.registries else ()
        return replace(self, rules=tuple(dict.fromkeys((*self.rules, *more))), registries=False)


@dataclass(frozen=True)
class Allowed:
    """A connection that may be made."""

    host: str
    """As it is looked up."""
    port: int


@dataclass(frozen=True)
class Refused:
    """A connection that may not be made."""

    why: str


@dataclass(frozen=True)
class Vetted:
    """Addresses that may be connected to."""

    addresses: tuple[str, ...]


def policy(words: Iterable[str], addresses: Mapping[str, str]) -> Policy:
    """Return the policy of presets and hosts (`example.org`, `*.example.org`, `example.org:8443`).

    Raises:
        InputError: something in it cannot be.
    """
    return Policy(addresses=_pinned(addresses)).allowing(words)


def _rules(words: tuple[str, ...]) -> tuple[Rule, ...]:
    if NONE in words and len(words) > 1:
        raise InputError(f"`{NONE}` cannot stand beside other hosts.")
    named = (word for word in words if word not in (NONE, MODEL, REGISTRIES))
    hosts = (host for word in named for host in PRESETS.get(word, (word,)))
    return tuple(dict.fromkeys(map(rule, hosts)))


def rule(text: str) -> Rule:
    """Return the rule of a host (`example.org`, `*.example.org`, `example.org:8443`).

    Raises:
        InputError: it is none.
    """
    below = text.startswith("*.")
    found = _AUTHORITY.fullmatch(text.removeprefix("*."))
    host = _host(found["host"]) if found else ""
    port = int(found["port"]) if found and found["port"] else None
    if not host or (port is not None and not 0 < port <= PORT_MAX):
        raise InputError(
            f"`{text}` is no host that can be allowed.",
            hint="write `example.org`, `*.example.org`, `example.org:8443`, or one of "
            + ", ".join((NONE, MODEL, REGISTRIES, *PRESETS)),
        )
    return Rule(host, below, port)


def _pinned(addresses: Mapping[str, str]) -> Mapping[str, str]:
    pinned = {}
    for name, text in addresses.items():
        host, address = _host(name), _address(text)
        if not host or address is None or not _can_be_pinned(address):
            raise InputError(
                f"`{name}` cannot be at `{text}`.",
                hint='write a host and its address: "mirror.example.org" = "10.1.2.3"',
            )
        pinned[host] = str(address)
    return MappingProxyType(pinned)


def _can_be_pinned(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    usable = not (address.is_multicast or address.is_unspecified or address.is_link_local)
    return usable and str(address) not in _METADATA and not _embeds(address)


def _host(text: str) -> str:
    """Return a host's name as we compare it; empty when it is none, or an address."""
    host = text.lower().removesuffix(".")
    labels = host.split(".")
    if len(host) > HOST_MAX or not all(map(_LABEL.fullmatch, labels)):
        return ""
    # So do programs tell an address, in all its spellings: 127.1, 2130706433, 0x7f.1.
    return "" if _NUMBER.fullmatch(labels[-1]) else host


def decide(policy: Policy, host: str, port: int) -> Allowed | Refused:
    """Decide about a host as a client wrote it, before anything is looked up."""
    name = _host(host)
    if not name:
        return Refused("it is no name of a host; addresses are never allowed")
    if not any(rule.fits(name, port) for rule in policy.rules):
        return Refused("it is not allowed by the egress policy")
    return Allowed(name, port)


def vet(addresses: Sequence[str]) -> Vetted | Refused:
    """Decide about all that a name leads to: one bad address refuses it.

    What is connected to is one of these and is not looked up again.
    """
    if not addresses:
        return Refused("its name leads nowhere")
    for text in addresses:
        if kind := _forbidden(text):
            return Refused(f"its name leads to {text[:60]}, {kind}")
    return Vetted(tuple(dict.fromkeys(addresses)))


def _forbidden(text: str) -> str:
    """Return what is wrong with an address; empty when it is in the public internet."""
    address = _address(text)
    if address is None:
        return "which is no address"
    if str(address) in _METADATA or address.is_link_local:
        return "a link-local address, where clouds keep secrets"
    if _embeds(address):
        return "which hides another address"
    if address.is_loopback:
        return "the machine itself"
    if address.is_multicast:
        return "a multicast address"
    return "" if address.is_global else "a private or reserved address"


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _embeds(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return not address.is_loopback and any(address in network for network in _EMBEDDING)


@dataclass(frozen=True)
class Target:
    """Where a client of the proxy wants to go."""

    host: str
    """As it wrote it."""
    port: int
    path: str | None
    """What is asked there; None is a tunnel."""


def target(method: str, text: str, named: Sequence[str]) -> Target | Refused:
    """Return where a request goes; `named` are the values of its Host headers."""
    if method == "CONNECT":
        found = _AUTHORITY.fullmatch(text)
        if found is None or found["port"] is None:
            return Refused("a tunnel needs HOST:PORT, and addresses are never allowed")
        return _within(Target(found["host"], int(found["port"]), None))
    absolute = _ABSOLUTE.fullmatch(text)
    if absolute is None:
        return Refused("a proxy takes http://HOST/..., or CONNECT for all else")
    found = _AUTHORITY.fullmatch(absolute["authority"])
    if found is None:
        return Refused("there is no plain host in it; users and addresses are never allowed")
    going = Target(found["host"], int(found["port"] or PORTS[0]), _path(absolute["rest"]))
    if any(not _agrees(each, going) for each in named):
        return Refused("its Host header names another host")
    return _within(going)


def _path(rest: str) -> str:
    return rest if rest.startswith("/") else f"/{rest}"


def _within(going: Target) -> Target | Refused:
    return going if 0 < going.port <= PORT_MAX else Refused("there is no such port")


def _agrees(named: str, going: Target) -> bool:
    found = _AUTHORITY.fullmatch(named.strip())
    if found is None:
        return False
    return (_host(found["host"]), int(found["port"] or PORTS[0])) == (_host(going.host), going.port)


@dataclass(frozen=True)
class Decision:
    """What was decided of one connection. Logged as a line of JSON."""

    at_ms: int
    verdict: str
    """`allowed`, `refused`, or `failed`: allowed, and could not be made."""
    method: str
    host: str
    """As it was asked for: foreign text."""
    port: int
    """0 where none could be read."""
    address: str = ""
    why: str = ""

    def to_line(self) -> bytes:
        """Return the logged form."""
        record = {"schema": SCHEMA, **asdict(self), "host": self.host[:HOST_MAX]}
        return json.dumps(record).encode() + b"\n"


def refusals(lines: Iterable[bytes]) -> Counter[str]:
    """Return what was refused, mostly as HOST:PORT, and how often, from logged decisions."""
    found: Counter[str] = Counter()
    for line in lines:
        record = _record(line)
        if record.get("schema") == SCHEMA and record.get("verdict") == "refused":
            port = f":{record['port']}" if record["port"] else ""
            found[f"{record['host']}{port}"] += 1
    return found


def _record(line: bytes) -> dict[str, Any]:  # Any: JSON
    """Return a logged decision; nothing for a line that a crash cut off."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def refused_words(found: Mapping[str, int]) -> str:
    """Return what was refused as a list for people; empty when nothing was."""
    shown = [where if n == 1 else f"{where} ({n} times)" for where, n in sorted(found.items())]
    more = len(shown) - SHOWN_MAX
    tail = [f"{more} more"] if more > 0 else []
    return ", ".join([*shown[:SHOWN_MAX], *tail])
