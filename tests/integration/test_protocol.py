"""What a client on the network can and cannot do: slow, endless, unread, or two requests in one."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest
import uvicorn
from litestar._parsers import parse_query_string

from service.api.protocol import MAX_HEAD_BYTES, BoundedProtocol
from service.app import create_app
from tests.support.http_fixtures import OpenService, RunningApp, settings_from
from tests.support.plain_http import PlainClient


class Impatient(BoundedProtocol):
    """The protocol that is served, with less patience."""

    head_seconds = 0.4
    body_seconds = 0.6
    read_seconds = 0.6
    max_idle = 32
    max_unfinished_bytes = 1_000_000


@asynccontextmanager
async def _serving(protocol: type[BoundedProtocol] = BoundedProtocol) -> AsyncGenerator[str]:
    """The application behind that protocol, as `pointsman serve` puts it behind `BoundedProtocol`."""
    app = create_app(settings_from({}), environ={})
    server = uvicorn.Server(
        uvicorn.Config(app, http=protocol, host="127.0.0.1", port=0, ws="none", access_log=False, log_config=None)
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


async def _closed_after(url: str, *sent: bytes, pause: float = 0.05, most: float = 5.0) -> tuple[float, bytes]:
    """Sends these pieces, the last one over and over, until the server closes; how long it took and what it said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    started = time.monotonic()
    said = asyncio.create_task(reader.read(4096))
    with contextlib.suppress(OSError):
        for piece in sent[:-1]:
            writer.write(piece)
        while not said.done() and time.monotonic() - started < most:
            writer.write(sent[-1])
            await writer.drain()
            await asyncio.wait({said}, timeout=pause)
    took = time.monotonic() - started
    writer.close()
    try:
        return took, await asyncio.wait_for(said, 1.0)
    except (OSError, TimeoutError):
        return took, b""


HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param((b"",), id="says-nothing"),
        pytest.param((b"G",), id="a-byte-at-a-time"),
        pytest.param((HEAD, b"X-A: b\r\n"), id="header-lines"),
        pytest.param((HEAD + b"Content-Length: 1000\r\n\r\n", b"x"), id="body-bytes"),
        pytest.param((HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), id="chunks"),
        pytest.param((HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n"), id="trailers"),
        pytest.param((b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + HEAD, b"X-A: b\r\n"), id="second-request"),
    ],
)
async def test_a_trickling_client_is_cut_off(sent: tuple[bytes, ...]) -> None:
    """A request that is not complete in time ends its connection: would catch uvicorn as it is: it waits for ever."""
    async with _serving(Impatient) as url:
        took, _ = await _closed_after(url, *sent)
        assert took < 2.0
        async with PlainClient(url) as client:
            assert (await client.ask("GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param((HEAD, b"X-Long: " + b"y" * 30_000 + b"\r\n"), id="head"),
        pytest.param((HEAD + b"X-Long: ", b"y" * 30_000), id="one-header"),
        pytest.param((b"GET /" + b"a" * 10_000, b"a" * 30_000), id="path"),
        pytest.param(
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Long: " + b"y" * 30_000 + b"\r\n"), id="trailer"
        ),
    ],
)
async def test_head_and_trailer_are_bounded(sent: tuple[bytes, ...]) -> None:
    """Beyond 64 KiB it is refused while it still comes: would catch memory that grows by what a client sends."""
    async with _serving() as url:
        took, said = await _closed_after(url, *sent, pause=0.001)
    assert took < 2.0
    assert said == b"" or b"too large" in said or b" 400 " in said


@pytest.mark.parametrize("path", [b"/v1/decisions/", b"/healthz?"])
async def test_a_long_target_is_refused(path: bytes) -> None:
    """Beyond 8 KiB path and query never reach the application: would catch long paths that the router remembers."""
    async with _serving() as url:
        _, said = await _closed_after(url, b"GET " + path + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"")
    assert b"target too long" in said


async def test_a_body_is_never_another_request() -> None:
    """Where a client asks for HTTP/2 in the same breath, its body is refused and the connection ends: would catch a
    body that is answered as a request of its own, which a proxy before us hands to somebody else."""
    inner = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    head = HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(inner)
    async with _serving() as url:
        _, said = await _closed_after(url, head, inner, pause=0.2, most=2.0)
        assert said.count(b"HTTP/1.1 ") == 1
        assert b"No upgrade" in said
        async with PlainClient(url) as client:
            assert (await client.ask("GET", "/healthz")).status == 200


async def _deaf(url: str, last: bytes = b"") -> socket.socket:
    """A client that sends hundreds of requests, `last` after them, and reads no answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", int(url.rpartition(":")[2])))
    ask = b"GET /schema/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with contextlib.suppress(OSError, TimeoutError):
        await asyncio.wait_for(loop.sock_sendall(client, ask * 400 + last), 1.0)
    return client


class Counted(Impatient):
    """The same, and it tells how many of its connections are open."""

    number: ClassVar[int] = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its parent does
        """One more."""
        Counted.number += 1
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """One less."""
        Counted.number -= 1
        super().connection_lost(exc)


@pytest.mark.parametrize("last", [b"", b"GET /healthz HTTP/1.0\r\n\r\n"], ids=["kept-alive", "to-be-closed"])
async def test_a_client_that_never_reads_is_cut_off(last: bytes) -> None:
    """Its connection ends in time: would catch a server that waits for ever with an answer in hand, so that a thousand
    clients without a token, of whom none ever reads, take all descriptors and nobody else is answered."""
    async with _serving(Counted) as url:
        clients = [await _deaf(url, last) for _ in range(4)]
        assert Counted.number == len(clients)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(15.0):
                while Counted.number:  # noqa: ASYNC110 - a connection has no event for its end
                    await asyncio.sleep(0.05)
        left = Counted.number
        for client in clients:
            client.close()
    assert left == 0


async def test_unfinished_bodies_are_bounded_together() -> None:
    """Bodies that never end take a bounded memory, and a normal request still goes: would catch 8 MiB for each of some
    hundred connections, which is more than a pod has."""
    async with _serving(Impatient) as url:
        pieces = (HEAD + b"Content-Length: 8000000\r\n\r\n" + b"x" * 400_000,)
        writers = [(await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2])))[1] for _ in range(8)]
        for writer in writers:
            writer.writelines(pieces)
            await writer.drain()
        async with PlainClient(url) as client:
            assert (await client.ask("POST", "/v1/classify", {"instructions": "Fix it"})).status == 200
        unfinished = BoundedProtocol._unfinished_bytes
        for writer in writers:
            writer.close()
    assert 0 < unfinished <= Impatient.max_unfinished_bytes
    assert BoundedProtocol._unfinished_bytes == 0


async def test_queries_are_not_remembered(plain_app: RunningApp) -> None:
    """What a query is parsed into goes with its request: would catch the framework's own parser, which keeps the last
    thousand of them, 2 MB each."""
    for number in range(20):
        query = f"limit={number}" + "&a" * 2000
        assert (await plain_app.client.get(f"/v1/decisions?{query}")).status_code == 400
        assert (await plain_app.client.get(f"/v1/decisions?limit={number + 1}")).status_code == 200
    assert parse_query_string.cache_info().currsize == 0


@pytest.mark.parametrize("size", [MAX_HEAD_BYTES - 2000, MAX_HEAD_BYTES * 2, 1_000_000])
async def test_a_large_body_is_no_large_head(size: int) -> None:
    """A body of any allowed size is answered, several times on one connection: would catch a limit on the head that
    counts the body which came with it, as this one once did."""
    async with _serving() as url, PlainClient(url) as client:
        for _ in range(5):
            tasks = [{"instructions": "x" * (size // 10)} for _ in range(10)]
            answer = await client.ask("POST", "/v1/classify/batch", {"tasks": tasks})
            assert (answer.status, len(answer.json["results"])) == (200, 10)


async def test_slow_clients_do_not_hold_others_up(open_service: OpenService) -> None:
    """With 1,500 connections that trickle, and more coming, a normal request is answered, and connections are not more
    than the limit: would catch a service that runs out of descriptors, or that looks at each of them every time."""
    service = open_service(POINTSMAN_CLI__PRESET="", POINTSMAN_SERVER__LOG_LEVEL="warning")
    port = int(service.url.rpartition(":")[2])
    writers: list[asyncio.StreamWriter] = []

    async def trickle() -> None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(writer)
            writer.write(HEAD)

    async with PlainClient(service.url) as alone:
        for _ in range(20):
            await alone.ask("POST", "/v1/classify", {"instructions": "Fix it"})
        for _ in range(30):
            await asyncio.gather(*(trickle() for _ in range(50)))
        seconds: list[float] = []
        for number in range(50):
            await trickle()
            async with PlainClient(service.url) as client:
                answer = await client.ask("POST", "/v1/classify", {"instructions": f"Fix page {number}"})
            assert answer.status == 200
            seconds.append(answer.seconds)
    assert sorted(seconds)[25] < 0.1
    assert len(os.listdir(f"/proc/{service.process.pid}/fd")) < 700  # noqa: PTH208 - a number is all that is wanted
    for writer in writers:
        writer.close()
