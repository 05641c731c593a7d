"""Hooks of the hub: registered as on GitHub, signed as by GitHub, and led to nowhere else."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from commandcenter.hub.hooks import HOOKS_MAX, is_allowed
from commandcenter.testing.forges import served

SECRET = "a secret of more than 16 characters"


@dataclass
class Ear:
    """A program on this machine that is told."""

    url: str = ""
    heard: asyncio.Queue[tuple[dict[str, str], bytes]] = field(default_factory=asyncio.Queue)

    async def take(self, request: Request) -> Response:
        await self.heard.put((dict(request.headers), await request.body()))
        return Response("unread" * 10_000, 500)

    async def lead_away(self, _request: Request) -> Response:
        return RedirectResponse(f"{self.url}/taken", 307)

    async def next(self) -> tuple[dict[str, str], dict[str, Any]]:
        headers, body = await asyncio.wait_for(self.heard.get(), 30)
        return headers, json.loads(body)


@pytest.fixture
async def ear() -> AsyncIterator[Ear]:
    ear = Ear()
    routes = [
        Route("/taken", ear.take, methods=["POST"]),
        Route("/away", ear.lead_away, methods=["POST"]),
    ]
    async with served(Starlette(routes=routes)) as ear.url:
        yield ear


def wanted(url: str, *events: str, **config: str) -> dict[str, Any]:
    about = {"url": url, "content_type": "json", "secret": SECRET} | config
    return {"name": "web", "config": about, "events": list(events)}


async def test_what_happens_to_a_pull_request_is_told_and_signed(
    api: Any, reviewer: Any, desk: Any, ear: Ear
) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    made = await api("POST", "/hooks", json=wanted(f"{ear.url}/taken", "*"))
    pinged, ping = await ear.next()

    await api.opened("task")
    opened_by, opened = await ear.next()
    await reviewer("POST", "/pulls/1/reviews", json={"event": "APPROVE", "body": "Good."})
    reviewed_by, reviewed = await ear.next()
    await reviewer("PUT", "/pulls/1/merge", json={})
    _, merged = await ear.next()

    assert made.status_code == 201
    assert (pinged["x-github-event"], ping["hook_id"]) == ("ping", made.json()["id"])
    assert (opened_by["x-github-event"], opened["action"]) == ("pull_request", "opened")
    assert opened["repository"]["full_name"] == "acme/project"
    assert reviewed_by["x-github-event"] == "pull_request_review"
    assert reviewed["review"]["state"] == "APPROVED"
    assert (merged["action"], merged["sender"]["login"]) == ("closed", "reviewer")
    assert merged["pull_request"]["merged"] is True


async def test_the_signature_is_of_the_bytes_and_each_delivery_has_an_id(
    api: Any, ear: Ear
) -> None:
    for _ in range(2):
        await api("POST", "/hooks", json=wanted(f"{ear.url}/taken", "push"))
    heard = [await ear.heard.get(), await ear.heard.get()]

    ids = {headers["x-github-delivery"] for headers, _ in heard}
    assert len(ids) == 2
    for headers, body in heard:
        digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert headers["x-hub-signature-256"] == f"sha256={digest}"


async def test_a_hook_is_told_only_what_it_wants(api: Any, desk: Any, ear: Ear) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    await api("POST", "/hooks", json=wanted(f"{ear.url}/taken", "pull_request_review"))
    await ear.next()

    await api.opened("task")
    await api("POST", "/pulls/1/reviews", json={"event": "COMMENT", "body": "Hm."})

    headers, _ = await ear.next()
    assert headers["x-github-event"] == "pull_request_review"


async def test_a_secret_is_never_shown(api: Any, ear: Ear) -> None:
    made = await api("POST", "/hooks", json=wanted(f"{ear.url}/taken", "push"))
    listed = await api("GET", "/hooks")
    one = await api("GET", f"/hooks/{made.json()['id']}")

    assert listed.json() == [one.json()] == [made.json()]
    assert one.json()["config"]["secret"] == "********"
    assert SECRET not in made.text + listed.text + one.text


async def test_a_hook_that_was_deleted_is_told_no_more(api: Any, desk: Any, ear: Ear) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    first, second = [
        (await api("POST", "/hooks", json=wanted(f"{ear.url}/taken", "pull_request"))).json()["id"]
        for _ in range(2)
    ]
    await ear.next()
    await ear.next()

    deleted = await api("DELETE", f"/hooks/{first}")
    gone = await api("GET", f"/hooks/{first}")
    await api.opened("task")
    headers, _ = await ear.next()

    assert (deleted.status_code, gone.status_code) == (204, 404)
    assert headers["x-github-hook-id"] == str(second)


async def test_a_hook_is_not_led_elsewhere(api: Any, ear: Ear) -> None:
    await api("POST", "/hooks", json=wanted(f"{ear.url}/away", "push"))
    await api("POST", "/hooks", json=wanted(f"{ear.url}/taken", "push"))

    await ear.next()
    assert ear.heard.empty()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://example.org/x",
        "http://localhost/x",
        "http://10.0.0.1/x",
        "http://169.254.169.254/latest",
        "http://0.0.0.0/x",
        "http://2130706433/x",
        "http://127.1/x",
        "http://127.0.0.1.example.org/x",
        "http://[::ffff:10.0.0.1]/x",
        "http://127.0.0.1@example.org/x",
        "http://127.0.0.1\\@example.org/x",
        "http://127.0.0.1\t.example.org/x",
        "http://example.org\\@127.0.0.1/x",
        "http://me:you@127.0.0.1/x",
        "https://127.0.0.1/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1/x",
        "http://127.0.0.1:99999/x",
        "http://[::1/x",
    ],
)
async def test_an_address_that_is_not_this_machines_by_number_is_refused(
    api: Any, url: str
) -> None:
    answer = await api("POST", "/hooks", json=wanted(url, "push"))

    assert answer.status_code == 422
    assert (await api("GET", "/hooks")).json() == []


def test_this_machine_is_allowed() -> None:
    assert is_allowed("http://127.0.0.1:8001/webhooks/github")
    assert is_allowed("http://[::1]:8001/webhooks/github")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"config": "x"},
        {"name": "mail", **{k: v for k, v in wanted("http://127.0.0.1/").items() if k != "name"}},
        wanted("http://127.0.0.1/", content_type="form"),
        {**wanted("http://127.0.0.1/"), "events": "push"},
        {**wanted("http://127.0.0.1/"), "events": ["a b"]},
    ],
)
async def test_what_github_would_not_take_or_the_hub_cannot_do_is_refused(
    api: Any, body: dict[str, Any]
) -> None:
    assert (await api("POST", "/hooks", json=body)).status_code == 422


async def test_there_are_not_more_hooks_than_on_github(api: Any) -> None:
    # Nobody listens at this port.
    made = [
        (await api("POST", "/hooks", json=wanted("http://127.0.0.1:1/", "push"))).status_code
        for _ in range(HOOKS_MAX + 1)
    ]

    assert made == [201] * HOOKS_MAX + [422]


async def test_hooks_are_kept_over_a_restart(desk: Any, make_client: Any, ear: Ear) -> None:
    await desk.commit("task", {"a.txt": "a\n"}, desk.start)
    first, second = desk.engine(), desk.engine()
    path = "/repos/acme/project"
    async with make_client(desk.app(first)) as client:
        await client.post(f"{path}/hooks", json=wanted(f"{ear.url}/taken", "pull_request"))
    await ear.next()

    async with make_client(desk.app(second)) as client:
        await client.post(f"{path}/pulls", json={"title": "A", "head": "task", "base": "main"})
    _, told = await ear.next()

    assert told["action"] == "opened"
    first.dispose()
    second.dispose()
