"""The adapter when the forge is slow, limited, broken or half-heard: a scripted app in front."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from commandcenter.core.errors import ForgeError
from commandcenter.core.forge import Decision, Issue, Review
from commandcenter.forges.github import GitHub
from commandcenter.testing.forges import BareGround

Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]
TOKEN = "token-of-the-author"


@dataclass
class Weather(httpx.AsyncBaseTransport):
    """Passes requests on to the real hub, unless a scripted answer waits for that call."""

    url: str
    waiting: list[tuple[str, str, Answer]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    through: httpx.AsyncHTTPTransport = field(
        default_factory=lambda: httpx.AsyncHTTPTransport(verify=False)
    )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        for entry in self.waiting:
            method, end, answer = entry
            if request.method == method and request.url.path.endswith(end):
                self.waiting.remove(entry)
                return await answer(request)
        return await self.through.handle_async_request(request)

    def answers(self, method: str, end: str, status: int, body: Any, **headers: str) -> None:
        async def answer(_request: httpx.Request) -> httpx.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return httpx.Response(status, json=body, headers=named)

        self.waiting.append((method, end, answer))

    def loses_the_answer(self, method: str, end: str) -> None:
        async def answer(request: httpx.Request) -> httpx.Response:
            response = await self.through.handle_async_request(request)
            await response.aread()
            raise httpx.ReadError("connection reset", request=request)

        self.waiting.append((method, end, answer))

    def changes(self, method: str, end: str, **changes: Any) -> None:
        async def answer(request: httpx.Request) -> httpx.Response:
            response = await self.through.handle_async_request(request)
            return httpx.Response(200, json=json.loads(await response.aread()) | changes)

        self.waiting.append((method, end, answer))

    async def aclose(self) -> None:
        await self.through.aclose()


@dataclass(frozen=True)
class Scene:
    ground: BareGround
    weather: Weather
    forge: GitHub
    waits: list[float]


@pytest.fixture
async def scene(ground: BareGround) -> Any:
    url = str(ground.client.base_url).removesuffix("/repos/acme/project/")
    weather, waits = Weather(url), list[float]()

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    async with httpx.AsyncClient(transport=weather) as client:
        forge = GitHub(url, "acme", "project", TOKEN, client=client, pause=pause)
        yield Scene(ground, weather, forge, waits)


async def _proposed(scene: Scene, branch: str = "task-1") -> tuple[int, str]:
    head = await scene.ground.commit(branch, {"a.txt": "a\n"}, onto="main")
    made = await scene.forge.propose(
        head_branch=branch, base_branch="main", title="A task", body="Words."
    )
    return made.number, head


async def test_a_merge_waits_until_the_forge_knows_whether_it_can(scene: Scene) -> None:
    number, head = await _proposed(scene)
    for _ in range(3):
        scene.weather.changes("GET", f"/pulls/{number}", mergeable=None)

    commit = await scene.forge.merge(number, head=head)

    assert await scene.ground.tip("main") == commit
    assert scene.waits == [0.25, 0.5, 1.0]


async def test_a_merge_does_not_wait_for_ever(scene: Scene) -> None:
    number, head = await _proposed(scene)
    for _ in range(20):
        scene.weather.changes("GET", f"/pulls/{number}", mergeable=None)

    await scene.forge.merge(number, head=head)

    assert len(scene.waits) == 6


async def test_a_merge_whose_answer_got_lost_is_found(scene: Scene) -> None:
    number, head = await _proposed(scene)
    scene.weather.loses_the_answer("PUT", f"/pulls/{number}/merge")

    commit = await scene.forge.merge(number, head=head)

    assert await scene.ground.tip("main") == commit
    assert scene.weather.asked.count(f"PUT /repos/acme/project/pulls/{number}/merge") == 1


async def test_a_merge_that_the_forge_refuses_stays_refused(scene: Scene) -> None:
    number, head = await _proposed(scene)
    words = {"message": "Required status check is expected."}
    scene.weather.answers("PUT", f"/pulls/{number}/merge", 405, words)

    with pytest.raises(ForgeError, match="Required status check") as refused:
        await scene.forge.merge(number, head=head)
    assert refused.value.status == 405


async def test_a_proposal_whose_answer_got_lost_is_found_by_its_branch(scene: Scene) -> None:
    await scene.ground.commit("task-1", {"a.txt": "a\n"}, onto="main")
    scene.weather.loses_the_answer("POST", "/pulls")
    asked = {"head_branch": "task-1", "base_branch": "main", "title": "A", "body": "B"}

    with pytest.raises(ForgeError, match="no answer"):
        await scene.forge.propose(**asked)
    made = await scene.forge.propose(**asked)

    assert [proposal.number for proposal in await scene.forge.proposals()] == [made.number]


async def test_reading_is_tried_again_when_the_forge_stumbles(scene: Scene) -> None:
    number, _ = await _proposed(scene)
    scene.weather.answers("GET", f"/pulls/{number}", 502, {"message": "Server Error"})
    scene.weather.answers("GET", f"/pulls/{number}", 503, {"message": "Server Error"})

    proposal = await scene.forge.proposal(number)

    assert proposal.number == number
    assert scene.waits == [0.5, 1.0]


async def test_a_forge_that_stays_down_is_an_error(scene: Scene) -> None:
    number, _ = await _proposed(scene)
    for _ in range(9):
        scene.weather.answers("GET", f"/pulls/{number}", 502, {"message": "Server Error"})

    with pytest.raises(ForgeError) as failed:
        await scene.forge.proposal(number)

    assert failed.value.status == 502
    assert len(scene.waits) == 3


async def test_a_write_is_not_sent_twice_when_the_forge_stumbles(scene: Scene) -> None:
    number, _ = await _proposed(scene)
    scene.weather.answers("POST", f"/issues/{number}/comments", 502, {"message": "Server Error"})

    with pytest.raises(ForgeError) as failed:
        await scene.forge.comment(number, "hello")

    assert failed.value.status == 502
    assert scene.waits == []


async def test_a_secondary_limit_is_waited_for_even_by_writes(scene: Scene) -> None:
    number, _ = await _proposed(scene)
    limited = {"message": "You have exceeded a secondary rate limit."}
    scene.weather.answers("POST", f"/issues/{number}/comments", 403, limited, retry_after="7")
    scene.weather.answers("POST", f"/issues/{number}/comments", 429, limited)

    await scene.forge.comment(number, "hello")

    assert scene.waits == [7.0, 30.0]
    assert await scene.ground.comments(number) == ["hello"]


async def test_a_long_limit_is_told_instead_of_waited_for(scene: Scene) -> None:
    number, _ = await _proposed(scene)
    limited = {"message": "API rate limit exceeded"}
    scene.weather.answers("GET", f"/pulls/{number}", 429, limited, retry_after="3600")

    with pytest.raises(ForgeError) as refused:
        await scene.forge.proposal(number)

    assert refused.value.status == 429
    assert "3600 seconds" in refused.value.hint
    assert scene.waits == []


async def test_a_refusal_to_judge_ones_own_proposal_becomes_a_comment(scene: Scene) -> None:
    number, head = await _proposed(scene)
    scene.weather.answers(
        "GET", "/user", 403, {"message": "Resource not accessible by integration"}
    )

    published = await scene.forge.review(number, Review(head, Decision.APPROVE, "Good."))

    assert published == "comment"
    [seen] = await scene.ground.reviews(number)
    assert "Approved" in seen.body


async def test_a_refused_line_comment_goes_into_the_summary(scene: Scene) -> None:
    number, head = await _proposed(scene)
    scene.weather.answers(
        "POST",
        f"/pulls/{number}/reviews",
        422,
        {"message": "Unprocessable Entity", "errors": ["Line could not be resolved"]},
    )
    issue = Issue("wrong", file="a.txt", line=1)

    await scene.forge.review(number, Review(head, Decision.REVISE, "Look.", (issue,)))

    [seen] = await scene.ground.reviews(number)
    assert "`a.txt:1`: wrong" in seen.body
    assert await scene.ground.line_comments(number) == []


async def test_a_list_that_ignores_the_head_filter_gives_no_foreign_proposal(
    scene: Scene,
) -> None:
    foreign, _ = await _proposed(scene, "task-1")
    await scene.ground.commit("task-2", {"b.txt": "b\n"}, onto="main")
    everything = (await scene.ground.client.get("pulls")).json()
    scene.weather.answers("GET", "/pulls", 200, everything)

    made = await scene.forge.propose(
        head_branch="task-2", base_branch="main", title="Another", body=""
    )

    assert made.number != foreign
    assert (await scene.forge.proposal(foreign)).title == "A task"


async def test_an_answer_that_is_no_json_is_an_error_with_a_hint(scene: Scene) -> None:
    async def page(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, html="<p>Please log in to the proxy.")

    scene.weather.waiting.append(("GET", "/pulls/1", page))

    with pytest.raises(ForgeError, match="did not answer with JSON") as refused:
        await scene.forge.proposal(1)
    assert "proxy" in refused.value.hint


async def test_an_answer_of_another_shape_is_an_error(scene: Scene) -> None:
    scene.weather.answers("GET", "/pulls/1", 200, {"number": "one"})

    with pytest.raises(ForgeError, match="something else than expected"):
        await scene.forge.proposal(1)


async def test_the_token_follows_no_link_to_another_host(scene: Scene) -> None:
    link = '<https://evil.example/repos/acme/project/pulls?page=2>; rel="next"'
    scene.weather.answers("GET", "/pulls", 200, [], Link=link)

    with pytest.raises(ForgeError, match="another host"):
        await scene.forge.proposals()


async def test_the_token_is_in_no_error_and_no_log(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    scene.weather.answers("GET", "/pulls/1", 401, {"message": "Bad credentials"})

    with pytest.raises(ForgeError) as refused:
        await scene.forge.proposal(1)

    assert TOKEN not in f"{refused.value!r} {refused.value.hint} {refused.value.__cause__!r}"
    assert TOKEN not in caplog.text


async def test_nobody_listening_is_an_error_with_a_hint(scene: Scene) -> None:
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:

        async def pause(_seconds: float) -> None:
            return None

        forge = GitHub("http://127.0.0.1:1", "acme", "project", TOKEN, client=client, pause=pause)
        with pytest.raises(ForgeError, match="got no answer") as failed:
            await forge.proposals()
    assert failed.value.status is None
    assert "reach it" in failed.value.hint
