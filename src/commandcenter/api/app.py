"""The HTTP application: routes, and nothing that decides."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from commandcenter.api import feed, text
from commandcenter.api.guard import Guard
from commandcenter.api.needs import Service
from commandcenter.api.problem import Border, Json, register
from commandcenter.api.report import reports
from commandcenter.api.schema import (
    PIPELINE,
    PREFIX,
    BatchAnswer,
    DecideRequest,
    EventAnswer,
    ExplanationAnswer,
    FindingAnswer,
    HealthAnswer,
    LogAnswer,
    Problem,
    RetryRequest,
    RootAnswer,
    SpendingAnswer,
    StartAnswer,
    StartRequest,
    StatusAnswer,
    TaskAnswer,
)
from commandcenter.api.upkeep import upkeep
from commandcenter.api.webhooks import webhooks
from commandcenter.core.errors import InputError
from commandcenter.core.forge import Decision
from commandcenter.core.run import Log

WEBHOOKS = "/webhooks"
_BODY_BYTES_MAX = 6 * 2**20
_WEBHOOK_BYTES_MAX = 2**20
"""What is larger is lost, and found out by asking."""
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem, as RFC 9457 has it.",
        "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
    }
}


def create_api(service: Service, *, host: str = "127.0.0.1") -> FastAPI:
    """Return the application that answers for this service.

    It answers to loopback names and to `host`; every other name is refused.
    """
    app = FastAPI(
        title="CommandCenter",
        version=version("commandcenter"),
        summary="Turns an implementation plan into merged, verified, reviewed pull requests.",
        default_response_class=Json,
        responses=_PROBLEMS,
    )
    app.include_router(_entrance())
    app.include_router(_runs(service), prefix=PIPELINE)
    app.include_router(_watching(service), prefix=PIPELINE)
    app.include_router(reports(service), prefix=PIPELINE)
    app.include_router(_machine(service), prefix=PREFIX)
    app.include_router(upkeep(service), prefix=PREFIX)
    app.include_router(webhooks(service), prefix=WEBHOOKS)
    register(app)
    app.add_middleware(Border)
    limits = {PREFIX: _BODY_BYTES_MAX, WEBHOOKS: _WEBHOOK_BYTES_MAX}
    app.add_middleware(Guard, host=host, limits=limits, open_below=WEBHOOKS)
    return app


def _entrance() -> APIRouter:
    router = APIRouter(tags=["service"])

    @router.get("/")
    async def root() -> RootAnswer:
        """Say who answers here."""
        return RootAnswer(
            name="CommandCenter",
            version=version("commandcenter"),
            status="running",
            pipeline=PIPELINE,
        )

    @router.get("/health")
    async def health() -> HealthAnswer:
        """Say that the service lives."""
        return HealthAnswer(status="healthy", version=version("commandcenter"), pid=os.getpid())

    return router


def _runs(service: Service) -> APIRouter:
    router = APIRouter(tags=["runs"])

    @router.get("")
    async def runs() -> list[StatusAnswer]:
        """List all runs, newest first."""
        return [StatusAnswer.of(run) for run in await service.runs()]

    @router.post("/start")
    async def start(body: StartRequest) -> StartAnswer:
        """Start a run of a plan. Nothing is started when anything is wrong with it."""
        return StartAnswer.of(await service.submit(body.submission()))

    @router.get("/{execution_id}/status")
    async def status(execution_id: str) -> StatusAnswer:
        """Say how far a run has come."""
        return StatusAnswer.of(await service.run(execution_id))

    @router.get("/{execution_id}/batches")
    async def batches(execution_id: str) -> list[BatchAnswer]:
        """List the batches of a run with their tasks, in plan order."""
        return [BatchAnswer.of(batch) for batch in await service.batches(execution_id)]

    @router.get("/{execution_id}/tasks")
    async def tasks(execution_id: str) -> list[TaskAnswer]:
        """List the tasks of a run, in plan order."""
        return [TaskAnswer.of(task) for task in (await service.run(execution_id)).tasks]

    @router.get("/{execution_id}/usage")
    async def usage(execution_id: str) -> list[SpendingAnswer]:
        """Say what the agents of a run have used, by profile."""
        return [SpendingAnswer.of(each) for each in await service.spending(execution_id)]

    @router.get("/{execution_id}/tasks/{number}")
    async def task(execution_id: str, number: str) -> TaskAnswer:
        """Say how far a task has come."""
        return TaskAnswer.of(await service.task(execution_id, number))

    @router.get("/{execution_id}/tasks/{number}/explanation")
    async def explanation(execution_id: str, number: str) -> ExplanationAnswer:
        """Say in sentences why the outcome of a task is what it is."""
        return ExplanationAnswer.of(await service.explanation(execution_id, number))

    @router.post("/{execution_id}/cancel")
    async def cancel(execution_id: str) -> StatusAnswer:
        """Cancel what has not ended. What has landed stays."""
        return StatusAnswer.of(await service.cancel(execution_id))

    @router.post("/{execution_id}/retry")
    async def retry(execution_id: str, body: RetryRequest | None = None) -> StatusAnswer:
        """Try the tasks that did not land again, or one of them."""
        chosen = body.task if body else None
        return StatusAnswer.of(await service.retry(execution_id, chosen))

    @router.post("/{execution_id}/approve")
    async def approve(execution_id: str, body: DecideRequest | None = None) -> StatusAnswer:
        """Approve a change that waits for it, or all of the run that do: they land."""
        return await decided(execution_id, Decision.APPROVE, body or DecideRequest())

    @router.post("/{execution_id}/comment")
    async def comment(execution_id: str, body: DecideRequest) -> StatusAnswer:
        """Send a change that waits for approval back to its agent, with words."""
        if not body.task or not body.words.strip():
            raise InputError("A comment needs a task and words.", hint="give `task` and `words`")
        return await decided(execution_id, Decision.REVISE, body)

    @router.post("/{execution_id}/reject")
    async def reject(execution_id: str, body: DecideRequest) -> StatusAnswer:
        """Reject a change that waits for approval: its task fails, its work is salvaged."""
        if not body.task:
            raise InputError("No task was named.", hint="give `task`")
        return await decided(execution_id, Decision.REJECT, body)

    async def decided(execution_id: str, what: Decision, body: DecideRequest) -> StatusAnswer:
        run = await service.decide(execution_id, body.task, what, body.words, body.by)
        return StatusAnswer.of(run)

    return router


def _watching(service: Service) -> APIRouter:
    router = APIRouter(tags=["watching"])

    @router.get(
        "/{execution_id}/events",
        response_model=list[EventAnswer],
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def events(
        request: Request,
        execution_id: str,
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
        wait: Annotated[float, Query(ge=0, le=60, description="Seconds; JSON only.")] = 0,
        format: Annotated[str | None, Query(pattern="^(json|sse)$")] = None,  # noqa: A002
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Follow what happens, as Server-Sent Events; or list it, as JSON.

        The stream ends with the run; 204 answers whoever comes back after that.
        """
        await service.ended(execution_id)  # or it is not found
        if last_event_id is not None and last_event_id.isdecimal():
            after = int(last_event_id)
        if format == "json" or (format is None and _wants_json(request)):
            found = await feed.page(service, execution_id, after=after, limit=limit, wait_s=wait)
            return Json([event.model_dump(mode="json") for event in found])
        if after and await feed.over(service, execution_id, after=after):
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return StreamingResponse(
            feed.sse(service, execution_id, after=after),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @router.get(
        "/{execution_id}/logs",
        response_model=list[LogAnswer],
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def logs(
        execution_id: str,
        task: str | None = None,
        attempt: int | None = None,
        name: str | None = None,
        stream: str | None = None,
        offset: Annotated[int, Query(ge=0)] = 0,
        tail: Annotated[int | None, Query(ge=0, description="Last bytes.")] = None,
    ) -> Response:
        """List the logs of a run; with `stream`, give the text of the newest that fits."""
        found = await service.logs(execution_id, task=task, attempt=attempt)
        fitting = [log for log in found if name in (None, log.name)]
        if stream is None:
            return Json([LogAnswer.of(log).model_dump(mode="json") for log in fitting])
        log = _newest([log for log in fitting if log.stream == stream])
        return StreamingResponse(
            _text(log, offset=offset, tail=tail),
            media_type="text/plain; charset=utf-8",
            headers={"X-Content-Type-Options": "nosniff"},
        )

    return router


def _machine(service: Service) -> APIRouter:
    router = APIRouter(tags=["service"])

    @router.get("/doctor")
    async def doctor() -> list[FindingAnswer]:
        """Say what this machine can and cannot do."""
        return [FindingAnswer.of(finding) for finding in await service.doctor()]

    return router


def _wants_json(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/event-stream" not in accepted


def _newest(logs: Sequence[Log]) -> Log:
    if not logs:
        raise HTTPException(HTTPStatus.NOT_FOUND, "There is no such log.")
    return max(logs, key=lambda log: (log.attempt, log.name))


def _text(log: Log, *, offset: int, tail: int | None) -> Iterator[bytes]:
    try:
        return text.piece(log.path, offset=offset, tail=tail)
    except OSError as error:
        raise HTTPException(HTTPStatus.GONE, "This log has been removed.") from error
