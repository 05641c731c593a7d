"""A scripted model server: answers agents from scenarios, over the wire, with no model behind it.

The conversation in a request is the state: its newest user message that a scenario matches picks
the scenario, and the number of answers after that message picks the turn. So retries, resumed
sessions and parallel agents need no bookkeeping here; only faults count how often they struck.

    {"scenarios": [{"name": "hello", "match": {"prompt": "say hello", "system": "..."}, "turns": [
      {"text": "I write it.", "do": [{"write": {"path": "a.txt", "content": "hi\\n"}}],
       "usage": [1000, 50]},
      {"do": [{"edit": {"path": "a.txt", "old": "hi", "new": "ho"}}, {"read": "a.txt"}]},
      {"fault": {"status": 429, "headers": {"retry-after": "1"}, "times": 2},
       "do": [{"shell": "wc -c a.txt"}]},
      {"text": "Done."}, {"answer": {"decision": "approve"}}]}]}

Operations become calls of the tools that the agent advertises. An `answer` becomes a call of its
tool for structured output, and where it has none, fenced JSON after the text. Faults: `status`
(with `message`, `headers`), `hang` (never answers), and, in a stream, `drop_after`, `error_after`
and `hold_after` N events; each strikes `times` times, or always. A request without tools is a side
call (a title, a topic): it never takes a turn, unless the scenario says `"no_tools": true`.
Run by hand: `python -m commandcenter.testing.model_server --scenario FILE --port N`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_Json = Mapping[str, Any]  # Any: scenarios and requests are JSON, read key by key


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong at one turn."""

    status: int = 0
    message: str = "scripted fault"
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    hang: bool = False
    drop_after: int | None = None
    error_after: int | None = None
    hold_after: int | None = None
    """The stream stands still here until `ModelServer.release`."""
    times: int | None = None


@dataclass(frozen=True)
class Turn:
    """One scripted answer."""

    text: str = ""
    do: tuple[_Json, ...] = ()
    answer: _Json | None = None
    """A structured one."""
    input_tokens: int = 100
    output_tokens: int = 20
    stop: str = ""
    """A stop reason of its own, such as `max_tokens` or `refusal`."""
    fault: Fault | None = None


@dataclass(frozen=True)
class Scenario:
    """Which prompts it answers, and with which turns."""

    name: str
    turns: tuple[Turn, ...]
    prompt: re.Pattern[str] | None = None
    system: re.Pattern[str] | None = None
    no_tools: bool = False
    loop: bool = False
    """Whether the last turn is repeated for ever, for agents that never finish."""


def scenario(given: _Json) -> Scenario:
    """Return a scenario from its JSON form; an unknown key is a `TypeError`."""
    match = given.get("match", {})
    return Scenario(
        name=given.get("name", "scenario"),
        turns=tuple(_turn(turn) for turn in given["turns"]),
        prompt=re.compile(match["prompt"], re.DOTALL) if "prompt" in match else None,
        system=re.compile(match["system"], re.DOTALL) if "system" in match else None,
        no_tools=given.get("no_tools", False),
        loop=given.get("loop", False),
    )


def _turn(given: _Json) -> Turn:
    input_tokens, output_tokens = given.get("usage", (100, 20))
    return Turn(
        text=given.get("text", ""),
        do=tuple(given.get("do", ())),
        answer=given.get("answer"),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        stop=given.get("stop", ""),
        fault=Fault(**given["fault"]) if "fault" in given else None,
    )


@dataclass(frozen=True)
class Message:
    """One message of a conversation, whatever the wire called it."""

    role: str
    """`user`, `assistant` or `tool`."""
    text: str


@dataclass(frozen=True)
class Conversation:
    """What a request asks, in no wire's words."""

    model: str
    stream: bool
    system: str
    messages: tuple[Message, ...]
    tools: frozenset[str]

    @property
    def folder(self) -> str:
        """Return the working directory that the agent states, for tools that want full paths."""
        for text in (self.system, *(message.text for message in self.messages)):
            if found := _FOLDER.search(text):
                return found[1].rstrip(".,")
        return ""


_FOLDER = re.compile(r"[Ww]orking directory: ?`?(/[^\s`<]+)")


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool that the agent has."""

    tool: str
    arguments: _Json


@dataclass(frozen=True)
class Reply:
    """What the scripted model says, in no wire's words."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    input_tokens: int = 10
    output_tokens: int = 5
    stop: str = ""


class Wire(Protocol):
    """One provider's shape of requests, answers, streams and errors."""

    def read(self, body: _Json) -> Conversation:
        """Return what the request asks."""

    def whole(self, reply: Reply, model: str) -> _Json:
        """Return the answer as one document."""

    def events(self, reply: Reply, model: str) -> Iterator[bytes]:
        """Give the answer as the events of a stream."""

    def error(self, status: int, message: str) -> _Json:
        """Return an error as a document."""

    def broken(self) -> bytes:
        """Return the event that tells of an error inside a stream."""


class Anthropic:
    """The wire of Anthropic's Messages API."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    def read(self, body: _Json) -> Conversation:
        """Return what the request asks; tool results are messages of their own."""
        return Conversation(
            model=body.get("model", ""),
            stream=bool(body.get("stream")),
            system=_text(body.get("system")),
            messages=tuple(_messages(body.get("messages", ()))),
            tools=frozenset(tool["name"] for tool in body.get("tools", ()) if "name" in tool),
        )

    def whole(self, reply: Reply, model: str) -> _Json:
        """Return the answer as one message."""
        content = [{"type": "text", "text": reply.text}] if reply.text or not reply.calls else []
        return {
            **self._message(model),
            "content": [*content, *(self._tool_use(call, call.arguments) for call in reply.calls)],
            "stop_reason": _stop(reply),
            "usage": {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens},
        }

    def events(self, reply: Reply, model: str) -> Iterator[bytes]:
        """Give the answer as server-sent events, text and arguments in small pieces."""
        usage = {"input_tokens": reply.input_tokens, "output_tokens": 1}
        yield _event("message_start", message={**self._message(model), "usage": usage})
        if reply.text:
            pieces = ({"type": "text_delta", "text": piece} for piece in _pieces(reply.text))
            yield from _block(0, {"type": "text", "text": ""}, pieces)
        for index, call in enumerate(reply.calls, 1 if reply.text else 0):
            parts = _pieces(json.dumps(call.arguments))
            deltas = ({"type": "input_json_delta", "partial_json": part} for part in parts)
            yield from _block(index, self._tool_use(call, {}), deltas)
        end = {"stop_reason": _stop(reply), "stop_sequence": None}
        yield _event("message_delta", delta=end, usage={"output_tokens": reply.output_tokens})
        yield _event("message_stop")

    def error(self, status: int, message: str) -> _Json:
        """Return an error as Anthropic words it."""
        kind = _ERROR_TYPES.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}}

    def broken(self) -> bytes:
        """Return an overload error in mid-stream."""
        return _event("error", error={"type": "overloaded_error", "message": "Overloaded"})

    def _message(self, model: str) -> _Json:
        return {
            "id": f"msg_{next(self._ids):08}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }

    def _tool_use(self, call: ToolCall, arguments: _Json) -> _Json:
        identity = f"toolu_{next(self._ids):08}"
        return {"type": "tool_use", "id": identity, "name": call.tool, "input": arguments}


_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def _messages(messages: Sequence[_Json]) -> Iterator[Message]:
    for message in messages:
        content = message.get("content")
        blocks = content if isinstance(content, list) else []
        if any(block.get("type") == "tool_result" for block in blocks):
            yield Message("tool", "")
        text = _text(content)
        if message["role"] == "assistant" or text.strip():
            yield Message(message["role"], text)


def _text(content: Any) -> str:
    """Return the text of a string, or of a list of blocks."""
    if isinstance(content, list):
        return "\n".join(block.get("text", "") for block in content if isinstance(block, dict))
    return content if isinstance(content, str) else ""


def _stop(reply: Reply) -> str:
    return reply.stop or ("tool_use" if reply.calls else "end_turn")


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def _block(index: int, start: _Json, deltas: Iterator[_Json]) -> Iterator[bytes]:
    yield _event("content_block_start", index=index, content_block=start)
    for delta in deltas:
        yield _event("content_block_delta", index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), 40):
        yield text[start : start + 40]


@dataclass(frozen=True)
class Picked:
    """The turn that answers a conversation."""

    scenario: Scenario
    number: int

    @property
    def turn(self) -> Turn:
        """Return the scripted turn; after the last one the model has nothing left to do."""
        turns = self.scenario.turns
        if self.number < len(turns):
            return turns[self.number]
        return turns[-1] if self.scenario.loop else Turn(text="Done.")


def pick(scenarios: Sequence[Scenario], asked: Conversation) -> Picked | None:
    """Return the scenario of the newest user message that one matches, and its turn."""
    for index in range(len(asked.messages) - 1, -1, -1):
        message = asked.messages[index]
        if message.role != "user":
            continue
        for candidate in scenarios:
            if _matches(candidate, asked, message):
                return Picked(candidate, _answers(asked.messages[index + 1 :]))
    return None


def _matches(candidate: Scenario, asked: Conversation, message: Message) -> bool:
    if not asked.tools and not candidate.no_tools:
        return False
    by_prompt = candidate.prompt is None or candidate.prompt.search(message.text) is not None
    by_system = candidate.system is None or candidate.system.search(asked.system) is not None
    return by_prompt and by_system


_INJECTED = re.compile(r"\s*<(system-reminder|info-msg|environment_context)\b")


def _answers(messages: Sequence[Message]) -> int:
    """Count the answers: a run of assistant messages is one, also with a CLI's notes in between."""
    roles = [m.role for m in messages if not (m.role == "user" and _INJECTED.match(m.text))]
    before = ["user", *roles]
    return sum(now == "assistant" != earlier for earlier, now in zip(before, roles, strict=False))


def tool_call(operation: _Json, asked: Conversation) -> ToolCall:
    """Return the call of an advertised tool that does this neutral operation.

    Raises:
        LookupError: the agent has no such tool.
    """
    match operation:
        case {"tool": str(tool)}:
            return ToolCall(tool, operation.get("args", {}))
        case {"shell": str(command)}:
            wanted = ToolCall("Bash", {"command": command, "description": "run"})
        case {"write": {"path": str(path), "content": str(content)}}:
            wanted = ToolCall("Write", {"file_path": _full(path, asked), "content": content})
        case {"edit": {"path": str(path), "old": str(old), "new": str(new)}}:
            place = _full(path, asked)
            wanted = ToolCall("Edit", {"file_path": place, "old_string": old, "new_string": new})
        case {"read": str(path)}:
            wanted = ToolCall("Read", {"file_path": _full(path, asked)})
        case _:
            raise LookupError(f"no such operation: {json.dumps(operation)[:200]}")
    if wanted.tool not in asked.tools:
        raise LookupError(f"the agent has no tool {wanted.tool}, only {sorted(asked.tools)}")
    return wanted


def _full(path: str, asked: Conversation) -> str:
    return path if path.startswith("/") or not asked.folder else f"{asked.folder}/{path}"


@dataclass
class SeenRequest:
    """One request as it arrived, for tests to look at."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    scenario: str = ""
    turn: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once its answer is over, whoever ended it."""
    complete: bool = False
    """Whether the whole answer was sent."""

    @property
    def auth(self) -> str:
        """Return how it authenticates: `x-api-key`, `bearer`, `both` or `none`."""
        key = "x-api-key" in self.headers
        bearer = self.headers.get("authorization", "").lower().startswith("bearer ")
        return {(True, True): "both", (True, False): "x-api-key", (False, True): "bearer"}.get(
            (key, bearer), "none"
        )


class ModelServer:
    """The server, in this process, on a free port of 127.0.0.1: `async with` starts and ends it."""

    def __init__(self, scenarios: Sequence[Scenario | _Json], *, port: int = 0) -> None:
        self.scenarios = tuple(
            given if isinstance(given, Scenario) else scenario(given) for given in scenarios
        )
        self.requests: list[SeenRequest] = []
        self._wire: Wire = Anthropic()
        self._struck: Counter[tuple[str, int, str]] = Counter()
        self._released = asyncio.Event()
        self._closing = asyncio.Event()
        self._port = port

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://127.0.0.1:{self._port}"

    def release(self) -> None:
        """Let all streams go on that a `hold_after` stopped."""
        self._released.set()

    async def __aenter__(self) -> ModelServer:
        listening = socket.create_server(("127.0.0.1", self._port))
        self._port = listening.getsockname()[1]
        self._server = _Server(_configuration(self._application()))
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        await self._server.ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        self._server.should_exit = True
        await self._serving

    async def wait(self) -> None:
        """Serve until the process is interrupted."""
        await self._serving

    def _application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/messages", self._model_call, methods=["POST"]),
                Route("/{path:path}", self._other, methods=["GET", "HEAD", "POST"]),
            ]
        )

    async def _other(self, request: Request) -> Response:
        await self._seen(request)
        match request.method, request.url.path:
            case "POST", "/v1/messages/count_tokens":
                return JSONResponse({"input_tokens": 10})
            case "GET", "/v1/models":
                model = {"type": "model", "id": "scripted", "display_name": "Scripted"}
                return JSONResponse({"data": [model], "has_more": False})
            case "HEAD", _:
                return Response()
        return JSONResponse(self._wire.error(404, "not found"), 404)

    async def _seen(self, request: Request) -> SeenRequest:
        seen = SeenRequest(
            request.method, request.url.path, dict(request.headers), await request.body()
        )
        self.requests.append(seen)
        return seen

    async def _model_call(self, request: Request) -> Response:
        seen = await self._seen(request)
        asked = self._wire.read(json.loads(seen.body))
        picked = pick(self.scenarios, asked)
        if picked is None:
            return self._answer(seen, asked, Reply("ok"), None)
        seen.scenario, seen.turn = picked.scenario.name, picked.number
        fault = self._fault(picked, asked)
        if fault is not None and fault.hang:
            await self._hang(request)
            return self._error(seen, 503, "nobody waits any more", {})
        if fault is not None and fault.status:
            return self._error(seen, fault.status, fault.message, fault.headers)
        try:
            return self._answer(seen, asked, _reply(picked.turn, asked), fault)
        except LookupError as error:
            return self._error(seen, 400, f"scripted model: {error}", {})

    def _error(
        self, seen: SeenRequest, status: int, message: str, headers: Mapping[str, str]
    ) -> Response:
        seen.ended.set()
        told = {name: str(value) for name, value in headers.items()}
        return JSONResponse(self._wire.error(status, message), status, headers=told)

    def _fault(self, picked: Picked, asked: Conversation) -> Fault | None:
        """Return the turn's fault if it still strikes in this conversation's folder."""
        fault = picked.turn.fault
        strike = (picked.scenario.name, picked.number, asked.folder)
        if fault is None or (fault.times is not None and self._struck[strike] >= fault.times):
            return None
        self._struck[strike] += 1
        return fault

    async def _hang(self, request: Request) -> None:
        """Give no answer until the client leaves or the server closes."""
        closing = asyncio.create_task(self._closing.wait())
        leaving = asyncio.create_task(_left(request))
        try:
            await asyncio.wait({closing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
            leaving.cancel()

    def _answer(
        self, seen: SeenRequest, asked: Conversation, reply: Reply, fault: Fault | None
    ) -> Response:
        if not asked.stream:
            seen.complete = True
            seen.ended.set()
            return JSONResponse(self._wire.whole(reply, asked.model))
        stream = self._stream(seen, self._wire.events(reply, asked.model), fault or Fault())
        return StreamingResponse(stream, media_type="text/event-stream")

    async def _stream(
        self, seen: SeenRequest, events: Iterator[bytes], fault: Fault
    ) -> AsyncIterator[bytes]:
        try:
            for number, event in enumerate(events):
                if number == fault.drop_after:
                    raise _Drop
                if number == fault.error_after:
                    yield self._wire.broken()
                    return
                if number == fault.hold_after:
                    await self._held()
                yield event
            seen.complete = True
        finally:
            seen.ended.set()

    async def _held(self) -> None:
        waits = {asyncio.create_task(e.wait()) for e in (self._released, self._closing)}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _reply(turn: Turn, asked: Conversation) -> Reply:
    text, calls = turn.text, [tool_call(operation, asked) for operation in turn.do]
    if turn.answer is not None and _ANSWERS in asked.tools:
        calls.append(ToolCall(_ANSWERS, turn.answer))
    elif turn.answer is not None:
        text = f"{text}\n\n```json\n{json.dumps(turn.answer)}\n```".lstrip()
    return Reply(
        text=text,
        calls=tuple(calls),
        input_tokens=turn.input_tokens,
        output_tokens=turn.output_tokens,
        stop=turn.stop,
    )


_ANSWERS = "StructuredOutput"
"""Claude Code's tool for an answer by `--json-schema`; a call of it ends the run."""


async def _left(request: Request) -> None:
    """Return once the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Drop(ConnectionResetError):  # noqa: N818 - an order, not an error
    """Ends a stream in the middle: the server closes the connection under it."""


class _Server(uvicorn.Server):
    """Uvicorn as a guest: it leaves the process's signals alone, and says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def _configuration(application: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=1,
    )


async def _serve(file: Path, port: int) -> None:
    given = json.loads(file.read_text())
    async with ModelServer(given["scenarios"], port=port) as server:
        print(f"The scripted model server answers at {server.url}", flush=True)  # noqa: T201
        await server.wait()


def main() -> None:
    """Serve a scenario file until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m commandcenter.testing.model_server")
    parser.add_argument("--scenario", type=Path, required=True, help="a JSON file of scenarios")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments = parser.parse_args()
    try:
        asyncio.run(_serve(arguments.scenario, arguments.port))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
