"""What a pattern adds to the runs of its agents, which do nothing, and whether rounds cost more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from commandcenter.testing.bench.repository import make_origin
from commandcenter.testing.bench.service import BenchService, serving

_CAP_S = 300.0
_MANAGER = {
    "schema": "cc.ledger/1",
    "facts": {"given": [], "lookup": [], "derive": [], "guess": []},
    "plan": ["go on"],
    "satisfied": {"answer": False, "reason": "never"},
    "in_loop": {"answer": False, "reason": "no"},
    "progress": {"answer": True, "reason": "yes"},
    "next": {"profile": "command", "instruction": "go on", "reason": "it is the only one"},
}
_PLANNER = {
    "schema": "cc.subplan/1",
    "tasks": [
        {"id": f"{n}", "title": "Part", "instructions": "Make it.", "files": [f"part-{n}.txt"]}
        for n in (1, 2)
    ],
}
_ROUTER = {"schema": "cc.route/1", "profile": "command", "reason": "it is the only one"}
_AGENT = f"""case "$CC_ROLE" in
manage) printf '%s' '{json.dumps(_MANAGER)}' > "$CC_RESULT_FILE" ;;
plan) printf '%s' '{json.dumps(_PLANNER)}' > "$CC_RESULT_FILE" ;;
route) printf '%s' '{json.dumps(_ROUTER)}' > "$CC_RESULT_FILE" ;;
*) echo "$CC_SESSION" >> "$(grep -o '[a-z]*-[0-9].txt' "$CC_INPUT_FILE" | head -n 1)" ;;
esac"""
"""Does what its role has to, and nothing else."""


def patterns(folder: Path, *, quick: bool) -> Iterator[str]:
    """Measure what each pattern takes for one agent run, from its first round to its conclusion."""
    rounds = 6 if quick else 20
    texts = (
        'chain("one", "two", "three")',
        "route(command, command)",
        "vote(5, judge=none)",
        "plan(max_tasks=2)",
        f"magentic(rounds={rounds})",
    )
    origin = make_origin(folder)
    with serving(folder / "service", workers=2) as service:
        _play(service, folder, origin, 0, "single")  # it loads what it loads but once
        alone = [_play(service, folder, origin, n, "single").each_ms for n in (1, 2, 3)]
        yield f"one agent, its capture and check, without a pattern: {median(alone):.0f} ms"
        yield f"{'pattern':30} runs  wall/run  beyond that  first and last third"
        for number, text in enumerate(texts, 4):
            played = _play(service, folder, origin, number, text)
            yield f"{played.line}  {played.each_ms - median(alone):8.0f} ms  {played.thirds}"


@dataclass(frozen=True)
class _Played:
    """What a pattern took, from its first round to its conclusion."""

    text: str
    gaps_ms: tuple[float, ...]
    """Between the answers, in their order."""
    took_ms: float

    @property
    def each_ms(self) -> float:
        return self.took_ms / len(self.gaps_ms)

    @property
    def line(self) -> str:
        return f"{self.text:30} {len(self.gaps_ms):4}  {self.each_ms:5.0f} ms"

    @property
    def thirds(self) -> str:
        third = max(1, len(self.gaps_ms) // 3)
        first, last = median(self.gaps_ms[:third]), median(self.gaps_ms[-third:])
        return f"{first:.0f} ms, {last:.0f} ms"


def _play(service: BenchService, folder: Path, origin: Path, number: int, text: str) -> _Played:
    plan = folder / f"plan-{number}.md"
    check = "false" if text.startswith("magentic") else "true"
    plan.write_text(
        f"# Bench\n\n## Batch 1: One\n\n### Task 1.1: Make it\n\n**Pattern:** {text}\n\n"
        f"**Files:**\n- Create: `made-{number}.txt`\n- Create: `part-1.txt`\n"
        f"- Create: `part-2.txt`\n\n**Verification:**\n- `{check}`\n",
        "utf-8",
    )
    run = service.start(plan, origin, _AGENT)
    service.end(run, cap_s=_CAP_S)
    alone = text == "single"
    begun = service.events(run, "task.started" if alone else "task.round")[0]
    answered = service.events(run, "task.checked" if alone else "task.answered")
    # What sub-tasks take is theirs: a planner's part ends when there are some.
    last = "task.round" if text.startswith("plan") else "task.concluded"
    ended = answered[0] if alone else service.events(run, last)[-1]
    gaps = [after - at for at, after in pairwise([begun, *answered])]
    return _Played(text, tuple(gap * 1000 for gap in gaps), (ended - begun) * 1000)
