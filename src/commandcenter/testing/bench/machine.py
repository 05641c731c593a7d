"""Tells what machine this is, and what a process has used of it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

_PROC = Path("/proc")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def describe(folder: Path) -> str:
    """Return processor, memory, Python, git and the file system of `folder`, one a line."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return "\n".join(
        (
            f"processors  {len(os.sched_getaffinity(0))} x {_processor()}",
            f"memory      {memory / 2**30:.1f} GiB",
            f"system      {platform.platform()}",
            f"python      {platform.python_version()}",
            f"git         {_said('git', '--version').removeprefix('git version ')}",
            f"files       {_said('stat', '--file-system', '--format=%T', str(folder))} at {folder}",
            f"load        {' '.join(f'{load:.1f}' for load in os.getloadavg())} before the start",
        )
    )


def _processor() -> str:
    lines = (_PROC / "cpuinfo").read_text("utf-8", "replace").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _said(*words: str) -> str:
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


def processor_s(process: int) -> float:
    """Return the processor time of a process and of all its children that were waited for."""
    # The name, in parentheses, may hold anything: the numbers begin after the last one.
    numbers = (_PROC / f"{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, numbers[11:15])) * _TICK_S


def resident_mb(process: int) -> float:
    """Return the resident memory of a process, in MB of 10**6 bytes."""
    for line in (_PROC / f"{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
