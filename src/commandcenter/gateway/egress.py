"""The egress proxy: the one way from a workspace to the hosts that its policy names.

An HTTP proxy on a unix socket, one for each command. It decides by the name, looks the name up
itself, vets what it leads to, and connects to exactly that, so that no second look-up can lead
elsewhere. Tunnels are not looked into. Every decision is in the journal before it is carried out;
what cannot be written there is refused.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import socket as sockets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import h11

from commandcenter.core.egress import (
    Decision,
    Policy,
    Refused,
    Target,
    Vetted,
    decide,
    target,
    vet,
)
from commandcenter.gateway.sockets import bound

SOCKET_NAME = "egress.sock"
CONNECTIONS_MAX = 64
"""At one time, of one command. More than package managers open."""
HEAD_BYTES_MAX = 32 * 2**10
HEAD_S = 15.0
"""How long a client may take to say what it wants."""
LOOK_UP_S = 10.0
LOOK_UPS_MAX = 8
"""At one time, of one command, so that none keeps the others from their names."""
CONNECT_S = 10.0
IDLE_S = 600.0
"""Longest silence of a connection, both ways together."""
LINGER_S = 2.0
LINGER_CHUNKS_MAX = 64
"""How long, and for how much, a refused client may go on speaking."""
JOURNAL_BYTES_MAX = 16 * 2**20
ADDRESSES_MAX = 4
"""How many of a host's addresses are tried."""

_CHUNK_BYTES = 2**16
_HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"host", b"keep-alive", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"upgrade"),
    }
)
_PLAIN = re.compile(r"[^A-Za-z0-9 .:_-]")
_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Returns the addresses of a host. Raises OSError when it has none."""
Connect = Callable[[str, int], Awaitable[Streams]]
"""Connects to an address, which is no name any more, and a port."""


async def look_up(host: str) -> Sequence[str]:
    """Return the addresses of a host, as this machine finds them."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Sequence[str]] = loop.create_future()

    def settle(addresses: Sequence[str], error: OSError | None) -> None:
        if found.cancelled():
            return
        if error is not None:
            found.set_exception(error)
        else:
            found.set_result(addresses)

    def ask() -> None:
        addresses: list[str] = []
        failure = None
        try:
            answers = sockets.getaddrinfo(host, None, type=sockets.SOCK_STREAM)
            addresses = [str(address[0]) for *_, address in answers]
        except (OSError, UnicodeError) as error:
            failure = OSError(str(error))
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            loop.call_soon_threadsafe(settle, addresses, failure)

    # Not in the loop's own threads: slow names would take them from all others, and an end of the
    # service would wait for them.
    threading.Thread(target=ask, name="look-up", daemon=True).start()
    return await found


async def connect(address: str, port: int) -> Streams:
    """Connect to an address."""
    return await asyncio.open_connection(address, port, limit=_CHUNK_BYTES)


@dataclass(frozen=True)
class _No:
    """An answer that goes no further."""

    status: int
    where: str
    words: str


@dataclass
class _Door:
    """What is served to one command."""

    policy: Policy
    journal: Path
    shut: bool = False
    looking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LOOK_UPS_MAX))
    clients: set[asyncio.Task[None]] = field(default_factory=set)


class EgressProxy:
    """Serves one unix socket a command. End it with `aclose`."""

    def __init__(
        self,
        now_ms: Callable[[], int],
        *,
        resolve: Resolve = look_up,
        connect: Connect = connect,
        idle_s: float = IDLE_S,
        head_s: float = HEAD_S,
    ) -> None:
        self._now_ms = now_ms
        self._resolve = resolve
        self._connect = connect
        self._idle_s = idle_s
        self._head_s = head_s
        self._open: dict[Path, tuple[asyncio.Server, _Door]] = {}

    @asynccontextmanager
    async def socket(self, folder: Path, policy: Policy, journal: Path) -> AsyncIterator[None]:
        """Serve `folder/egress.sock` by this policy, unless it allows nothing.

        Every decision is appended to the file `journal`, which is made with the first.
        """
        if not policy.allows:
            yield
            return
        await self.open(folder, policy, journal)
        try:
            yield
        finally:
            await self.close(folder)

    async def open(self, folder: Path, policy: Policy, journal: Path) -> None:
        """Serve `folder/egress.sock` until `close`."""
        await self.close(folder)
        door = _Door(policy, journal)

        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._client(door, reader, writer)

        listening = bound(folder, SOCKET_NAME)
        server = await asyncio.start_unix_server(client, sock=listening, limit=_CHUNK_BYTES)
        self._open[folder] = (server, door)

    async def close(self, folder: Path) -> None:
        """Stop serving this folder's socket and remove it; what is connected is cut off."""
        if (served := self._open.pop(folder, None)) is None:
            return
        server, door = served
        door.shut = True
        server.close()
        await _ended(*door.clients)
        (folder / SOCKET_NAME).unlink(missing_ok=True)

    async def aclose(self) -> None:
        """Stop serving all sockets."""
        for folder in tuple(self._open):
            await self.close(folder)

    async def _client(
        self, door: _Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if door.shut or len(door.clients) >= 2 * CONNECTIONS_MAX:
                return
            door.clients.add(task)
            if len(door.clients) > CONNECTIONS_MAX:
                words = f"there are {CONNECTIONS_MAX} connections already; try again"
                await _answer(reader, writer, _No(503, "a connection", words))
            else:
                await self._serve(door, reader, writer)
            writer.close()
        except (OSError, TimeoutError, h11.ProtocolError) as error:
            _log.debug("A connection through the egress proxy ended: %r", error)
        finally:
            door.clients.discard(task)
            if not writer.is_closing():
                writer.transport.abort()

    async def _serve(
        self, door: _Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        client = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        try:
            async with asyncio.timeout(self._head_s):
                request = await _request(client, reader)
        except h11.RemoteProtocolError as error:
            no = self._refused(door, "", "a malformed request", 0, str(error))
            await _answer(reader, writer, no)
            return
        if request is None:
            return
        going = _target(request)
        opened = await self._opened(door, request, going)
        if isinstance(opened, _No):
            await _answer(reader, writer, opened)
            return
        assert isinstance(going, Target)
        try:
            await self._carry(client, request, going, (reader, writer), opened)
            opened[1].close()
        finally:
            if not opened[1].is_closing():
                opened[1].transport.abort()

    async def _opened(
        self, door: _Door, request: h11.Request, going: Target | Refused
    ) -> Streams | _No:
        """Return a connection to where a request goes, if it may."""
        method = request.method.decode()
        if isinstance(going, Refused):
            return self._refused(door, method, request.target.decode(), 0, going.why)
        ruling = decide(door.policy, going.host, going.port)
        if isinstance(ruling, Refused):
            return self._refused(door, method, going.host, going.port, ruling.why)
        try:
            found = await self._vetted(door, ruling.host)
        except (OSError, TimeoutError) as error:
            return self._failed(door, method, going, f"its name is not found: {_said(error)}")
        if isinstance(found, Refused):
            return self._refused(door, method, going.host, going.port, found.why)
        tried = found.addresses[:ADDRESSES_MAX]
        if unwritten := self._note(door, "allowed", method, going, address=" ".join(tried)):
            return unwritten
        return await self._connected(door, method, going, tried)

    async def _vetted(self, door: _Door, host: str) -> Vetted | Refused:
        if pinned := door.policy.addresses.get(host):
            return Vetted((pinned,))
        async with door.looking, asyncio.timeout(LOOK_UP_S):
            return vet(await self._resolve(host))

    async def _connected(
        self, door: _Door, method: str, going: Target, addresses: Sequence[str]
    ) -> Streams | _No:
        failure = ""
        for address in addresses:
            try:
                async with asyncio.timeout(CONNECT_S):
                    return await self._connect(address, going.port)
            except (OSError, TimeoutError) as error:
                failure = f"{address} does not answer: {_said(error)}"
        return self._failed(door, method, going, failure)

    def _refused(self, door: _Door, method: str, host: str, port: int, why: str) -> _No:
        going = Target(host, port, None)
        unwritten = self._note(door, "refused", method, going, why=why)
        return unwritten or _No(403, _where(host, port), why)

    def _failed(self, door: _Door, method: str, going: Target, why: str) -> _No:
        unwritten = self._note(door, "failed", method, going, why=why)
        return unwritten or _No(502, _where(going.host, going.port), why)

    def _note(
        self,
        door: _Door,
        verdict: str,
        method: str,
        going: Target,
        *,
        address: str = "",
        why: str = "",
    ) -> _No | None:
        """Write a decision down; return what is answered when that cannot be."""
        decision = Decision(
            self._now_ms(), verdict, method, going.host, going.port, address=address, why=why
        )
        try:
            _append(door.journal, decision.to_line())
        except OSError as error:
            _log.warning("A connection is refused that cannot be logged: %s", error)
            words = "what cannot be logged is not allowed, and the log cannot be written"
            return _No(503, _where(going.host, going.port), words)
        return None

    async def _carry(
        self,
        client: h11.Connection,
        request: h11.Request,
        going: Target,
        near: Streams,
        far: Streams,
    ) -> None:
        async with asyncio.timeout(self._idle_s) as patience:
            flow = _Flow(patience, self._idle_s)
            if going.path is None:
                begun = client.trailing_data[0]
                near[1].write(b"HTTP/1.1 200 Connected\r\n\r\n")
                far[1].write(begun)
                await _together(flow.pump(near[0], far[1]), flow.pump(far[0], near[1]))
            else:
                await _exchange(client, request, going, near, far, flow)


@dataclass(frozen=True)
class _Flow:
    """Carries bytes for as long as some come."""

    patience: asyncio.Timeout
    idle_s: float

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        """Return the next bytes; none at the end."""
        data = await reader.read(_CHUNK_BYTES)
        self.patience.reschedule(asyncio.get_running_loop().time() + self.idle_s)
        return data

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy until the source ends, then end the target's input."""
        while data := await self.read(reader):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def _request(client: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """Return what a client asks; None when it leaves without a word.

    Raises:
        RemoteProtocolError: it is no HTTP, or too long.
    """
    while (event := client.next_event()) is h11.NEED_DATA:
        client.receive_data(await reader.read(_CHUNK_BYTES))
    if not isinstance(event, h11.Request):
        return None
    if event.method == b"CONNECT" and not isinstance(client.next_event(), h11.EndOfMessage):
        raise h11.RemoteProtocolError("a tunnel has no body")
    return event


def _target(request: h11.Request) -> Target | Refused:
    named = [value.decode("latin-1") for name, value in request.headers if name == b"host"]
    return target(request.method.decode(), request.target.decode(), named)


async def _exchange(
    client: h11.Connection,
    request: h11.Request,
    going: Target,
    near: Streams,
    far: Streams,
    flow: _Flow,
) -> None:
    """Pass exactly one request on, and all that comes back.

    A second one on this connection might be meant for another host, and is not looked at.
    """
    assert going.path is not None
    speaking = h11.Connection(h11.CLIENT)
    head = h11.Request(
        method=request.method, target=going.path.encode(), headers=_headers(request, going)
    )
    far[1].write(speaking.send(head) or b"")
    asking = asyncio.create_task(_body(client, speaking, near[0], far[1], flow))
    try:
        await flow.pump(far[0], near[1])
    finally:
        await _ended(asking)


def _headers(request: h11.Request, going: Target) -> list[tuple[bytes, bytes]]:
    """Return the headers that go on: none that speaks of this connection."""
    tokens = [value for name, value in request.headers if name == b"connection"]
    named = {each.strip().lower() for token in tokens for each in token.split(b",")}
    dropped = _HOP_BY_HOP | (named - {b"content-length", b"transfer-encoding"})
    port = "" if going.port == 80 else f":{going.port}"
    return [
        (b"host", f"{going.host}{port}".encode()),
        *((name, value) for name, value in request.headers if name not in dropped),
        (b"connection", b"close"),
    ]


async def _body(
    client: h11.Connection,
    speaking: h11.Connection,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    flow: _Flow,
) -> None:
    try:
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                client.receive_data(await flow.read(reader))
            else:
                assert isinstance(event, h11.Data), event
                writer.write(speaking.send(h11.Data(data=event.data)) or b"")
                await writer.drain()
        writer.write(speaking.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        while await flow.read(reader):
            pass  # a second request: nobody looked at it
        # Gone, so that nobody waits for the rest, nor for a host that does not close.
        writer.transport.abort()
    except (h11.ProtocolError, OSError):
        # Half a request is none: the host is to see that it was broken off.
        writer.transport.abort()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, no: _No) -> None:
    body = (
        f"CommandCenter refused {no.where}: {no.words}.\n"
        "A workspace reaches only what its egress policy names. If the task needs more, say so: a "
        "person can allow it, with `allow` below [egress] in the configuration.\n"
        if no.status == 403
        else f"CommandCenter could not carry {no.where}: {no.words}.\n"
    ).encode("ascii", "replace")
    # Some programs show nothing of a refusal but the reason in its first line.
    reason = f"{'Refused' if no.status == 403 else 'Failed'} by CommandCenter: {no.where}"
    writer.write(
        f"HTTP/1.1 {no.status} {reason}\r\nX-CommandCenter-Egress: refused\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n".encode()
        + body
    )
    writer.write_eof()
    # What is closed with something unread is reset, and the answer may be lost with it.
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            for _ in range(LINGER_CHUNKS_MAX):
                if not await reader.read(_CHUNK_BYTES):
                    break


def _where(host: str, port: int) -> str:
    """Return where a request goes, from foreign text, on one plain line."""
    plain = _PLAIN.sub("?", host[:120])
    return f"{plain}:{port}" if port else plain


def _said(error: Exception) -> str:
    return "it took too long" if isinstance(error, TimeoutError) else f"{error}"[:200]


def _append(journal: Path, line: bytes) -> None:
    """Append a whole line, or nothing.

    Raises:
        OSError: it cannot be, or the journal is full.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(journal, flags, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size + len(line) > JOURNAL_BYTES_MAX:
            raise OSError(errno.EFBIG, "the journal is full", f"{journal}")
        if os.write(descriptor, line) < len(line):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{journal}")
    finally:
        os.close(descriptor)


async def _together(*work: Coroutine[None, None, None]) -> None:
    """Do all of it at once; when one part fails, none goes on."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _ended(*tasks)


async def _ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
