"""The parts of the bench: each makes what it needs, measures, and returns lines to print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from commandcenter.testing.bench.repository import Cost, make_origin, plain_script
from commandcenter.testing.bench.service import BenchService, Measured, serving

_NO_OP = """touch "$(grep -o 'made-[0-9]*.txt' "$CC_INPUT_FILE" | head -n 1)\""""
"""Makes one file, named by the task."""
_WORKERS = (2, 4)
_SLEEPS_S = (0.1, 1.0, 3.0)


def overhead(folder: Path, *, quick: bool) -> Iterator[str]:
    """Compare a no-op task with the same git work by a plain script, both one at a time."""
    tasks = 5 if quick else 20
    origin = make_origin(folder)
    script = plain_script(origin, folder / "by-hand", tasks).each(tasks)
    with serving(folder / "service", workers=1) as service:
        _warm_up(service, folder, origin)
        alone = _run(service, folder, origin, batches=1, width=tasks, mode="sequential", cap_s=300)
        together = _run(
            service, folder, origin, batches=1, width=tasks, mode="parallel", cap_s=300, first=1000
        )
    sequential = Cost(alone.wall_s, alone.processor_s).each(tasks)
    parallel = Cost(together.wall_s, together.processor_s).each(tasks)
    yield f"{tasks} no-op tasks                    wall/task  processor/task"
    yield f"plain git script                  {_cost(script)}"
    yield f"pipeline, one after the other     {_cost(sequential)}   {_times(sequential, script)}"
    yield f"pipeline, parallel, one worker    {_cost(parallel)}   {_times(parallel, script)}"


def _cost(cost: Cost) -> str:
    return f"{cost.wall_s * 1000:6.0f} ms  {cost.processor_s * 1000:9.0f} ms"


def _times(cost: Cost, script: Cost) -> str:
    wall, processor = cost.wall_s / script.wall_s, cost.processor_s / script.processor_s
    return f"{wall:.1f} x wall, {processor:.1f} x processor"


def efficiency(folder: Path, *, quick: bool) -> Iterator[str]:
    """Measure how much of its workers a batch of sleeping agents keeps busy."""
    yield "workers  sleep  tasks     wall  (tasks x sleep) / (workers x wall)"
    for workers in _WORKERS:
        for sleep_s in _SLEEPS_S:
            part = folder / f"{workers}-{sleep_s}"
            tasks = workers * (3 if quick else 16)
            yield share_of_workers(part, workers=workers, tasks=tasks, sleep_s=sleep_s)


def share_of_workers(
    folder: Path,
    *,
    workers: int,
    tasks: int,
    sleep_s: float,
    mode: str = "local",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return, as a line, how much of its workers a batch of agents that sleep keeps busy."""
    folder.mkdir()
    origin = make_origin(folder)
    with serving(folder / "service", workers=workers, environment=environment) as service:
        _warm_up(service, folder, origin, execution_mode=mode)
        done = _run(
            service,
            folder,
            origin,
            batches=1,
            width=tasks,
            mode="parallel",
            cap_s=240,
            sleep_s=sleep_s,
            execution_mode=mode,
        )
    share = tasks * sleep_s / (workers * done.wall_s)
    return f"{workers:7} {sleep_s:5.1f}s {tasks:6} {done.wall_s:7.1f}s  {share:6.1%}"


def graph(folder: Path, *, quick: bool) -> Iterator[str]:
    """Run a graph of no-op tasks in layers, and watch its pace and the service's memory."""
    batches, width = (5, 20) if quick else (50, 20)
    origin = make_origin(folder)
    with serving(folder / "service", workers=4) as service:
        begun = service.resident_mb
        done = _run(
            service, folder, origin, batches=batches, width=width, mode="parallel", cap_s=1500
        )
    tasks = batches * width
    pace = tasks / done.wall_s
    yield f"{tasks} tasks in {batches} layers: {done.wall_s:.0f} s, {pace:.2f} tasks/s"
    yield f"processor {done.processor_s / tasks * 1000:.0f} ms a task"
    yield f"tasks/s by tenths: {'  '.join(f'{pace:.2f}' for pace in _paces(done.landed))}"
    yield f"resident memory of the service: {begun:.0f} MB, at last {done.resident_mb:.0f} MB"


def _paces(landed: tuple[float, ...]) -> Iterator[float]:
    """Give the tasks per second of each tenth of the tasks."""
    size, before = len(landed) // 10, 0.0
    for number in range(1, 11):
        at = landed[number * size - 1]
        yield size / (at - before)
        before = at


def _warm_up(
    service: BenchService, folder: Path, origin: Path, *, execution_mode: str = "local"
) -> None:
    """Let the service open its vault and load what it loads but once."""
    _run(
        service,
        folder,
        origin,
        batches=1,
        width=1,
        mode="parallel",
        cap_s=120,
        first=900_000,
        execution_mode=execution_mode,
    )


def _run(
    service: BenchService,
    folder: Path,
    origin: Path,
    *,
    batches: int,
    width: int,
    mode: str,
    cap_s: float,
    sleep_s: float = 0,
    first: int = 0,
    execution_mode: str = "local",
) -> Measured:
    plan = folder / f"plan-{first}.md"
    plan.write_text("".join(_plan(batches, width, mode, first)), "utf-8")
    agent = f"sleep {sleep_s}; {_NO_OP}" if sleep_s else _NO_OP
    return service.run(plan, origin, agent, cap_s=cap_s, execution_mode=execution_mode)


def _plan(batches: int, width: int, mode: str, first: int) -> Iterator[str]:
    """Give the text of a plan whose tasks are numbered from `first`."""
    yield "# Bench\n"
    for batch in range(1, batches + 1):
        yield f"\n## Batch {batch}: Layer {batch}\n\n**Execution Mode:** {mode}\n"
        for index in range(1, width + 1):
            name = f"made-{first + (batch - 1) * width + index}.txt"
            yield f"\n### Task {batch}.{index}: Make a file\n\n**Files:**\n- Create: `{name}`\n"
