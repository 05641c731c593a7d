"""Bad weather between an adapter and a forge: answers that are scripted, lost or changed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

from commandcenter.core.forge import Forge
from commandcenter.testing.forges import GitGround

Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]
Json = Any  # Any: JSON as the forge has it


@dataclass
class Weather(httpx.AsyncBaseTransport):
    """Passes requests on to the forge, unless a scripted answer waits for that call."""

    waiting: list[tuple[str, str, Answer]] = field(default_factory=list)
    asked: list[httpx.Request] = field(default_factory=list)
    through: httpx.AsyncHTTPTransport = field(
        default_factory=lambda: httpx.AsyncHTTPTransport(verify=False)
    )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a call."""
        self.asked.append(request)
        for entry in self.waiting:
            method, end, answer = entry
            if request.method == method and request.url.path.endswith(end):
                self.waiting.remove(entry)
                return await answer(request)
        return await self.through.handle_async_request(request)

    def count(self, method: str, end: str) -> int:
        """Return how often a call was made."""
        return sum(
            request.method == method and request.url.path.endswith(end) for request in self.asked
        )

    def answers(self, method: str, end: str, status: int, body: Json, **headers: str) -> None:
        """Answer the next such call like this."""

        async def answer(_request: httpx.Request) -> httpx.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return httpx.Response(status, json=body, headers=named)

        self.waiting.append((method, end, answer))

    def loses_the_answer(self, method: str, end: str) -> None:
        """Let the next such call get through, and its answer be lost."""

        async def answer(request: httpx.Request) -> httpx.Response:
            response = await self.through.handle_async_request(request)
            await response.aread()
            raise httpx.ReadError("connection reset", request=request)

        self.waiting.append((method, end, answer))

    def changes(self, method: str, end: str, **changes: Json) -> None:
        """Change something in the answer to the next such call."""

        async def answer(request: httpx.Request) -> httpx.Response:
            response = await self.through.handle_async_request(request)
            return httpx.Response(200, json=json.loads(await response.aread()) | changes)

        self.waiting.append((method, end, answer))

    async def aclose(self) -> None:
        """Release connections."""
        await self.through.aclose()


@dataclass(frozen=True)
class Calls:
    """How the paths of a forge's calls end, and how it is told to merge."""

    one: str
    """`{}` stands for the number."""
    every: str
    comments: str
    merge: str
    merge_method: str
    undecided: Mapping[str, Json]
    """What a proposal says while the forge has not worked out whether it merges."""


@dataclass(frozen=True)
class Scene:
    """A forge, its author's adapter behind bad weather, and how long that wanted to wait."""

    ground: GitGround
    weather: Weather
    forge: Forge
    calls: Calls
    waits: list[float]

    async def proposed(self, branch: str = "task-1") -> Proposed:
        """Propose a branch with a change of its own."""
        head = await self.ground.commit(branch, {"a.txt": "a\n"}, onto="main")
        made = await self.forge.propose(
            head_branch=branch, base_branch="main", title="A task", body="Words."
        )
        self.waits.clear()
        return Proposed(made.number, head)

    def one(self, number: int) -> str:
        """Return how the path of a proposal ends."""
        return self.calls.one.format(number)

    def comments(self, number: int) -> str:
        """Return how the path of a proposal's comments ends."""
        return self.calls.comments.format(number)

    def merge(self, number: int) -> str:
        """Return how the path of a proposal's merge ends."""
        return self.calls.merge.format(number)


class Proposed(NamedTuple):
    """A proposal's number, and its head."""

    number: int
    head: str


@contextlib.asynccontextmanager
async def behind(
    ground: GitGround, calls: Calls, adapter: Callable[..., Forge], api_url: str, token: str
) -> AsyncIterator[Scene]:
    """Put bad weather between a forge and an adapter; nothing really waits."""
    weather, waits = Weather(), list[float]()

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    async with httpx.AsyncClient(transport=weather) as client:
        forge = adapter(api_url, "acme", "project", token, client=client, pause=pause)
        yield Scene(ground, weather, forge, calls, waits)
