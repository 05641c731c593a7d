"""The model gateway, over real unix sockets, in front of the scripted model server."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from commandcenter.core.agent import Usage
from commandcenter.core.budget import Allowance
from commandcenter.core.errors import InputError
from commandcenter.core.prices import Price
from commandcenter.gateway.credentials import ApiKey, Provider, SubscriptionToken
from commandcenter.gateway.model import BODY_BYTES_MAX, ModelGateway
from commandcenter.gateway.pinning import problem
from commandcenter.testing.model_server import ModelServer

SECRET = "sk-real-and-secret"
KEY = ApiKey(SECRET)
PLACEHOLDER = "held-by-the-model-gateway"
TOOLS = [{"name": "Bash", "input_schema": {"type": "object"}}]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@asynccontextmanager
async def client(path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.UnixConnector(path=str(path))
    async with aiohttp.ClientSession("http://model", connector=connector) as session:
        yield session


def asking(prompt: str, *, stream: bool = False) -> dict[str, Any]:
    message = {"role": "user", "content": prompt}
    return {"model": "m", "stream": stream, "tools": TOOLS, "messages": [message]}


async def post(path: Path, body: object, *, target: str = "/v1/messages", **headers: str) -> Answer:
    given = {"x-api-key": PLACEHOLDER, **{k.replace("_", "-"): v for k, v in headers.items()}}
    sent = io.BytesIO(json.dumps(body).encode())
    async with client(path) as session, session.post(target, data=sent, headers=given) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


async def raw(path: Path, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request)
    answer = await reader.readuntil(b"\r\n")
    writer.close()
    await writer.wait_closed()
    return answer


def gateway_to(server: ModelServer) -> ModelGateway:
    return ModelGateway(Provider("anthropic", server.url, KEY))


@dataclass(frozen=True)
class Served:
    server: ModelServer
    gateway: ModelGateway
    path: Path


@asynccontextmanager
async def served(
    folder: Path,
    script: Mapping[str, Any],
    credential: ApiKey | SubscriptionToken | None = KEY,
) -> AsyncIterator[Served]:
    async with ModelServer([script]) as server:
        gateway = ModelGateway(Provider("anthropic", server.url, credential))
        async with aclosing(gateway), gateway.socket(folder, key="a") as path:
            yield Served(server, gateway, path)


HELLO = {
    "name": "hello",
    "match": {"prompt": "TASK:hello"},
    "turns": [{"text": "Hello there.", "usage": [1000, 50]}],
}


async def test_the_real_key_replaces_whatever_the_agent_sends(tmp_path: Path) -> None:
    async with served(tmp_path, HELLO) as on:
        answer = await post(
            on.path,
            asking("TASK:hello"),
            authorization="Bearer stolen",
            cookie="session=1",
            x_forwarded_for="10.0.0.1",
            anthropic_beta="tools-1",
        )

    assert answer.status == 200
    (seen,) = on.server.requests
    assert seen.auth == "x-api-key"
    assert seen.headers["x-api-key"] == SECRET
    assert seen.headers["anthropic-beta"] == "tools-1"
    assert PLACEHOLDER not in str(seen.headers)
    assert "stolen" not in str(seen.headers)
    assert not {"cookie", "x-forwarded-for"} & seen.headers.keys()


async def test_a_subscription_token_goes_as_bearer_with_its_beta(tmp_path: Path) -> None:
    async with served(tmp_path, HELLO, SubscriptionToken(SECRET)) as on:
        await post(on.path, asking("TASK:hello"), anthropic_beta="tools-1")

    (seen,) = on.server.requests
    assert seen.auth == "bearer"
    assert seen.headers["authorization"] == f"Bearer {SECRET}"
    assert seen.headers["anthropic-beta"] == "tools-1,oauth-2025-04-20"


async def test_usage_of_a_plain_answer_and_of_a_stream_is_counted(tmp_path: Path) -> None:
    async with served(tmp_path, HELLO) as on:
        plain = await post(on.path, asking("TASK:hello"))
        streamed = await post(on.path, asking("TASK:hello", stream=True), target="/v1/messages?b=1")
        await post(on.path, asking("TASK:hello"), target="/v1/messages/count_tokens")

        assert plain.json["content"] == [{"type": "text", "text": "Hello there."}]
        assert b"message_stop" in streamed.body
        assert on.gateway.usage("a") == Usage(input_tokens=2000, output_tokens=100, requests=2)
        assert on.gateway.usage("b") == Usage()


async def test_a_stream_is_passed_on_while_the_model_still_speaks(tmp_path: Path) -> None:
    held = {"turns": [{"text": "word " * 40, "fault": {"hold_after": 3}}]}
    async with served(tmp_path, held) as on, client(on.path) as session:
        answer = await session.post("/v1/messages", json=asking("x", stream=True))
        early = await answer.content.readuntil(b"text_delta")
        finished_early = on.server.requests[0].ended.is_set()
        on.server.release()
        rest = await answer.content.read()

    assert b"message_start" in early
    assert not finished_early
    assert rest.endswith(b'data: {"type": "message_stop"}\n\n')


async def test_an_agent_that_leaves_closes_the_providers_stream(tmp_path: Path) -> None:
    held = {"turns": [{"text": "word " * 40, "usage": [700, 9], "fault": {"hold_after": 3}}]}
    async with served(tmp_path, held) as on:
        async with client(on.path) as session:
            answer = await session.post("/v1/messages", json=asking("x", stream=True))
            await answer.content.readuntil(b"text_delta")
            answer.close()
        await asyncio.wait_for(on.server.requests[0].ended.wait(), 10)

        assert not on.server.requests[0].complete
        assert on.gateway.usage("a").input_tokens == 700


async def test_parallel_attempts_are_never_mixed(tmp_path: Path) -> None:
    turns = [{"name": f"t{n}", "match": {"prompt": f"TASK:{n}$"}} for n in range(8)]
    scripts = [
        {**turn, "turns": [{"text": "x", "usage": [10**n, n]}]} for n, turn in enumerate(turns)
    ]
    folders = [tmp_path / str(n) for n in range(8)]
    for folder in folders:
        folder.mkdir()

    async with ModelServer(scripts) as server, aclosing(gateway_to(server)) as gateway:
        paths = [await gateway.open(folder, key=folder.name) for folder in folders]
        asked = [
            post(path, asking(f"TASK:{n}", stream=bool(repeat % 2)))
            for repeat in range(5)
            for n, path in enumerate(paths)
        ]
        answers = await asyncio.gather(*asked)

        assert {answer.status for answer in answers} == {200}
        assert [gateway.usage(str(n)) for n in range(8)] == [
            Usage(input_tokens=5 * 10**n, output_tokens=5 * n, requests=5) for n in range(8)
        ]


async def test_a_rate_limit_is_noted_in_full_and_told_in_short(tmp_path: Path) -> None:
    fault = {"status": 429, "headers": {"retry-after": 3600}}
    async with served(tmp_path, {"turns": [{"fault": fault}]}) as on:
        answer = await post(on.path, asking("x"))

        assert answer.status == 429
        assert answer.json["error"]["type"] == "rate_limit_error"
        assert answer.headers["retry-after"] == "60"
        assert answer.headers["x-should-retry"] == "false"
        facts = on.gateway.facts("a")
        assert (facts.rate_limited, facts.retry_after_s, facts.last_status) == (1, 3600.0, 429)
        assert on.gateway.facts("b").rate_limited == 0


async def test_a_short_wait_is_told_as_it_is(tmp_path: Path) -> None:
    fault = {"status": 529, "headers": {"retry-after": 7}}
    async with served(tmp_path, {"turns": [{"fault": fault}]}) as on:
        answer = await post(on.path, asking("x"))

        assert answer.headers["retry-after"] == "7"
        assert "x-should-retry" not in answer.headers
        assert on.gateway.facts("a").overloaded == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_the_provider_refuses_is_not_tried_again(
    tmp_path: Path, status: int
) -> None:
    async with served(tmp_path, {"turns": [{"fault": {"status": status}}]}) as on:
        answer = await post(on.path, asking("x"))

        assert answer.status == status
        assert answer.headers["x-should-retry"] == "false"
        assert on.gateway.facts("a").unauthorized == 1
        assert on.gateway.usage("a").requests == 0


async def test_a_provider_that_is_down_is_a_502_in_its_own_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with aclosing(ModelGateway(Provider("anthropic", url, KEY))) as gateway:
        async with gateway.socket(tmp_path, key="a") as path:
            answer = await post(path, asking("x"))

        assert answer.status == 502
        assert answer.json["error"]["type"] == "api_error"
        assert "`anthropic` cannot be reached" in answer.json["error"]["message"]
        assert gateway.facts("a").overloaded == 1


async def test_half_an_answer_never_ends_as_a_whole_one(tmp_path: Path) -> None:
    dropped = {"turns": [{"text": "word " * 40, "fault": {"drop_after": 4}}]}
    async with served(tmp_path, dropped) as on:
        with pytest.raises(aiohttp.ClientPayloadError):
            await post(on.path, asking("x", stream=True))


@pytest.mark.parametrize(
    "line",
    [
        b"POST /v1/files HTTP/1.1",
        b"GET /v1/messages HTTP/1.1",
        b"DELETE /v1/models/m HTTP/1.1",
        b"GET /v1/models/../files HTTP/1.1",
        b"GET /v1/models/%2e%2e/files HTTP/1.1",
        b"POST /v1/messages/batches HTTP/1.1",
        b"POST //v1/messages HTTP/1.1",
        b"POST /v1/messages/ HTTP/1.1",
        b"POST http://elsewhere.test/v1/messages HTTP/1.1",
        b"CONNECT elsewhere.test:443 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
    ],
)
async def test_nothing_but_model_calls_passes(tmp_path: Path, line: bytes) -> None:
    async with served(tmp_path, HELLO) as on:
        answer = await raw(on.path, line + b"\r\nHost: model\r\nContent-Length: 0\r\n\r\n")

    assert answer.split()[1] in (b"400", b"403")
    assert on.server.requests == []


async def test_the_model_list_and_the_first_knock_are_answered(tmp_path: Path) -> None:
    async with served(tmp_path, HELLO) as on, client(on.path) as session:
        knock = await session.head("/")
        models = await session.get("/v1/models?limit=9")
        await models.read()
        statuses = knock.status, models.status

    assert statuses == (200, 200)
    assert [seen.path for seen in on.server.requests] == ["/v1/models"]


async def test_a_request_larger_than_the_bound_is_refused_unread(tmp_path: Path) -> None:
    async with served(tmp_path, HELLO) as on:
        head = f"POST /v1/messages HTTP/1.1\r\nHost: m\r\nContent-Length: {BODY_BYTES_MAX + 1}"
        answer = await raw(on.path, head.encode() + b"\r\n\r\n")

    assert answer.split()[1] == b"413"
    assert on.server.requests == []


async def test_a_request_of_unknown_length_is_refused(tmp_path: Path) -> None:
    head = b"POST /v1/messages HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served(tmp_path, HELLO) as on:
        answer = await raw(on.path, head)

    assert answer.split()[1] == b"411"
    assert on.server.requests == []


async def test_a_request_with_two_lengths_cannot_reach_into_anothers_connection(
    tmp_path: Path,
) -> None:
    head = b"POST /v1/messages HTTP/1.1\r\nHost: m\r\nContent-Length: 9\r\n"
    async with served(tmp_path, HELLO) as on:
        answer = await raw(on.path, head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")

    assert answer.split()[1] in (b"400", b"411")
    assert on.server.requests == []


async def test_an_agent_that_leaves_in_the_middle_of_its_question_hurts_nobody(
    tmp_path: Path,
) -> None:
    head = b"POST /v1/messages HTTP/1.1\r\nHost: m\r\nContent-Length: 1000000\r\n\r\n{"
    async with served(tmp_path, HELLO) as on:
        _, writer = await asyncio.open_unix_connection(str(on.path))
        writer.write(head)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        answer = await post(on.path, asking("TASK:hello"))

    assert answer.status == 200


async def test_a_large_prompt_passes_whole(tmp_path: Path) -> None:
    prompt = "TASK:hello " + "x" * 3_000_000
    async with served(tmp_path, HELLO) as on:
        answer = await post(on.path, asking(prompt))

    assert answer.status == 200
    assert json.loads(on.server.requests[0].body)["messages"][0]["content"] == prompt


async def test_a_socket_may_lie_deeper_than_the_kernels_108_bytes(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 20) / ("deeper" * 20)
    folder.mkdir(parents=True)
    short = tmp_path / "short"
    short.symlink_to(folder)

    async with served(folder, HELLO) as on:
        answer = await post(short / on.path.name, asking("TASK:hello"))
        mode = on.path.stat().st_mode & 0o777

    assert answer.status == 200
    assert mode == 0o666
    assert not on.path.exists()


async def test_a_socket_left_by_a_dead_process_is_replaced(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "model.sock"))
    stale.close()

    async with served(tmp_path, HELLO) as on:
        answer = await post(on.path, asking("TASK:hello"))

    assert answer.status == 200


async def test_closing_ends_what_still_streams(tmp_path: Path) -> None:
    held = {"turns": [{"text": "word " * 40, "fault": {"hold_after": 3}}]}
    async with served(tmp_path, held) as on, client(on.path) as session:
        answer = await session.post("/v1/messages", json=asking("x", stream=True))
        await answer.content.readuntil(b"text_delta")
        await on.gateway.aclose()
        with pytest.raises(aiohttp.ClientError):
            await answer.content.read()
        answer.close()

    assert list(tmp_path.iterdir()) == []


def test_secrets_are_in_no_representation() -> None:
    for credential in (ApiKey(SECRET), SubscriptionToken(SECRET)):
        provider = Provider("anthropic", "https://api.anthropic.com", credential)
        assert SECRET not in f"{provider!r} {provider} {credential!r}"


@pytest.mark.parametrize(
    "url", ["", "api.anthropic.com", "ftp://x", "https://me:key@x", "https://"]
)
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        Provider("anthropic", url, None)


BUSY = {
    "name": "busy",
    "match": {"prompt": "TASK:busy"},
    "turns": [
        {"text": "At last.", "fault": {"status": 429, "times": 1, "headers": {"retry-after": "60"}}}
    ],
}


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now_ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now_ms


@asynccontextmanager
async def parking(folder: Path, clock: Clock, url: str) -> AsyncIterator[tuple[ModelGateway, Path]]:
    provider = Provider("anthropic", url, KEY)
    gateway = ModelGateway(provider, now_ms=clock, record=folder / "parked.json")
    async with aclosing(gateway), gateway.socket(folder, key="a") as path:
        yield gateway, path


async def test_a_provider_that_is_busy_is_left_alone_until_it_says(tmp_path: Path) -> None:
    clock = Clock()
    async with ModelServer([BUSY]) as server, parking(tmp_path, clock, server.url) as (on, path):
        free = on.pauses.of("anthropic")
        answer = await post(path, asking("TASK:busy"))
        parked, words = on.pauses.of("anthropic"), on.pauses.words()["anthropic"]
        clock.now_ms += 60_000

        assert free is None
        assert answer.status == 429
        assert parked is not None
        assert "anthropic (429, rate limit) until" in words
        assert on.pauses.of("anthropic") is None


async def test_who_waits_for_a_busy_provider_goes_on_when_another_is_answered(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with ModelServer([BUSY]) as server, parking(tmp_path, clock, server.url) as (on, path):
        await post(path, asking("TASK:busy"))
        waiting = asyncio.create_task(on.pauses.over("anthropic"))
        clock.now_ms += 1000
        answer = await post(path, asking("TASK:busy"))

        assert answer.status == 200
        async with asyncio.timeout(30):
            await waiting


async def test_that_a_provider_is_left_alone_survives_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    async with ModelServer([BUSY]) as server:
        async with parking(tmp_path, clock, server.url) as (first, path):
            await post(path, asking("TASK:busy"))
            before = first.pauses.of("anthropic")
        async with parking(tmp_path, clock, server.url) as (second, _):
            assert before is not None
            assert second.pauses.of("anthropic") == before


async def test_a_record_that_cannot_be_read_parks_nobody(tmp_path: Path) -> None:
    (tmp_path / "parked.json").write_text('{"schema": 1, "providers": {"anthropic": {"x": 1}}}')

    async with parking(tmp_path, Clock(), "http://127.0.0.1:9") as (gateway, _):
        assert gateway.pauses.of("anthropic") is None


async def test_what_the_answers_cost_is_counted_by_the_table_and_else_unknown(
    tmp_path: Path,
) -> None:
    table = (Price("priced*", input=3, output=15, cache_read=0.3, cache_write=3.75),)
    priced, other = ({**asking("TASK:hello"), "model": name} for name in ("priced-1", "other"))
    async with ModelServer([HELLO]) as server:
        gateway = ModelGateway(Provider("anthropic", server.url, KEY), prices=table)
        async with aclosing(gateway), gateway.socket(tmp_path, key="a") as path:
            await post(path, priced)
            once = gateway.usage("a")
            await post(path, {**priced, "stream": True})
            twice = gateway.usage("a")
            await post(path, other)
            mixed = gateway.usage("a")

    assert once.cost_usd == pytest.approx((1000 * 3 + 50 * 15) / 1_000_000)
    assert twice.cost_usd == pytest.approx(2 * (1000 * 3 + 50 * 15) / 1_000_000)
    assert mixed.cost_usd is None


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        ({"model": "big-1"}, {}, "the model big-1 is not one of them"),
        ({"model": ["small-1"]}, {}, "names no model"),
        ({}, {}, "names no model"),
        (["small-1"], {}, "names no model"),
        ({"model": "small-1"}, {"content_encoding": "gzip"}, "encoding gzip"),
    ],
)
async def test_a_model_that_the_profile_may_not_use_is_refused(
    tmp_path: Path, body: object, headers: dict[str, str], words: str
) -> None:
    async with ModelServer([HELLO]) as server, aclosing(gateway_to(server)) as gateway:
        async with gateway.socket(tmp_path, key="a", models=["small-*", "tiny"]) as path:
            refused = await post(path, body, **headers)
            passed = await post(path, {**asking("TASK:hello"), "model": "small-1"})
            tiny = await post(path, {**asking("TASK:hello"), "model": "tiny"})

        assert refused.status == 400
        assert refused.headers["x-should-retry"] == "false"
        assert "small-*, tiny" in refused.json["error"]["message"]
        assert words in refused.json["error"]["message"]
        assert (passed.status, tiny.status) == (200, 200)
        assert [json.loads(each.body)["model"] for each in server.requests] == ["small-1", "tiny"]


def test_a_request_that_names_two_models_is_not_passed_on() -> None:
    body = b'{"model": "small-1", "messages": [], "model": "big-1"}'

    assert problem(body, "", ["*"]) == "the request cannot be read"


async def test_each_provider_is_asked_at_its_place_with_its_own_credential(tmp_path: Path) -> None:
    folders = (tmp_path / "a", tmp_path / "b")
    for folder in folders:
        folder.mkdir()
    async with ModelServer([HELLO]) as first, ModelServer([HELLO]) as second:
        gateway = ModelGateway(
            Provider("first", first.url, ApiKey("first-secret")),
            Provider("second", second.url, ApiKey("second-secret")),
        )
        async with aclosing(gateway):
            unnamed = await gateway.open(folders[0], key="a")
            named = await gateway.open(folders[1], key="b", provider="second")
            for path in (unnamed, named):
                assert (await post(path, asking("TASK:hello"))).status == 200

        assert [each.headers["x-api-key"] for each in first.requests] == ["first-secret"]
        assert [each.headers["x-api-key"] for each in second.requests] == ["second-secret"]


async def test_a_busy_provider_holds_up_nobody_who_asks_another(tmp_path: Path) -> None:
    async with ModelServer([BUSY]) as busy:
        record = tmp_path / "parked.json"
        busy_one, other = Provider("busy", busy.url, KEY), Provider("other", busy.url, KEY)
        gateway = ModelGateway(busy_one, other, now_ms=Clock(), record=record)
        async with aclosing(gateway), gateway.socket(tmp_path, key="a") as path:
            await post(path, asking("TASK:busy"))

            assert gateway.pauses.of("busy") is not None
            assert gateway.pauses.of("other") is None
            assert list(gateway.pauses.words()) == ["busy"]
        assert list(json.loads(record.read_text())["providers"]) == ["busy"]


async def test_a_missing_credential_is_named_by_its_own_variables(tmp_path: Path) -> None:
    provider = Provider("other", "http://127.0.0.1:9", None, "OTHER_KEY")
    async with aclosing(ModelGateway(provider)) as gateway:
        answer = await post(await gateway.open(tmp_path, key="a"), asking("TASK:hello"))

    assert answer.status == 401
    assert "Set OTHER_KEY in the environment" in answer.json["error"]["message"]


def allowed(usd: float, name: str = "run/1.1/0") -> Allowance:
    return Allowance(name, "1.1", 4.0, usd)


async def test_a_request_that_a_budget_does_not_cover_is_refused_in_words(tmp_path: Path) -> None:
    # An answer costs $0.00375 by what it uses, and $0.015 at most.
    table = (Price("*", input=3, output=15, cache_read=0.3, cache_write=3.75),)
    body = {**asking("TASK:hello"), "max_tokens": 1000}
    async with ModelServer([HELLO]) as server:
        gateway = ModelGateway(Provider("anthropic", server.url, KEY), prices=table)
        async with (
            aclosing(gateway),
            gateway.socket(tmp_path, key="a", allowance=allowed(0.0201)) as path,
        ):
            answers = [await post(path, body) for _ in range(4)]
            left, facts = gateway.left_usd(allowed(0.0201)), gateway.facts("a")

    assert [answer.status for answer in answers] == [200, 200, 400, 400]
    assert answers[2].headers["x-should-retry"] == "false"
    assert answers[2].json["error"]["message"] == (
        "CommandCenter: the budget of task 1.1 ($4) is reached; $0.0126 is left, and this answer "
        "could cost $0.0150. Nothing more is passed on."
    )
    assert len(server.requests) == 2
    assert (left, facts.over_budget) == (0.0, 2)


async def test_without_a_budget_the_same_requests_pass(tmp_path: Path) -> None:
    table = (Price("*", input=3, output=15, cache_read=0.3, cache_write=3.75),)
    body = {**asking("TASK:hello"), "max_tokens": 1000}
    async with ModelServer([HELLO]) as server:
        gateway = ModelGateway(Provider("anthropic", server.url, KEY), prices=table)
        async with aclosing(gateway), gateway.socket(tmp_path, key="a") as path:
            answers = [await post(path, body) for _ in range(4)]

    assert [answer.status for answer in answers] == [200] * 4


async def test_all_sockets_of_a_task_take_from_one_budget(tmp_path: Path) -> None:
    table = (Price("*", input=3, output=15, cache_read=0.3, cache_write=3.75),)
    body = {**asking("TASK:hello"), "max_tokens": 1000}
    folders = (tmp_path / "a", tmp_path / "b")
    for folder in folders:
        folder.mkdir()
    async with ModelServer([HELLO]) as server:
        gateway = ModelGateway(Provider("anthropic", server.url, KEY), prices=table)
        async with (
            aclosing(gateway),
            gateway.socket(folders[0], key="a", allowance=allowed(0.016)) as first,
            gateway.socket(folders[1], key="b", allowance=allowed(0.016)) as second,
        ):
            answers = await asyncio.gather(post(first, body), post(second, body))

    assert sorted(answer.status for answer in answers) == [200, 400]
    assert len(server.requests) == 1


async def test_a_model_without_a_price_is_bounded_by_what_is_left_only(tmp_path: Path) -> None:
    body = {**asking("TASK:hello"), "max_tokens": 10**6}
    async with ModelServer([HELLO]) as server, aclosing(gateway_to(server)) as gateway:
        async with gateway.socket(tmp_path, key="a", allowance=allowed(0.01)) as path:
            passed = await post(path, body)
        async with gateway.socket(tmp_path, key="a", allowance=allowed(0.0, "other")) as path:
            refused = await post(path, body)

    assert (passed.status, refused.status) == (200, 400)


async def test_a_request_whose_cost_cannot_be_read_is_refused_under_a_budget(
    tmp_path: Path,
) -> None:
    async with ModelServer([HELLO]) as server, aclosing(gateway_to(server)) as gateway:
        async with gateway.socket(tmp_path, key="a", allowance=allowed(4.0)) as path:
            refused = await post(path, asking("TASK:hello"))

        assert refused.status == 400
        assert "cannot be read" in refused.json["error"]["message"]
        assert server.requests == []
