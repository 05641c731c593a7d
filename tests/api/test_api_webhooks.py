"""The one route that callers elsewhere are let through to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx
import pytest

from commandcenter.core.webhook import Heard

if TYPE_CHECKING:
    from tests.api.conftest import MemoryService

ELSEWHERE = {"Host": "builder.example.org", "Origin": "https://github.com"}
START = "/api/v1/autonomous/start"


async def test_a_webhook_comes_through_by_any_name_as_it_was_sent(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    body = b'{ "spaces":  "count" }\n'
    headers = {**ELSEWHERE, "X-GitHub-Event": "push", "X-Hub-Signature-256": "sha256=1"}

    answer = await http.post("/webhooks/github", content=body, headers=headers)

    assert (answer.status_code, answer.content) == (204, b"")
    ((forge, heard, content),) = service.heard
    assert (forge, content) == ("github", body)
    assert heard["x-hub-signature-256"] == "sha256=1"


@pytest.mark.parametrize(
    ("heard", "status"),
    [(Heard.LOOKING, 204), (Heard.IGNORED, 204), (Heard.FORGED, 401), (Heard.OFF, 404)],
)
async def test_what_became_of_it_is_answered(
    http: httpx.AsyncClient, service: MemoryService, heard: Heard, status: int
) -> None:
    service.answer = heard

    answer = await http.post("/webhooks/gitea", content=b"{}", headers=ELSEWHERE)

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/webhooks/github"),
        ("POST", START),
        ("POST", "/webhooks"),
        ("POST", "/webhooks/github/"),
        ("POST", f"/webhooks/..{START}"),
        ("POST", f"{START}?/webhooks/github"),
        ("POST", f"{START}%0a/webhooks/github"),
    ],
)
async def test_nothing_else_comes_through_by_it(
    http: httpx.AsyncClient, service: MemoryService, method: str, path: str
) -> None:
    by_name = await http.request(method, path, headers={"Host": "evil.example"})
    by_page = await http.request(method, path, headers={"Origin": "https://evil.example"})

    assert (by_name.status_code, by_page.status_code) == (421, 403)
    assert (service.submitted, service.heard) == ([], [])


async def test_a_body_is_bounded_whether_it_says_its_length_or_not(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 2**15

    told = await http.post("/webhooks/github", content=b"x" * (2**20 + 1), headers=ELSEWHERE)
    untold = await http.post("/webhooks/github", content=parts(), headers=ELSEWHERE)

    assert (told.status_code, untold.status_code) == (413, 413)
    assert service.heard == []
