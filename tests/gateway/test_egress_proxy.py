"""The egress proxy, over real unix sockets, in front of real local servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from commandcenter.core.egress import Policy, policy
from commandcenter.gateway.egress import (
    CONNECTIONS_MAX,
    HEAD_BYTES_MAX,
    JOURNAL_BYTES_MAX,
    EgressProxy,
    Streams,
    look_up,
)

PUBLIC = "93.184.215.14"
OTHER = "93.184.215.15"
PATIENCE_S = 30


@dataclass
class Site:
    """A server on this machine: answers every request with HELLO, and tells what it was sent."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.answer(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass  # it was connected to, and asked nothing
        finally:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if b"chunked" in head:
            self.bodies.append(await reader.readuntil(b"0\r\n\r\n"))
        elif b"content-length" in head:
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            self.bodies.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nHELLO")
        await writer.drain()


@dataclass
class Internet:
    """A small internet: what names lead to, and one server behind all addresses."""

    site: Site
    names: Mapping[str, Sequence[Sequence[str]]]
    """What each look-up of a name gives, one after the other; the last one stays."""
    down: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)
    connected: list[tuple[str, int]] = field(default_factory=list)

    async def resolve(self, host: str) -> Sequence[str]:
        answers = self.names.get(host)
        if answers is None:
            raise OSError("no such name")
        self.asked.append(host)
        return answers[min(self.asked.count(host), len(answers)) - 1]

    async def connect(self, address: str, port: int) -> Streams:
        self.connected.append((address, port))
        if address in self.down:
            raise ConnectionRefusedError("down")
        return await asyncio.open_connection("127.0.0.1", self.site.port)


@dataclass(frozen=True)
class Served:
    proxy: EgressProxy
    internet: Internet
    folder: Path
    opened: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def site(self) -> Site:
        return self.internet.site

    @property
    def journal(self) -> Path:
        return self.folder / "try-1.egress.log"

    def decisions(self) -> list[Any]:
        return [json.loads(line) for line in self.journal.read_bytes().splitlines()]

    async def open(self) -> Streams:
        reader, writer = await asyncio.open_unix_connection(self.folder / "egress.sock")
        self.opened.append(writer)
        return reader, writer

    async def ask(self, request: bytes) -> bytes:
        """Return all that is answered to these bytes."""
        reader, writer = await self.open()
        writer.write(request)
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read()
        writer.close()
        return answer

    async def tunnel(self, to: str = "pypi.test:443") -> Streams:
        reader, writer = await self.open()
        writer.write(f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connected\r\n\r\n"
        return reader, writer


NAMES = {"pypi.test": [[PUBLIC]], "two.test": [[PUBLIC, OTHER]], "rebind.test": [[PUBLIC], ["::1"]]}
POLICY = policy(["pypi.test", "two.test", "rebind.test", "gone.test", "bad.test"], {})


async def closed(*writers: asyncio.StreamWriter) -> None:
    """Close these, and wait until they are: what is collected open is a warning, later."""
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


@asynccontextmanager
async def served(
    folder: Path,
    allowed: Policy = POLICY,
    *,
    names: Mapping[str, Sequence[Sequence[str]]] = NAMES,
    down: frozenset[str] = frozenset(),
    **bounds: float,
) -> AsyncIterator[Served]:
    site = Site()
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    internet = Internet(site, names, down)
    proxy = EgressProxy(lambda: 1234, resolve=internet.resolve, connect=internet.connect, **bounds)
    on = Served(proxy, internet, folder)
    async with server, aclosing(proxy), proxy.socket(folder, allowed, on.journal):
        try:
            yield on
        finally:
            await closed(*on.opened)


async def test_an_allowed_host_is_reached_by_a_plain_request(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        answer = await on.ask(
            b"GET http://pypi.test/simple?a=b HTTP/1.1\r\nHost: pypi.test\r\nAccept: text/html\r\n"
            b"Proxy-Authorization: Basic eA==\r\nProxy-Connection: keep-alive\r\n"
            b"Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\n\r\n"
        )

        assert answer.endswith(b"\r\n\r\nHELLO")
        assert on.site.heads == [
            b"GET /simple?a=b HTTP/1.1\r\nhost: pypi.test\r\naccept: text/html\r\n"
            b"connection: close\r\n\r\n"
        ]
        assert on.internet.connected == [(PUBLIC, 80)]
        assert on.decisions() == [
            {
                "schema": 1,
                "at_ms": 1234,
                "verdict": "allowed",
                "method": "GET",
                "host": "pypi.test",
                "port": 80,
                "address": PUBLIC,
                "why": "",
            }
        ]


async def test_a_tunnel_carries_whatever_both_sides_say(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        reader, writer = await on.tunnel()
        writer.write(b"GET /secret HTTP/1.1\r\nHost: other.test\r\n\r\n")
        answer = await reader.read()
        writer.close()

        assert answer.endswith(b"HELLO")
        assert on.site.heads == [b"GET /secret HTTP/1.1\r\nHost: other.test\r\n\r\n"]
        assert on.internet.connected == [(PUBLIC, 443)]


async def test_what_is_said_with_the_request_for_a_tunnel_goes_through_it(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        answer = await on.ask(
            b"CONNECT pypi.test:443 HTTP/1.1\r\nHost: pypi.test:443\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        )

        assert answer.endswith(b"HELLO")
        assert on.site.heads == [b"GET / HTTP/1.1\r\n\r\n"]


@pytest.mark.parametrize(
    ("framing", "sent", "passed"),
    [
        (b"Content-Length: 4", b"body", b"body"),
        (b"Transfer-Encoding: chunked", b"4\r\nbody\r\n0\r\n\r\n", b"4\r\nbody\r\n0\r\n\r\n"),
    ],
)
async def test_the_body_of_a_request_is_passed_on(
    tmp_path: Path, framing: bytes, sent: bytes, passed: bytes
) -> None:
    head = b"POST http://pypi.test/ HTTP/1.1\r\nHost: pypi.test\r\n" + framing + b"\r\n\r\n"
    async with served(tmp_path) as on:
        answer = await on.ask(head + sent)

        assert answer.endswith(b"HELLO")
        assert on.site.bodies == [passed]


async def test_a_refusal_names_the_host_and_what_to_do(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        plain = await on.ask(b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        tunnel = await on.ask(b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n")

        assert plain.startswith(b"HTTP/1.1 403 Refused by CommandCenter: evil.test:80\r\n")
        assert tunnel.startswith(b"HTTP/1.1 403 Refused by CommandCenter: evil.test:443\r\n")
        assert b"evil.test:443: it is not allowed by the egress policy" in tunnel
        assert b"`allow` below [egress]" in tunnel
        assert on.internet.asked == []
        assert [each["verdict"] for each in on.decisions()] == ["refused", "refused"]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
)
async def test_an_allowed_name_that_leads_inside_is_refused(tmp_path: Path, address: str) -> None:
    async with served(tmp_path, names={"bad.test": [[PUBLIC, address]]}) as on:
        answer = await on.ask(b"CONNECT bad.test:443 HTTP/1.1\r\nHost: bad.test:443\r\n\r\n")

        assert answer.startswith(b"HTTP/1.1 403 ")
        assert on.internet.connected == []
        assert address in on.decisions()[0]["why"]


async def test_a_name_that_leads_elsewhere_at_a_second_look_is_looked_up_once(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as on:
        first = await on.ask(b"GET http://rebind.test/ HTTP/1.1\r\nHost: rebind.test\r\n\r\n")
        looked, connected = [*on.internet.asked], [*on.internet.connected]
        second = await on.ask(b"GET http://rebind.test/ HTTP/1.1\r\nHost: rebind.test\r\n\r\n")

        assert first.endswith(b"HELLO")
        assert looked == ["rebind.test"]
        assert connected == [(PUBLIC, 80)]
        assert second.startswith(b"HTTP/1.1 403 ")  # the control: it does lead elsewhere by now
        assert on.internet.connected == connected


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /simple HTTP/1.1\r\nHost: pypi.test\r\n\r\n",
        b"GET http://pypi.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        b"GET http://pypi.test/ HTTP/1.1\r\nHost: pypi.test\r\nHost: evil.test\r\n\r\n",
        b"GET http://pypi.test@evil.test/ HTTP/1.1\r\nHost: pypi.test\r\n\r\n",
        b"CONNECT pypi.test:443@evil.test:443 HTTP/1.1\r\nHost: pypi.test\r\n\r\n",
        b"CONNECT 2130706433:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT [::1]:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT pypi.test\0.evil.test:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT pypi.test:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
        b"CONNECT pypi.test:22 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://pypi.test/ HTTP/1.1\r\nHost: pypi.test\r\nX: " + b"a" * 10**6 + b"\r\n\r\n",
        b"A" * (HEAD_BYTES_MAX * 3),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 20 + b"\r\n\r\n",
        b"GET  http://pypi.test/ HTTP/1.1\r\nHost: pypi.test\r\n\r\n",
        b"GET http://pypi.test/ HTTP/1.1\r\nHost: pypi.test\r\n folded: x\r\n\r\n",
        b"POST http://pypi.test/ HTTP/1.1\r\nHost: pypi.test\r\nContent-Length: 1\r\n"
        b"Content-Length: 2\r\n\r\nab",
    ],
)
async def test_a_request_with_a_trick_goes_nowhere_and_is_logged(
    tmp_path: Path, request_: bytes
) -> None:
    async with served(tmp_path) as on:
        answer = await on.ask(request_)

        assert answer.startswith(b"HTTP/1.1 403 ")
        assert on.internet.connected == []
        assert [each["verdict"] for each in on.decisions()] == ["refused"]


async def test_a_second_request_on_a_connection_goes_nowhere(tmp_path: Path) -> None:
    one = b"GET http://pypi.test/ HTTP/1.1\r\nHost: pypi.test\r\n\r\n"
    two = b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"
    async with served(tmp_path) as on:
        answer = await on.ask(one + two)

        assert answer.count(b"HTTP/1.1") == 1
        assert len(on.site.heads) == 1
        assert len(on.decisions()) == 1


async def test_a_client_that_leaves_takes_a_host_along_that_does_not_close(tmp_path: Path) -> None:
    left = asyncio.Event()

    async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHELLO")
        await reader.read()
        left.set()
        writer.close()

    server = await asyncio.start_server(stay, "127.0.0.1", 0)
    async with server, served(tmp_path) as on, asyncio.timeout(PATIENCE_S):
        on.site.port = server.sockets[0].getsockname()[1]
        reader, writer = await on.open()
        writer.write(b"GET http://pypi.test/ HTTP/1.1\r\nHost: pypi.test\r\n\r\n")
        await reader.readuntil(b"HELLO")
        writer.close()

        await left.wait()


async def test_a_host_is_where_a_person_says_that_it_is(tmp_path: Path) -> None:
    private = policy(["mirror.test:8443"], {"mirror.test": "10.1.2.3"})
    async with served(tmp_path, private) as on:
        await on.tunnel("mirror.test:8443")

        assert on.internet.connected == [("10.1.2.3", 8443)]
        assert on.internet.asked == []


async def test_the_next_address_is_tried_when_one_does_not_answer(tmp_path: Path) -> None:
    async with served(tmp_path, down=frozenset({PUBLIC})) as on:
        await on.tunnel("two.test:443")

        assert on.internet.connected == [(PUBLIC, 443), (OTHER, 443)]


async def test_a_host_that_is_not_there_is_told_apart_from_a_refused_one(tmp_path: Path) -> None:
    async with served(tmp_path, down=frozenset({PUBLIC})) as on:
        nameless = await on.ask(b"CONNECT gone.test:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        down = await on.ask(b"CONNECT pypi.test:443 HTTP/1.1\r\nHost: x\r\n\r\n")

        assert nameless.startswith(b"HTTP/1.1 502 ")
        assert down.startswith(b"HTTP/1.1 502 ")
        assert [each["verdict"] for each in on.decisions()] == ["failed", "allowed", "failed"]


async def test_what_cannot_be_logged_is_not_allowed(tmp_path: Path) -> None:
    request = b"CONNECT pypi.test:443 HTTP/1.1\r\nHost: x\r\n\r\n"
    async with served(tmp_path) as on:
        with on.journal.open("wb") as journal:
            journal.truncate(JOURNAL_BYTES_MAX)
        full = await on.ask(request)
        on.journal.unlink()
        on.journal.mkdir()
        broken = await on.ask(request)

        assert full.startswith(b"HTTP/1.1 503 ")
        assert broken.startswith(b"HTTP/1.1 503 ")
        assert on.internet.connected == []


async def test_connections_are_bounded_and_one_that_ends_makes_room(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        tunnels = [await on.tunnel() for _ in range(CONNECTIONS_MAX)]
        one_more = await on.ask(b"")
        tunnels[0][1].write(b"GET / HTTP/1.1\r\n\r\n")
        await tunnels[0][0].read()
        tunnels[0][1].close()
        async with asyncio.timeout(PATIENCE_S):
            while (await on.ask(b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 503 "):
                pass

        assert one_more.startswith(b"HTTP/1.1 503 ")


async def test_a_tunnel_through_which_nothing_goes_ends(tmp_path: Path) -> None:
    async with served(tmp_path, idle_s=0.1) as on, asyncio.timeout(PATIENCE_S):
        reader, _ = await on.tunnel()

        assert await reader.read() == b""


async def test_a_client_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async with served(tmp_path, head_s=0.1) as on, asyncio.timeout(PATIENCE_S):
        reader, writer = await on.open()
        writer.write(b"CONNECT pypi.t")

        assert await reader.read() == b""


async def test_closing_cuts_off_what_is_connected_and_removes_the_socket(tmp_path: Path) -> None:
    async with served(tmp_path) as on:
        reader, _ = await on.tunnel()

        async with asyncio.timeout(PATIENCE_S):
            await on.proxy.aclose()
            rest = await reader.read()

        assert rest == b""
        assert not (tmp_path / "egress.sock").exists()


async def test_closing_does_not_wait_for_a_name_that_nobody_answers(tmp_path: Path) -> None:
    never = asyncio.Event()
    asked = asyncio.Event()

    async def resolve(host: str) -> Sequence[str]:
        asked.set()
        await never.wait()
        return ()

    async with asyncio.timeout(PATIENCE_S), aclosing(EgressProxy(int, resolve=resolve)) as proxy:
        await proxy.open(tmp_path, POLICY, tmp_path / "log")
        _, writer = await asyncio.open_unix_connection(tmp_path / "egress.sock")
        writer.write(b"CONNECT pypi.test:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        await asked.wait()

        await proxy.aclose()
        await closed(writer)

    assert not (tmp_path / "egress.sock").exists()


async def test_a_policy_that_allows_nothing_has_no_socket(tmp_path: Path) -> None:
    async with served(tmp_path, Policy()):
        assert not (tmp_path / "egress.sock").exists()


async def test_a_socket_that_a_killed_service_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "egress.sock").touch()

    async with served(tmp_path) as on:
        answer = await on.ask(b"GET http://pypi.test/ HTTP/1.1\r\nHost: pypi.test\r\n\r\n")

        assert answer.endswith(b"HELLO")


async def test_names_are_looked_up_as_this_machine_does() -> None:
    assert "127.0.0.1" in await look_up("localhost")


async def test_a_name_that_cannot_be_is_an_error_of_the_world() -> None:
    with pytest.raises(OSError, match="label"):
        await look_up("a" * 64 + ".test")
