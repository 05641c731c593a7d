"""`python -m commandcenter.testing.soak`: many random schedules, each judged; see --help."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from commandcenter.system import removal
from commandcenter.testing.soak.life import live
from commandcenter.testing.soak.schedule import Schedule, draw


def main() -> int:
    """Run the schedules; return 1 when something was not as it must be."""
    options = _options()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    numbers = [options.only] if options.only is not None else range(options.schedules)
    folder = Path(tempfile.mkdtemp(prefix="cc-soak-", dir=options.folder))
    _say(f"Seed {seed}: {len(numbers)} schedules, {options.jobs} at a time, in {folder}")
    started = time.monotonic()
    wrong = asyncio.run(_all([draw(seed, number) for number in numbers], folder, options.jobs))
    _say(f"{len(numbers) - len(wrong)} of {len(numbers)} as they must be, {_since(started)}.")
    if wrong:
        numbered = ", ".join(name.split("/")[1] for name in wrong)
        _say(f"Wrong: {numbered}. Again: python -m commandcenter.testing.soak --seed {seed} --only")
        return 1
    removal.remove(folder)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--schedules", type=int, default=200, help="how many (200)")
    parser.add_argument("--seed", type=int, help="what they are drawn from (a random one)")
    parser.add_argument("--only", type=int, help="run this one of the seed's schedules")
    parser.add_argument("--jobs", type=int, default=3, help="how many at a time (3)")
    parser.add_argument("--folder", type=Path, help="where to make them; evidence stays there")
    return parser.parse_args()


async def _all(schedules: Sequence[Schedule], folder: Path, jobs: int) -> list[str]:
    """Live through the schedules; return the names of those that went wrong."""
    free = asyncio.Semaphore(jobs)
    wrong = []

    async def one(schedule: Schedule) -> None:
        async with free:
            started = time.monotonic()
            place = folder / schedule.name.replace("/", "-")
            found = await _lived(schedule, place)
            _say(f"{schedule.name}: {_words(schedule)}: {_verdict(found)}, {_since(started)}")
            if found:
                wrong.append(schedule.name)
            else:
                await asyncio.to_thread(removal.remove, place)

    async with asyncio.TaskGroup() as group:
        for schedule in schedules:
            group.create_task(one(schedule))
    return wrong


async def _lived(schedule: Schedule, place: Path) -> tuple[str, ...]:
    try:
        return await live(schedule, place)
    except Exception as error:  # the border of a schedule: the others go on
        return (f"it could not be lived through: {error!r}",)


def _words(schedule: Schedule) -> str:
    kinds = " + ".join(",".join(job.kind for job in each.jobs) for each in schedule.schemes)
    return f"{kinds} | {', '.join(each.act for each in schedule.disturbances)}"


def _verdict(found: Sequence[str]) -> str:
    return "ok" if not found else "\n  ".join(("WRONG", *found)) + "\n "


def _since(started: float) -> str:
    return f"{time.monotonic() - started:.1f} s"


def _say(words: str) -> None:
    print(words, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
