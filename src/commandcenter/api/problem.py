"""Errors as RFC 9457 problems: what a caller can act on, and nothing of our inside."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from commandcenter.api.schema import UNREADY, DiagnosticAnswer, Problem
from commandcenter.core.errors import (
    CommandCenterError,
    InputError,
    NotFound,
    PlanRefused,
    Unready,
    WorldError,
)

if TYPE_CHECKING:
    from commandcenter.core.plan import Diagnostic

_log = logging.getLogger(__name__)


class Json(JSONResponse):
    """JSON in ASCII: agents print bytes that are no text, and they must still get through."""

    def render(self, content: Any) -> bytes:
        """Return the bytes of the body."""
        return json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode()


def answer(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Return the response for a problem."""
    return Json(
        problem.model_dump(mode="json", exclude_none=True),
        problem.status,
        headers=headers,
        media_type="application/problem+json",
    )


def problem(status: int, detail: str, **more: Any) -> Problem:
    """Return a problem with the title that HTTP gives its status."""
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, **more)


def register(app: FastAPI) -> None:
    """Make the application answer every error with a problem."""
    app.add_exception_handler(CommandCenterError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


class Border:
    """Where unexpected errors end: they are logged, and the caller is told no more than that."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and answer 500 if it raises before it has answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, note)
        except Exception:
            _log.exception("A request failed unexpectedly: %s %s", scope["method"], scope["path"])
            if begun:
                raise
            await answer(problem(500, _unexpected(scope["path"])))(scope, receive, send)


def _unexpected(path: str) -> str:
    if path.endswith("/start"):
        return "Failed to start autonomous execution"
    return "The request failed unexpectedly; the service's log says why."


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, CommandCenterError)
    said = error.message
    if request.url.path.endswith("/start") and isinstance(error, InputError):
        said = f"Execution start failed: {said}"
    hint = error.hint or None
    match error:
        case NotFound():
            return answer(problem(404, error.message, hint=hint))
        case PlanRefused():
            found = [_diagnostic(each) for each in error.diagnostics]
            kind = "urn:problem-type:plan-refused"
            return answer(problem(400, said, type=kind, hint=hint, diagnostics=found))
        case InputError():
            return answer(problem(400, said, type="urn:problem-type:input", hint=hint))
        case Unready():
            return answer(problem(503, said, type=UNREADY, hint=hint))
        case WorldError():
            _log.warning("A request failed: %s", said)
            return answer(problem(503, said, hint=hint))
        case _:
            return answer(problem(409, said, hint=hint))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # What was sent is left out: it may hold a secret, or be as large as the request.
    errors = [{"loc": e["loc"], "msg": e["msg"], "type": e["type"]} for e in error.errors()]
    said = "; ".join(f"{_place(e['loc'])}: {e['msg']}" for e in errors[:5])
    kind = "urn:problem-type:validation"
    return answer(problem(422, said, type=kind, errors=errors))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NO_CONTENT:
        return Response(status_code=error.status_code)
    return answer(
        problem(error.status_code, error.detail), dict(error.headers) if error.headers else None
    )


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if part != "body") or "body"


def _diagnostic(found: Diagnostic) -> DiagnosticAnswer:
    return DiagnosticAnswer(
        path=found.path,
        line=found.line,
        column=found.column,
        code=found.code,
        severity=found.severity,
        message=found.message,
        hint=found.hint or None,
    )
