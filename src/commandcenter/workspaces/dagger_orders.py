"""What the service orders of the runner of a Dagger session: written to spec.json, read there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ALLOWANCE_S = 1800.0
"""For what is not the command: starting an engine, pulling an image, taking the files back."""

Place = tuple[Path, str]
"""A path of the host, and where it is inside."""


@dataclass(frozen=True)
class Orders:
    """One command, and all that it finds inside."""

    image: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    """Variables that the engine gets as its secrets: it shows them nowhere."""
    user: str
    """Who it is inside, as `uid:gid`."""
    owner: int | None
    """Whom its files belong to on the host; None is us."""
    copied: tuple[Place, ...]
    """Folders that are copied in, and taken back when it has ended."""
    mounted: tuple[Place, ...]
    """Folders that it cannot change."""
    sockets: tuple[Place, ...]
    caches: Mapping[str, str]
    """Folders inside that outlive it, with the names of the volumes they are."""
    open_network: bool
    """Whether it has the network that the engine gives it."""
    limits: Mapping[str, int]
    """Resource limits of each of its processes, by their names."""
    control: Path
    """The socket through which it is followed."""
    timeout_s: float
    idle_s: float | None
    output_bytes_max: int
    grace_s: float


def phrased(orders: Orders) -> dict[str, Any]:
    """Return the orders as JSON has them."""

    def plain(places: tuple[Place, ...]) -> list[list[str]]:
        return [[str(path), inside] for path, inside in places]

    return {
        **asdict(orders),
        "environment": dict(orders.environment),
        "secrets": dict(orders.secrets),
        "caches": dict(orders.caches),
        "limits": dict(orders.limits),
        "control": str(orders.control),
        **{name: plain(getattr(orders, name)) for name in ("copied", "mounted", "sockets")},
    }


def read(said: Mapping[str, Any]) -> Orders:
    """Return what `phrased` had phrased."""

    def places(name: str) -> tuple[Place, ...]:
        return tuple((Path(path), inside) for path, inside in said[name])

    return Orders(
        **{
            **said,
            "argv": tuple(said["argv"]),
            "control": Path(said["control"]),
            **{name: places(name) for name in ("copied", "mounted", "sockets")},
        }
    )
