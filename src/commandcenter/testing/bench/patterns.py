"""What a pattern adds to the runs of its agents, which do nothing, and whether rounds cost more."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
        "route(command, claude)",
        "vote(5, judge=none)",
        "plan(max_tasks=2)",
        f"magentic(rounds={rounds})",
    )
    origin = make_origin(folder)
    with serving(folder / "service", workers=2) as service:
        _play(service, folder, origin, 0, texts[0])  # it loads what it loads but once
        yield f"{'pattern':34} runs  wall/run  processor/run  first and last third"
        for number, text in enumerate(texts, 1):
            yield _play(service, folder, origin, number, text)


def _play(service: BenchService, folder: Path, origin: Path, number: int, text: str) -> str:
    plan = folder / f"plan-{number}.md"
    check = "false" if text.startswith("magentic") else "true"
    plan.write_text(
        f"# Bench\n\n## Batch 1: One\n\n### Task 1.1: Make it\n\n**Pattern:** {text}\n\n"
        f"**Files:**\n- Create: `made-{number}.txt`\n- Create: `part-1.txt`\n"
        f"- Create: `part-2.txt`\n\n**Verification:**\n- `{check}`\n",
        "utf-8",
    )
    before = service.processor_s
    run = service.start(plan, origin, _AGENT)
    service.end(run, cap_s=_CAP_S)
    used = service.processor_s - before
    begun = service.events(run, "task.round")[0]
    answered = service.events(run, "task.answered")
    ended = service.events(run, "task.concluded")[-1]
    each_s, third = (ended - begun) / len(answered), max(1, len(answered) // 3)
    gaps = [after - at for at, after in zip([begun, *answered], answered, strict=False)]
    growth = f"{median(gaps[:third]) * 1000:.0f} ms, {median(gaps[-third:]) * 1000:.0f} ms"
    return (
        f"{text:34} {len(answered):4}  {each_s * 1000:5.0f} ms  "
        f"{used / len(answered) * 1000:10.0f} ms  {growth}"
    )
