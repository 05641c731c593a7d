"""Whether the clock of this machine can be right, as far as that shows without another one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from commandcenter.core.run import Finding, Health
from commandcenter.core.words import duration

CLOCK = "clock"
AHEAD_MAX_S = 60.0
"""How much later than now something may have been written: file systems of others differ a bit."""
JUMP_MAX_S = 30.0
_SET = (
    "times and durations would be wrong, and forges and model providers refuse who is minutes off; "
    "set it: timedatectl set-ntp true"
)


@dataclass(frozen=True)
class Reading:
    """What two clocks say at one moment: that of the wall, and one that is never set."""

    wall_s: float
    steady_s: float


def read_clock() -> Reading:
    """Return what the clocks say now; the steady one goes on while the machine sleeps."""
    return Reading(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))


@dataclass(frozen=True)
class Clock:
    """The clock since a service began to look at it."""

    begun: Reading
    read: Callable[[], Reading] = read_clock

    def finding(self, data_dir: Path, newest_event_ms: int) -> Finding:
        """Return whether it is behind what was written before, or was set meanwhile."""
        now = self.read()
        detail = f"it is {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(now.wall_s))}"
        newest_s, what = max(_written(data_dir, newest_event_ms))
        if newest_s - now.wall_s > AHEAD_MAX_S:
            behind = f"{detail}, {duration(newest_s - now.wall_s)} before {what}"
            return Finding(CLOCK, Health.DEGRADED, behind, _SET)
        if abs(jump_s := _jump_s(self.begun, now)) > JUMP_MAX_S:
            way = "forward" if jump_s > 0 else "back"
            moved = f"{detail}; it was set {way} by {duration(abs(jump_s))} while the service ran"
            return Finding(CLOCK, Health.DEGRADED, moved, "durations of runs that went on are off")
        return Finding(CLOCK, Health.OK, f"{detail}, no earlier than all that was written here")


def _jump_s(before: Reading, after: Reading) -> float:
    return (after.wall_s - before.wall_s) - (after.steady_s - before.steady_s)


def _written(data_dir: Path, newest_event_ms: int) -> Iterator[tuple[float, str]]:
    """Yield when something was written, and what."""
    yield newest_event_ms / 1000, "the newest event of a run"
    for path in (Path(__file__), data_dir, *data_dir.glob("*")):
        with suppress(OSError):
            yield path.lstat().st_mtime, f"{path} was written"
