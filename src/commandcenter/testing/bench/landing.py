"""How long it takes from an agent's last act until its change has landed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from commandcenter.testing.bench.repository import make_tree, printed
from commandcenter.testing.bench.service import serving

_SIZES = {"small": 100, "large": 60_000}
_AGENT = """date +%s.%N > "$(grep -o 'made-[0-9]*.txt' "$CC_INPUT_FILE" | head -n 1)\""""
"""Its last act is to write down when it was."""


def landing(folder: Path, *, quick: bool) -> Iterator[str]:
    """Land changes one after the other, each with a check that costs nothing, and no review."""
    tasks = 5 if quick else 12
    yield "files    tasks  from the agent's end until it has landed"
    for name, files in _SIZES.items():
        part = folder / name
        part.mkdir()
        count = min(files, 5_000) if quick else files
        origin, plan = make_tree(part, count), part / "plan.md"
        plan.write_text("".join(_plan(tasks)), "utf-8")
        with serving(part / "service", workers=1) as service:
            run = service.start(plan, origin, _AGENT)
            service.wait(run, cap_s=600)
            landed = service.events(run, "task.completed")
        ended = [
            float(printed("show", f"main:made-{number}.txt", folder=origin))
            for number in range(1, tasks + 1)
        ]
        took = [there - done for done, there in zip(ended, landed, strict=True)]
        yield f"{count:6} {tasks:6}  first {took[0]:.2f} s, then {_shown(took[1:])}"


def _shown(seconds: Sequence[float]) -> str:
    return f"median {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s"


def _plan(tasks: int) -> Iterator[str]:
    yield "# Bench\n\n## Batch 1: All\n\n**Execution Mode:** sequential\n"
    for number in range(1, tasks + 1):
        yield f"\n### Task 1.{number}: Make a file\n\n**Files:**\n- Create: `made-{number}.txt`\n"
        yield "\n**Verification:**\n- `true`\n"
