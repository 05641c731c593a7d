"""The calls about runs: what they accept, and what they answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from commandcenter.core.forge import Decision
from commandcenter.core.run import Phase, Reason, State

if TYPE_CHECKING:
    from tests.api.conftest import MemoryService

RUNS = "/api/v1/autonomous"
RUN = f"{RUNS}/exec_0badcafe"


async def test_the_root_says_who_answers(http: httpx.AsyncClient) -> None:
    answer = (await http.get("/")).json()
    assert answer["name"] == "CommandCenter"
    assert answer["status"] == "running"
    assert set(answer) == {"name", "version", "status", "pipeline"}


async def test_health_says_healthy(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health")).json()["status"] == "healthy"


async def test_the_documented_start_call_works(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    body = b'{"plan_path": "/path/to/plan.md", "execution_mode": "local"}'
    answer = await http.post(
        f"{RUNS}/start", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200
    assert answer.json() == {
        "execution_id": "exec_0badcafe",
        "status": "started",
        "batches_scheduled": [1, 2],
        "warnings": ["task 1.2 has no verification"],
        "preview": "",
    }
    assert service.submitted[0].plan_path == "/path/to/plan.md"
    assert service.submitted[0].start_batch is None
    assert service.submitted[0].auto_merge is True


async def test_every_field_of_a_start_reaches_the_service(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    body = {
        "plan_path": "p.md",
        "repository": "/r",
        "execution_mode": "dagger",
        "start_batch": 0,
        "end_batch": 99,
        "auto_merge": False,
        "into": "develop",
        "agent": "claude",
        "agent_command": "make it",
        "reviewer": "none",
        "review_command": "look",
        "rerun": "1.1,2.3",
        "continues": "exec_1",
    }
    answer = await http.post(f"{RUNS}/start", json=body)
    assert answer.status_code == 200
    submission = service.submitted[0]
    assert {name: getattr(submission, name) for name in body} == body


async def test_unknown_fields_of_a_start_are_ignored(http: httpx.AsyncClient) -> None:
    answer = await http.post(f"{RUNS}/start", json={"plan_path": "p.md", "max_workers": 3})
    assert answer.status_code == 200


async def test_a_plan_can_be_given_by_value(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    answer = await http.post(f"{RUNS}/start", json={"plan": {"schema": "cc.plan/1"}})
    assert answer.status_code == 200
    assert service.submitted[0].plan == {"schema": "cc.plan/1"}


async def test_the_status_has_every_field_that_clients_know(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    first, second = service.tasks
    service.tasks = (
        replace(first, state=State.COMPLETED, reason=Reason.MERGED, merge_commit="c0", proposal=1),
        replace(
            second,
            state=State.IN_PROGRESS,
            phase=Phase.REVIEWING,
            proposal=2,
            proposal_url="http://127.0.0.1/pull/2",
        ),
    )
    answer = (await http.get(f"{RUN}/status")).json()
    assert answer["status"] == "in_progress"
    assert answer["current_batch"] == 1
    assert answer["total_batches"] == 1
    assert (answer["tasks_completed"], answer["tasks_failed"], answer["tasks_total"]) == (1, 0, 2)
    assert (answer["tasks_skipped"], answer["tasks_cancelled"]) == (0, 0)
    assert answer["active_prs"] == [
        {"task": "1.2", "pr_number": 2, "status": "open", "url": "http://127.0.0.1/pull/2"}
    ]
    assert answer["started_at"] == "2023-11-14T22:13:20.000Z"
    assert answer["completed_at"] is None
    assert answer["progress"] == 0.5
    assert answer["landed_on"] == "main"
    assert answer["notes"] == ["a note"]


async def test_what_a_run_used_is_told_by_profile(http: httpx.AsyncClient) -> None:
    assert (await http.get(f"{RUN}/usage")).json() == [
        {
            "profile": "strong",
            "asked": 2,
            "tokens": {"input": 900, "output": 80},
            "cached_tokens": 500,
            "cost_usd": 0.25,
            "unpriced": 1,
        }
    ]
    assert (await http.get("/api/v1/autonomous/exec_unknown/usage")).status_code == 404


async def test_a_run_that_only_people_can_move_says_for_what_it_waits(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    first, second = service.tasks
    waiting = replace(
        first,
        state=State.IN_PROGRESS,
        phase=Phase.WAITING,
        waiting_for="approval: commandcenter approve",
    )
    service.tasks = (waiting, second)
    assert (await http.get(f"{RUN}/status")).json()[
        "waiting_for"
    ] == "approval: commandcenter approve"
    service.tasks = (waiting, replace(second, state=State.IN_PROGRESS, phase=Phase.WORKING))
    assert (await http.get(f"{RUN}/status")).json()["waiting_for"] is None


async def test_batches_are_a_list_with_the_tasks_in_them(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    first, second = service.tasks
    ended = replace(
        first,
        state=State.COMPLETED,
        reason=Reason.MERGED,
        branch="feature/batch-1-task-1-1",
        head="a" * 40,
        merge_commit="b" * 40,
        proposal=7,
        proposal_url="http://127.0.0.1/pull/7",
        checks="passed",
        checks_passed=3,
        checks_total=3,
        review="approve",
        attempt=1,
        started_ms=1_700_000_000_000,
        ended_ms=1_700_000_002_500,
    )
    service.tasks = (ended, second)
    (batch,) = (await http.get(f"{RUN}/batches")).json()
    assert batch["id"] == "exec_0badcafe_batch_1"
    assert batch["batch_number"] == 1
    assert batch["status"] == "in_progress"
    assert batch["started_at"] == "2023-11-14T22:13:20.000Z"
    assert batch["completed_at"] is None
    assert batch["tasks"][0] == {
        "id": "exec_0badcafe_batch_1_task_1_1",
        "task_number": "1.1",
        "task_title": "First",
        "batch_number": 1,
        "status": "completed",
        "phase": None,
        "waiting_for": None,
        "reason": "merged",
        "explanation": None,
        "attempt": 1,
        "branch_name": "feature/batch-1-task-1-1",
        "pr_number": 7,
        "pr_url": "http://127.0.0.1/pull/7",
        "commits": ["a" * 40],
        "merge_commit": "b" * 40,
        "checks": {"judgement": "passed", "passed": 3, "total": 3},
        "review": "approve",
        "parent": None,
        "pattern": None,
        "rounds": 0,
        "outcome": None,
        "tokens": {"input": 0, "output": 0},
        "cost_usd": 0.0,
        "started_at": "2023-11-14T22:13:20.000Z",
        "completed_at": "2023-11-14T22:13:22.500Z",
        "error": None,
    }


async def test_what_a_task_was_split_into_counts_through_that_task(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    first, second = service.tasks
    parent = replace(first, state=State.COMPLETED, reason=Reason.JOINED, pattern="plan")
    subtask = replace(first, parent="1.1", state=State.COMPLETED, reason=Reason.MERGED)
    replaced = replace(subtask, id="1.1-1", state=State.FAILED, reason=Reason.CHECKS)
    service.tasks = (parent, replaced, replace(subtask, id="1.1-2"), second)

    status = (await http.get(f"{RUN}/status")).json()
    listed = (await http.get(f"{RUN}/tasks")).json()
    report = (await http.get(f"{RUN}/report")).json()
    page = (await http.get(f"{RUN}/report", params={"format": "html"})).text

    assert (status["tasks_total"], status["tasks_completed"], status["tasks_failed"]) == (2, 1, 0)
    assert (status["progress"], status["status"]) == (0.5, "in_progress")
    assert [each["parent"] for each in listed] == [None, "1.1", "1.1", None]
    assert report["run"] == status
    assert "The run is not over: 1 completed of 2 tasks" in page
    assert "<dt>Landed</dt><dd>1 of 2</dd>" in page
    assert "<dt>Did not land</dt><dd>0</dd>" in page
    assert "What did not land, and why" not in page


async def test_a_batch_number_reads_as_its_plan_writes_it(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    first, second = service.tasks
    service.tasks = (replace(first, batch="1.5"), replace(second, batch="late"))
    batches = (await http.get(f"{RUN}/batches")).json()
    assert [batch["batch_number"] for batch in batches] == [1.5, "late"]
    assert batches[0]["id"] == "exec_0badcafe_batch_1_5"


NUMBERS = {
    "1": 1,
    "1.5": 1.5,
    "1.10": "1.10",
    "1.0": "1.0",
    "01": "01",
    "1.2.3": "1.2.3",
    "9007199254740993": "9007199254740993",
    "0.30000000000000001": "0.30000000000000001",
    "phase-1": "phase-1",
}


@pytest.mark.parametrize("batch", NUMBERS)
async def test_a_batch_number_that_would_read_otherwise_stays_text_everywhere(
    http: httpx.AsyncClient, service: MemoryService, batch: str
) -> None:
    first, second = service.tasks
    service.tasks = (replace(first, batch=batch), replace(second, batch=batch))
    service.scheduled = (batch,)

    started = (await http.post(f"{RUNS}/start", json={"plan_path": "p.md"})).json()
    (told,) = (await http.get(f"{RUN}/batches")).json()
    status = (await http.get(f"{RUN}/status")).json()

    assert started["batches_scheduled"] == [NUMBERS[batch]]
    assert (told["batch_number"], status["current_batch"]) == (NUMBERS[batch], NUMBERS[batch])
    assert [task["batch_number"] for task in told["tasks"]] == [NUMBERS[batch]] * 2


async def test_a_failed_task_says_why(http: httpx.AsyncClient, service: MemoryService) -> None:
    first, second = service.tasks
    failed = replace(first, state=State.FAILED, reason=Reason.AGENT, explanation="it gave up")
    service.tasks = (failed, second)
    task = (await http.get(f"{RUN}/tasks/1.1")).json()
    assert (task["status"], task["reason"], task["error"]) == ("failed", "agent", "it gave up")


async def test_a_task_is_found_by_its_exact_number_only(http: httpx.AsyncClient) -> None:
    assert (await http.get(f"{RUN}/tasks/1.1")).json()["task_title"] == "First"
    assert (await http.get(f"{RUN}/tasks/%25")).status_code == 404
    assert (await http.get(f"{RUNS}/%25/tasks/1.1")).status_code == 404


async def test_runs_and_tasks_are_listed(http: httpx.AsyncClient) -> None:
    assert [run["execution_id"] for run in (await http.get(RUNS)).json()] == ["exec_0badcafe"]
    tasks = (await http.get(f"{RUN}/tasks")).json()
    assert [task["task_number"] for task in tasks] == ["1.1", "1.2"]


async def test_cancel_answers_with_the_status(http: httpx.AsyncClient) -> None:
    answer = (await http.post(f"{RUN}/cancel")).json()
    assert (answer["status"], answer["tasks_cancelled"]) == ("cancelled", 2)


async def test_retry_takes_a_task_or_nothing(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    await http.post(f"{RUN}/retry")
    await http.post(f"{RUN}/retry", json={"task": "1.2"})
    assert service.retried == [None, "1.2"]


async def test_doctor_lists_its_findings(http: httpx.AsyncClient) -> None:
    findings = (await http.get("/api/v1/doctor")).json()
    assert findings[0] == {"name": "git", "health": "ok", "detail": "git 2.39", "hint": None}


async def test_openapi_describes_every_call(http: httpx.AsyncClient) -> None:
    described = (await http.get("/openapi.json")).json()
    assert f"{RUNS}/start" in described["paths"]
    assert (await http.get("/docs")).status_code == 200


@pytest.mark.parametrize(
    ("call", "body", "decided"),
    [
        ("approve", None, (None, Decision.APPROVE, "", "a person")),
        ("approve", {"task": "1.1", "by": "me"}, ("1.1", Decision.APPROVE, "", "me")),
        (
            "comment",
            {"task": "1.1", "words": "More."},
            ("1.1", Decision.REVISE, "More.", "a person"),
        ),
        ("reject", {"task": "1.1", "words": "No."}, ("1.1", Decision.REJECT, "No.", "a person")),
    ],
)
async def test_what_a_person_says_of_a_change_reaches_the_service(
    http: httpx.AsyncClient,
    service: MemoryService,
    call: str,
    body: dict[str, str] | None,
    decided: tuple[str | None, Decision, str, str],
) -> None:
    answer = await http.post(f"{RUN}/{call}", json=body)

    assert answer.status_code == 200
    assert service.decided == [decided]


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("comment", {"task": "1.1"}),
        ("comment", {"task": "1.1", "words": "  "}),
        ("comment", {"words": "More."}),
        ("reject", {"words": "No."}),
    ],
)
async def test_a_refusal_or_a_wish_names_its_task_and_a_wish_has_words(
    http: httpx.AsyncClient, service: MemoryService, call: str, body: dict[str, str]
) -> None:
    answer = await http.post(f"{RUN}/{call}", json=body)

    assert (answer.status_code, service.decided) == (400, [])
    assert "give `" in answer.json()["hint"]
