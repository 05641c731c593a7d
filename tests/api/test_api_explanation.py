"""Why the outcome of a task is what it is, over HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from commandcenter.core.run import Event, EventKind, Reason, State

if TYPE_CHECKING:
    from tests.api.conftest import MemoryService

RUN = "exec_0badcafe"
TASKS = f"/api/v1/autonomous/{RUN}/tasks"


async def test_an_explanation_has_the_task_its_outcome_and_sentences(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    first, second = service.tasks
    failed = replace(
        first,
        state=State.FAILED,
        reason=Reason.EXHAUSTED,
        explanation="Not done after 12 rounds.",
        pattern="magentic",
        outcome="exhausted",
    )
    service.tasks = (failed, second)
    service.log = [Event(RUN, EventKind.TASK_STARTED, 1, "1.1", 1)]

    said = (await http.get(f"{TASKS}/1.1/explanation")).json()

    assert said["task"] == (await http.get(f"{TASKS}/1.1")).json()
    assert said["outcome"] == "exhausted"
    assert said["sentences"] == [
        "Task 1.1, First, has failed (exhausted): Not done after 12 rounds.",
        "The pattern magentic had the outcome exhausted.",
        "Try 1 began.",
    ]


async def test_a_task_without_a_pattern_has_no_outcome_of_one(http: httpx.AsyncClient) -> None:
    said = (await http.get(f"{TASKS}/1.2/explanation")).json()
    assert said["outcome"] is None
    assert said["sentences"][0].startswith("Task 1.2, Second, has not begun")


@pytest.mark.parametrize(
    "path", [f"{TASKS}/7.7/explanation", f"{TASKS}/1.1/explanation".replace(RUN, "exec_0")]
)
async def test_what_there_is_not_is_a_problem(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
