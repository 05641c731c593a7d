"""Journeys of tasks that may cost only so much."""

from __future__ import annotations

import pytest

from commandcenter.testing.desk import Desk, Ended
from commandcenter.testing.scene import Sample, batch, plan, task

SCRIPT = """
    print {"type": "usage", "input_tokens": 1000, "output_tokens": 100, "cost_usd": 5}
    write made.txt
    | draft
    when-feedback write made.txt
    | final
"""


def text(budget: str, pattern: str) -> str:
    fields = {"Limits": f"budget_usd={budget}", "Pattern": pattern}
    check = "grep -q final made.txt"
    return plan(
        batch(
            1, task("1.1", "A", files=("made.txt",), script=SCRIPT, checks=[check], fields=fields)
        )
    )


async def runs(desk: Desk, ended: Ended) -> int:
    """Return how many times the worker was started."""
    logs = await desk.get(f"/{ended.execution_id}/logs?format=json")
    return len({log["name"] for log in logs if log["name"].startswith(("ask-", "try-"))})


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["single", 'chain("draft it", "finish it")'])
async def test_no_agent_begins_when_what_was_spent_has_reached_the_budget(
    desk: Desk, sample: Sample, pattern: str
) -> None:
    ended = await desk.run(sample, text("4", pattern))

    assert ended.ends() == {"1.1": ("failed", "exhausted")}
    assert "budget" in ended.tasks["1.1"]["explanation"]
    assert await runs(desk, ended) == 1
    assert any("at most $4" in note for note in ended.status["notes"])
    assert any("a budget is kept between runs only" in note for note in ended.status["notes"])


@pytest.mark.slow
async def test_a_budget_that_is_not_reached_is_in_nobodys_way(desk: Desk, sample: Sample) -> None:
    ended = await desk.run(sample, text("50", "single"))

    assert ended.ends() == {"1.1": ("completed", "merged")}
    assert await sample.read("made.txt") == "final"
    assert await runs(desk, ended) == 2
