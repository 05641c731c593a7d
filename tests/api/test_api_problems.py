"""Errors: every one is a problem document that says what to do, and nothing of our inside."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx
import pytest

from commandcenter.api.schema import Problem
from commandcenter.core.errors import InputError, PlanRefused, WorldError
from commandcenter.core.plan import Diagnostic

if TYPE_CHECKING:
    from tests.api.conftest import MemoryService

RUNS = "/api/v1/autonomous"
START = f"{RUNS}/start"
PLAN = {"plan_path": "plan.md"}


async def test_a_wrong_input_is_a_problem_with_a_hint(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    service.fail_with(InputError("Plan file not found: plan.md", hint="give its path"))
    answer = await http.post(START, json=PLAN)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:problem-type:input",
        "title": "Bad Request",
        "status": 400,
        "detail": "Execution start failed: Plan file not found: plan.md",
        "hint": "give its path",
    }


async def test_a_refused_plan_carries_all_its_diagnostics(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    found = (
        Diagnostic("P004", "task `1.2` waits for `1.9`", 14, 3, "did you mean `1.1`?", path="p.md"),
        Diagnostic("W001", "task `1.1` has no verification", 9, 1, path="p.md"),
    )
    service.fail_with(PlanRefused("p.md has 1 error.", found))
    said = await http.post(START, json=PLAN)
    answer = said.json()
    assert Problem.model_validate_json(said.content).diagnostics
    assert answer["detail"] == "Execution start failed: p.md has 1 error."
    assert [each["severity"] for each in answer["diagnostics"]] == ["error", "warning"]
    assert answer["diagnostics"][0] == {
        "path": "p.md",
        "line": 14,
        "column": 3,
        "code": "P004",
        "severity": "error",
        "message": "task `1.2` waits for `1.9`",
        "hint": "did you mean `1.1`?",
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"plan_path": "a", "plan": {}}',
        b'{"plan_path": 7}',
        b'{"plan_path": "a\\u0000b"}',
        b'{"plan_path": "\\ud800"}',
        b'{"plan_path": "a", "start_batch": -1}',
        b'{"plan_path": "a", "end_batch": 0}',
        b'{"plan_path": "a", "end_batch": "six"}',
    ],
)
async def test_a_malformed_start_is_refused_with_the_list_of_errors(
    http: httpx.AsyncClient, service: MemoryService, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await http.post(START, content=body, headers=headers)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"]
    assert service.submitted == []


async def test_an_unknown_run_is_not_found(http: httpx.AsyncClient) -> None:
    for path in ("status", "batches", "tasks", "tasks/1.1", "events", "logs"):
        answer = await http.get(f"{RUNS}/exec_unknown/{path}")
        assert answer.status_code == 404
        assert answer.json()["detail"] == "Execution exec_unknown not found"


async def test_an_unknown_address_and_method_are_problems_too(http: httpx.AsyncClient) -> None:
    nowhere, wrong_method = await http.get("/nowhere"), await http.delete("/health")
    assert (nowhere.status_code, wrong_method.status_code) == (404, 405)
    for answer in (nowhere, wrong_method):
        assert answer.headers["content-type"] == "application/problem+json"


async def test_the_worlds_refusal_is_told_as_such(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    service.fail_with(WorldError("The disk is full.", hint="make room"))
    answer = await http.post(START, json=PLAN)
    assert (answer.status_code, answer.json()["hint"]) == (503, "make room")


async def test_an_unexpected_error_is_logged_and_tells_nothing_of_our_inside(
    http: httpx.AsyncClient, service: MemoryService, caplog: pytest.LogCaptureFixture
) -> None:
    service.fail_with(KeyError("secret-of-the-inside"))
    with caplog.at_level(logging.ERROR):
        start = await http.post(START, json=PLAN)
        status = await http.get(f"{RUNS}/exec_0badcafe/status")
    assert start.status_code == status.status_code == 500
    assert start.json()["detail"] == "Failed to start autonomous execution"
    assert "secret" not in start.text + status.text
    assert "secret-of-the-inside" in caplog.text


async def test_a_body_of_more_than_six_megabytes_is_refused(http: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    large = b'{"plan_path": "' + b"a" * 6 * 2**20 + b'"}'

    async def pieces() -> AsyncIterator[bytes]:
        yield large

    announced = await http.post(START, content=large, headers=headers)
    unannounced = await http.post(START, content=pieces(), headers=headers)
    assert (announced.status_code, unannounced.status_code) == (413, 413)
    assert unannounced.headers["content-type"] == "application/problem+json"
