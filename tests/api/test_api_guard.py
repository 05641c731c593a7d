"""Web pages are kept away; people and programs on this machine are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from commandcenter.api.app import create_api

if TYPE_CHECKING:
    from tests.api.conftest import MemoryService

START = "/api/v1/autonomous/start"
PLAN = {"plan_path": "plan.md"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8001", "localhost:8001", "LOCALHOST", "[::1]:8001", "[::1]"]
)
async def test_names_of_this_machine_are_answered(http: httpx.AsyncClient, host: str) -> None:
    assert (await http.get("/health", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8001",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "192.168.1.7",
        "0.0.0.0",
        "",
        "[::1",
        "localhost:port",
    ],
)
async def test_names_that_rebinding_could_use_are_refused(
    http: httpx.AsyncClient, service: MemoryService, host: str
) -> None:
    assert (await http.get("/health", headers={"Host": host})).status_code == 421
    assert (await http.post(START, json=PLAN, headers={"Host": host})).status_code == 421
    assert service.submitted == []


async def test_the_configured_host_is_answered(service: MemoryService) -> None:
    transport = httpx.ASGITransport(create_api(service, host="builder.lan"))
    async with httpx.AsyncClient(transport=transport, base_url="http://builder.lan") as client:
        assert (await client.get("/health")).status_code == 200
        refused = await client.get("/health", headers={"Host": "other.lan"})
    assert refused.status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_posts_from_other_sites_are_refused(
    http: httpx.AsyncClient, service: MemoryService, headers: dict[str, str]
) -> None:
    assert (await http.post(START, json=PLAN, headers=headers)).status_code == 403
    assert service.submitted == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:8001"},
        {"Origin": "http://127.0.0.1:8001", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_posts_from_here_are_accepted(
    http: httpx.AsyncClient, service: MemoryService, headers: dict[str, str]
) -> None:
    assert (await http.post(START, json=PLAN, headers=headers)).status_code == 200
    assert len(service.submitted) == 1


async def test_other_sites_may_not_read_the_answers(http: httpx.AsyncClient) -> None:
    answer = await http.get("/health", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_a_form_of_another_site_is_no_start(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    body = b'{"plan_path": "plan.md"}'
    answer = await http.post(START, content=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 422
    assert service.submitted == []
