"""The HTTP client, and how it finds a service: the one that lives, or one in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import IO, TYPE_CHECKING, Any, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from commandcenter.api.schema import (
    UNREADY,
    BatchAnswer,
    EventAnswer,
    GcAnswer,
    HealthAnswer,
    Problem,
    RestoreAnswer,
    SalvageAnswer,
    SpendingAnswer,
    StartAnswer,
    StatusAnswer,
)
from commandcenter.cli.failure import Refused
from commandcenter.core.errors import AlreadyRunning, WorldError
from commandcenter.settings import Settings

if TYPE_CHECKING:
    from commandcenter.api.needs import Service

_T = TypeVar("_T")
_PIPELINE = "/api/v1/autonomous"
_UPKEEP = "/api/v1"
_HEALTH_S = 3.0
_ANSWER_S = 60.0
_START_S = 900.0
"""A start may have to fetch a large repository."""
_UPKEEP_S = 3600.0
"""A collection may have to rewrite one."""
_ARCHIVE_HEADER = "X-Left-Out"
_OWNER_TRIES = 40
_OWNER_PAUSE_S = 0.25

_RUNS = TypeAdapter(list[StatusAnswer])
_BATCHES = TypeAdapter(list[BatchAnswer])
_EVENTS = TypeAdapter(list[EventAnswer])
_USAGE = TypeAdapter(list[SpendingAnswer])
_SALVAGE = TypeAdapter(list[SalvageAnswer])


class ServiceGone(WorldError):  # noqa: N818 - it names an outcome
    """The service does not answer any more."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"The service at {url} does not answer any more.",
            hint="what was running goes on when a service runs again: commandcenter serve",
        )


class Client:
    """Calls a service; every answer that is a problem is raised.

    Raises:
        Refused: the service answered with a problem.
        ServiceGone: it did not answer.
    """

    def __init__(self, http: httpx.AsyncClient, *, embedded: bool) -> None:
        self._http = http
        self.embedded = embedded
        """Whether the service ends with this process."""

    @property
    def url(self) -> str:
        """Where the service is."""
        return str(self._http.base_url).rstrip("/")

    async def start(self, body: dict[str, Any]) -> StartAnswer:  # Any: JSON
        """Start a run."""
        answer = await self._call("POST", "/start", json=body, timeout=_START_S)
        return StartAnswer.model_validate_json(answer.content)

    async def status(self, run: str) -> StatusAnswer:
        """Return how far a run has come."""
        return StatusAnswer.model_validate_json((await self.get(f"/{run}/status")).content)

    async def runs(self) -> list[StatusAnswer]:
        """Return all runs, newest first."""
        return _RUNS.validate_json((await self.get("")).content)

    async def batches(self, run: str) -> list[BatchAnswer]:
        """Return the batches of a run."""
        return _BATCHES.validate_json((await self.get(f"/{run}/batches")).content)

    async def usage(self, run: str) -> list[SpendingAnswer]:
        """Return what the agents of a run have used, by profile."""
        return _USAGE.validate_json((await self.get(f"/{run}/usage")).content)

    async def events(self, run: str, *, after: int, wait_s: float = 0) -> list[EventAnswer]:
        """Return what happened after this position; when nothing did, wait for something."""
        answer = await self.get(f"/{run}/events", format="json", after=after, wait=wait_s)
        return _EVENTS.validate_json(answer.content)

    async def get(self, path: str, **query: str | float) -> httpx.Response:
        """Return the answer to a GET below the pipeline's address."""
        return await self._call("GET", path, params=query)

    async def get_doctor(self) -> httpx.Response:
        """Return what the service found of its machine."""
        return await self._call("GET", "/api/v1/doctor", below="")

    async def salvage(self) -> list[SalvageAnswer]:
        """Return the work that did not land and can be restored."""
        return _SALVAGE.validate_json((await self._upkeep("GET", "/salvage")).content)

    async def restore(self, body: dict[str, Any]) -> RestoreAnswer:  # Any: JSON
        """Make a branch of salvaged work."""
        answer = await self._upkeep("POST", "/salvage/restore", json=body)
        return RestoreAnswer.model_validate_json(answer.content)

    async def drop(self, id_: str) -> None:
        """Remove salvaged work for good."""
        await self._upkeep("POST", "/salvage/drop", json={"id": id_})

    async def fetch_files(self, id_: str, archive: IO[bytes]) -> int:
        """Write the files of salvaged work as a tar archive; return how many are not in it."""
        request = self._http.build_request(
            "GET", f"{_UPKEEP}/salvage/files", params={"id": id_}, timeout=_UPKEEP_S
        )
        try:
            answer = await self._http.send(request, stream=True)
            if answer.is_error:
                await answer.aread()
                raise Refused(_problem(answer))
            async for chunk in answer.aiter_bytes():
                archive.write(chunk)
        except httpx.TransportError as error:
            raise ServiceGone(self.url) from error
        return int(answer.headers.get(_ARCHIVE_HEADER, 0))

    async def gc(self, *, dry_run: bool) -> GcAnswer:
        """Free what is held elsewhere, or say what would go."""
        answer = await self._upkeep("GET" if dry_run else "POST", "/gc")
        return GcAnswer.model_validate_json(answer.content)

    async def _upkeep(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self._call(method, path, below=_UPKEEP, timeout=_UPKEEP_S, **more)

    async def post(self, path: str, body: dict[str, Any]) -> httpx.Response:  # Any: JSON
        """Return the answer to a POST below the pipeline's address."""
        return await self._call("POST", path, json=body)

    async def _call(
        self, method: str, path: str, *, below: str = _PIPELINE, **more: Any
    ) -> httpx.Response:
        try:
            answer = await self._http.request(method, below + path, **more)
        except httpx.TransportError as error:
            raise ServiceGone(self.url) from error
        if answer.is_error:
            raise Refused(_problem(answer))
        return answer


class Link:
    """A connection to the service of a data folder that survives the service.

    It uses the service that lives there, and becomes one itself where there is none.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self.client: Client

    async def __aenter__(self) -> Link:
        self.client = await self._stack.enter_async_context(serving(self._settings))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def ask(self, question: Callable[[Client], Awaitable[_T]]) -> _T:
        """Return the answer, from another service if this one goes away meanwhile."""
        while True:
            try:
                return await question(self.client)
            except ServiceGone:
                await self.renew()
            except Refused as refused:
                if refused.problem.type != UNREADY or self.client.embedded:
                    raise
                await self.renew()

    async def renew(self) -> None:
        """Connect again, after the service went away."""
        await self._stack.aclose()
        self.client = await self._stack.enter_async_context(serving(self._settings))


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Client]:
    """Give a client of the live service, or of one that lives in this process until the end.

    Raises:
        AlreadyRunning: a service owns the data folder, but does not answer.
    """
    async with AsyncExitStack() as stack:
        yield await _enter_service(settings, stack)


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[Client]:
    """Give a client of the live service, or of a view that only reads when there is none."""
    async with AsyncExitStack() as stack:
        url = await live(settings)
        if url is not None:
            yield await stack.enter_async_context(_client(url, embedded=False))
        else:
            yield await stack.enter_async_context(_view(settings))


@asynccontextmanager
async def owning(settings: Settings) -> AsyncIterator[Client]:
    """Give a client of the live service, or have the data folder to itself and work on no run.

    Raises:
        AlreadyRunning: a service owns the data folder, but does not answer.
    """
    async with AsyncExitStack() as stack:
        yield await _enter(settings, stack, _keeper)


async def _enter_service(settings: Settings, stack: AsyncExitStack) -> Client:
    return await _enter(settings, stack, _embedded)


async def _enter(
    settings: Settings,
    stack: AsyncExitStack,
    become: Callable[[Settings], AbstractAsyncContextManager[Client]],
) -> Client:
    for tries_left in reversed(range(_OWNER_TRIES)):
        url = await live(settings)
        if url is not None:
            return await stack.enter_async_context(_client(url, embedded=False))
        try:
            return await stack.enter_async_context(become(settings))
        except AlreadyRunning:
            # Its owner is starting or stopping: it will answer, or let go.
            if not tries_left:
                raise
            await asyncio.sleep(_OWNER_PAUSE_S)
    raise AssertionError


@asynccontextmanager
async def _embedded(settings: Settings) -> AsyncIterator[Client]:
    # Imported here, since a client of a live service need not pay for the engine.
    from commandcenter.api.app import create_api
    from commandcenter.app import running

    async with (
        running(settings, host="127.0.0.1", port=0, api=create_api) as service,
        _client(service.url, embedded=True) as client,
    ):
        yield client


@asynccontextmanager
async def _view(settings: Settings) -> AsyncIterator[Client]:
    from commandcenter.app import reading as reading_service

    async with reading_service(settings) as service, _in_process(service) as client:
        yield client


@asynccontextmanager
async def _keeper(settings: Settings) -> AsyncIterator[Client]:
    from commandcenter.app import owning as owning_service

    async with owning_service(settings) as service, _in_process(service) as client:
        yield client


@asynccontextmanager
async def _in_process(service: Service) -> AsyncIterator[Client]:
    from commandcenter.api.app import create_api

    transport = httpx.ASGITransport(create_api(service), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        yield Client(http, embedded=True)


@asynccontextmanager
async def _client(url: str, *, embedded: bool) -> AsyncIterator[Client]:
    # A proxy that the environment names is no way to this machine.
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=_ANSWER_S) as http:
        yield Client(http, embedded=embedded)


async def live(settings: Settings) -> str | None:
    """Return the address of the service that lives on the data folder, if one answers."""
    try:
        said = json.loads((settings.data_dir / "service.json").read_bytes())
        url, pid = str(said["url"]), int(said["pid"])
        async with httpx.AsyncClient(trust_env=False, timeout=_HEALTH_S) as http:
            answer = await http.get(f"{url}/health")
        health = HealthAnswer.model_validate_json(answer.content)
    except (OSError, ValueError, KeyError, TypeError, httpx.HTTPError, httpx.InvalidURL):
        return None
    # After a crash the port may belong to the service of another data folder.
    return url if health.status == "healthy" and health.pid == pid else None


def _problem(answer: httpx.Response) -> Problem:
    try:
        return Problem.model_validate_json(answer.content)
    except ValidationError:
        said = f"The service answered {answer.status_code} {answer.reason_phrase}."
        return Problem(title=answer.reason_phrase, status=answer.status_code, detail=said)
