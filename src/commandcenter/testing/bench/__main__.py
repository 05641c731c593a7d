"""`python -m commandcenter.testing.bench [--quick] [PART...]`: measure, and print."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from commandcenter.testing.bench import landing, modes, parts, patterns, queue, reliability
from commandcenter.testing.bench.machine import describe
from commandcenter.testing.bench.service import TooLong


class _Part(Protocol):
    def __call__(self, folder: Path, *, quick: bool) -> Iterator[str]: ...


_PARTS: dict[str, _Part] = {
    "overhead": parts.overhead,
    "efficiency": parts.efficiency,
    "graph": parts.graph,
    "queue": queue.queue,
    "landing": landing.landing,
    "patterns": patterns.patterns,
    "modes": modes.modes,
    "workspaces": reliability.workspaces,
    "durability": reliability.durability,
    "recovery": reliability.recovery,
}


def main() -> int:
    """Measure the chosen parts; nothing is asserted."""
    options = _options()
    # Beside the checkout's files: /tmp is often in memory, which would flatter every figure.
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as name:
        folder = Path(name)
        _say(f"{describe(folder.parent)}\n")
        for part in options.parts or _PARTS:
            (folder / part).mkdir()
            _measure(part, _PARTS[part](folder / part, quick=options.quick))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m commandcenter.testing.bench",
        description="Measure the pipeline through the real service. Nothing is asserted.",
    )
    parser.add_argument("parts", nargs="*", choices=[*_PARTS, []], help="by default all")
    parser.add_argument("--quick", action="store_true", help="fewer tasks, coarser figures")
    return parser.parse_args()


def _measure(name: str, lines: Iterator[str]) -> None:
    _say(f"== {name}")
    try:
        for line in lines:
            _say(line)
    except TooLong as reached:
        _say(f"{name}: {reached}")
    _say("")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the bench talks


if __name__ == "__main__":
    sys.exit(main())
