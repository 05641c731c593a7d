"""Looks what is in force of what makes work survive a power cut: settings, disk, and damage."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from commandcenter.core.run import Finding, Health
from commandcenter.store.database import Database
from commandcenter.system.git import Git

DURABILITY = "durability"
_SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
_IN_MEMORY = ("tmpfs", "ramfs")
_ELSEWHERE = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "virtiofs")
_UNSAFE_OPTIONS = ("nobarrier", "barrier=0", "data=writeback")
_ESCAPED = re.compile(r"\\([0-7]{3})")
_PROBE = b"\0" * 4096


@dataclass(frozen=True)
class Mount:
    """The file system that a folder lies on."""

    kind: str
    options: tuple[str, ...]


async def durability(
    data_dir: Path, git: Git, database: Database, environ: Mapping[str, str]
) -> Finding:
    """Return what is in force now, and why it may not be enough."""
    fsync = (await git.run("config", "core.fsync", git_dir=None, check=False)).text
    method = (await git.run("config", "core.fsyncMethod", git_dir=None, check=False)).text
    synchronous, journal = await database.transact(_sqlite_mode)
    mount = mount_of(data_dir)
    detail = (
        f"git core.fsync={fsync} by {method}; SQLite synchronous={synchronous}, {journal}; "
        f"{mount.kind}, a sync takes {_sync_s(data_dir) * 1000:.1f} ms"
    )
    weakness = weakness_of(mount, environ) or _damage(data_dir)
    if weakness:
        return Finding(DURABILITY, Health.DEGRADED, detail, weakness)
    return Finding(DURABILITY, Health.OK, detail)


def weakness_of(mount: Mount, environ: Mapping[str, str]) -> str:
    """Return why a power cut may lose what was confirmed, in a sentence; empty when it may not."""
    if mount.kind in _IN_MEMORY:
        return f"the data folder is in memory ({mount.kind}): a restart of the machine empties it"
    if mount.kind == "overlay":
        return "the data folder is a container's own: it goes with the container; mount a volume"
    if mount.kind.split(".")[0] in _ELSEWHERE:
        return f"on {mount.kind}, locks and syncs are only as good as the server's"
    if unsafe := [option for option in mount.options if option in _UNSAFE_OPTIONS]:
        return f"mounted with {', '.join(unsafe)}: a power cut may lose what was synced"
    if "eatmydata" in environ.get("LD_PRELOAD", ""):
        return "libeatmydata is loaded, which leaves syncs out"
    return ""


def mount_of(folder: Path) -> Mount:
    """Return the file system of a folder that is there."""
    place = Path(os.path.realpath(folder))
    above = {place, *place.parents}
    found, depth = Mount("unknown", ()), 0
    # Of several mounted at one place, the last one is seen.
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point, options = before.split(" ")[4:6]
        kind, _, special = after.split(" ")[:3]
        mounted = Path(_ESCAPED.sub(lambda each: chr(int(each[1], 8)), point))
        if mounted in above and len(mounted.parts) >= depth:
            found, depth = (
                Mount(kind, (*options.split(","), *special.split(","))),
                len(mounted.parts),
            )
    return found


def _sqlite_mode(session: Session) -> tuple[str, str]:
    level = session.execute(sa.text("PRAGMA synchronous")).scalar_one()
    journal = session.execute(sa.text("PRAGMA journal_mode")).scalar_one()
    return _SYNCHRONOUS.get(level, f"{level}"), f"journal_mode={journal}"


def _sync_s(folder: Path) -> float:
    """Return how long it takes to have a page on the disk."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(_PROBE)
        file.flush()
        begun = time.monotonic()
        os.fsync(file.fileno())
        return time.monotonic() - begun


def _damage(data_dir: Path) -> str:
    kept = [path for path in data_dir.glob("vaults/*/attic") if any(path.iterdir())]
    if not kept:
        return ""
    return f"a disk damaged packs of a vault, which are kept in {kept[0]}; check the disk"
