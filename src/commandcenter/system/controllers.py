"""The cgroup controllers of this machine that we may use, and the groups that runs leave behind.

A group lies beside the service's own or below it, so the limits that the service was given count
for its sandboxes, too. What the shim does with a group is in `system/cgroup.py`.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commandcenter.core.workspace import Resources
from commandcenter.system import cgroup

_PREFIX = "commandcenter"
_WANTED = ("memory", "pids", "cpu")
_PERIOD_US = 100_000
_QUOTA_MIN_US = 1_000


@dataclass(frozen=True)
class Controller:
    """One thing that cgroups can limit, and where we may make groups for it."""

    name: str
    """`memory`, `pids` or `cpu`."""
    parent: Path
    version: int


def usable() -> tuple[Controller, ...]:
    """Return the controllers below which a group could be made and limited just now."""
    found = {each.name: each for each in _candidates() if _works(each)}
    return tuple(found[name] for name in _WANTED if name in found)


def phrase(
    controllers: Iterable[Controller], name: str, resources: Resources, processes_max: int
) -> list[dict[str, Any]]:  # Any: JSON, a part of spec.json
    """Return the groups that the shim is to make for one command."""
    groups: dict[str, dict[str, str]] = {}
    for controller in controllers:
        if values := dict(_values(controller, resources, processes_max)):
            groups.setdefault(str(controller.parent / name), {}).update(values)
    return [{"folder": folder, "values": values} for folder, values in groups.items()]


def group_name(owner: str, folder: str, run: str) -> str:
    """Return the name of a run's group; `owner` and `folder` hold no dot."""
    return f"{_PREFIX}.{owner}.{folder}.{run}"


def remove_stale(
    controllers: Iterable[Controller], owner: str, alive: Callable[[str, str], bool]
) -> None:
    """Remove the groups of `owner` whose run (a folder and a name) is not alive."""
    for parent in {controller.parent for controller in controllers}:
        for group in parent.glob(f"{_PREFIX}.{owner}.*"):
            folder, run = group.name.split(".", 3)[2:]
            if not alive(folder, run):
                cgroup.remove(str(group))


def _values(
    controller: Controller, resources: Resources, processes_max: int
) -> Iterator[tuple[str, str]]:
    memory, quota = str(resources.memory_bytes), _quota_us(resources.cpus)
    match controller.name, controller.version:
        case "memory", 1:
            yield "memory.limit_in_bytes", memory
            # Not there where the kernel does not count swap.
            yield "?memory.memsw.limit_in_bytes", memory
        case "memory", 2:
            yield "memory.max", memory
            yield "?memory.swap.max", "0"
            yield "memory.oom.group", "1"
        case "pids", _:
            # Beside the limit inside, which does not count bubblewrap's own.
            yield "pids.max", str(processes_max + 8)
        case "cpu", 1 if quota:
            yield "cpu.cfs_period_us", str(_PERIOD_US)
            yield "cpu.cfs_quota_us", str(quota)
        case "cpu", 2 if quota:
            yield "cpu.max", f"{quota} {_PERIOD_US}"


def _quota_us(cpus: float | None) -> int:
    return 0 if cpus is None else max(_QUOTA_MIN_US, round(cpus * _PERIOD_US))


def _works(controller: Controller) -> bool:
    for left in controller.parent.glob(f"{_PREFIX}.trial.*"):
        if not Path("/proc", left.name.rpartition(".")[2]).exists():
            cgroup.remove(str(left))
    trial = str(controller.parent / f"{_PREFIX}.trial.{uuid.uuid4().hex}.{os.getpid()}")
    values = dict(_values(controller, Resources(2**30, 2**30, 1.0), 100))
    try:
        cgroup.make(trial, values)
    except OSError:
        return False
    finally:
        cgroup.remove(trial)
    return True


def _candidates() -> Iterator[Controller]:
    own = _own_groups()
    for mount in _mounts():
        place = mount.place(own.get(mount.key))
        if place is None:
            continue
        if mount.version == 1:
            yield from (Controller(name, place, 1) for name in mount.controllers)
        else:
            yield from _unified(place, top=place == mount.at)


def _unified(own: Path, *, top: bool) -> Iterator[Controller]:
    """Give what the second version offers.

    There a group that has processes has no limited ones below it, except for the topmost: ours go
    beside the service's own, or below the topmost when the service is there.
    """
    parent = own if top else own.parent
    with contextlib.suppress(OSError):
        if top:
            (own / "cgroup.subtree_control").write_text("+memory +pids +cpu")
        for name in (parent / "cgroup.subtree_control").read_text().split():
            yield Controller(name, parent, 2)


@dataclass(frozen=True)
class _Mount:
    root: str
    at: Path
    version: int
    controllers: Sequence[str]

    @property
    def key(self) -> str:
        """What names this hierarchy in /proc/self/cgroup."""
        return "" if self.version == 2 else self.controllers[0] if self.controllers else "?"

    def place(self, path: str | None) -> Path | None:
        """Return where the group `path` is; None when this mount does not show it."""
        if path is None or not Path(path).is_relative_to(self.root):
            return None
        return self.at / Path(path).relative_to(self.root)


def _mounts() -> Iterator[_Mount]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, kind = line.partition(" - ")
        root, at = place.split()[3:5]
        name, _, options = kind.split(" ", 2)
        if name == "cgroup2":
            yield _Mount(root, Path(at), 2, ())
        elif name == "cgroup":
            there = [each for each in _WANTED if each in options.split(",")]
            yield _Mount(root, Path(at), 1, there)


def _own_groups() -> dict[str, str]:
    """Return the path of our own group by controller; the second version's has an empty name."""
    groups = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        groups.update(dict.fromkeys(names.split(","), path))
    return groups
