"""Tells one start of this machine from the next: what was not synced before is not there now."""

from __future__ import annotations

from pathlib import Path

BOOT = "boot"
"""A file that names the start of the machine since which its folder is there."""


def boot_id() -> str:
    """Return what names this start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def booted_s() -> float:
    """Return when this machine was started, in seconds since 1970."""
    lines = Path("/proc/stat").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("btime ")))


def noted_boot(folder: Path) -> str:
    """Return the start of the machine that is noted in a folder; empty when none is."""
    try:
        return (folder / BOOT).read_text()
    except FileNotFoundError:
        return ""
