"""A run's report, in the format that is asked for."""

from __future__ import annotations

import asyncio
from enum import StrEnum

from fastapi import APIRouter
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from commandcenter.api.needs import Service
from commandcenter.api.problem import Json
from commandcenter.api.report_answer import ReportAnswer
from commandcenter.api.report_markdown import markdown
from commandcenter.api.report_page import POLICY, page
from commandcenter.core.run_report import RunReport

_HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Format(StrEnum):
    """What a report is read as."""

    MARKDOWN = "md"
    HTML = "html"
    JSON = "json"


def reports(service: Service) -> APIRouter:
    """Return the routes of reports."""
    router = APIRouter(tags=["watching"])

    @router.get(
        "/{execution_id}/report",
        response_model=ReportAnswer,
        responses={200: {"content": {"text/html": {}, "text/markdown": {}}}},
    )
    async def report(
        execution_id: str,
        format: Format = Format.JSON,  # noqa: A002
    ) -> Response:
        """Say what became of a run, or has so far: as JSON, as Markdown, or as one HTML file."""
        found = await service.report(execution_id)
        # Of a large run it is megabytes.
        return await asyncio.to_thread(_answer, found, format)

    return router


def _answer(report: RunReport, format_: Format) -> Response:
    match format_:
        case Format.JSON:
            return Json(ReportAnswer.of(report).model_dump(mode="json", by_alias=True))
        case Format.MARKDOWN:
            return PlainTextResponse(
                markdown(report), headers=_HEADERS, media_type="text/markdown; charset=utf-8"
            )
        case Format.HTML:
            return HTMLResponse(page(report), headers=_HEADERS)
