"""What runs look like on the wire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from commandcenter.api.schema import BatchAnswer, StatusAnswer
from commandcenter.core.run import BatchStatus, RunStatus, TaskStatus, overall

RUN = "exec_0badcafe"
Shown = tuple[StatusAnswer, list[BatchAnswer]]


@pytest.fixture
def shown() -> Callable[..., Shown]:
    """Return a function that gives tasks as the API answers them: their run, and its batches."""

    def answer(tasks: Sequence[TaskStatus], **changes: object) -> Shown:
        run = RunStatus(
            execution_id=RUN,
            status=overall(tasks),
            phase=None,
            title="Greeting service",
            plan_path="/plans/plan.md",
            repository="/repositories/one",
            upstream="/repositories/one.git",
            target="main",
            landed_on="main",
            execution_mode="local",
            auto_merge=True,
            current_batch="1",
            tasks=tuple(tasks),
            notes=(),
            started_ms=1_700_000_000_000,
            ended_ms=1_700_000_010_000,
        )
        return (
            StatusAnswer.of(replace(run, **changes)),  # type: ignore[arg-type]
            [BatchAnswer.of(batch) for batch in _batches(tasks)],
        )

    return answer


def _batches(tasks: Sequence[TaskStatus]) -> list[BatchStatus]:
    names = list(dict.fromkeys(task.batch for task in tasks))
    members = [tuple(task for task in tasks if task.batch == name) for name in names]
    return [
        BatchStatus(RUN, name, f"Title of {name}", ordinal, overall(tasks), tasks)
        for ordinal, (name, tasks) in enumerate(zip(names, members, strict=True))
    ]
