"""The scripted model server: which turn answers, and what goes wrong when told to."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from commandcenter.testing.model_server import Anthropic, ModelServer, pick, scenario, tool_call

TOOLS = [{"name": name} for name in ("Bash", "Write", "Edit", "Read")]
TALK = scenario({"name": "talk", "match": {"prompt": "TASK:talk"}, "turns": [{"text": "1"}]})
MORE = scenario({"name": "more", "match": {"prompt": "TASK:more"}, "turns": [{"text": "2"}]})


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def used(tool: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "tool_use", "name": tool, "input": {}}]}


def answered(text: str = "fine") -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "content": text}]}


def body(*messages: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages), "tools": TOOLS, **more}


def picked(*messages: dict[str, Any], **more: object) -> tuple[str, int] | None:
    found = pick([TALK, MORE], Anthropic().read(body(*messages, **more)))
    return (found.scenario.name, found.number) if found else None


def test_the_conversation_is_the_state() -> None:
    first = [user("TASK:talk"), used("Bash"), answered(), used("Read"), answered()]

    assert picked(*first[:1]) == ("talk", 0)
    assert picked(*first[:3]) == ("talk", 1)
    assert picked(*first) == ("talk", 2)
    assert picked(*first, user("TASK:more")) == ("more", 0)
    assert picked(*first, user("and now?")) == ("talk", 2)
    assert picked(user("hello")) is None


def test_what_a_cli_slips_in_parts_no_turn() -> None:
    note = user("<system-reminder>Be brief.</system-reminder>")

    assert picked(user("TASK:talk"), used("Bash"), note, used("Bash"), answered()) == ("talk", 1)


def test_a_side_call_without_tools_takes_no_turn() -> None:
    assert picked(user("TASK:talk"), tools=[]) is None


def test_a_scenario_can_match_the_system_prompt() -> None:
    reviewer = scenario({"name": "r", "match": {"system": "You review"}, "turns": []})
    asked = Anthropic().read(body(user("x"), system=[{"type": "text", "text": "You review."}]))

    assert pick([reviewer], asked) is not None
    assert pick([reviewer], Anthropic().read(body(user("x")))) is None


def test_operations_become_calls_of_the_agents_tools_with_full_paths() -> None:
    system = "# Environment\n - Primary working directory: /project\n - Is a git repository: true"
    asked = Anthropic().read(body(user("x"), system=system))
    operations: list[dict[str, Any]] = [
        {"write": {"path": "a.txt", "content": "hi"}},
        {"edit": {"path": "/etc/x", "old": "a", "new": "b"}},
        {"read": "b.txt"},
        {"shell": "make"},
        {"tool": "Odd", "args": {"x": 1}},
    ]

    calls = [tool_call(operation, asked) for operation in operations]

    assert [(call.tool, dict(call.arguments)) for call in calls] == [
        ("Write", {"file_path": "/project/a.txt", "content": "hi"}),
        ("Edit", {"file_path": "/etc/x", "old_string": "a", "new_string": "b"}),
        ("Read", {"file_path": "/project/b.txt"}),
        ("Bash", {"command": "make", "description": "run"}),
        ("Odd", {"x": 1}),
    ]


async def test_a_tool_that_the_agent_does_not_have_is_an_error_that_says_so() -> None:
    script = {"turns": [{"do": [{"shell": "make"}]}]}
    async with ModelServer([script]) as server, httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.post("/v1/messages", json=body(user("x"), tools=[{"name": "Read"}]))

    assert answer.status_code == 400
    assert "no tool Bash" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("tools", "blocks"),
    [
        (TOOLS, [{"type": "text", "text": 'So:\n\n```json\n{"n": 1}\n```'}]),
        (
            [*TOOLS, {"name": "StructuredOutput"}],
            [
                {"type": "text", "text": "So:"},
                {"type": "tool_use", "name": "StructuredOutput", "input": {"n": 1}},
            ],
        ),
    ],
)
async def test_an_answer_goes_through_the_tool_for_it_if_the_agent_has_one(
    tools: list[dict[str, str]], blocks: list[dict[str, Any]]
) -> None:
    script = {"turns": [{"text": "So:", "answer": {"n": 1}}]}
    async with ModelServer([script]) as server, httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.post("/v1/messages", json=body(user("x"), tools=tools))

    content = [{k: v for k, v in block.items() if k != "id"} for block in answer.json()["content"]]
    assert content == blocks


async def test_a_fault_strikes_as_often_as_told() -> None:
    fault = {"status": 529, "times": 2, "headers": {"retry-after": 1}}
    script = {"turns": [{"fault": fault, "text": "fine"}]}
    async with ModelServer([script]) as server, httpx.AsyncClient(base_url=server.url) as client:
        answers = [await client.post("/v1/messages", json=body(user("x"))) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [529, 529, 200]
    assert answers[0].headers["retry-after"] == "1"
    assert answers[2].json()["content"][0]["text"] == "fine"


async def test_an_error_in_mid_stream_comes_after_a_good_start() -> None:
    script = {"turns": [{"text": "word " * 20, "fault": {"error_after": 2}}]}
    async with ModelServer([script]) as server, httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.post("/v1/messages", json=body(user("x"), stream=True))

    assert answer.status_code == 200
    assert "message_start" in answer.text
    assert answer.text.endswith('"message": "Overloaded"}}\n\n')


async def test_a_dropped_stream_breaks_the_connection() -> None:
    script = {"turns": [{"text": "word " * 20, "fault": {"drop_after": 2}}]}
    async with ModelServer([script]) as server, httpx.AsyncClient(base_url=server.url) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v1/messages", json=body(user("x"), stream=True))

        assert not server.requests[0].complete


async def test_a_hanging_request_ends_with_its_client() -> None:
    async with ModelServer([{"turns": [{"fault": {"hang": True}}]}]) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=0.2) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post("/v1/messages", json=body(user("x")))
        await asyncio.wait_for(server.requests[0].ended.wait(), 10)


async def test_it_closes_without_waiting_for_streams_that_stand_still() -> None:
    script = {"turns": [{"text": "word " * 20, "fault": {"hold_after": 2}}]}
    async with asyncio.timeout(10), httpx.AsyncClient() as client:
        async with ModelServer([script]) as server:
            asked = client.build_request(
                "POST", f"{server.url}/v1/messages", json=body(user("x"), stream=True)
            )
            answer = await client.send(asked, stream=True)
        await answer.aclose()

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "auth"),
    [
        ({"x-api-key": "k"}, "x-api-key"),
        ({"authorization": "Bearer t"}, "bearer"),
        ({"x-api-key": "k", "authorization": "Bearer t"}, "both"),
        ({}, "none"),
    ],
)
async def test_it_tells_how_a_request_authenticated(headers: dict[str, str], auth: str) -> None:
    async with ModelServer([]) as server, httpx.AsyncClient(base_url=server.url) as client:
        await client.post("/v1/messages", json=body(user("x")), headers=headers)

    assert server.requests[0].auth == auth
