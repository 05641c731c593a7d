"""Tells one start of this machine from the next: what was not synced before is not there now."""

from __future__ import annotations

from pathlib import Path


def boot_id() -> str:
    """Return what names this start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
